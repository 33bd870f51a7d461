//! Who may call, as the configuration says: at the start, and again with each reload.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::Ended;
use crate::{
    admin::access::{AdminGrant, Admins, Role},
    clock,
    config::{AdminConfig, AdminRole, AuthConfig, ClientConfig, ClientLane, Config, JwksSource},
    domain::update::{AppId, ClientId, Lane},
    door::{
        auth::{Access, Callers, Grant},
        caller::{ANYONE, Client},
        jwt::{FetchOptions, Issuer, IssuerOptions, KeySource},
        rate::Rate,
        token::Hash,
    },
    store::{Store, queue::ClientTerms},
};

/// How often it is looked whether an issuer's keys are too old.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Those who may call.
#[derive(Clone)]
pub(super) struct Doorkeeper {
    store: Store,
    apps: BTreeMap<String, AppId>,
    /// The services.
    pub(super) callers: Callers,
    /// The operators.
    pub(super) admins: Admins,
}

impl Doorkeeper {
    /// Of a store and its apps. No service gets in before the first [`let_in`](Self::let_in).
    pub(super) fn new(store: Store, apps: BTreeMap<String, AppId>, admins: Admins) -> Self {
        let callers = Callers::new(Access::default());
        Self { store, apps, callers, admins }
    }

    /// Whether the store's database does not answer now.
    pub(super) fn is_store_away(&self) -> bool {
        self.store.is_away()
    }

    /// Lets in those whom `config` names, and nobody else. Where that fails all stays as it was.
    pub(super) async fn let_in(&self, config: &Config) -> anyhow::Result<()> {
        let access = self.access(config).await?;
        self.callers.replace(access);
        self.admins.replace(config.admins.iter().map(admin).collect());
        Ok(())
    }

    async fn access(&self, config: &Config) -> anyhow::Result<Access> {
        let issuer = self.issuer(&config.auth).context("auth.issuer")?;
        let terms = |client: &ClientConfig| (client.name.clone(), terms(client));
        // Whoever calls without a credential has a number of its own, whoever else there is.
        let mut names = vec![(ANYONE.to_owned(), ClientTerms::default())];
        names.extend(config.clients.iter().map(terms));
        let numbers = self.store.clients(names).await?;
        let store = || format!("the store in {}", config.store.path.display());
        let mut numbers = numbers.with_context(store)?.into_iter();
        let anyone = numbers.next().unwrap_or_default();
        let anyone = config.clients.is_empty().then(|| Client::anyone(anyone, self.apps.clone()));
        let grants = config.clients.iter().zip(numbers);
        let grants = grants.map(|(client, id)| self.grant(client, id)).collect();
        Ok(Access { anyone, grants, issuer })
    }

    fn grant(&self, config: &ClientConfig, id: ClientId) -> Grant {
        let own = |name: &String| Some((name.clone(), *self.apps.get(name)?));
        let client = Client {
            id,
            name: config.name.clone(),
            is_configured: true,
            apps: config.apps.iter().filter_map(own).collect(),
            lane: match config.lane {
                ClientLane::Interactive => Lane::Interactive,
                ClientLane::Bulk => Lane::Bulk,
            },
            record_bytes_max: (config.record_bytes_max > 0).then_some(config.record_bytes_max),
            properties: config.properties.as_ref().map(|names| names.iter().collect()),
            pass_through: config.pass_through.iter().cloned().collect(),
            terms: terms(config),
            rate: Rate::new(config.updates_per_second_max).map(Arc::new),
            tally: Arc::default(),
        };
        Grant {
            client,
            tokens: hashes(&config.token_sha256),
            sans: config.san.clone(),
            subjects: config.jwt_subject.clone(),
        }
    }

    /// The issuer. One that is as before keeps the keys that were fetched.
    fn issuer(&self, config: &AuthConfig) -> anyhow::Result<Option<Arc<Issuer>>> {
        let Some(issuer) = &config.issuer else { return Ok(None) };
        let keys = match (&issuer.keys, &issuer.key_set) {
            (JwksSource::Url(url), _) => KeySource::Fetched(FetchOptions {
                url: url.clone(),
                age_max: Duration::from_millis(config.jwks_age_max_ms),
                interval_min: Duration::from_millis(config.jwks_interval_min_ms),
                timeout: Duration::from_millis(config.jwks_timeout_ms),
                bytes_max: config.jwks_bytes_max,
            }),
            (JwksSource::File(_), key_set) => KeySource::Set(key_set.clone().unwrap_or_default()),
        };
        let options = IssuerOptions {
            issuer: issuer.issuer.clone(),
            audience: issuer.audience.clone(),
            algorithms: config.algorithms.clone(),
            leeway: Duration::from_millis(config.leeway_ms),
            keys,
        };
        let before = self.callers.issuer().filter(|before| *before.options() == options);
        match before {
            Some(before) => Ok(Some(before)),
            None => Ok(Some(Arc::new(Issuer::new(options)?))),
        }
    }

    /// Has an issuer's keys fetched before they are too old, until `stop`.
    pub(super) async fn keep_keys(self, stop: CancellationToken) -> Ended {
        loop {
            if let Some(issuer) = self.callers.issuer() {
                issuer.keep_fresh().await;
            }
            let next = clock::now().instant.plus(LOOK_INTERVAL);
            tokio::select! {
                () = stop.cancelled() => return Ended::Housekeeper,
                () = clock::sleep_until(Some(next)) => {}
            }
        }
    }
}

fn terms(client: &ClientConfig) -> ClientTerms {
    let max = client.pending_records_max;
    ClientTerms { records_max: (max > 0).then_some(max), weight: client.weight }
}

/// The operators that the configuration names.
pub(super) fn admins(config: &Config) -> Admins {
    Admins::new(config.admins.iter().map(admin).collect())
}

fn admin(config: &AdminConfig) -> AdminGrant {
    AdminGrant {
        name: config.name.clone(),
        tokens: hashes(&config.token_sha256),
        role: match config.role {
            AdminRole::Reader => Role::Reader,
            AdminRole::Operator => Role::Operator,
        },
    }
}

fn hashes(hashes: &[String]) -> Vec<Hash> {
    hashes.iter().filter_map(|hash| Hash::parse(hash)).collect()
}
