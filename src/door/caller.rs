//! Who calls, and what it may do.

use std::{collections::BTreeMap, sync::Arc};

use http::Extensions;
use tonic::Status;

use crate::domain::update::{AppId, ClientId, Lane};

/// The client that a request comes from. A door puts it into the request's extensions.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Client>);

/// A microservice that sends updates, and what it may do.
#[derive(Debug)]
pub struct Client {
    /// Its number in the store.
    pub id: ClientId,
    /// Its name in logs, metrics and the console.
    pub name: String,
    /// The apps that it may use, by name.
    pub apps: BTreeMap<String, AppId>,
    /// The lane of its updates that do not name one.
    pub lane: Lane,
}

impl Caller {
    /// Whoever calls, where no credential is asked for.
    pub fn anyone(apps: BTreeMap<String, AppId>) -> Self {
        let (id, lane) = (ClientId::default(), Lane::default());
        Self(Arc::new(Client { id, name: "anyone".to_owned(), apps, lane }))
    }

    /// The caller that the door put into a request's extensions.
    pub fn of(extensions: &Extensions) -> Result<Self, Status> {
        // A door that let a request in without is a fault of ours: nobody may use it.
        extensions.get().cloned().ok_or_else(|| Status::internal("the caller is not known"))
    }

    /// What it may do.
    pub fn client(&self) -> &Client {
        &self.0
    }
}
