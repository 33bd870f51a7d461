//! The size of a job.
//!
//! Throughput does not depend on how large jobs are, as long as what each costs beyond its
//! occupancy is small beside it; but who comes just after a job was taken waits for its end. So
//! while interactive updates come, a job is the smallest whose fixed cost stays under a share of
//! its occupancy. While only what was there already waits, jobs grow.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    budget::occupancy,
    time::{Instant, Now},
    update::{ByKind, SubjectKind},
};

/// The jobs whose cost is remembered: an odd number, so that one of them is in the middle.
const SAMPLES: usize = 9;

/// What a job is taken to cost before one has ended.
const UNKNOWN_COST: Duration = Duration::from_secs(2);

/// For how long arrivals count. A minute or two without any, and jobs begin to grow.
const ARRIVALS_COUNT_FOR: Duration = Duration::from_secs(120);

/// What jobs cost beyond their occupancy: to claim and upload, and at Userpilot to validate and
/// refresh, until the poll that notices the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedCost {
    /// In milliseconds, the latest first.
    samples: [u32; SAMPLES],
    /// How many of these there are.
    known: usize,
}

impl FixedCost {
    /// A job cost this much.
    pub fn learn(&mut self, cost: Duration) {
        self.samples.rotate_right(1);
        self.samples[0] = u32::try_from(cost.as_millis()).unwrap_or(u32::MAX);
        self.known = (self.known + 1).min(SAMPLES);
    }

    /// The median of the last jobs: one that was slow for its own reasons does not count.
    pub fn estimate(&self) -> Duration {
        let mut known = self.samples;
        let known = &mut known[..self.known.min(SAMPLES)];
        known.sort_unstable();
        match known.get(known.len() / 2) {
            Some(millis) => Duration::from_millis(u64::from(*millis)),
            None => UNKNOWN_COST,
        }
    }
}

/// How large jobs may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeLimits {
    /// The least that a job is made for, where as much waits.
    pub users_min: u64,
    /// The most that a job may have.
    pub users_max: u64,
    /// The fixed cost of a job may be this share of its occupancy.
    pub overhead_target: f64,
}

/// The smallest job whose fixed cost is worth paying.
pub fn responsive_users(cost: Duration, users_per_minute: u32, limits: &SizeLimits) -> u64 {
    let users = cost.as_secs_f64() * f64::from(users_per_minute) / 60.0 / limits.overhead_target;
    at_least(users).clamp(limits.users_min.min(limits.users_max), limits.users_max)
}

/// What a job of a kind is to be worth: its own fixed cost; and where the other kind waits, too,
/// that of the other's job, which goes between this one and the next, and may hold next to nothing.
pub fn cost_to_bear(kind: SubjectKind, costs: ByKind<Duration>, waiting: ByKind<u64>) -> Duration {
    let other = kind.other();
    let of_other = if *waiting.of(other) > 0 { *costs.of(other) } else { Duration::ZERO };
    costs.of(kind).saturating_add(of_other)
}

/// The whole number that is at least this.
#[expect(clippy::cast_possible_truncation, reason = "what does not fit saturates")]
pub(super) fn at_least(number: f64) -> u64 {
    number.ceil() as u64
}

/// How many interactive updates arrive, of late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    /// How many, each counting for less as it goes by.
    weight: f64,
    at: Instant,
}

impl Arrivals {
    /// So many have arrived.
    pub fn note(&mut self, updates: u64, now: Instant) {
        self.weight = self.decayed(now) + updates as f64;
        self.at = now;
    }

    /// Whether one is to be expected within this time.
    pub fn are_expected_within(&self, time: Duration, now: Instant) -> bool {
        let a_second = self.decayed(now) / ARRIVALS_COUNT_FOR.as_secs_f64();
        a_second * time.as_secs_f64() >= 1.0
    }

    fn decayed(&self, now: Instant) -> f64 {
        let ago = now.since(self.at).as_secs_f64() / ARRIVALS_COUNT_FOR.as_secs_f64();
        self.weight * (-ago).exp()
    }
}

/// The size of jobs, of one kind of subject.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobSize {
    /// What the last job could have had, while jobs grow.
    grown: Option<u64>,
}

impl JobSize {
    /// What the next job may have. Asking does not make it grow: that, [`Self::claimed`] does.
    pub fn users(
        &self,
        (cost, arrivals): (Duration, &Arrivals),
        (users_per_minute, limits): (u32, &SizeLimits),
        now: Now,
    ) -> u64 {
        let responsive = responsive_users(cost, users_per_minute, limits);
        let longest = occupancy(limits.users_max, users_per_minute);
        if arrivals.are_expected_within(longest, now.instant) {
            return responsive;
        }
        let grown = self.grown.unwrap_or(responsive);
        grown.saturating_mul(2).clamp(responsive, limits.users_max)
    }

    /// A job was made that may have `full` rows, and has; or that has fewer, since no more wait.
    pub fn claimed(&mut self, full: Option<u64>) {
        self.grown = full;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SizeLimits =
        SizeLimits { users_min: 100, users_max: 10_000, overhead_target: 0.03 };
    const RATE: u32 = 1_800;

    fn at(seconds: u64) -> Now {
        let instant = Instant::from_origin(Duration::from_secs(seconds));
        Now { instant, ..Now::default() }
    }

    fn users(size: JobSize, arrivals: &Arrivals, now: Now) -> u64 {
        size.users((Duration::from_secs(2), arrivals), (RATE, &LIMITS), now)
    }

    proptest! {
        /// The law: no smaller job keeps to the target, none is outside its limits.
        #[test]
        fn a_responsive_job_is_the_smallest_that_keeps_to_the_target(
            millis in 0..200_000_u64, per_minute in 1..1_000_000_u32, target in 0.001..1.0,
        ) {
            let limits = SizeLimits { overhead_target: target, ..LIMITS };
            let cost = Duration::from_millis(millis);
            let users = responsive_users(cost, per_minute, &limits);
            prop_assert!((100..=10_000).contains(&users));
            let share = |users: u64| {
                cost.as_secs_f64() * f64::from(per_minute) / 60.0 / users as f64
            };
            prop_assert!(users == 10_000 || share(users) <= target * 1.000_001);
            prop_assert!(users == 100 || share(users - 1) > target * 0.999_999);
        }

        /// Kinds that take turns keep to the target together, even where one has next to nothing.
        #[test]
        fn two_kinds_that_take_turns_keep_to_the_target(
            users in 0..60_000_u64, companies in 0..60_000_u64, few in 1..100_u64,
        ) {
            let limits = SizeLimits { users_max: u64::MAX, ..LIMITS };
            let (users, companies) = (Duration::from_millis(users), Duration::from_millis(companies));
            let (costs, waiting) = (ByKind { users, companies }, ByKind { users: 9, companies: few });
            for kind in SubjectKind::ALL {
                let full = responsive_users(cost_to_bear(kind, costs, waiting), RATE, &limits);
                let spent = occupancy(full + few, RATE).as_secs_f64();
                let overhead = (users + companies).as_secs_f64() / spent;
                prop_assert!(overhead <= 0.03, "{overhead}");
            }
            let alone = ByKind { companies: 0, ..waiting };
            prop_assert_eq!(cost_to_bear(SubjectKind::User, costs, alone), users);
        }

        /// Whatever a minority of jobs cost.
        #[test]
        fn a_few_slow_jobs_teach_nothing(slow in prop::collection::vec(0..100_000_u64, 0..=4)) {
            let mut cost = FixedCost::default();
            for _ in 0..SAMPLES {
                cost.learn(Duration::from_secs(2));
            }
            for millis in slow {
                cost.learn(Duration::from_millis(millis));
            }
            prop_assert_eq!(cost.estimate(), Duration::from_secs(2));
        }
    }

    #[test]
    fn what_jobs_cost_is_learned_and_unlearned() {
        let mut cost = FixedCost::default();
        assert_eq!(cost.estimate(), UNKNOWN_COST);
        for (millis, median) in [(500, 500), (700, 700), (600, 600), (9_000, 700)] {
            cost.learn(Duration::from_millis(millis));
            assert_eq!(cost.estimate(), Duration::from_millis(median));
        }
        for _ in 0..5 {
            cost.learn(Duration::from_secs(4));
        }
        assert_eq!(cost.estimate(), Duration::from_secs(4));
    }

    #[test]
    fn while_interactive_updates_come_a_job_is_as_small_as_its_cost_allows() {
        let mut arrivals = Arrivals::default();
        arrivals.note(1, at(10).instant);
        let large = JobSize { grown: Some(10_000) };
        assert_eq!(users(large, &arrivals, at(10)), 2_000);
        assert_eq!(users(large, &arrivals, at(100)), 2_000, "one is enough, for two minutes");
    }

    #[test]
    fn while_only_a_backlog_waits_jobs_grow_and_the_first_arrival_makes_them_small_again() {
        let (mut size, mut arrivals) = (JobSize::default(), Arrivals::default());
        arrivals.note(1_000_000, at(0).instant);
        assert_eq!(users(size, &arrivals, at(600)), 2_000, "they count for long, being many");
        for expected in [4_000, 8_000, 10_000, 10_000] {
            assert_eq!(users(size, &arrivals, at(3_600)), expected);
            assert_eq!(users(size, &arrivals, at(3_600)), expected, "asked twice");
            size.claimed(Some(expected));
        }
        arrivals.note(1, at(3_700).instant);
        assert_eq!(users(size, &arrivals, at(3_700)), 2_000);
        size.claimed(None);
        assert_eq!(users(size, &arrivals, at(7_200)), 4_000, "it was not full");
    }
}
