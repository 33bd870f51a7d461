//! The machine's state, for who looks at it.

use super::{Batch, FailureKind, Instant, Lifecycle, Now, Phase};

/// What an app is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Nothing waits.
    #[default]
    Idle,
    /// Updates wait for others to join them.
    Lingering,
    /// A job is being submitted.
    Submitting,
    /// A submission's outcome is not known and is being looked for.
    LookingForJob,
    /// A job runs.
    Running,
    /// The last job has ended and its occupancy has not passed.
    Occupied,
    /// Something failed, and the app waits before it tries again.
    BackingOff,
    /// Somebody else's job holds the slot.
    SlotTaken,
    /// Upstream refuses the API key.
    KeyRejected,
    /// An operator has paused the app.
    Paused,
}

/// The machine's state.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the app is doing.
    pub activity: Activity,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// The batch that is in flight.
    pub batch: Option<Batch>,
    /// When the budget is free again.
    pub occupied_until: Instant,
    /// Until when the app waits after a failure.
    pub retry_at: Option<Instant>,
    /// Failures in a row.
    pub failures_in_a_row: u32,
    /// What went wrong last; empty where nothing did since the last delivery.
    pub last_error: String,
    /// Failures since the start.
    pub failed_attempts: u64,
    /// Times that the slot was taken, since the start.
    pub conflicts: u64,
    /// Jobs that were delivered, since the start.
    pub completed_jobs: u64,
    /// Their rows.
    pub delivered_rows: u64,
}

impl Lifecycle {
    /// The state, for who looks at it.
    pub fn view(&self, now: Now) -> View {
        View {
            activity: self.activity(now),
            paused: self.paused,
            batch: self.batch().cloned(),
            occupied_until: self.occupied_until,
            retry_at: self
                .hold
                .as_ref()
                .map(|hold| hold.until)
                .filter(|until| *until > now.instant),
            failures_in_a_row: self.delivering.failures().max(self.asking.failures()),
            last_error: self.last_error.clone(),
            failed_attempts: self.failed_attempts,
            conflicts: self.conflicts,
            completed_jobs: self.completed_jobs,
            delivered_rows: self.delivered_rows,
        }
    }

    fn batch(&self) -> Option<&Batch> {
        match &self.phase {
            Phase::Idle | Phase::Claiming => None,
            Phase::Claimed(batch)
            | Phase::Beginning(batch)
            | Phase::Submitting(batch)
            | Phase::Lost(batch)
            | Phase::Accepted { batch, .. }
            | Phase::Running { batch, .. }
            | Phase::Settling(batch, _) => Some(batch),
        }
    }

    fn activity(&self, now: Now) -> Activity {
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.until > now.instant) {
            return match hold.kind {
                FailureKind::SlotTaken => Activity::SlotTaken,
                FailureKind::KeyRejected => Activity::KeyRejected,
                FailureKind::NotSent
                | FailureKind::Unknown
                | FailureKind::Throttled(_)
                | FailureKind::TooLarge
                | FailureKind::BadRows
                | FailureKind::NotFound
                | FailureKind::Refused => Activity::BackingOff,
            };
        }
        match &self.phase {
            Phase::Idle | Phase::Claimed(_) if self.paused => Activity::Paused,
            Phase::Idle | Phase::Claimed(_) if self.occupied_until > now.instant => {
                Activity::Occupied
            }
            Phase::Idle if self.waiting.records == 0 => Activity::Idle,
            Phase::Idle => Activity::Lingering,
            Phase::Claiming | Phase::Claimed(_) | Phase::Beginning(_) | Phase::Submitting(_) => {
                Activity::Submitting
            }
            Phase::Lost(_) => Activity::LookingForJob,
            Phase::Accepted { .. } | Phase::Running { .. } | Phase::Settling(..) => {
                Activity::Running
            }
        }
    }
}
