//! A rule of the switch for faults, as it is written, and the check that it makes sense.

use serde::{Deserialize, Serialize};

/// The requests that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultPoint {
    /// A submission of users or companies.
    Submit,
    /// A question about one job.
    Job,
    /// A question for the list of jobs.
    Jobs,
    /// An identify request, for a user or a company.
    Identify,
    /// A track request.
    Track,
    /// Every request of the API, known or not.
    Any,
}

impl FaultPoint {
    pub(super) fn covers(self, point: FaultPoint) -> bool {
        self == FaultPoint::Any || self == point
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The request is answered with this status and not carried out.
    Status {
        /// The status, 200 to 599.
        code: u16,
        /// The body, sent as plain text.
        #[serde(default)]
        body: String,
        /// The `Retry-After` header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
    },
    /// The request waits, and then goes on to the next rule and is carried out, unless its
    /// client has closed the connection by then.
    Delay {
        /// How long.
        ms: u64,
    },
    /// The request is never answered.
    Hang {
        /// Whether it is carried out all the same.
        #[serde(default)]
        carried_out: bool,
    },
    /// The connection is closed before anything is read of the body.
    Reset,
    /// The request is carried out, and the connection is closed without an answer.
    LoseAnswer,
    /// A proxy's page of HTML answers with 200; the request is not carried out.
    Garbage,
    /// The request is carried out, and the connection is closed in the middle of the answer.
    Truncated,
    /// The request is sent elsewhere with a 307, and not carried out.
    Redirect {
        /// The `Location` header.
        location: String,
    },
    /// The job that is accepted ends as failed.
    FailJob {
        /// How many rows are applied before it fails.
        #[serde(default)]
        rows: usize,
    },
    /// The job that is accepted ends as completed without its last rows.
    PartialJob {
        /// How many rows are left out.
        skip_rows: usize,
    },
    /// The job is unknown from now on, to its own address and to the list. It still holds the
    /// slot and applies its rows.
    ForgetJob,
    /// The list shows so many jobs only.
    Page {
        /// How many.
        jobs: usize,
        /// Whether these are the oldest, and the oldest first.
        #[serde(default)]
        oldest_first: bool,
    },
}

/// The part a fault has in a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Wait,
    Answer,
    AcceptedJob,
    KnownJob,
    List,
}

impl Fault {
    pub(super) fn effect(&self) -> Effect {
        match self {
            Fault::Delay { .. } => Effect::Wait,
            Fault::Status { .. }
            | Fault::Hang { .. }
            | Fault::Reset
            | Fault::LoseAnswer
            | Fault::Garbage
            | Fault::Truncated
            | Fault::Redirect { .. } => Effect::Answer,
            Fault::FailJob { .. } | Fault::PartialJob { .. } => Effect::AcceptedJob,
            Fault::ForgetJob => Effect::KnownJob,
            Fault::Page { .. } => Effect::List,
        }
    }
}

/// A fault, where it strikes and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Where it strikes.
    pub on: FaultPoint,
    /// What goes wrong.
    pub fault: Fault,
    /// How likely it strikes a request, from 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How many times it strikes before it is spent; without it, forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How many requests it lets pass first.
    #[serde(default)]
    pub skip: u64,
}

fn certain() -> f64 {
    1.0
}

impl FaultRule {
    /// A rule that always strikes.
    #[must_use]
    pub fn always(on: FaultPoint, fault: Fault) -> Self {
        Self { on, fault, probability: certain(), times: None, skip: 0 }
    }

    /// A rule that strikes the next request and is spent.
    #[must_use]
    pub fn once(on: FaultPoint, fault: Fault) -> Self {
        Self { times: Some(1), ..Self::always(on, fault) }
    }

    pub(super) fn check(&self) -> Result<(), InvalidRule> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(InvalidRule::Probability(self.probability));
        }
        let submits = matches!(self.on, FaultPoint::Submit | FaultPoint::Any);
        let of_job = match self.fault.effect() {
            Effect::Wait | Effect::Answer => true,
            Effect::AcceptedJob => submits,
            Effect::KnownJob => submits || self.on == FaultPoint::Job,
            Effect::List => matches!(self.on, FaultPoint::Jobs | FaultPoint::Any),
        };
        if !of_job {
            return Err(InvalidRule::NoJob(self.on));
        }
        match &self.fault {
            Fault::Status { code, .. } if !(200..=599).contains(code) => {
                Err(InvalidRule::Code(*code))
            }
            Fault::Status { retry_after: Some(text), .. } | Fault::Redirect { location: text }
                if http::HeaderValue::from_str(text).is_err() =>
            {
                Err(InvalidRule::Header)
            }
            Fault::Status { .. }
            | Fault::Redirect { .. }
            | Fault::Delay { .. }
            | Fault::Hang { .. }
            | Fault::Reset
            | Fault::LoseAnswer
            | Fault::Garbage
            | Fault::Truncated
            | Fault::FailJob { .. }
            | Fault::PartialJob { .. }
            | Fault::ForgetJob
            | Fault::Page { .. } => Ok(()),
        }
    }
}

/// Why a rule cannot be carried out.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum InvalidRule {
    /// A probability below 0 or above 1.
    #[error("a fault's probability must lie between 0 and 1, and is {0}")]
    Probability(f64),
    /// A fault of a job or a list, on a request that has none.
    #[error("a fault of a job or a list cannot strike on {0:?}")]
    NoJob(FaultPoint),
    /// A status that cannot be an answer.
    #[error("a fault's status must lie between 200 and 599, and is {0}")]
    Code(u16),
    /// A text that cannot be a header.
    #[error("a fault's retry_after and location must be valid header values")]
    Header,
    /// More rules than can be armed.
    #[error("at most {rules_max} fault rules can be armed")]
    TooMany {
        /// That many.
        rules_max: usize,
    },
}
