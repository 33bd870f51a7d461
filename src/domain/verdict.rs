//! What upstream's answers mean, as far as a decision depends on it. `upstream::answer`
//! makes these of status, headers and body.

use std::time::Duration;

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is: what is decided depends on this alone.
    pub kind: FailureKind,
    /// What happened, in our words: a status, or what became of the connection. For logs.
    pub cause: String,
    /// The same with upstream's words, shortened. They may quote a row: not for logs.
    pub detail: String,
    /// Upstream's `x-request-id`, where it gave one.
    pub request_id: Option<String>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The request certainly did not arrive: no connection was made.
    NotSent,
    /// The request may have been carried out or not: time-out or reset after the body left,
    /// a 5xx, an answer that cannot be read.
    Unknown,
    /// 429: too many requests; upstream may say when to come back.
    Throttled(Option<Duration>),
    /// 401 or 403: the API key is missing, wrong or revoked.
    KeyRejected,
    /// 409: another job holds the account's only slot.
    SlotTaken,
    /// 413: too many rows or bytes.
    TooLarge,
    /// 400 or 422: a row or the body is invalid.
    BadRows,
    /// 404: no such job. On a submission: no such place.
    NotFound,
    /// Any other refusal: the request was not carried out.
    Refused,
}

/// A job was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedJob {
    /// Upstream's name for it.
    pub job_id: String,
    /// Upstream's `x-request-id`, where it gave one.
    pub request_id: Option<String>,
}

/// How a job is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// Upstream's name for it.
    pub job_id: String,
    /// The name of the uploaded file, where upstream echoes it.
    pub filename: Option<String>,
    /// Where it is in its life.
    pub phase: JobPhase,
    /// Upstream's own word for that.
    pub status: String,
    /// Rows that it was given, where upstream says so.
    pub total_rows: Option<u64>,
    /// Rows that it has finished, where upstream says so.
    pub completed_rows: Option<u64>,
}

/// Whether upstream's documents name this status. A job without one of theirs runs, as far as
/// anybody knows.
pub fn is_known_status(status: &str) -> bool {
    ["queued", "validating", "processing", "pending_refresh", "completed", "failed"]
        .contains(&status)
}

/// What a job's status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// Not ended: queued, validating, processing, pending refresh, or an unknown word.
    Unfinished,
    /// Ended well.
    Completed,
    /// Ended badly, in whole or in part.
    Failed,
}

/// The outcome of a submission.
pub type Submission = Result<AcceptedJob, Failure>;
/// The outcome of asking after one job.
pub type Poll = Result<JobReport, Failure>;
/// The outcome of a request to the real-time endpoint.
pub type Identified = Result<(), Failure>;
/// The outcome of asking for the list of jobs.
pub type Jobs = Result<Vec<JobReport>, Failure>;
