//! Userpilot's bulk API: requests go out, answers come back as what they mean.

pub mod answer;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod http;
mod key;
mod pass_through;
#[cfg(test)]
mod quoted;

use std::future::Future;

pub use answer::Answer;
pub use http::{HttpUpstream, HttpUpstreamOptions, Upload};
pub use key::{ApiKey, UnfitKey};
pub use pass_through::{PassedBack, Passing};

use crate::domain::{
    batch::Batch,
    update::SubjectKind,
    verdict::{Identified, Jobs, Poll, Submission},
};

/// What delivery needs of upstream. Nothing here fails: a failure is an answer, too.
pub trait Upstream: Send + Sync {
    /// Uploads a batch, under its file name.
    fn submit(&self, batch: &Batch, upload: Vec<u8>) -> impl Future<Output = Submission> + Send;

    /// Asks after one job.
    fn job(&self, job_id: &str) -> impl Future<Output = Poll> + Send;

    /// Asks for the list of jobs.
    fn jobs(&self) -> impl Future<Output = Jobs> + Send;

    /// Writes one profile of this kind at once, by the real-time endpoint.
    fn identify(&self, kind: SubjectKind, body: Vec<u8>)
    -> impl Future<Output = Identified> + Send;
}
