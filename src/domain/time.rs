//! Points in time, as values. Nothing here reads a clock: `crate::clock` does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in wall-clock time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point `micros` microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How much later this is than `earlier`; zero where it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0))
            .map_or(Duration::ZERO, Duration::from_micros)
    }

    /// The point `duration` later, or the last one that can be expressed.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The point `duration` earlier, or the first one that can be expressed.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// A point on a clock that never jumps: the time since some fixed moment of this boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// The point `since_origin` after the clock's origin.
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// How much later this is than `earlier`; zero where it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Now, on both clocks: `instant` measures, `wall` is what gets stored and shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never jumps.
    pub instant: Instant,
    /// May be set by an operator or NTP.
    pub wall: Timestamp,
    /// What tells the time over a restart of the process, whatever is done to the wall clock.
    /// `None` where the machine does not say.
    pub uptime: Option<Uptime>,
}

/// For how long the machine has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// A number of this run of the machine alone.
    pub boot: u64,
    /// For how long, times of sleep included.
    pub length: Duration,
}

impl Uptime {
    /// For how long the machine has run since `earlier`. `None` where it has started anew in between.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        (self.boot == earlier.boot).then(|| self.length.saturating_sub(earlier.length))
    }
}

impl Now {
    /// The wall-clock time of `instant`, which may lie in the future.
    pub fn wall_at(self, instant: Instant) -> Timestamp {
        self.wall.plus(instant.since(self.instant)).minus(self.instant.since(instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::now;

    #[test]
    fn a_moment_has_a_time_on_the_wall_before_now_and_after() {
        let at = |seconds| Instant::from_origin(Duration::from_secs(seconds));
        let now = now(100, 5_000);
        for (seconds, wall) in [(40, 4_940), (100, 5_000), (130, 5_030)] {
            assert_eq!(now.wall_at(at(seconds)).as_micros(), wall * 1_000_000);
        }
    }

    #[test]
    fn time_stops_at_its_ends_and_does_not_run_backwards() {
        let (first, last) = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        assert_eq!(first.minus(Duration::MAX), first);
        assert_eq!(Timestamp::from_micros(7).since(Timestamp::from_micros(9)), Duration::ZERO);
        let (earlier, later) = (now(1, 0).instant, now(3, 0).instant);
        assert_eq!(later.since(earlier).as_secs(), 2);
        assert_eq!(earlier.since(later), Duration::ZERO);
    }
}
