//! What operators ask of the store.

use std::collections::BTreeMap;

use super::{Store, StoreError};
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, ClientId, Subject},
    },
    store::queue::{PendingPage, SubjectRecords},
};

impl Store {
    /// All that is known of a subject, save its dead letters.
    pub async fn subject(
        &self,
        app: AppId,
        subject: Subject,
    ) -> Result<SubjectRecords, StoreError> {
        self.read(move |reads| reads.subject(app, subject)).await
    }

    /// Up to `limit` pending records of an app, from a place on.
    pub async fn pending(
        &self,
        app: AppId,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<PendingPage, StoreError> {
        self.read(move |reads| reads.pending(app, from, limit)).await
    }

    /// When the first update of the record of each client's own that waits longest was accepted.
    pub async fn oldest_by_client(
        &self,
        app: AppId,
    ) -> Result<BTreeMap<ClientId, Timestamp>, StoreError> {
        self.read(move |reads| reads.oldest_by_client(app)).await
    }

    /// The names of all clients that ever had one.
    pub async fn client_names(&self) -> Result<BTreeMap<ClientId, String>, StoreError> {
        self.read(|reads| reads.client_names()).await
    }
}
