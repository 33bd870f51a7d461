//! The budget: how many users a minute upstream takes, and for how long a job occupies it.
//!
//! Userpilot consumes a job's users at a fixed pace. A job of N users occupies the budget
//! for N / `users_per_minute` minutes from its submission, and the next job may be submitted
//! only when the last has ended and its occupancy has passed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::{Instant, Now, Timestamp, Uptime};

/// How long a job of `rows` users occupies the budget.
pub fn occupancy(rows: u64, users_per_minute: u32) -> Duration {
    let micros = u128::from(rows) * 60_000_000 / u128::from(users_per_minute.max(1));
    // Rounded up: the next job must not come a microsecond early.
    Duration::from_micros(u64::try_from(micros + 1).unwrap_or(u64::MAX))
}

/// Clocks that are set by the store's differ by less: see [`super::lease::SAMPLE_MAX`].
const HANDED_OVER_MARGIN: Duration = Duration::from_secs(1);

/// An occupancy as it is stored: until when, by the wall clock and by the machine's uptime, and
/// how long it was. While the machine runs, its uptime tells how much is left; after a reboot
/// the wall clock does, and the length bounds what one that was set back can make of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Until when the budget is occupied.
    pub until: Timestamp,
    /// The same by the machine's uptime.
    pub until_uptime: Option<Uptime>,
    /// For how long it was, from the submission on.
    pub length: Duration,
}

impl Occupancy {
    /// The occupancy that a job of `rows` users begins now.
    pub fn begin(rows: u64, users_per_minute: u32, now: Now) -> Self {
        let length = occupancy(rows, users_per_minute);
        let until_uptime =
            now.uptime.map(|up| Uptime { length: up.length.saturating_add(length), ..up });
        Self { until: now.wall.plus(length), until_uptime, length }
    }

    /// The same for a process on another machine, whose clock is set by the same one: it keeps a
    /// distance from what the two may differ by, and the uptime is not its own.
    #[must_use]
    pub fn handed_over(self) -> Self {
        Self {
            until: self.until.plus(HANDED_OVER_MARGIN),
            until_uptime: None,
            length: self.length.saturating_add(HANDED_OVER_MARGIN),
        }
    }

    /// When it ends, on the clock that never jumps.
    pub fn end(self, now: Now) -> Instant {
        let by_uptime = self.until_uptime.zip(now.uptime).and_then(|(until, up)| until.since(up));
        let left = by_uptime.unwrap_or_else(|| self.until.since(now.wall));
        now.instant.plus(left.min(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::now;

    #[test]
    fn a_clock_that_jumps_over_a_restart_changes_nothing_while_the_machine_runs() {
        let up = |boot, seconds| Some(Uptime { boot, length: Duration::from_secs(seconds) });
        let begun = Now { uptime: up(1, 700), ..now(1_000, 50_000) };
        let stored = Occupancy::begin(1_800, 1_800, begun);
        for wall in [50_000, 10_000, 90_000] {
            let restarted = Now { uptime: up(1, 720), ..now(5, wall) };
            assert_eq!(stored.end(restarted).since(restarted.instant).as_secs(), 40);
        }
        // After a reboot there is only the wall clock to go by.
        let rebooted = Now { uptime: up(2, 10), ..now(5, 50_050) };
        assert_eq!(stored.end(rebooted).since(rebooted.instant).as_secs(), 10);
    }

    #[test]
    fn a_full_job_occupies_the_budget_for_five_and_a_half_minutes() {
        let length = occupancy(10_000, 1_800);
        assert_eq!(length.as_secs(), 333);
        assert!(occupancy(1, 1_800) >= Duration::from_nanos(33_333_333));
    }

    #[test]
    fn an_occupancy_outlives_a_restart() {
        let stored = Occupancy::begin(1_800, 1_800, now(1_000, 50_000));
        let restarted = now(5, 50_020);
        let left = stored.end(restarted).since(restarted.instant);
        assert_eq!(left.as_secs(), 40);
    }

    #[test]
    fn another_machine_waits_a_little_longer_and_looks_at_no_uptime() {
        let up = |seconds| Some(Uptime { boot: 1, length: Duration::from_secs(seconds) });
        let stored = Occupancy::begin(1_800, 1_800, Now { uptime: up(700), ..now(1_000, 50_000) });
        let other = Now { uptime: up(90_000), ..now(5, 50_020) };
        assert_eq!(stored.end(other), other.instant);
        assert_eq!(stored.handed_over().end(other).since(other.instant).as_secs(), 41);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stall_the_budget() {
        let stored = Occupancy::begin(1_800, 1_800, now(1_000, 50_000));
        let restarted = now(5, 10_000);
        let left = stored.end(restarted).since(restarted.instant);
        assert_eq!(left.as_secs(), 60);
    }
}
