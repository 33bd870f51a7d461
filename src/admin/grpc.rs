//! The admin service.

use std::{pin::Pin, str::FromStr, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    access,
    dead_letters::DeadLetters,
    messages::{app_status, timestamp, told_job},
    status::{App, Observatory},
    subjects::PendingRecords,
};
use crate::{
    clock,
    delivery::{Operation, Place},
    domain::batch::{Batch, BatchId},
    door::auth::Callers,
    proto::{self, admin_service_server::AdminService},
};

/// The admin service.
#[derive(Clone)]
pub struct Admin {
    pub(super) observatory: Observatory,
    /// Those who send updates.
    pub(super) callers: Callers,
    pub(super) stop: CancellationToken,
}

/// Apps that something is to be done with.
pub(super) struct Asked<'a> {
    /// Those with which it can be.
    pub(super) apps: Vec<&'a App>,
    /// The names of those that are held: with them nothing can be done.
    pub(super) held: Vec<String>,
}

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(100);
const PAGE_SIZE: usize = 50;
pub(super) const PAGE_SIZE_MAX: usize = 1_000;

impl Admin {
    /// The service. When `stop` is cancelled, watches end.
    pub fn new(observatory: Observatory, callers: Callers, stop: CancellationToken) -> Self {
        Self { observatory, callers, stop }
    }

    async fn status(&self, is_operator: bool) -> proto::GatewayStatus {
        let Observatory {
            started_at, not_ready, config_problem, space, store, apps, limits, ..
        } = &self.observatory;
        let not_ready = *not_ready.borrow();
        let mut app_statuses = Vec::with_capacity(apps.len());
        for (app, status) in apps.iter().zip(self.observatory.apps()) {
            let oldest = match status.queue.depth.records {
                0 => None,
                _ => self.observatory.oldest_pending(app.id).await,
            };
            let status = if is_operator { status } else { status.in_our_words() };
            app_statuses.push(app_status(app, status, oldest));
        }
        let gauges = store.gauges();
        let count = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
        proto::GatewayStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: Some(timestamp(*started_at)),
            ready: not_ready.is_none(),
            not_ready_reason: not_ready.unwrap_or_default().into(),
            store: Some(proto::StoreStatus {
                engine: store.engine_name().into(),
                last_sequence: count(&gauges.last_sequence),
                disk_bytes: store.disk_bytes(),
                quarantined_records: count(&gauges.quarantined),
                free_bytes: space.borrow().free_bytes,
                pending_records_max: limits.records_max,
                pending_bytes_max: limits.bytes_max,
            }),
            apps: app_statuses,
            config_problem: config_problem.borrow().clone().unwrap_or_default(),
        }
    }

    /// The app called `name`; the only one where the name is empty.
    pub(super) fn app_or_held(&self, name: &str) -> Result<&App, Status> {
        match &*self.observatory.apps {
            [only] if name.is_empty() => Ok(only),
            apps => apps.iter().find(|app| app.name == name).ok_or_else(|| no_such_app(name, apps)),
        }
    }

    /// The same, but with one that is held nothing can be done.
    pub(super) fn app(&self, name: &str) -> Result<&App, Status> {
        let app = self.app_or_held(name)?;
        match app.operator.view().held {
            None => Ok(app),
            Some(held) => {
                Err(Status::failed_precondition(format!("app {:?} is held: {held}", app.name)))
            }
        }
    }

    /// The app called `name`; all where the name is empty.
    pub(super) fn apps(&self, name: &str) -> Result<Asked<'_>, Status> {
        if !name.is_empty() {
            return Ok(Asked { apps: vec![self.app(name)?], held: Vec::new() });
        }
        let apps = self.observatory.apps.iter();
        let (apps, held): (Vec<_>, Vec<_>) =
            apps.partition(|app| app.operator.view().held.is_none());
        Ok(Asked { apps, held: held.into_iter().map(|app| app.name.clone()).collect() })
    }

    /// Returns the names of the apps that are held.
    async fn pause(&self, app: &str, paused: bool) -> Result<Vec<String>, Status> {
        let Asked { apps, held } = self.apps(app)?;
        for app in apps {
            let stored = self.observatory.store.pause(app.id, paused);
            let done = app.operator.pause(paused, stored).await;
            done.map_err(|closed| Status::unavailable(closed.to_string()))?;
        }
        Ok(held)
    }

    async fn batches(&self, app: &App, newest: u64, limit: usize) -> Result<Vec<Batch>, Status> {
        let batches = self.observatory.store.batches(app.id, newest, limit).await;
        let mut batches = batches.map_err(|error| Status::unavailable(error.to_string()))?;
        // The one in flight is known better to its driver.
        if let Some(current) = app.operator.view().batch
            && let Some(stored) = batches.iter_mut().find(|batch| batch.id == current.id)
            && stored.settled_at.is_none()
        {
            *stored = current;
        }
        Ok(batches)
    }

    async fn find_batch(&self, app: &App, id: &str) -> Result<Option<Batch>, Status> {
        if let Ok(BatchId { number, .. }) = id.parse::<BatchId>() {
            let batches = self.batches(app, number, 1).await?;
            return Ok(batches.into_iter().find(|batch| batch.id.to_string() == id));
        }
        let mut newest = u64::MAX;
        loop {
            let batches = self.batches(app, newest, PAGE_SIZE_MAX).await?;
            let Some(last) = batches.last() else { return Ok(None) };
            newest = last.id.number.saturating_sub(1);
            let found = batches.into_iter().find(|batch| batch.job_id.as_deref() == Some(id));
            if found.is_some() || newest == 0 {
                return Ok(found);
            }
        }
    }
}

/// Names the apps that there are: operators may know them.
fn no_such_app(name: &str, apps: &[App]) -> Status {
    let known = apps.iter().map(|app| &*app.name).collect::<Vec<_>>().join(", ");
    let (code, message) = match name {
        "" => (
            Code::InvalidArgument,
            format!("app (--app) is required, since there are several: {known}"),
        ),
        _ => (Code::NotFound, format!("no app is called {name:?}: there are {known}")),
    };
    Status::with_error_details(
        code,
        message.clone(),
        ErrorDetails::with_bad_request_violation("app", message),
    )
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let status = self.status(access::is_operator(request.extensions())).await;
        Ok(Response::new(proto::GetStatusResponse { status: Some(status) }))
    }

    type WatchStatusStream =
        Pin<Box<dyn Stream<Item = Result<proto::WatchStatusResponse, Status>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<proto::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let is_operator = access::is_operator(request.extensions());
        let interval = request.into_inner().interval;
        let interval = interval.and_then(|interval| interval.try_into().ok());
        let interval = interval.unwrap_or(WATCH_INTERVAL).max(WATCH_INTERVAL_MIN);
        let statuses = stream::unfold((self.clone(), None), move |(admin, next)| async move {
            clock::sleep_until(Some(next.unwrap_or_default())).await;
            let status = admin.status(is_operator).await;
            let next = clock::now().instant.plus(interval);
            Some((Ok(proto::WatchStatusResponse { status: Some(status) }), (admin, Some(next))))
        });
        let until_stopped = statuses.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(until_stopped)))
    }

    async fn list_jobs(
        &self,
        request: Request<proto::ListJobsRequest>,
    ) -> Result<Response<proto::ListJobsResponse>, Status> {
        let is_operator = access::is_operator(request.extensions());
        let proto::ListJobsRequest { app, page_size, page_token } = request.into_inner();
        let app = self.app(&app)?;
        let page_size = read_page_size(page_size)?;
        let newest = read_page_token(&page_token)?.unwrap_or(u64::MAX);
        // What is damaged is left out, so that a page that is not full need not be the last.
        let mut batches = Vec::new();
        let mut next = newest;
        while batches.len() <= page_size {
            let missing = page_size + 1 - batches.len();
            let older = self.batches(app, next, missing.max(PAGE_SIZE)).await?;
            let Some(last) = older.last().map(|batch| batch.id.number) else { break };
            batches.extend(older);
            next = last.saturating_sub(1);
        }
        let more = batches.get(page_size).map(|batch| batch.id.number);
        batches.truncate(page_size);
        Ok(Response::new(proto::ListJobsResponse {
            jobs: batches.into_iter().map(|batch| told_job(app, batch, is_operator)).collect(),
            next_page_token: more.map(|number| number.to_string()).unwrap_or_default(),
        }))
    }

    async fn get_job(
        &self,
        request: Request<proto::GetJobRequest>,
    ) -> Result<Response<proto::GetJobResponse>, Status> {
        let is_operator = access::is_operator(request.extensions());
        let proto::GetJobRequest { app, id } = request.into_inner();
        let app = self.app(&app)?;
        let batch = self.find_batch(app, &id).await?;
        let batch = batch.ok_or_else(|| Status::not_found("no job has this id"))?;
        let job = told_job(app, batch, is_operator);
        Ok(Response::new(proto::GetJobResponse { job: Some(job) }))
    }

    async fn pause(
        &self,
        request: Request<proto::PauseRequest>,
    ) -> Result<Response<proto::PauseResponse>, Status> {
        access::record(request.extensions(), "pause", &request.get_ref().app)?;
        let held_apps = Admin::pause(self, &request.into_inner().app, true).await?;
        Ok(Response::new(proto::PauseResponse { held_apps }))
    }

    async fn resume(
        &self,
        request: Request<proto::ResumeRequest>,
    ) -> Result<Response<proto::ResumeResponse>, Status> {
        access::record(request.extensions(), "resume", &request.get_ref().app)?;
        let held_apps = Admin::pause(self, &request.into_inner().app, false).await?;
        Ok(Response::new(proto::ResumeResponse { held_apps }))
    }

    async fn flush_now(
        &self,
        request: Request<proto::FlushNowRequest>,
    ) -> Result<Response<proto::FlushNowResponse>, Status> {
        access::record(request.extensions(), "flush_now", &request.get_ref().app)?;
        let Asked { apps, held: held_apps } = self.apps(&request.into_inner().app)?;
        for app in apps {
            match app.operator.place() {
                Place::Here => app.operator.ask(Operation::Flush).await,
                Place::Elsewhere(_) | Place::Nowhere => {
                    let wished = self.observatory.store.wish_flush(app.id).await;
                    wished.map_err(|closed| Status::unavailable(closed.to_string()))?;
                }
            }
        }
        Ok(Response::new(proto::FlushNowResponse { held_apps }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<proto::ListDeadLettersRequest>,
    ) -> Result<Response<proto::ListDeadLettersResponse>, Status> {
        Ok(Response::new(self.list_dead(request).await?))
    }

    async fn get_dead_letter(
        &self,
        request: Request<proto::GetDeadLetterRequest>,
    ) -> Result<Response<proto::GetDeadLetterResponse>, Status> {
        let app = &request.get_ref().app;
        access::record(request.extensions(), "get_dead_letter", app)?;
        Ok(Response::new(self.get_dead(request.into_inner()).await?))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<proto::ReplayDeadLettersRequest>,
    ) -> Result<Response<proto::ReplayDeadLettersResponse>, Status> {
        let app = &request.get_ref().app;
        access::record(request.extensions(), "replay_dead_letters", app)?;
        Ok(Response::new(self.replay_dead(request.into_inner()).await?))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<proto::DiscardDeadLettersRequest>,
    ) -> Result<Response<proto::DiscardDeadLettersResponse>, Status> {
        let app = &request.get_ref().app;
        access::record(request.extensions(), "discard_dead_letters", app)?;
        Ok(Response::new(self.discard_dead(request.into_inner()).await?))
    }

    type ExportDeadLettersStream = DeadLetters;

    async fn export_dead_letters(
        &self,
        request: Request<proto::ExportDeadLettersRequest>,
    ) -> Result<Response<Self::ExportDeadLettersStream>, Status> {
        let app = &request.get_ref().app;
        access::record(request.extensions(), "export_dead_letters", app)?;
        Ok(Response::new(self.export_dead(request.into_inner())?))
    }

    async fn forget_subject(
        &self,
        request: Request<proto::ForgetSubjectRequest>,
    ) -> Result<Response<proto::ForgetSubjectResponse>, Status> {
        access::record(request.extensions(), "forget_subject", &request.get_ref().app)?;
        Ok(Response::new(self.forget(request.into_inner()).await?))
    }

    async fn list_clients(
        &self,
        _: Request<proto::ListClientsRequest>,
    ) -> Result<Response<proto::ListClientsResponse>, Status> {
        Ok(Response::new(self.clients().await?))
    }

    async fn find_subject(
        &self,
        request: Request<proto::FindSubjectRequest>,
    ) -> Result<Response<proto::FindSubjectResponse>, Status> {
        access::record(request.extensions(), "find_subject", &request.get_ref().app)?;
        Ok(Response::new(self.find(request.into_inner()).await?))
    }

    async fn get_history(
        &self,
        request: Request<proto::GetHistoryRequest>,
    ) -> Result<Response<proto::GetHistoryResponse>, Status> {
        Ok(Response::new(self.history(&request.into_inner())?))
    }

    async fn get_config(
        &self,
        _: Request<proto::GetConfigRequest>,
    ) -> Result<Response<proto::GetConfigResponse>, Status> {
        Ok(Response::new(self.config()))
    }

    type ExportPendingStream = PendingRecords;

    async fn export_pending(
        &self,
        request: Request<proto::ExportPendingRequest>,
    ) -> Result<Response<Self::ExportPendingStream>, Status> {
        access::record(request.extensions(), "export_pending", &request.get_ref().app)?;
        Ok(Response::new(self.export_pending_of(&request.into_inner()).await?))
    }
}

/// How many are asked for; 0 stands for the default.
pub(super) fn read_page_size(size: i32) -> Result<usize, Status> {
    match usize::try_from(size) {
        Ok(0) => Ok(PAGE_SIZE),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(Status::invalid_argument("page_size: is negative")),
    }
}

/// Where a page goes on; `None` at the beginning.
pub(super) fn read_page_token<T: FromStr>(token: &str) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = token.parse().map(Some);
    read.map_err(|_| Status::invalid_argument("page_token: is not of a page before"))
}
