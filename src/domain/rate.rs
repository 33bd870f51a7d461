//! So many a second, and as many at once: the generic cell rate algorithm of ITU-T I.371.

use std::time::Duration;

use super::time::Instant;

/// How many a second. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerSecond(u32);

/// Up to when what was taken is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid(Instant);

impl PerSecond {
    /// `None` for 0, which is as many as anybody likes.
    pub fn new(count: u32) -> Option<Self> {
        (count > 0).then_some(Self(count))
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Takes one `now`, or says how long to wait until there is room for the next. A second's
    /// worth may be taken at once after a second in which nothing was.
    pub fn take(self, paid: Paid, now: Instant) -> Result<Paid, Duration> {
        let interval = Duration::from_secs(1) / self.0;
        let next = paid.0.max(now).plus(interval);
        match next.since(now).checked_sub(interval * self.0) {
            None | Some(Duration::ZERO) => Ok(Paid(next)),
            Some(wait) => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_origin(Duration::from_micros(micros))
    }

    #[test]
    fn a_seconds_worth_comes_at_once_and_then_one_at_a_time() {
        let two = PerSecond::new(2).unwrap();
        let first = two.take(Paid::default(), at(0)).unwrap();
        let second = two.take(first, at(0)).unwrap();
        assert_eq!(two.take(second, at(0)), Err(Duration::from_millis(500)));
        assert_eq!(two.take(second, at(499_999)), Err(Duration::from_micros(1)));
        let third = two.take(second, at(500_000)).unwrap();
        assert!(two.take(third, at(500_000)).is_err());
        assert_eq!(PerSecond::new(0), None);
    }

    proptest! {
        #[test]
        fn no_time_holds_more_than_its_share_and_a_burst(
            rate in 1_u32..2_000,
            pauses in proptest::collection::vec(0_u64..3_000, 1..400),
        ) {
            let rate = PerSecond::new(rate).unwrap();
            let (mut now, mut paid, mut taken) = (0, Paid::default(), 0_u64);
            for pause in pauses {
                now += pause;
                match rate.take(paid, at(now)) {
                    Ok(next) => { paid = next; taken += 1; }
                    Err(wait) => {
                        let back = at(now).plus(wait);
                        prop_assert!(rate.take(paid, back).is_ok(), "room when it was promised");
                    }
                }
                let share = u64::from(rate.get()) * (now + 1_000_000) / 1_000_000;
                prop_assert!(taken <= share + 1, "{taken} by {now} µs");
            }
        }
    }
}
