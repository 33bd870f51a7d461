//! A batch: pending records claimed for one job, and its life.

mod events;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::events::{Happening, JobEvent, words_of_upstream};
use super::{
    row::RowValues,
    sizing::at_least,
    time::Timestamp,
    update::{AppId, ByKind, Sequence, SubjectKind},
};

/// A batch's name. No two batches share one, of whichever gateway: so a batch is known among
/// the jobs of an account, even after its store was restored from a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId {
    /// A random number that was drawn when the store was opened.
    pub opening: u64,
    /// Rising from 1 within an app.
    pub number: u64,
    /// The app.
    pub app: AppId,
}

impl BatchId {
    /// The name under which the batch is uploaded.
    pub fn filename(self) -> String {
        format!("{FILENAME_PREFIX}{self}{FILENAME_SUFFIX}")
    }

    /// The batch that is uploaded under exactly this name.
    pub fn of_filename(name: &str) -> Option<Self> {
        let id = name.strip_prefix(FILENAME_PREFIX)?.strip_suffix(FILENAME_SUFFIX)?;
        id.parse().ok().filter(|id: &Self| id.filename() == name)
    }
}

/// Of more jobs than this, upstream's list will not show the oldest.
const FORMER_JOBS_MAX: usize = 20;

const FILENAME_PREFIX: &str = "userpilot-gateway-";
const FILENAME_SUFFIX: &str = ".ndjson";

/// Whether a file of this name was uploaded by a gateway (this one or another).
pub fn is_gateway_filename(name: &str) -> bool {
    name.starts_with(FILENAME_PREFIX) && name.ends_with(FILENAME_SUFFIX)
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.opening, self.app.0, self.number)
    }
}

impl FromStr for BatchId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let opening = next()?;
        // A job id of upstream's may be hexadecimal and have dashes, too.
        let opening = Some(opening).filter(|hex| hex.len() == 16).ok_or(())?;
        let opening = u64::from_str_radix(opening, 16).map_err(drop)?;
        let app = AppId(next()?.parse().map_err(drop)?);
        let number = next()?.parse().map_err(drop)?;
        if next().is_ok() { Err(()) } else { Ok(Self { opening, number, app }) }
    }
}

/// How large a batch may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchLimits {
    /// Rows (users or companies).
    pub rows_max: u64,
    /// Bytes of the upload.
    pub bytes_max: u64,
}

impl BatchLimits {
    /// Whether a batch of `rows` and `bytes` takes one more row of `row_bytes`. The first
    /// row always fits, or it would wait for ever.
    pub fn fit(&self, rows: u64, bytes: u64, row_bytes: u64) -> bool {
        rows < self.rows_max && (rows == 0 || bytes + row_bytes <= self.bytes_max)
    }

    /// A share of it, at least a row, and never all of it.
    #[must_use]
    pub fn share(&self, share: f64) -> Self {
        let of = |whole: u64| at_least(whole as f64 * share);
        Self {
            rows_max: of(self.rows_max).min(self.rows_max.saturating_sub(1)),
            bytes_max: of(self.bytes_max).min(self.bytes_max),
        }
    }

    /// What is left without `part`.
    #[must_use]
    pub fn without(&self, part: Self) -> Self {
        Self {
            rows_max: self.rows_max.saturating_sub(part.rows_max),
            bytes_max: self.bytes_max.saturating_sub(part.bytes_max),
        }
    }
}

/// What may be claimed of one kind of subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLimits {
    /// How large the batch may become.
    pub batch: BatchLimits,
    /// What of that is the bulk lane's, while it waits.
    pub for_bulk: BatchLimits,
    /// Only records whose first sequence is among the last so many.
    pub reach: u64,
    /// As what the values of its rows go up.
    pub values: RowValues,
}

impl From<BatchLimits> for ClaimLimits {
    fn from(batch: BatchLimits) -> Self {
        Self {
            batch,
            for_bulk: BatchLimits::default(),
            reach: u64::MAX,
            values: RowValues::default(),
        }
    }
}

/// What may be claimed of each kind of subject: of some, nothing. A batch holds one kind alone.
pub type Claimable = ByKind<Option<ClaimLimits>>;

impl From<BatchLimits> for Claimable {
    fn from(batch: BatchLimits) -> Self {
        Self { users: Some(batch.into()), companies: Some(batch.into()) }
    }
}

/// Where a batch is in its life. Each step is durable before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchState {
    /// Rows are being moved into it.
    Claiming,
    /// It is complete and will not change.
    Claimed,
    /// A request is about to leave, or has left and its outcome is not known.
    Submitting,
    /// Upstream has the job.
    Running,
    /// Its fate is decided, its rows are being moved to where they belong.
    Settling(Settlement),
    /// Its rows are gone.
    Settled(Settlement),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// Upstream's profiles hold its rows.
    Delivered,
    /// Upstream did not take it; its rows went back into the queue, under newer values.
    Requeued,
    /// Upstream did not take it; its rows became smaller batches, which are delivered next.
    Split(Cut),
    /// Upstream refused its only row, which became a dead letter.
    Dead(DeadReason),
}

/// How a batch is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// In two.
    Halves,
    /// One row, which is tried first, and what stands before and behind it.
    Probe(u64),
}

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeadReason {
    /// Upstream refused it alone (400 or 422).
    BadRow,
    /// Upstream refused it alone as too large (413).
    TooLarge,
    /// A job with it alone failed, as often as it may.
    JobFailed,
    /// A job with it alone completed without it.
    NotTaken,
}

impl DeadReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::BadRow, Self::TooLarge, Self::JobFailed, Self::NotTaken];
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRow => "bad_row",
            Self::TooLarge => "too_large",
            Self::JobFailed => "job_failed",
            Self::NotTaken => "not_taken",
        })
    }
}

/// The rows of a batch, by the places that they were claimed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The number of the batch that they were claimed into: their own, unless that was split.
    pub origin: u64,
    /// The first place.
    pub first: u64,
    /// Behind the last place.
    pub end: u64,
}

impl Part {
    /// Whether the row that was claimed into a place of `origin` belongs to it.
    pub fn holds(&self, origin: u64, position: u64) -> bool {
        self.origin == origin && (self.first..self.end).contains(&position)
    }
}

/// A batch, without its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// What its rows are about.
    pub kind: SubjectKind,
    /// Where it is in its life.
    pub state: BatchState,
    /// Its rows.
    pub part: Part,
    /// The batch that is delivered after it and before any new one: another part of the same.
    pub then: Option<u64>,
    /// Only records whose first sequence is at most this were claimed.
    pub watermark: Sequence,
    /// Rows (users or companies).
    pub rows: u64,
    /// As what the values of its rows go up, however often.
    pub values: RowValues,
    /// Updates that were coalesced into them.
    pub updates: u64,
    /// Bytes of the upload.
    pub bytes: u64,
    /// When claiming began.
    pub claimed_at: Timestamp,
    /// How often it was submitted.
    pub submissions: u32,
    /// How many of its jobs have failed.
    pub failures: u32,
    /// Upstream's names for the jobs that it had and has no more: failed, or forgotten.
    pub former_jobs: Vec<String>,
    /// When upstream first refused it, or the batch that it is a part of.
    pub refused_at: Option<Timestamp>,
    /// When it was submitted last.
    pub submitted_at: Option<Timestamp>,
    /// Upstream's name for the job.
    pub job_id: Option<String>,
    /// Upstream's request id of the answer to the last submission.
    pub request_id: Option<String>,
    /// Upstream's word for the job's status, as last stored.
    pub upstream_status: String,
    /// Rows that upstream has finished, as last stored.
    pub completed_rows: u64,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: String,
    /// The batch that it is a part of, where that was split.
    pub parent: Option<BatchId>,
    /// What happened to it last, oldest first.
    pub events: Vec<JobEvent>,
}

impl Batch {
    /// A batch that has no rows yet.
    pub fn new(id: BatchId, kind: SubjectKind, watermark: Sequence, claimed_at: Timestamp) -> Self {
        Self {
            id,
            kind,
            state: BatchState::Claiming,
            part: Part { origin: id.number, first: 0, end: u64::MAX },
            then: None,
            watermark,
            rows: 0,
            values: RowValues::default(),
            updates: 0,
            bytes: 0,
            claimed_at,
            submissions: 0,
            failures: 0,
            former_jobs: Vec::new(),
            refused_at: None,
            submitted_at: None,
            job_id: None,
            request_id: None,
            upstream_status: String::new(),
            completed_rows: 0,
            settled_at: None,
            last_error: String::new(),
            parent: None,
            events: Vec::new(),
        }
    }

    /// Its job has failed, or is forgotten. It is not adopted again: the next one has its name.
    pub fn give_up_job(&mut self) {
        if let Some(job_id) = self.job_id.take() {
            self.former_jobs.push(job_id);
        }
        let surplus = self.former_jobs.len().saturating_sub(FORMER_JOBS_MAX);
        self.former_jobs.drain(..surplus);
    }

    /// Whether it is what became of a batch that was split.
    pub fn is_part(&self) -> bool {
        self.part.origin != self.id.number
    }
}
