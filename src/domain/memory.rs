//! What an app's delivery must know after a restart, besides its batch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    batch::BatchLimits,
    budget::Occupancy,
    sizing::FixedCost,
    time::Timestamp,
    update::{ByKind, SubjectKind},
};

/// For how long a batch that was too large makes later ones smaller.
pub const LEARNED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Batches are made smaller to these sizes at the most: what is still too large is split.
const LEARNED_ROWS_MIN: u64 = 100;
const LEARNED_BYTES_MIN: u64 = 256 << 10;

/// For how long a row that upstream took shows that it takes rows at all. An isolation that
/// upstream refuses altogether takes seconds; one that waits for the budget takes minutes.
const PROOF_HOLDS_FOR: Duration = Duration::from_secs(15 * 60);

/// For how long a row that upstream took shows that it did not begin to refuse everything just
/// before the next batch.
const PROOF_LASTS_FOR: Duration = Duration::from_secs(60);

/// How many rows in a row may become dead letters while upstream takes none. Past it, it is
/// more likely that upstream refuses everything.
pub const UNPROVEN_MAX: u32 = 10;

/// What an app's delivery must know after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The occupancy that was begun last.
    pub occupancy: Occupancy,
    /// What upstream made of each kind. Users and companies go to endpoints of their own: that
    /// one takes rows says nothing of the other.
    pub kinds: ByKind<Experience>,
}

impl Memory {
    /// What upstream made of rows of `kind`.
    pub fn of(&self, kind: SubjectKind) -> &Experience {
        self.kinds.of(kind)
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, kind: SubjectKind) -> &mut Experience {
        self.kinds.of_mut(kind)
    }
}

/// What upstream made of the rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experience {
    /// What upstream took for too large.
    pub learned: Option<Learned>,
    /// When upstream last took rows.
    pub taken_at: Option<Timestamp>,
    /// Rows that became dead letters since.
    pub unproven: u32,
    /// What jobs cost beyond their occupancy.
    pub cost: FixedCost,
}

/// A size that was learned of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// What a batch may have.
    pub limits: BatchLimits,
    /// Until when.
    pub until: Timestamp,
}

impl Experience {
    /// Upstream took rows.
    pub fn take(&mut self, now: Timestamp) {
        self.taken_at = Some(now);
        self.unproven = 0;
    }

    /// Whether upstream has taken rows since it refused a batch at `refused_at`, or some of that
    /// very batch, or others just before: then what it refuses is the rows, and not everything.
    pub fn is_proven(&self, refused_at: Timestamp, now: Timestamp) -> bool {
        self.taken_at.is_some_and(|at| {
            let holds_for = if at >= refused_at { PROOF_HOLDS_FOR } else { PROOF_LASTS_FOR };
            // One of a clock that was ahead would hold for as long as that.
            at <= now && now.since(at) <= holds_for
        })
    }

    /// Whether so many rows have died that upstream seems to refuse everything.
    pub fn is_in_doubt(&self) -> bool {
        self.unproven >= UNPROVEN_MAX
    }

    /// Upstream took a batch of this size for too large: the next ones have half of it. Small
    /// ones teach nothing, so that a whim of a proxy does not cost a day.
    pub fn learn(&mut self, rows: u64, bytes: u64, now: Timestamp) {
        let limits = BatchLimits {
            rows_max: (rows / 2).max(LEARNED_ROWS_MIN),
            bytes_max: (bytes / 2).max(LEARNED_BYTES_MIN),
        };
        self.learned = Some(Learned { limits, until: now.plus(LEARNED_FOR) });
    }

    /// The limits of a new batch.
    pub fn limits(&self, configured: BatchLimits, now: Timestamp) -> BatchLimits {
        // A clock that was set back must not keep it for longer.
        let holds =
            |learned: &Learned| learned.until > now && learned.until.since(now) <= LEARNED_FOR;
        match self.learned.filter(holds) {
            Some(Learned { limits, .. }) => BatchLimits {
                rows_max: configured.rows_max.min(limits.rows_max),
                bytes_max: configured.bytes_max.min(limits.bytes_max),
            },
            None => configured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: BatchLimits = BatchLimits { rows_max: 10_000, bytes_max: 50_000_000 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn what_was_too_large_makes_batches_smaller_for_a_day() {
        let mut memory = Experience::default();
        memory.learn(8_000, 2_000_000, at(100));
        let smaller = BatchLimits { rows_max: 4_000, bytes_max: 1_000_000 };
        assert_eq!(memory.limits(CONFIGURED, at(100)), smaller);
        assert_eq!(memory.limits(CONFIGURED, at(100 + 86_399)), smaller);
        assert_eq!(memory.limits(CONFIGURED, at(100 + 86_400)), CONFIGURED);
        assert_eq!(memory.limits(CONFIGURED, at(-900)), CONFIGURED, "the clock was set back");
        memory.learn(1, 70, at(100));
        let least = BatchLimits { rows_max: 100, bytes_max: 262_144 };
        assert_eq!(memory.limits(CONFIGURED, at(100)), least);
    }

    #[test]
    fn upstream_takes_rows_where_it_has_done_so_since_and_lately() {
        let mut memory = Experience { unproven: 3, ..Experience::default() };
        assert!(!memory.is_proven(at(5), at(6)));
        memory.take(at(7));
        assert_eq!(memory.unproven, 0);
        assert!(memory.is_proven(at(5), at(8)));
        assert!(memory.is_proven(at(5), at(7 + 900)));
        assert!(!memory.is_proven(at(5), at(7 + 901)));
        // Before it refused, too, but not for long.
        assert!(memory.is_proven(at(8), at(7 + 60)));
        assert!(!memory.is_proven(at(8), at(7 + 61)));
    }
}
