//! Every way to refuse an update, in one table: gRPC code, whether to try again and when,
//! and whether the update may have been stored all the same.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{domain::admission::QueueRefusal, intake::NotAccepted, proto};

/// One field of a request is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path.
    pub field: String,
    /// What is wrong. Never holds the value.
    pub description: Cow<'static, str>,
}

/// Why an update is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its sender has no valid credential. What is wrong with it is not said.
    Unauthenticated,
    /// Whether the credential is valid cannot be told: its issuer's keys are not there.
    NoKeys,
    /// The client may not do what these fields ask for.
    PermissionDenied(Vec<Violation>),
    /// The client sends more updates a second than it may.
    RateLimited {
        /// When there is room for the next.
        retry_after: Duration,
    },
    /// Fields are wrong.
    Invalid(Vec<Violation>),
    /// What the store holds of this app is damaged.
    AppHeld(String),
    /// The queue has no room for it.
    Queue(QueueRefusal),
    /// It did not get as far as the queue, or its answer did not come.
    Intake(NotAccepted),
}

/// The kinds of refusal of a client that is known, as metrics call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Fields are wrong.
    Invalid,
    /// It may not do what it asked for, or not any more.
    PermissionDenied,
    /// It sends too fast.
    RateLimited,
    /// As many of its own records wait as may.
    ClientFull,
    /// The queue is full.
    QueueFull,
    /// The record would become too large.
    RecordTooLarge,
    /// Too much waits for the writer, or the disk is nearly full.
    Busy,
    /// The gateway stops, its store failed, or what the store holds of the app is damaged.
    Unavailable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Invalid,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::ClientFull,
        Self::QueueFull,
        Self::RecordTooLarge,
        Self::Busy,
        Self::Unavailable,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::PermissionDenied => "permission_denied",
            Self::RateLimited => "rate_limited",
            Self::ClientFull => "client_full",
            Self::QueueFull => "queue_full",
            Self::RecordTooLarge => "record_too_large",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a refusal means to the sender.
struct Meaning {
    code: Code,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    may_be_stored: bool,
}

/// What an answer without a valid credential asks for.
pub const CHALLENGE: &str = "Bearer realm=\"userpilot-gateway\"";

const SHORTLY: Duration = Duration::from_millis(200);
const ONCE_IT_RUNS_AGAIN: Duration = Duration::from_secs(2);
const ONCE_THERE_IS_ROOM: Duration = Duration::from_secs(10);
const ONCE_A_JOB_HAS_RUN: Duration = Duration::from_secs(60);

impl Refusal {
    /// The refusal of a single field.
    pub fn field(field: impl Into<String>, description: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// The status over HTTP.
    pub fn http_status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied(_) => StatusCode::FORBIDDEN,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::AppHeld(_)
            | Self::Queue(QueueRefusal::AppHeld | QueueRefusal::StoreAway)
            | Self::Intake(NotAccepted::StoreAway) => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited { .. }
            | Self::Queue(
                QueueRefusal::TooManyRecords
                | QueueRefusal::TooManyBytes
                | QueueRefusal::TooManyOfClient
                | QueueRefusal::RecordTooLarge,
            )
            | Self::Intake(NotAccepted::Busy | NotAccepted::DiskLow) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::NoKeys | Self::Intake(NotAccepted::Stopping | NotAccepted::Failed) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// When to try again, where that may help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.meaning().retry_after
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> Cow<'static, str> {
        self.meaning().message
    }

    /// What it is called in metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::Invalid,
            Self::Unauthenticated | Self::PermissionDenied(_) => Reason::PermissionDenied,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::Queue(QueueRefusal::TooManyOfClient) => Reason::ClientFull,
            Self::Queue(QueueRefusal::TooManyRecords | QueueRefusal::TooManyBytes) => {
                Reason::QueueFull
            }
            Self::Queue(QueueRefusal::RecordTooLarge) => Reason::RecordTooLarge,
            Self::Intake(NotAccepted::Busy | NotAccepted::DiskLow) => Reason::Busy,
            Self::NoKeys
            | Self::AppHeld(_)
            | Self::Queue(QueueRefusal::AppHeld | QueueRefusal::StoreAway)
            | Self::Intake(NotAccepted::Stopping | NotAccepted::Failed | NotAccepted::StoreAway) => {
                Reason::Unavailable
            }
        }
    }

    fn meaning(&self) -> Meaning {
        let (code, message, retry_after, may_be_stored) = match self {
            Self::Unauthenticated => {
                (Code::Unauthenticated, "no valid credential".into(), None, false)
            }
            Self::NoKeys => (
                Code::Unavailable,
                "the keys of auth.issuer are not there, so that no JSON web token can be checked"
                    .into(),
                Some(ONCE_IT_RUNS_AGAIN),
                false,
            ),
            Self::PermissionDenied(violations) => {
                (Code::PermissionDenied, invalid(violations), None, false)
            }
            Self::RateLimited { retry_after } => (
                Code::ResourceExhausted,
                "the client sends more than its updates_per_second_max".into(),
                Some(*retry_after),
                false,
            ),
            Self::Invalid(violations) => (Code::InvalidArgument, invalid(violations), None, false),
            Self::AppHeld(app) => (Code::FailedPrecondition, held(app), None, false),
            Self::Queue(QueueRefusal::StoreAway) | Self::Intake(NotAccepted::StoreAway) => {
                return away();
            }
            Self::Queue(refusal) => return of_queue(*refusal),
            Self::Intake(NotAccepted::Busy) => (
                Code::ResourceExhausted,
                "too many updates wait to be stored (intake.waiting_updates_max, \
                 intake.waiting_bytes_max)"
                    .into(),
                Some(SHORTLY),
                false,
            ),
            Self::Intake(NotAccepted::DiskLow) => (
                Code::ResourceExhausted,
                "the gateway's disk is nearly full: less than store.free_bytes_min is free".into(),
                Some(ONCE_THERE_IS_ROOM),
                false,
            ),
            Self::Intake(NotAccepted::Stopping) => (
                Code::Unavailable,
                "the gateway is stopping".into(),
                Some(ONCE_IT_RUNS_AGAIN),
                false,
            ),
            Self::Intake(NotAccepted::Failed) => (
                Code::Unavailable,
                "the store failed before it answered; the update may have been stored, and \
                 sending it again is safe"
                    .into(),
                Some(ONCE_IT_RUNS_AGAIN),
                true,
            ),
        };
        Meaning { code, message, retry_after, may_be_stored }
    }
}

fn of_queue(refusal: QueueRefusal) -> Meaning {
    let full = Code::ResourceExhausted;
    let (code, message) = match refusal {
        QueueRefusal::TooManyRecords => {
            (full, "the queue is full: store.pending_records_max records wait")
        }
        QueueRefusal::TooManyBytes => {
            (full, "the queue is full: store.pending_bytes_max bytes wait")
        }
        QueueRefusal::TooManyOfClient => {
            (full, "the client's pending_records_max of its own records wait")
        }
        QueueRefusal::RecordTooLarge => (
            full,
            "merged with what waits for this user, the record would exceed \
             limits.record_bytes_max or limits.properties_max; try again once what waits has been \
             delivered",
        ),
        QueueRefusal::StoreAway => return away(),
        // The doors refuse it before, by its name.
        QueueRefusal::AppHeld => (Code::FailedPrecondition, "the app is held; nothing was stored"),
    };
    let retry_after = (code == full).then_some(ONCE_A_JOB_HAS_RUN);
    Meaning { code, message: message.into(), retry_after, may_be_stored: false }
}

/// Not all come back at once when it does.
fn away() -> Meaning {
    let retry_after = Duration::from_millis(rand::random_range(1_000..5_000));
    Meaning {
        code: Code::Unavailable,
        message: "the gateway's database does not answer; nothing was stored".into(),
        retry_after: Some(retry_after),
        may_be_stored: false,
    }
}

fn held(app: &str) -> Cow<'static, str> {
    format!(
        "app {app:?} is held: what the gateway's store holds of it is damaged, and its operator has \
         to see to that (`store check`); nothing was stored"
    )
    .into()
}

fn invalid(violations: &[Violation]) -> Cow<'static, str> {
    match violations {
        [one] => format!("{}: {}", one.field, one.description).into(),
        [first, rest @ ..] => {
            format!("{}: {} (and {} more)", first.field, first.description, rest.len()).into()
        }
        [] => "invalid".into(),
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let meaning = refusal.meaning();
        let mut details = ErrorDetails::new();
        if let Some(after) = meaning.retry_after {
            details.set_retry_info(Some(after));
        }
        let is_unauthenticated = refusal == Refusal::Unauthenticated;
        if let Refusal::Invalid(violations) | Refusal::PermissionDenied(violations) = refusal {
            let violations = violations.into_iter();
            details.set_bad_request(
                violations.map(|v| FieldViolation::new(v.field, v.description)).collect::<Vec<_>>(),
            );
        }
        let mut status = Self::with_error_details(meaning.code, meaning.message, details);
        if is_unauthenticated {
            let challenge = MetadataValue::from_static(CHALLENGE);
            status.metadata_mut().insert("www-authenticate", challenge);
        }
        status
    }
}

impl From<Refusal> for proto::UpdateError {
    fn from(refusal: Refusal) -> Self {
        let meaning = refusal.meaning();
        let violations = match refusal {
            Refusal::Invalid(violations) | Refusal::PermissionDenied(violations) => violations,
            Refusal::Unauthenticated
            | Refusal::NoKeys
            | Refusal::RateLimited { .. }
            | Refusal::AppHeld(_)
            | Refusal::Queue(_)
            | Refusal::Intake(_) => Vec::new(),
        };
        Self {
            code: meaning.code.into(),
            message: meaning.message.into_owned(),
            violations: violations
                .into_iter()
                .map(|v| proto::FieldViolation {
                    field: v.field,
                    description: v.description.into_owned(),
                })
                .collect(),
            retry_delay: meaning.retry_after.and_then(|after| after.try_into().ok()),
            may_be_stored: meaning.may_be_stored,
        }
    }
}

impl From<QueueRefusal> for Refusal {
    fn from(refusal: QueueRefusal) -> Self {
        Self::Queue(refusal)
    }
}

impl From<NotAccepted> for Refusal {
    fn from(not_accepted: NotAccepted) -> Self {
        Self::Intake(not_accepted)
    }
}
