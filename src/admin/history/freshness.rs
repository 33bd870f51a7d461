//! How fresh rows were, in the last hour.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;

use crate::domain::time::Instant;

/// An hour, in slices that go one by one: what is told is of the last 60 to 70 minutes.
const SLICE: Duration = Duration::from_secs(600);
const SLICES: usize = 7;
/// What took longer counts as a day.
const MILLIS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// The median, and what 99 in 100 do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: Duration,
    /// What 99 in 100 do not exceed.
    pub p99: Duration,
}

/// Durations of the last hour, to so many digits. A histogram takes the memory that its values
/// need: 10 KiB at the most with two digits, 2 KiB with one.
#[derive(Debug, Default)]
pub(super) struct LastHour<const DIGITS: u8> {
    /// By when each began, oldest first.
    slices: VecDeque<(Instant, Durations<DIGITS>)>,
}

impl<const DIGITS: u8> LastHour<DIGITS> {
    /// Counts one in.
    pub(super) fn record(&mut self, duration: Duration, now: Instant) {
        let is_over = |(began, _): &(Instant, _)| now.since(*began) >= SLICE;
        if self.slices.back().is_none_or(is_over) {
            self.forget(now);
            self.slices.push_back((now, Durations::default()));
        }
        if let Some((_, slice)) = self.slices.back_mut() {
            slice.record(duration);
        }
    }

    /// What there is of the last hour.
    pub(super) fn percentiles(&mut self, now: Instant) -> Option<Percentiles> {
        self.forget(now);
        let mut all = Durations::<DIGITS>::default();
        for (_, slice) in &self.slices {
            all.add(slice);
        }
        all.percentiles()
    }

    fn forget(&mut self, now: Instant) {
        let slices = u32::try_from(SLICES).unwrap_or(u32::MAX);
        self.slices.retain(|(began, _)| now.since(*began) < SLICE * slices);
    }
}

/// A distribution of durations, in milliseconds.
#[derive(Debug)]
pub(super) struct Durations<const DIGITS: u8>(Histogram<u32>);

impl<const DIGITS: u8> Default for Durations<DIGITS> {
    fn default() -> Self {
        let mut histogram = Histogram::new(DIGITS).expect("0 to 5 digits are allowed");
        histogram.auto(true);
        Self(histogram)
    }
}

impl<const DIGITS: u8> Durations<DIGITS> {
    pub(super) fn record(&mut self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // It grows as far as it must, so that none is out of its range.
        self.0.record(millis.min(MILLIS_MAX)).ok();
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).ok();
    }

    /// Forgets all of them, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.0.reset();
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let of = |share| Duration::from_millis(self.0.value_at_quantile(share));
        (!self.0.is_empty()).then(|| Percentiles { p50: of(0.5), p99: of(0.99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn percentiles_are_those_of_the_last_hour() {
        let mut hour = LastHour::<2>::default();
        assert_eq!(hour.percentiles(at(0)), None);
        for second in 0..100 {
            hour.record(Duration::from_secs(100), at(second));
        }
        for second in 3_000..3_100 {
            hour.record(Duration::from_millis(10), at(second));
        }
        let of = |hour: &mut LastHour<2>, seconds| {
            let Percentiles { p50, p99 } = hour.percentiles(at(seconds)).unwrap();
            (p50.as_millis(), p99.as_secs())
        };
        assert_eq!(of(&mut hour, 3_600), (10, 100));
        assert_eq!(of(&mut hour, 4_300), (10, 0));
        assert_eq!(hour.percentiles(at(3_000 + 4_200)), None);
        assert!(hour.slices.is_empty());
    }

    #[test]
    fn there_are_never_more_slices_than_an_hour_has() {
        let mut hour = LastHour::<1>::default();
        for minute in 0..10_000 {
            hour.record(Duration::from_secs(minute), at(minute * 60));
            assert!(hour.slices.len() <= SLICES);
        }
    }

    #[test]
    fn what_takes_longer_than_a_day_counts_as_a_day() {
        let mut durations = Durations::<2>::default();
        durations.record(Duration::MAX);
        let hours = durations.percentiles().unwrap().p50.as_secs_f64() / 3_600.0;
        assert!((hours - 24.0).abs() < 0.24, "{hours}");
    }
}
