//! What happened to a batch, when: for who looks at it later.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Batch;
use crate::domain::{
    time::Timestamp,
    verdict::{AcceptedJob, Failure, FailureKind},
};

/// Of more than these, the oldest are forgotten. A batch that goes well has four.
const EVENTS_MAX: usize = 20;
/// Longer words are cut.
const DETAIL_CHARS_MAX: usize = 200;

/// Of a part whose own events tell of none: the batch that was split failed before.
const CAUSE_UNKNOWN: &str = "upstream did not take it";

/// Something that happened to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
    /// Upstream's request id of the answer that told of it, where it gave one.
    pub request_id: Option<String>,
    /// More of it, in the gateway's words: upstream's own may quote a row, and stand in
    /// `last_error` alone.
    pub detail: String,
}

/// What can happen to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// Its rows were chosen, or it was made of a batch that was split.
    Claimed,
    /// Its upload began.
    Submitted,
    /// Upstream made a job of it.
    Accepted,
    /// Upstream did not take it.
    Refused,
    /// Somebody else's job held the slot.
    Conflict,
    /// The outcome of its submission, or what became of its job, is not known.
    Lost,
    /// Its job was found among upstream's.
    Adopted,
    /// It was not sent, or its job failed, or completed without some of its rows.
    Failed,
    /// Its job completed.
    Completed,
    /// Its rows go back into the queue.
    Requeued,
    /// Its rows become smaller batches.
    Split,
    /// Its only row becomes a dead letter.
    Dead,
}

impl Happening {
    /// Whether something went wrong.
    fn is_trouble(self) -> bool {
        match self {
            Self::Refused | Self::Conflict | Self::Lost | Self::Failed => true,
            Self::Claimed
            | Self::Submitted
            | Self::Accepted
            | Self::Adopted
            | Self::Completed
            | Self::Requeued
            | Self::Split
            | Self::Dead => false,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claimed => "claimed",
            Self::Submitted => "submitted",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Lost => "lost",
            Self::Adopted => "adopted",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Requeued => "requeued",
            Self::Split => "split",
            Self::Dead => "dead",
        })
    }
}

impl Batch {
    /// Remembers that something happened. It is durable with the batch's next state.
    pub fn note(&mut self, what: Happening, at: Timestamp, detail: &str) {
        let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
        self.remember(JobEvent { at, what, request_id: None, detail });
    }

    /// The same of something that upstream's answer told, or that there was none.
    pub fn note_failure(&mut self, what: Happening, at: Timestamp, failure: &Failure) {
        let detail = failure.cause.chars().take(DETAIL_CHARS_MAX).collect();
        self.remember(JobEvent { at, what, request_id: failure.request_id.clone(), detail });
    }

    /// The same of a submission. Returns the failure's kind.
    pub fn note_not_taken(&mut self, at: Timestamp, failure: &Failure) -> FailureKind {
        let what = match failure.kind {
            FailureKind::Unknown => Happening::Lost,
            FailureKind::SlotTaken => Happening::Conflict,
            FailureKind::NotSent => Happening::Failed,
            FailureKind::BadRows
            | FailureKind::TooLarge
            | FailureKind::Throttled(_)
            | FailureKind::KeyRejected
            | FailureKind::NotFound
            | FailureKind::Refused => Happening::Refused,
        };
        self.note_failure(what, at, failure);
        failure.kind
    }

    /// Remembers that upstream made this job of it.
    pub fn note_accepted(&mut self, at: Timestamp, job: &AcceptedJob) {
        let (request_id, detail) = (job.request_id.clone(), job.job_id.clone());
        self.remember(JobEvent { at, what: Happening::Accepted, request_id, detail });
    }

    /// The same batch for who may not see upstream's words: what went wrong last is told in the
    /// gateway's own.
    #[must_use]
    pub fn in_our_words(mut self) -> Self {
        self.last_error = self.last_cause().to_owned();
        self
    }

    /// What went wrong last, in the gateway's words. Empty where nothing did.
    pub fn last_cause(&self) -> &str {
        if self.last_error.is_empty() {
            return "";
        }
        let is_cause = |event: &&JobEvent| event.what.is_trouble() && !event.detail.is_empty();
        let last = self.events.iter().rev().find(is_cause);
        last.map_or(CAUSE_UNKNOWN, |event| &event.detail)
    }

    /// What upstream said of what went wrong last, where it said anything.
    pub fn words_of_upstream(&self) -> &str {
        words_of_upstream(&self.last_error)
    }

    fn remember(&mut self, event: JobEvent) {
        self.events.push(event);
        let surplus = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..surplus);
    }
}

/// What of a failure's words is upstream's: the gateway puts the HTTP status before it.
pub fn words_of_upstream(detail: &str) -> &str {
    let status = detail.get(..3).filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()));
    let behind = status.and_then(|status| detail.strip_prefix(status));
    match behind {
        Some("") => "",
        Some(behind) => behind.strip_prefix(": ").unwrap_or(detail),
        None => detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        batch::BatchId,
        update::{AppId, SubjectKind},
    };

    fn batch() -> Batch {
        let id = BatchId { opening: 7, number: 1, app: AppId(0) };
        Batch::new(id, SubjectKind::User, 9, Timestamp::default())
    }

    #[test]
    fn the_status_is_not_upstreams_word() {
        for (detail, words) in [
            ("422", ""),
            ("422: no user 422", "no user 422"),
            ("4224", "4224"),
            ("the answer to POST was lost", "the answer to POST was lost"),
            ("ünï", "ünï"),
            ("", ""),
        ] {
            assert_eq!(words_of_upstream(detail), words);
        }
    }

    #[test]
    fn the_last_twenty_events_are_remembered() {
        let mut batch = batch();
        for micros in 0..23 {
            batch.note(Happening::Conflict, Timestamp::from_micros(micros), "409");
        }
        let times: Vec<i64> = batch.events.iter().map(|event| event.at.as_micros()).collect();
        assert_eq!(times, (3..23).collect::<Vec<_>>());
    }

    #[test]
    fn upstreams_words_do_not_stand_in_an_event() {
        let mut batch = batch();
        let failure = Failure {
            kind: FailureKind::BadRows,
            cause: "422".into(),
            detail: "422: the row {\"user_id\":\"ada\"} is bad".into(),
            request_id: Some("r-1".into()),
        };
        batch.note_failure(Happening::Refused, Timestamp::default(), &failure);
        batch.note(Happening::Split, Timestamp::default(), &"é".repeat(300));
        let [refused, split] = &*batch.events else { panic!("{:?}", batch.events) };
        assert_eq!((&*refused.detail, refused.request_id.as_deref()), ("422", Some("r-1")));
        assert_eq!((split.detail.chars().count(), &split.request_id), (200, &None));
    }

    #[test]
    fn what_went_wrong_last_can_be_told_without_upstreams_words() {
        let mut batch = batch();
        assert_eq!(batch.clone().in_our_words(), batch);
        batch.last_error = "422: the row {\"user_id\":\"ada\"} is bad".into();
        assert_eq!(batch.last_cause(), CAUSE_UNKNOWN);
        let failure = |cause: &str| Failure {
            kind: FailureKind::BadRows,
            cause: cause.into(),
            detail: batch.last_error.clone(),
            request_id: None,
        };
        let (first, last) = (failure("503"), failure("422"));
        batch.note_not_taken(Timestamp::default(), &first);
        batch.note_not_taken(Timestamp::default(), &last);
        batch.note(Happening::Split, Timestamp::default(), "");
        assert_eq!(batch.in_our_words().last_error, "422");
    }
}
