//! How long to wait after a failure: exponential, with full jitter.
//!
//! Full jitter draws the wait evenly from zero to the exponential bound, which spreads
//! retries best (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

/// The bounds of a backoff.
#[derive(Clone, Copy, Debug)]
pub struct BackoffLimits {
    /// The most to wait after the first failure.
    pub initial: Duration,
    /// The most to wait after any.
    pub max: Duration,
}

/// Failures in a row, of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Failures since the last success.
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// Forgets all failures.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and says how long to wait. `random` is evenly distributed.
    pub fn fail(&mut self, limits: &BackoffLimits, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(31);
        let bound = limits.initial.saturating_mul(1 << doublings).min(limits.max);
        bound.mul_f64(unit(random))
    }
}

/// Maps 64 even random bits to `[0, 1)`.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
fn unit(random: u64) -> f64 {
    const BITS: u32 = 53;
    (random >> (64 - BITS)) as f64 / (1_u64 << BITS) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BackoffLimits =
        BackoffLimits { initial: Duration::from_millis(500), max: Duration::from_secs(60) };

    proptest! {
        #[test]
        fn a_wait_never_exceeds_its_exponential_bound(failures in 0..100_u32, random: u64) {
            let mut backoff = Backoff { failures };
            let wait = backoff.fail(&LIMITS, random);
            let bound = LIMITS.initial.as_secs_f64() * 2_f64.powi(i32::try_from(failures).unwrap());
            prop_assert!(wait.as_secs_f64() <= bound.min(60.0));
            prop_assert_eq!(backoff.failures(), failures + 1);
        }
    }

    #[test]
    fn a_wait_is_anything_from_nothing_to_its_bound() {
        for (random, millis) in [(0, 0), (1 << 62, 125), (1 << 63, 250), (u64::MAX, 500)] {
            let wait = Backoff::default().fail(&LIMITS, random);
            assert_eq!(wait.as_millis(), millis);
        }
    }

    #[test]
    fn a_success_starts_it_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.fail(&LIMITS, u64::MAX);
        }
        assert!(backoff.fail(&LIMITS, u64::MAX) > Duration::from_secs(59));
        backoff.succeed();
        assert!(backoff.fail(&LIMITS, u64::MAX) <= LIMITS.initial);
    }
}
