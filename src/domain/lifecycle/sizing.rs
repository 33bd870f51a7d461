//! How large the next batch may be, and what is learned of the last for that.

use super::{
    super::{
        batch::{BatchLimits, ClaimLimits},
        budget::occupancy,
        sizing::{SizeLimits, cost_to_bear},
        update::{ByKind, SubjectKind},
    },
    Batch, Claimable, Instant, Lifecycle, Now, Waiting,
};

impl Lifecycle {
    pub(super) fn on_waiting(&mut self, waiting: Waiting, now: Now) {
        let (arrivals, before) = &mut self.arrivals;
        let arrived = waiting.urgent_updates.saturating_sub(*before);
        if arrived > 0 {
            arrivals.note(arrived, now.instant);
        }
        *before = waiting.urgent_updates;
        self.waiting = waiting;
    }

    /// What the next batch may hold, of each kind that is not halted.
    pub(super) fn claimable(&self, now: Now) -> Claimable {
        let of = |kind| (!self.is_halted(kind, now)).then(|| self.claim_limits(kind, now));
        Claimable { users: of(SubjectKind::User), companies: of(SubjectKind::Company) }
    }

    /// The same of one kind. While upstream refuses everything, it is one row, of which more is
    /// hoped than of the oldest.
    fn claim_limits(&self, kind: SubjectKind, now: Now) -> ClaimLimits {
        let experience = self.memory.of(kind);
        let batch = experience.limits(self.settings.batch, now.wall);
        let (rows_max, reach) = match experience.is_in_doubt() {
            true => (1, self.reach),
            false => (self.job_users(kind, now), u64::MAX),
        };
        let batch = BatchLimits { rows_max, ..batch };
        let for_bulk = batch.share(self.settings.bulk_share);
        ClaimLimits { batch, for_bulk, reach, values: self.settings.values }
    }

    /// How many rows the next batch of a kind may have.
    pub(super) fn job_users(&self, kind: SubjectKind, now: Now) -> u64 {
        let experience = self.memory.of(kind);
        let limits = SizeLimits {
            users_min: self.settings.job_users_min,
            users_max: experience.limits(self.settings.batch, now.wall).rows_max,
            overhead_target: self.settings.overhead_target,
        };
        let pace = (self.settings.users_per_minute, &limits);
        let cost = |kind| self.memory.of(kind).cost.estimate();
        let costs =
            ByKind { users: cost(SubjectKind::User), companies: cost(SubjectKind::Company) };
        let mut waiting = self.waiting.records;
        if self.is_halted(kind.other(), now) {
            *waiting.of_mut(kind.other()) = 0;
        }
        let cost = cost_to_bear(kind, costs, waiting);
        self.size.of(kind).users((cost, &self.arrivals.0), pace, now)
    }

    /// A batch was claimed. Jobs grow while more waits than they may hold.
    pub(super) fn note_size(&mut self, batch: &Batch, now: Now) {
        let users = self.job_users(batch.kind, now);
        self.size.of_mut(batch.kind).claimed(Some(users).filter(|users| batch.rows >= *users));
    }

    /// What the batch under way costs is not only of its own making any more.
    pub(super) fn disturbed<T>(&mut self, by: T) -> T {
        self.began = None;
        by
    }

    /// When the job that runs should end: like those before it, a while after its occupancy.
    pub(super) fn expected_end(&self, kind: SubjectKind) -> Instant {
        self.occupied_until.plus(self.memory.of(kind).cost.estimate())
    }

    /// A job has ended: what it cost beyond its occupancy is what any job costs.
    pub(super) fn learn_cost(&mut self, batch: &Batch, now: Now) {
        let Some(began) = self.began.take() else { return };
        let ended = now.instant.max(self.occupied_until);
        let length = occupancy(batch.rows, self.settings.users_per_minute);
        let beyond = ended.since(began).saturating_sub(length);
        self.memory.of_mut(batch.kind).cost.learn(beyond);
    }
}
