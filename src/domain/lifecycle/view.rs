//! The machine's state, for who looks at it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        batch::is_gateway_filename,
        update::{ByKind, SubjectKind},
    },
    Batch, HoldReason, Instant, JobReport, Lifecycle, Now, Phase, Timestamp,
};

/// What an app is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Upstream refused a batch, and its parts are tried.
    Isolating,
    /// Upstream refuses everything that waits, or too much of the app is damaged.
    Halted,
    /// An operator has paused the app, or it is paused since its state was damaged.
    Paused,
}

/// Somebody else's job in the account's only slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHolder {
    /// Upstream's name for it.
    pub job_id: String,
    /// The name of its file, where upstream tells.
    pub filename: String,
    /// Whether another gateway uploaded it.
    pub is_gateway: bool,
}

/// Whose jobs held the slot when a submission found it taken, as far as upstream told since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// A gateway's: this one's or another's.
    pub gateway: u64,
    /// Somebody else's.
    pub other: u64,
    /// It was gone already, or has no name.
    pub unknown: u64,
}

impl Conflicts {
    /// Counts one in: with the holder, if there still was one.
    pub(super) fn count(&mut self, holder: Option<&JobReport>) {
        match holder.and_then(|job| job.filename.as_deref()) {
            Some(filename) if is_gateway_filename(filename) => self.gateway += 1,
            Some(_) => self.other += 1,
            None => self.unknown += 1,
        }
    }
}

impl SlotHolder {
    pub(super) fn of(job: &JobReport) -> Self {
        let filename = job.filename.clone().unwrap_or_default();
        let is_gateway = is_gateway_filename(&filename);
        Self { job_id: job.job_id.clone(), filename, is_gateway }
    }
}

/// The machine's state.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the app is doing.
    pub activity: Activity,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// Since when it has been paused because its state was damaged.
    pub rescued_at: Option<Timestamp>,
    /// Why nothing can be done for the app, where too much of it is damaged.
    pub held: Option<String>,
    /// The batch that is in flight.
    pub batch: Option<Batch>,
    /// When the budget is free again.
    pub occupied_until: Instant,
    /// Until when the app waits after a failure.
    pub retry_at: Option<Instant>,
    /// Until when rows that are refused are left as they are at most, because an earlier submission of
    /// them was never heard of. None where nothing is left so.
    pub in_doubt_until: Option<Instant>,
    /// The kinds of which upstream refused everything when it was last tried.
    pub halted: ByKind<bool>,
    /// Whose job is waited for, where it is known.
    pub slot_holder: Option<SlotHolder>,
    /// Failures in a row.
    pub failures_in_a_row: u32,
    /// What went wrong last, in upstream's words, which may quote a row; empty where nothing did
    /// since the last delivery.
    pub last_error: String,
    /// The same in the gateway's words.
    pub last_cause: String,
    /// Since when something has gone wrong, without a delivery since.
    pub failing_since: Option<Timestamp>,
    /// Failures since the start.
    pub failed_attempts: u64,
    /// Times that the slot was found taken, by a submission or in the list, since the start.
    pub conflicts: u64,
    /// Whose jobs held it.
    pub conflicts_with: Conflicts,
    /// Jobs that were delivered, since the start.
    pub completed_jobs: u64,
    /// Their rows.
    pub delivered_rows: u64,
    /// Rows that became dead letters, since the start.
    pub dead_rows: u64,
    /// How many rows a batch is made for now, of each kind.
    pub job_users: ByKind<u64>,
    /// What a job of each kind is taken to cost beyond its occupancy.
    pub fixed_cost: ByKind<Duration>,
}

impl Lifecycle {
    /// The state, for who looks at it.
    pub fn view(&self, now: Now) -> View {
        let activity = self.activity(now);
        let hold = self.hold.as_ref().map(|hold| hold.until);
        let halt = self.open_at().filter(|_| activity == Activity::Halted);
        let halted = |kind| self.halted_until.of(kind).is_some();
        let delivering =
            SubjectKind::ALL.map(|kind| self.delivering.of(kind).failures()).into_iter().max();
        View {
            activity,
            paused: self.paused,
            rescued_at: self.rescue.filter(|rescue| rescue.paused).map(|rescue| rescue.at),
            held: self.held.clone(),
            batch: self.batch().cloned(),
            occupied_until: self.occupied_until,
            retry_at: hold.max(halt).filter(|until| *until > now.instant),
            in_doubt_until: self.doubts_refusal_until(now),
            halted: ByKind {
                users: halted(SubjectKind::User),
                companies: halted(SubjectKind::Company),
            },
            slot_holder: self.slot_holder.clone(),
            failures_in_a_row: delivering.unwrap_or(0).max(self.asking.failures()),
            last_error: self.last_error.clone(),
            last_cause: self.last_cause.clone(),
            failing_since: self.failing_since,
            failed_attempts: self.failed_attempts,
            conflicts: self.conflicts,
            conflicts_with: self.conflicts_with,
            completed_jobs: self.completed_jobs,
            delivered_rows: self.delivered_rows,
            dead_rows: self.dead_rows,
            job_users: ByKind {
                users: self.job_users(SubjectKind::User, now),
                companies: self.job_users(SubjectKind::Company, now),
            },
            fixed_cost: ByKind {
                users: self.memory.of(SubjectKind::User).cost.estimate(),
                companies: self.memory.of(SubjectKind::Company).cost.estimate(),
            },
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

    /// What is being looked for is told, whatever stands in the way.
    fn backing_off(&self) -> Activity {
        match matches!(self.phase, Phase::Lost(_)) {
            true => Activity::LookingForJob,
            false => Activity::BackingOff,
        }
    }

    fn activity(&self, now: Now) -> Activity {
        if self.held.is_some() {
            return Activity::Halted;
        }
        let halted = self.is_halted_alone(now);
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.until > now.instant) {
            match hold.reason {
                HoldReason::Isolating if halted => {}
                HoldReason::Backoff => return self.backing_off(),
                HoldReason::SlotTaken => return Activity::SlotTaken,
                HoldReason::KeyRejected => return Activity::KeyRejected,
                HoldReason::Halted => return Activity::Halted,
                HoldReason::Isolating => return Activity::Isolating,
                HoldReason::NothingToClaim => {}
            }
        }
        match &self.phase {
            Phase::Idle | Phase::Claimed(_) if self.paused => Activity::Paused,
            Phase::Idle if halted => Activity::Halted,
            Phase::Idle | Phase::Claimed(_) if self.occupied_until > now.instant => {
                Activity::Occupied
            }
            Phase::Claimed(batch) | Phase::Beginning(batch) | Phase::Submitting(batch)
                if batch.is_part() =>
            {
                Activity::Isolating
            }
            Phase::Idle if !self.waiting.any() => Activity::Idle,
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
