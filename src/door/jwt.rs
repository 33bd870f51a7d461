//! JSON web tokens of an issuer.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{jwks, signature};
use crate::{
    audit, clock,
    domain::time::{Instant, Timestamp},
};

/// What is known of an issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerOptions {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// With which algorithms its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may be off.
    pub leeway: Duration,
    /// Where its keys are.
    pub keys: KeySource,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// Here.
    Set(JwkSet),
    /// To be fetched.
    Fetched(FetchOptions),
}

/// How keys are fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchOptions {
    /// From where.
    pub url: Url,
    /// How old they may become.
    pub age_max: Duration,
    /// The shortest time between two fetches.
    pub interval_min: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// The most bytes that are read.
    pub bytes_max: usize,
}

/// An issuer and its keys.
#[derive(Debug)]
pub struct Issuer {
    options: IssuerOptions,
    keys: ArcSwapOption<Keys>,
    /// How many key sets there have been since the first.
    key_set: AtomicU64,
    /// What is known of the last fetch. Held while there is one.
    asked: Mutex<Asked>,
    /// The same, to be looked at by whoever will not wait.
    fetch_from: ArcSwapOption<Instant>,
}

/// When keys were last asked for, and what they were when they came last.
#[derive(Debug, Default)]
struct Asked {
    at: Option<Instant>,
    set: Option<JwkSet>,
}

/// What a token says that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its `sub`.
    pub subject: String,
    /// From when on it is not taken any more.
    pub expires_at: Timestamp,
    /// By which key set of the issuer it was verified.
    pub key_set: u64,
}

/// Why a token was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotVerified {
    /// It is wrong.
    Invalid,
    /// It is signed by a key that is not known.
    UnknownKey,
    /// No key is known yet.
    NoKeys,
}

/// Why an issuer's keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's key set has no public key that its tokens could be signed with")]
pub struct NoUsableKey;

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
}

impl Issuer {
    /// One whose keys, where they have to be fetched, are not there yet.
    pub fn new(options: IssuerOptions) -> Result<Self, NoUsableKey> {
        signature::install();
        let keys = match &options.keys {
            KeySource::Set(set) => Some(Keys::new(set, &options.algorithms)?.into()),
            KeySource::Fetched(_) => None,
        };
        let (key_set, asked, fetch_from) = Default::default();
        Ok(Self { options, keys: ArcSwapOption::new(keys), key_set, asked, fetch_from })
    }

    /// What it was made of.
    pub fn options(&self) -> &IssuerOptions {
        &self.options
    }

    /// Which key set it has, counted.
    pub fn key_set(&self) -> u64 {
        self.key_set.load(SeqCst)
    }

    /// Verifies a token: signature, issuer, audience, time.
    pub fn verify(&self, token: &str) -> Result<Verified, NotVerified> {
        // Before the keys: where others come in between, the token is verified once more.
        let key_set = self.key_set();
        let keys = self.keys.load();
        let header = decode_header(token).map_err(|_| NotVerified::Invalid)?;
        if !self.options.algorithms.contains(&header.alg) {
            return Err(NotVerified::Invalid);
        }
        let keys = keys.as_ref().ok_or(NotVerified::NoKeys)?;
        let key = match &header.kid {
            Some(kid) => keys.named.get(kid).ok_or(NotVerified::UnknownKey)?,
            // Where there is but one it need not be named.
            None => keys.only.as_ref().ok_or(NotVerified::Invalid)?,
        };
        if !key.algorithms.contains(&header.alg) {
            return Err(NotVerified::Invalid);
        }
        let verified = decode::<Claims>(token, &key.key, &self.validation(header.alg));
        let Claims { sub, exp } = verified.map_err(|_| NotVerified::Invalid)?.claims;
        let expires_in = Duration::try_from_secs_f64(exp).map_err(|_| NotVerified::Invalid)?;
        let expires_at = Timestamp::default().plus(expires_in).plus(self.options.leeway);
        Ok(Verified { subject: sub, expires_at, key_set })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.options.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[&self.options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }

    /// Whether asking for its keys could help now.
    pub fn can_refresh(&self) -> bool {
        let from = self.fetch_from.load();
        matches!(self.options.keys, KeySource::Fetched(_))
            && from.as_ref().is_none_or(|from| clock::now().instant >= **from)
    }

    /// Fetches its keys, unless that was tried a moment ago. Who comes meanwhile waits for the same
    /// answer. Old keys stay where there are no new ones.
    pub async fn refresh(&self) {
        let KeySource::Fetched(options) = &self.options.keys else { return };
        let came_at = clock::now().instant;
        let mut asked = self.asked.lock().await;
        if asked.at.is_some_and(|at| at.plus(options.interval_min) > came_at) {
            return;
        }
        match jwks::fetch(options).await {
            Ok(set) if asked.set.as_ref() == Some(&set) => {}
            Ok(set) => match Keys::new(&set, &self.options.algorithms) {
                Ok(keys) => {
                    audit::issuer_keys_changed(&self.options.issuer, &keys.names());
                    self.keys.store(Some(keys.into()));
                    self.key_set.fetch_add(1, SeqCst);
                    asked.set = Some(set);
                }
                Err(error) => tracing::warn!(%error, "the issuer's keys stay as they were"),
            },
            Err(error) => tracing::warn!(error, "the issuer's keys cannot be fetched"),
        }
        let now = clock::now().instant;
        asked.at = Some(now);
        self.fetch_from.store(Some(now.plus(options.interval_min).into()));
    }

    /// Fetches its keys if they are too old, or not there.
    pub async fn keep_fresh(&self) {
        let KeySource::Fetched(options) = &self.options.keys else { return };
        let asked_at = self.asked.lock().await.at;
        let age = asked_at.map(|at| clock::now().instant.since(at));
        let age_max = match self.keys.load().is_some() {
            true => options.age_max,
            false => options.interval_min,
        };
        if age.is_none_or(|age| age >= age_max) {
            self.refresh().await;
        }
    }
}

/// The keys of an issuer that its tokens may be signed with.
#[derive(Debug, Default)]
struct Keys {
    named: HashMap<String, Key>,
    /// The key, where there is but one.
    only: Option<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl Keys {
    fn new(set: &JwkSet, allowed: &[Algorithm]) -> Result<Self, NoUsableKey> {
        let usable: Vec<_> = set.keys.iter().filter_map(|jwk| usable(jwk, allowed)).collect();
        let only = match &*usable {
            [] => return Err(NoUsableKey),
            [(_, key)] => Some(key.clone()),
            [_, _, ..] => None,
        };
        let named = usable.into_iter().filter_map(|(name, key)| Some((name?, key)));
        Ok(Self { named: named.collect(), only })
    }

    /// Their names, in order.
    fn names(&self) -> String {
        let mut names: Vec<&str> = self.named.keys().map(String::as_str).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

/// A key's name and the key, if tokens may be signed with it.
fn usable(jwk: &Jwk, allowed: &[Algorithm]) -> Option<(Option<String>, Key)> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let own: Option<Algorithm> = match jwk.common.key_algorithm {
        Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
        None => None,
    };
    let fits = |algorithm: &Algorithm| {
        algorithm.family() == key.family() && own.is_none_or(|own| own == *algorithm)
    };
    let algorithms: Vec<_> = allowed.iter().copied().filter(fits).collect();
    (!algorithms.is_empty()).then(|| (jwk.common.key_id.clone(), Key { key, algorithms }))
}
