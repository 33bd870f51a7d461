//! Who calls, and what it may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Extensions;
use tonic::Status;

use secrecy::SecretString;

use super::{peer::PeerIdentity, rate::Rate, tally::Tally, token::Hash};
use crate::{
    domain::{
        property::FoldedNames,
        time::Timestamp,
        update::{AppId, ClientId, Lane},
    },
    store::queue::ClientTerms,
};

/// What callers without a credential are called, where none is asked for.
pub const ANYONE: &str = "anyone";

/// The client that a request comes from. A door puts it into the request's extensions.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Standing>);

#[derive(Debug)]
struct Standing {
    client: Arc<Client>,
    proof: Proof,
    generation: u64,
}

/// What a caller has shown to be who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// Nothing: no credential is asked for.
    None,
    /// A token, by its hash.
    Token(Hash),
    /// A certificate.
    Certificate {
        /// The name in it that the client is known by.
        san: String,
        /// Who has shown it.
        peer: PeerIdentity,
    },
    /// A JSON web token.
    Jwt {
        /// The token, which another issuer or other keys may judge otherwise.
        token: SecretString,
        /// From when on it is not taken any more.
        expires_at: Timestamp,
        /// By which of its issuer's key sets, counted, it was verified.
        key_set: u64,
    },
}

/// A microservice that sends updates, and what it may do.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its number in the store.
    pub id: ClientId,
    /// Its name in logs, metrics and the console.
    pub name: String,
    /// Whether it is one of the configured; else it is whoever calls.
    pub is_configured: bool,
    /// The apps that it may use, by name.
    pub apps: BTreeMap<String, AppId>,
    /// The lane of its updates that do not name one, and the most urgent that it may name.
    pub lane: Lane,
    /// The largest update that it may send, where it has a limit of its own.
    pub record_bytes_max: Option<usize>,
    /// The properties that it may write, where these are not all.
    pub properties: Option<FoldedNames>,
    /// What is passed through to Userpilot for it, as methods and paths, where it is one of the
    /// configured.
    pub pass_through: BTreeSet<String>,
    /// On what terms it uses the queue.
    pub terms: ClientTerms,
    /// How fast it may send, where there is a limit.
    pub rate: Option<Arc<Rate>>,
    /// What has been counted of it.
    pub tally: Arc<Tally>,
}

impl Client {
    /// Whoever calls, where no credential is asked for. `id` is the number of [`ANYONE`].
    pub fn anyone(id: ClientId, apps: BTreeMap<String, AppId>) -> Self {
        Self { id, name: ANYONE.to_owned(), apps, ..Self::default() }
    }
}

impl Caller {
    /// Whoever calls, where no credential is asked for.
    pub fn anyone(apps: BTreeMap<String, AppId>) -> Self {
        Self::new(Arc::new(Client::anyone(ClientId::default(), apps)), Proof::None, 0)
    }

    /// The client that has shown `proof` to the callers of a `generation`.
    pub(super) fn new(client: Arc<Client>, proof: Proof, generation: u64) -> Self {
        Self(Arc::new(Standing { client, proof, generation }))
    }

    /// The caller that the door put into a request's extensions.
    pub fn of(extensions: &Extensions) -> Result<Self, Status> {
        // A door that let a request in without is a fault of ours: nobody may use it.
        extensions.get().cloned().ok_or_else(|| Status::internal("the caller is not known"))
    }

    /// What it may do.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The same, to be kept.
    pub(super) fn shared(&self) -> Arc<Client> {
        self.0.client.clone()
    }

    /// What it has shown.
    pub(super) fn proof(&self) -> &Proof {
        &self.0.proof
    }

    /// Among which callers it was found.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation
    }
}
