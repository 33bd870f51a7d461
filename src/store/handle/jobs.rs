//! Virtual jobs, for those who add and ask after them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use futures_util::future::BoxFuture;

use super::{Closed, Op, Store};
use crate::{
    domain::update::{AppId, ClientId, Sequence, Subject},
    store::{
        committer::JobOp,
        engine::Engine,
        keys::{self, jobs::JobId},
        queue::{
            Reads, StoreError,
            jobs::{JobPlace, Look, TooManyJobs},
        },
        records::jobs::{Job, JobRow},
    },
};

/// The store's count of moves when a job was last looked at: until it has risen, a look would
/// show the same.
pub(super) type Seen = BTreeMap<JobId, u64>;

impl JobRow {
    /// The row with this number, whose update was accepted as `sequence`.
    pub fn new(row: u32, subject: &Subject, sequence: Sequence) -> Self {
        let key = keys::pending(AppId::default(), subject);
        Self { row, sequence, subject_key: key[keys::SUBJECT_AT..].to_vec() }
    }
}

impl Store {
    /// Keeps a place for a job of an app that may have so many, of which a client may have so many.
    pub async fn reserve_job(
        &self,
        app: AppId,
        of_client: (ClientId, usize),
        jobs_max: usize,
    ) -> Result<Result<JobPlace, TooManyJobs>, Closed> {
        self.ask(|reply| Op::Job(JobOp::Reserve { app, of_client, jobs_max, reply })).await
    }

    /// Adds a job whose rows are durable, in the place that was kept for it. It is durable itself
    /// once this returns.
    pub async fn add_job(
        &self,
        of: (JobPlace, ClientId),
        job: Job,
        rows: Vec<JobRow>,
    ) -> Result<JobId, Closed> {
        let job = Box::new(job);
        self.ask(|reply| Op::Job(JobOp::Add { of, job, rows, reply })).await
    }

    /// A job as it stands now: what has become of its rows is noted first.
    pub async fn follow_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let moves = self.gauges.moves.load(Relaxed);
        let seen = || self.seen_jobs.lock().unwrap_or_else(PoisonError::into_inner);
        // Where others move records, too, nobody counts all moves.
        if !self.is_shared() && seen().get(&id) == Some(&moves) {
            return self.read(move |reads| reads.job(id)).await;
        }
        let look = self.read(move |reads| reads.look_at_job(id)).await?;
        let Some(Look { job, fates }) = look else {
            seen().remove(&id);
            return Ok(None);
        };
        let news = fates.iter().any(|(_, _, fate)| fate.is_final()) || job.started_at.is_none();
        let mut job = Some(job);
        if !fates.is_empty() && news {
            let noted = self.ask(|reply| Op::Job(JobOp::NoteFates { id, fates, reply })).await;
            let closed =
                |_| StoreError::from(super::super::EngineError::Failed(Closed.to_string()));
            job = noted.map_err(closed)?.map(|job| *job);
        }
        if job.as_ref().is_none_or(|job| job.ended_at.is_some()) {
            seen().remove(&id);
        } else if !self.is_shared() {
            seen().insert(id, moves);
        }
        Ok(job)
    }

    /// The jobs of one client in an app, newest first, as they were noted last.
    pub async fn jobs(
        &self,
        app: AppId,
        client: ClientId,
        limit: usize,
    ) -> Result<Vec<(JobId, Job)>, StoreError> {
        self.read(move |reads| reads.jobs(app, client, limit)).await
    }

    /// The jobs that are not over.
    pub async fn unfinished_jobs(&self) -> Result<Vec<JobId>, Closed> {
        self.ask(|reply| Op::Job(JobOp::Unfinished { reply })).await
    }
}

/// [`Reads`] of any engine, as far as jobs go.
pub(super) trait ReadJobs {
    fn job(self: Arc<Self>, id: JobId) -> BoxFuture<'static, Result<Option<Job>, StoreError>>;
    fn look_at_job(
        self: Arc<Self>,
        id: JobId,
    ) -> BoxFuture<'static, Result<Option<Look>, StoreError>>;
    fn jobs(
        self: Arc<Self>,
        app: AppId,
        client: ClientId,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(JobId, Job)>, StoreError>>;
}

impl<E: Engine> ReadJobs for Reads<E> {
    fn job(self: Arc<Self>, id: JobId) -> BoxFuture<'static, Result<Option<Job>, StoreError>> {
        Box::pin(async move { Reads::job(&self, id).await })
    }

    fn look_at_job(
        self: Arc<Self>,
        id: JobId,
    ) -> BoxFuture<'static, Result<Option<Look>, StoreError>> {
        Box::pin(async move { Reads::look_at_job(&self, id).await })
    }

    fn jobs(
        self: Arc<Self>,
        app: AppId,
        client: ClientId,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(JobId, Job)>, StoreError>> {
        Box::pin(async move { Reads::jobs(&self, app, client, limit).await })
    }
}
