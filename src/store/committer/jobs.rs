//! What the writer is asked to do with virtual jobs.

use tokio::sync::oneshot;

use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, ClientId},
    },
    store::{
        engine::Engine,
        keys::jobs::JobId,
        queue::{
            Queue, StoreError,
            jobs::{Fates, JobPlace, TooManyJobs},
        },
        records::jobs::{Job, JobRow},
    },
};

/// What the writer is asked to do with virtual jobs.
pub(in crate::store) enum JobOp {
    Reserve {
        app: AppId,
        of_client: (ClientId, usize),
        jobs_max: usize,
        reply: oneshot::Sender<Result<JobPlace, TooManyJobs>>,
    },
    Add {
        of: (JobPlace, ClientId),
        job: Box<Job>,
        rows: Vec<JobRow>,
        reply: oneshot::Sender<JobId>,
    },
    NoteFates {
        id: JobId,
        fates: Fates,
        reply: oneshot::Sender<Option<Box<Job>>>,
    },
    Unfinished {
        reply: oneshot::Sender<Vec<JobId>>,
    },
}

impl JobOp {
    pub(super) async fn execute<E: Engine>(
        self,
        queue: &mut Queue<E>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match self {
            Self::Reserve { app, of_client, jobs_max, reply } => {
                queue.look_for_jobs(app).await?;
                reply.send(queue.reserve_job(app, of_client, jobs_max)).ok();
            }
            Self::Add { of, job, rows, reply } => {
                reply.send(queue.add_job(of, *job, rows, now).await?).ok();
            }
            Self::NoteFates { id, fates, reply } => {
                reply.send(queue.note_fates(id, fates, now).await?.map(Box::new)).ok();
            }
            Self::Unfinished { reply } => {
                queue.look_for_own_jobs().await?;
                reply.send(queue.unfinished_jobs()).ok();
            }
        }
        Ok(())
    }
}
