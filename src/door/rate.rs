//! How much a client may send in a second, and how much is passed through in a minute.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use crate::{clock, domain::time::Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// One of the minute's share in so many may be taken at once. The rest comes back drop by drop, so
/// that no minute has more than all of it.
const BURST_PART: u32 = 10;

/// A limit, and what has been taken of it.
#[derive(Debug)]
pub struct Rate<C: Clock = ProcessClock> {
    count: u32,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
}

/// The process's clock, which `crate::clock` reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessClock;

impl Clock for ProcessClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        clock::now().instant.since(Instant::default())
    }
}

impl Rate {
    /// So many a second, and as many at once after a second in which there were none. `None` for 0,
    /// which is as many as anybody likes.
    pub fn new(per_second: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self::of(quota, per_second, ProcessClock))
    }

    /// So many in any minute at the most, a tenth of them at once.
    pub fn per_minute(count: NonZeroU32) -> Self {
        Self::of(within_any_minute(count), count.get(), ProcessClock)
    }
}

fn within_any_minute(count: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(count.get() / BURST_PART).unwrap_or(NonZeroU32::MIN);
    let steady = (count.get() - burst.get()).max(1);
    Quota::with_period(MINUTE / steady).unwrap_or(Quota::per_minute(count)).allow_burst(burst)
}

impl<C: Clock> Rate<C> {
    fn of(quota: Quota, count: u32, clock: C) -> Self {
        Self { count, limiter: RateLimiter::direct_with_clock(quota, clock) }
    }

    /// The number that it was made for, which of a client is so many a second.
    pub fn per_second(&self) -> u32 {
        self.count
    }

    /// Takes one, or says when there will be room for the next.
    pub fn take(&self) -> Result<(), Duration> {
        let wait = |until: NotUntil<C::Instant>| until.wait_time_from(self.limiter.clock().now());
        self.limiter.check().map_err(wait)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_seconds_worth_comes_at_once_and_then_one_at_a_time() {
        let clock = FakeRelativeClock::default();
        let two = NonZeroU32::new(2).unwrap();
        let rate = Rate::of(Quota::per_second(two), 2, clock.clone());
        assert_eq!((rate.take(), rate.take()), (Ok(()), Ok(())));
        assert_eq!(rate.take(), Err(Duration::from_millis(500)));
        clock.advance(Duration::from_millis(499));
        assert_eq!(rate.take(), Err(Duration::from_millis(1)));
        clock.advance(Duration::from_millis(1));
        assert_eq!(rate.take(), Ok(()));
        assert!(rate.take().is_err());
        assert!(Rate::new(0).is_none());
    }

    proptest! {
        #[test]
        fn no_time_holds_more_than_its_share_and_a_burst(
            count in 1_u32..2_000,
            pauses in proptest::collection::vec(0_u64..3_000, 1..400),
        ) {
            let clock = FakeRelativeClock::default();
            let quota = Quota::per_second(NonZeroU32::new(count).unwrap());
            let rate = Rate::of(quota, count, clock.clone());
            let (mut micros, mut taken) = (0, 0_u64);
            for pause in pauses {
                micros += pause;
                clock.advance(Duration::from_micros(pause));
                match rate.take() {
                    Ok(()) => taken += 1,
                    Err(wait) => {
                        micros += 1 + u64::try_from(wait.as_micros()).unwrap();
                        clock.advance(wait + Duration::from_micros(1));
                        prop_assert!(rate.take().is_ok(), "room when it was promised");
                        taken += 1;
                    }
                }
                let share = u64::from(rate.per_second()) * (micros + 1_000_000) / 1_000_000;
                prop_assert!(taken <= share + 1, "{taken} by {micros} µs");
            }
        }
    }

    #[test]
    fn no_minute_has_more_than_its_share() {
        for count in [1, 7, 60, 600] {
            let clock = FakeRelativeClock::default();
            let quota = within_any_minute(NonZeroU32::new(count).unwrap());
            let rate = Rate::of(quota, count, clock.clone());
            let mut taken = Vec::new();
            for step in 0..3_600_u32 {
                while rate.take().is_ok() {
                    taken.push(step);
                }
                clock.advance(Duration::from_millis(50));
            }
            let within =
                |from| taken.iter().filter(|at| (from..from + 1_199).contains(*at)).count();
            let most = (0..3_600).map(within).max().unwrap();
            assert!(most <= count as usize, "{most} of {count}");
            assert!(taken.len() >= count as usize * 2, "{} of {count}", taken.len());
        }
    }
}
