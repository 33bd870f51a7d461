//! The reading side of a store, of whichever engine.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;

use super::jobs::ReadJobs;

use crate::{
    domain::{
        batch::Batch,
        row::RowValues,
        time::Timestamp,
        update::{AppId, ClientId, Sequence, Subject},
    },
    store::{
        Traces,
        engine::Engine,
        queue::{
            DeadFilter, DeadId, DeadLetter, DeadPage, Found, OldestOfLanes, PendingPage, Reads,
            StoreError, SubjectRecords,
        },
    },
};

/// [`Reads`] of any engine.
pub(super) trait ReadAny: ReadJobs + Send + Sync {
    fn find(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
        sequence: Sequence,
    ) -> BoxFuture<'static, Result<Found, StoreError>>;
    fn upload(self: Arc<Self>, batch: Batch) -> BoxFuture<'static, Result<Vec<u8>, StoreError>>;
    fn express_body(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
        values: RowValues,
    ) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>>;
    fn batches(
        self: Arc<Self>,
        app: AppId,
        newest: u64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, StoreError>>;
    fn oldest_of_lanes(
        self: Arc<Self>,
        app: AppId,
    ) -> BoxFuture<'static, Result<OldestOfLanes, StoreError>>;
    fn dead_letters(
        self: Arc<Self>,
        app: AppId,
        filter: DeadFilter,
        after: Option<DeadId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<DeadPage, StoreError>>;
    fn dead_letter(
        self: Arc<Self>,
        app: AppId,
        id: DeadId,
    ) -> BoxFuture<'static, Result<Option<DeadLetter>, StoreError>>;
    fn traces(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
        up_to: Sequence,
    ) -> BoxFuture<'static, Result<Traces, StoreError>>;
    fn subject(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
    ) -> BoxFuture<'static, Result<SubjectRecords, StoreError>>;
    fn pending(
        self: Arc<Self>,
        app: AppId,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'static, Result<PendingPage, StoreError>>;
    fn oldest_by_client(
        self: Arc<Self>,
        app: AppId,
    ) -> BoxFuture<'static, Result<BTreeMap<ClientId, Timestamp>, StoreError>>;
    fn client_names(
        self: Arc<Self>,
    ) -> BoxFuture<'static, Result<BTreeMap<ClientId, String>, StoreError>>;
    fn time(self: Arc<Self>) -> BoxFuture<'static, Result<Option<Timestamp>, StoreError>>;
    fn disk_bytes(&self) -> u64;
    fn engine_name(&self) -> &'static str;
}

impl<E: Engine> ReadAny for Reads<E> {
    fn find(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
        sequence: Sequence,
    ) -> BoxFuture<'static, Result<Found, StoreError>> {
        Box::pin(async move { Reads::find(&self, app, &subject, sequence).await })
    }

    fn upload(self: Arc<Self>, batch: Batch) -> BoxFuture<'static, Result<Vec<u8>, StoreError>> {
        Box::pin(async move { Reads::upload(&self, &batch).await })
    }

    fn express_body(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
        values: RowValues,
    ) -> BoxFuture<'static, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { Reads::express_body(&self, app, &subject, values).await })
    }

    fn batches(
        self: Arc<Self>,
        app: AppId,
        newest: u64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Batch>, StoreError>> {
        Box::pin(async move { Reads::batches(&self, app, newest, limit).await })
    }

    fn oldest_of_lanes(
        self: Arc<Self>,
        app: AppId,
    ) -> BoxFuture<'static, Result<OldestOfLanes, StoreError>> {
        Box::pin(async move { Reads::oldest_of_lanes(&self, app).await })
    }

    fn dead_letters(
        self: Arc<Self>,
        app: AppId,
        filter: DeadFilter,
        after: Option<DeadId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<DeadPage, StoreError>> {
        Box::pin(async move { Reads::dead_letters(&self, app, &filter, after, limit).await })
    }

    fn dead_letter(
        self: Arc<Self>,
        app: AppId,
        id: DeadId,
    ) -> BoxFuture<'static, Result<Option<DeadLetter>, StoreError>> {
        Box::pin(async move { Reads::dead_letter(&self, app, id).await })
    }

    fn traces(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
        up_to: Sequence,
    ) -> BoxFuture<'static, Result<Traces, StoreError>> {
        Box::pin(async move { Reads::traces(&self, app, &subject, up_to).await })
    }

    fn subject(
        self: Arc<Self>,
        app: AppId,
        subject: Subject,
    ) -> BoxFuture<'static, Result<SubjectRecords, StoreError>> {
        Box::pin(async move { Reads::subject(&self, app, &subject).await })
    }

    fn pending(
        self: Arc<Self>,
        app: AppId,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'static, Result<PendingPage, StoreError>> {
        Box::pin(async move { Reads::pending(&self, app, from, limit).await })
    }

    fn oldest_by_client(
        self: Arc<Self>,
        app: AppId,
    ) -> BoxFuture<'static, Result<BTreeMap<ClientId, Timestamp>, StoreError>> {
        Box::pin(async move { Reads::oldest_by_client(&self, app).await })
    }

    fn client_names(
        self: Arc<Self>,
    ) -> BoxFuture<'static, Result<BTreeMap<ClientId, String>, StoreError>> {
        Box::pin(async move { Reads::client_names(&self).await })
    }

    fn time(self: Arc<Self>) -> BoxFuture<'static, Result<Option<Timestamp>, StoreError>> {
        Box::pin(async move { Reads::time(&self).await })
    }

    fn disk_bytes(&self) -> u64 {
        Reads::disk_bytes(self)
    }

    fn engine_name(&self) -> &'static str {
        Reads::engine_name(self)
    }
}
