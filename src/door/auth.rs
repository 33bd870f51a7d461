//! Who calls: from a request's credential to a caller, or to a refusal that does not say what
//! was wrong.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use http::{Extensions, HeaderMap};
use secrecy::ExposeSecret as _;

use super::{
    caller::{Caller, Client, Proof},
    jwt::{Issuer, NotVerified, Verified},
    peer::PeerIdentity,
    refusal::Refusal,
    token::{Hash, Presented, Schemes, presented},
};
use crate::{
    audit::{self, Door},
    domain::time::Timestamp,
};

/// What clients are let in with, by configuration.
#[derive(Debug, Default)]
pub struct Access {
    /// Whoever calls without a credential, where none is asked for.
    pub anyone: Option<Client>,
    /// The configured clients.
    pub grants: Vec<Grant>,
    /// Whose JSON web tokens are taken.
    pub issuer: Option<Arc<Issuer>>,
}

/// A client and its credentials.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The client.
    pub client: Client,
    /// The hashes of its tokens.
    pub tokens: Vec<Hash>,
    /// The names in its certificates.
    pub sans: Vec<String>,
    /// The subjects of its JSON web tokens.
    pub subjects: Vec<String>,
}

/// All who may call. Clones are of the same; a reload replaces what they know.
#[derive(Clone, Debug)]
pub struct Callers(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    table: ArcSwap<Table>,
    failures: AtomicU64,
}

/// Made once, and looked into at each request.
#[derive(Debug, Default)]
struct Table {
    generation: u64,
    anyone: Option<Caller>,
    tokens: Vec<(Hash, Caller)>,
    certificates: BTreeMap<String, Arc<Client>>,
    subjects: BTreeMap<String, Arc<Client>>,
    clients: Vec<Arc<Client>>,
    issuer: Option<Arc<Issuer>>,
}

/// Why it is not known who calls.
enum Unknown {
    /// The credential is missing or wrong.
    Unauthenticated,
    /// The issuer may have another key by now.
    Key(Arc<Issuer>),
    /// The issuer's keys are not there.
    NoKeys(Arc<Issuer>),
}

impl Callers {
    /// Those of `access`.
    pub fn new(access: Access) -> Self {
        let table = Table::new(access, &Table::default());
        Self(Arc::new(Parts { table: ArcSwap::from_pointee(table), failures: 0.into() }))
    }

    /// Lets in those of `access`, and nobody else, from now on. What has been counted of a
    /// client stays. Whoever streams is judged anew with its next update.
    pub fn replace(&self, access: Access) {
        let old = self.0.table.load();
        self.0.table.store(Arc::new(Table::new(access, &old)));
    }

    /// Who calls, if that can be told at once: `None` where the issuer has to be asked.
    pub fn admit_at_once(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        (door, schemes): (Door, Schemes),
    ) -> Option<Result<Caller, Refusal>> {
        match self.0.table.load().identify(headers, extensions, schemes) {
            Ok(caller) => Some(Ok(caller)),
            Err(Unknown::Unauthenticated) => Some(Err(self.refuse(door, address(extensions)))),
            Err(Unknown::Key(issuer) | Unknown::NoKeys(issuer)) if issuer.can_refresh() => None,
            Err(Unknown::Key(_)) => Some(Err(self.refuse(door, address(extensions)))),
            Err(Unknown::NoKeys(_)) => Some(Err(Refusal::NoKeys)),
        }
    }

    /// Who calls, with the issuer asked for its keys where that may tell.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        (door, schemes): (Door, Schemes),
    ) -> Result<Caller, Refusal> {
        if let Some(told) = self.admit_at_once(headers, extensions, (door, schemes)) {
            return told;
        }
        let issuer = self.issuer();
        if let Some(issuer) = issuer {
            issuer.refresh().await;
        }
        match self.0.table.load().identify(headers, extensions, schemes) {
            Ok(caller) => Ok(caller),
            Err(Unknown::NoKeys(_)) => Err(Refusal::NoKeys),
            Err(Unknown::Unauthenticated | Unknown::Key(_)) => {
                Err(self.refuse(door, address(extensions)))
            }
        }
    }

    /// The same caller as it stands `now`, or a refusal if its credential is not taken any more:
    /// it expired, or the configuration, the issuer's keys or those who vouch for certificates
    /// are others by now. Another issuer may be asked for its keys. A refusal goes on record, as
    /// one at the door does.
    pub async fn renew(
        &self,
        caller: &Caller,
        now: Timestamp,
        (door, peer): (Door, Option<SocketAddr>),
    ) -> Result<Caller, Refusal> {
        let renewed = match self.renew_at_once(caller, now) {
            Err(Unknown::Key(issuer) | Unknown::NoKeys(issuer)) if issuer.can_refresh() => {
                issuer.refresh().await;
                self.renew_at_once(caller, now)
            }
            told => told,
        };
        renewed.map_err(|unknown| match unknown {
            Unknown::Unauthenticated | Unknown::Key(_) => self.refuse(door, peer),
            Unknown::NoKeys(_) => Refusal::NoKeys,
        })
    }

    fn renew_at_once(&self, caller: &Caller, now: Timestamp) -> Result<Caller, Unknown> {
        let table = self.0.table.load();
        let stands = caller.generation() == table.generation && table.stands(caller.proof());
        let caller = if stands { caller.clone() } else { table.again(caller.proof())? };
        match caller.proof() {
            Proof::Jwt { expires_at, .. } if *expires_at <= now => Err(Unknown::Unauthenticated),
            Proof::None | Proof::Token(_) | Proof::Certificate { .. } | Proof::Jwt { .. } => {
                Ok(caller)
            }
        }
    }

    /// The configured clients.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.0.table.load().clients.clone()
    }

    /// The configured clients, or whoever calls where no credential is asked for.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let table = self.0.table.load();
        let anyone = table.anyone.iter().map(Caller::shared);
        anyone.chain(table.clients.iter().cloned()).collect()
    }

    /// Whose JSON web tokens are taken.
    pub fn issuer(&self) -> Option<Arc<Issuer>> {
        self.0.table.load().issuer.clone()
    }

    /// How many requests were refused for their credentials.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }

    fn refuse(&self, door: Door, peer: Option<SocketAddr>) -> Refusal {
        self.0.failures.fetch_add(1, Relaxed);
        audit::authentication_failed(door, peer);
        Refusal::Unauthenticated
    }
}

/// Where a request comes from.
pub fn address(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get().map(|peer: &PeerIdentity| peer.address)
}

impl Table {
    fn new(access: Access, old: &Self) -> Self {
        let Access { anyone, grants, issuer } = access;
        let generation = old.generation + 1;
        let mut table = Self { generation, issuer, ..Self::default() };
        let anyone = anyone.map(|anyone| Arc::new(old.go_on(anyone)));
        table.anyone = anyone.map(|anyone| Caller::new(anyone, Proof::None, generation));
        for Grant { client, tokens, sans, subjects } in grants {
            let client = Arc::new(old.go_on(client));
            let caller = |proof| Caller::new(client.clone(), proof, generation);
            table.tokens.extend(tokens.into_iter().map(|it| (it, caller(Proof::Token(it)))));
            table.certificates.extend(sans.into_iter().map(|it| (it, client.clone())));
            table.subjects.extend(subjects.into_iter().map(|it| (it, client.clone())));
            table.clients.push(client);
        }
        table
    }

    /// A client as it is from now on, with what there was of it before.
    fn go_on(&self, client: Client) -> Client {
        let anyone = self.anyone.as_ref().map(Caller::client);
        let mut before = self.clients.iter().map(|before| &**before).chain(anyone);
        let Some(before) = before.find(|before| before.name == client.name) else { return client };
        let limit = |client: &Client| client.rate.as_ref().map(|rate| rate.per_second());
        let rate = match limit(&client) == limit(before) {
            true => before.rate.clone(),
            false => client.rate.clone(),
        };
        Client { rate, tally: before.tally.clone(), ..client }
    }

    /// A token goes before a certificate, and a wrong one is not made good by it.
    fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        schemes: Schemes,
    ) -> Result<Caller, Unknown> {
        if let Some(anyone) = &self.anyone {
            return Ok(anyone.clone());
        }
        match presented(headers, schemes) {
            Presented::Token(token) => self.by_token(token),
            Presented::Malformed => Err(Unknown::Unauthenticated),
            Presented::Nothing => {
                let peer: &PeerIdentity = extensions.get().ok_or(Unknown::Unauthenticated)?;
                let sans = peer.sans();
                let mut known = sans.iter().filter_map(|san| self.by_certificate(san, peer));
                known.next().ok_or(Unknown::Unauthenticated)
            }
        }
    }

    fn by_certificate(&self, san: &str, peer: &PeerIdentity) -> Option<Caller> {
        let client = self.certificates.get(san)?.clone();
        let proof = Proof::Certificate { san: san.to_owned(), peer: peer.clone() };
        Some(Caller::new(client, proof, self.generation))
    }

    fn by_token(&self, token: &str) -> Result<Caller, Unknown> {
        match Hash::of(token).find(&self.tokens) {
            Some(caller) => Ok(caller.clone()),
            None => self.by_jwt(token),
        }
    }

    fn by_jwt(&self, token: &str) -> Result<Caller, Unknown> {
        let Some(issuer) = &self.issuer else { return Err(Unknown::Unauthenticated) };
        let verified = issuer.verify(token).map_err(|not_verified| match not_verified {
            NotVerified::Invalid => Unknown::Unauthenticated,
            NotVerified::UnknownKey => Unknown::Key(issuer.clone()),
            NotVerified::NoKeys => Unknown::NoKeys(issuer.clone()),
        })?;
        let Verified { subject, expires_at, key_set } = verified;
        let client = self.subjects.get(&subject).ok_or(Unknown::Unauthenticated)?;
        let proof = Proof::Jwt { token: token.into(), expires_at, key_set };
        Ok(Caller::new(client.clone(), proof, self.generation))
    }

    /// Whether those who have verified `proof`, a proof to callers of this generation, are the same
    /// still. They are not of the configuration alone.
    fn stands(&self, proof: &Proof) -> bool {
        match proof {
            Proof::None | Proof::Token(_) => true,
            Proof::Certificate { san, peer } => peer.sans().contains(san),
            Proof::Jwt { key_set, .. } => {
                self.issuer.as_ref().is_some_and(|issuer| issuer.key_set() == *key_set)
            }
        }
    }

    /// Who has shown `proof` before, judged as if it were shown now.
    fn again(&self, proof: &Proof) -> Result<Caller, Unknown> {
        let known = match proof {
            Proof::None => self.anyone.clone(),
            Proof::Token(hash) => hash.find(&self.tokens).cloned(),
            Proof::Certificate { san, peer } => {
                peer.sans().contains(san).then(|| self.by_certificate(san, peer)).flatten()
            }
            Proof::Jwt { token, .. } => return self.by_jwt(token.expose_secret()),
        };
        known.ok_or(Unknown::Unauthenticated)
    }
}
