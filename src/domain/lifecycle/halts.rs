//! Halts: upstream refuses everything of one kind, which is tried now and then, while the other
//! goes on.

use std::time::Duration;

use super::{super::update::SubjectKind, FailureKind, Instant, Lifecycle, Now, Phase};

impl Lifecycle {
    /// Nothing of this kind is tried for a while.
    pub(super) fn halt(&mut self, kind: SubjectKind, wait: Duration, now: Now) {
        *self.halted_until.of_mut(kind) = Some(now.instant.plus(wait));
    }

    /// Whether upstream refuses everything of this kind, and it is too early to try again.
    pub(super) fn is_halted(&self, kind: SubjectKind, now: Now) -> bool {
        self.halted_until.of(kind).is_some_and(|until| until > now.instant)
    }

    /// When a kind of which something waits may be tried. `None` if nothing waits.
    pub(super) fn open_at(&self) -> Option<Instant> {
        let waits = |kind: &SubjectKind| *self.waiting.records.of(*kind) > 0;
        let opens = |kind| self.halted_until.of(kind).unwrap_or_default();
        SubjectKind::ALL.into_iter().filter(waits).map(opens).min()
    }

    /// Whether there is no batch, a kind is halted, and nothing of the other waits.
    pub(super) fn is_halted_alone(&self, now: Now) -> bool {
        let of = |kind| self.is_halted(kind, now);
        let waits = |kind: SubjectKind| *self.waiting.records.of(kind) > 0;
        matches!(self.phase, Phase::Idle)
            && SubjectKind::ALL.into_iter().any(of)
            && SubjectKind::ALL.into_iter().all(|kind| of(kind) || !waits(kind))
    }
}

/// Whether a submission failed for what is wrong where it went to, and not with its rows: that
/// can be so for one kind alone.
pub(super) fn is_of_the_endpoint(kind: FailureKind) -> bool {
    match kind {
        FailureKind::NotFound | FailureKind::Refused => true,
        FailureKind::NotSent
        | FailureKind::Unknown
        | FailureKind::SlotTaken
        | FailureKind::TooLarge
        | FailureKind::BadRows
        | FailureKind::Throttled(_)
        | FailureKind::KeyRejected => false,
    }
}
