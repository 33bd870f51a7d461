//! Who calls: from a request's credential to a caller, or to a refusal that does not say what
//! was wrong.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use http::{Extensions, HeaderMap};

use super::{
    caller::{Caller, Client, Proof},
    jwt::{Issuer, NotVerified},
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
    certificates: BTreeMap<String, Caller>,
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
    /// client stays. Whoever streams is looked at again with its next update.
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
            Err(Unknown::Unauthenticated) => Some(Err(self.refuse(door, extensions))),
            Err(Unknown::Key(issuer) | Unknown::NoKeys(issuer)) if issuer.can_refresh() => None,
            Err(Unknown::Key(_)) => Some(Err(self.refuse(door, extensions))),
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
            Err(Unknown::Unauthenticated | Unknown::Key(_)) => Err(self.refuse(door, extensions)),
        }
    }

    /// The same caller as it stands `now`, or a refusal if its credential is not taken any more.
    pub fn renew(&self, caller: &Caller, now: Timestamp) -> Result<Caller, Refusal> {
        if let Proof::Jwt { expires_at, .. } = caller.proof()
            && *expires_at <= now
        {
            return Err(Refusal::Unauthenticated);
        }
        let table = self.0.table.load();
        if caller.generation() == table.generation {
            return Ok(caller.clone());
        }
        table.again(caller.proof()).ok_or(Refusal::Unauthenticated)
    }

    /// The configured clients.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.0.table.load().clients.clone()
    }

    /// Whose JSON web tokens are taken.
    pub fn issuer(&self) -> Option<Arc<Issuer>> {
        self.0.table.load().issuer.clone()
    }

    /// How many requests were refused for their credentials.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }

    fn refuse(&self, door: Door, extensions: &Extensions) -> Refusal {
        self.0.failures.fetch_add(1, Relaxed);
        audit::authentication_failed(
            door,
            extensions.get().map(|peer: &PeerIdentity| peer.address),
        );
        Refusal::Unauthenticated
    }
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
            let sans = sans.into_iter();
            table.certificates.extend(sans.map(|it| (it.clone(), caller(Proof::Certificate(it)))));
            table.subjects.extend(subjects.into_iter().map(|it| (it, client.clone())));
            table.clients.push(client);
        }
        table
    }

    /// A client as it is from now on, with what there was of it before.
    fn go_on(&self, client: Client) -> Client {
        let before = self.clients.iter().find(|before| before.name == client.name);
        let Some(before) = before else { return client };
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
                let sans = extensions.get().map_or(&[][..], |it: &PeerIdentity| &it.sans);
                let mut known = sans.iter().filter_map(|san| self.certificates.get(san));
                known.next().cloned().ok_or(Unknown::Unauthenticated)
            }
        }
    }

    fn by_token(&self, token: &str) -> Result<Caller, Unknown> {
        if let Some(caller) = Hash::of(token).find(&self.tokens) {
            return Ok(caller.clone());
        }
        let Some(issuer) = &self.issuer else { return Err(Unknown::Unauthenticated) };
        let verified = issuer.verify(token).map_err(|not_verified| match not_verified {
            NotVerified::Invalid => Unknown::Unauthenticated,
            NotVerified::UnknownKey => Unknown::Key(issuer.clone()),
            NotVerified::NoKeys => Unknown::NoKeys(issuer.clone()),
        })?;
        let client = self.subjects.get(&verified.subject).ok_or(Unknown::Unauthenticated)?;
        let proof = Proof::Jwt { subject: verified.subject, expires_at: verified.expires_at };
        Ok(Caller::new(client.clone(), proof, self.generation))
    }

    /// Who has shown `proof` before, as far as it is still taken.
    fn again(&self, proof: &Proof) -> Option<Caller> {
        match proof {
            Proof::None => self.anyone.clone(),
            Proof::Token(hash) => hash.find(&self.tokens).cloned(),
            Proof::Certificate(san) => self.certificates.get(san).cloned(),
            Proof::Jwt { subject, .. } => {
                self.issuer.as_ref()?;
                let client = self.subjects.get(subject)?.clone();
                Some(Caller::new(client, proof.clone(), self.generation))
            }
        }
    }
}
