//! How an app has done, interval by interval: a pure core, which is given the time.

use std::{collections::VecDeque, time::Duration};

use super::freshness::{Durations, Percentiles};
use crate::domain::time::{Instant, Now, Timestamp};

/// The time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// An hour of them.
const HOUR_SAMPLES: usize = 720;
/// So many make an interval of a day's history.
const SAMPLES_A_MINUTE: u32 = 12;
/// A day of these.
const DAY_SAMPLES: usize = 1_440;

/// How far back, and in what steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// An hour, in intervals of 5 s.
    Hour,
    /// A day, in intervals of 60 s.
    Day,
}

impl Resolution {
    /// The length of its intervals.
    pub fn interval(self) -> Duration {
        match self {
            Self::Hour => SAMPLE_INTERVAL,
            Self::Day => SAMPLE_INTERVAL * SAMPLES_A_MINUTE,
        }
    }
}

/// An app's numbers at one moment; the counters count since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Updates accepted.
    pub accepted: u64,
    /// Of these, merged into a record that was waiting.
    pub coalesced: u64,
    /// Of these, the ones that changed nothing.
    pub suppressed: u64,
    /// Updates that the queue refused.
    pub refused: u64,
    /// Rows that jobs delivered: those that cost budget.
    pub job_rows: u64,
    /// Pending records.
    pub pending_records: u64,
    /// For how long the longest waiting has waited.
    pub oldest_pending: Duration,
}

/// One interval. Rates are per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    /// Its end, in seconds since 1970.
    time: f64,
    accepted: f32,
    coalesced: f32,
    suppressed: f32,
    delivered: f32,
    refused: f32,
    pending_records: f32,
    oldest_pending: f32,
    /// -1 where nothing was delivered.
    freshness: [f32; 2],
}

/// Columns of equal length, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// The end of each interval, in seconds since 1970.
    pub time: Vec<f64>,
    /// Updates accepted, a second.
    pub accepted: Vec<f64>,
    /// Updates merged into a waiting record, a second.
    pub coalesced: Vec<f64>,
    /// Updates that changed nothing, a second.
    pub suppressed: Vec<f64>,
    /// Rows delivered, a second.
    pub delivered: Vec<f64>,
    /// Updates that the queue refused, a second.
    pub refused: Vec<f64>,
    /// Pending records at the end.
    pub pending_records: Vec<f64>,
    /// For how long the longest waiting had waited at the end, in seconds.
    pub oldest_pending_seconds: Vec<f64>,
    /// How fresh the median row was, in seconds; -1 where none was delivered.
    pub freshness_p50_seconds: Vec<f64>,
    /// The same of 99 in 100.
    pub freshness_p99_seconds: Vec<f64>,
}

/// An app's history: 2,160 samples of 48 bytes at the most.
#[derive(Debug)]
pub(super) struct Series {
    hour: Track,
    day: Track,
    /// Samples of the minute that has begun.
    in_minute: u32,
    /// When samples of the last hour were taken, and the rows that jobs had delivered by then.
    job_rows: VecDeque<(Instant, u64)>,
}

impl Default for Series {
    fn default() -> Self {
        let (hour, day) = (Track::new(HOUR_SAMPLES), Track::new(DAY_SAMPLES));
        Self { hour, day, in_minute: 0, job_rows: VecDeque::new() }
    }
}

impl Series {
    /// A row was delivered, that fresh.
    pub(super) fn deliver(&mut self, fresh: Duration) {
        self.hour.freshness.record(fresh);
        self.day.freshness.record(fresh);
    }

    /// Ends an interval. The first sample only begins one: what was before it is not known.
    pub(super) fn sample(&mut self, observed: Observed, now: Now) {
        self.job_rows.push_back((now.instant, observed.job_rows));
        if self.job_rows.len() > HOUR_SAMPLES + 1 {
            self.job_rows.pop_front();
        }
        self.hour.sample(observed, now);
        let begins = self.day.before.is_none();
        self.in_minute = (self.in_minute + u32::from(!begins)) % SAMPLES_A_MINUTE;
        if begins || self.in_minute == 0 {
            self.day.sample(observed, now);
        }
    }

    /// The newest intervals, up to so many.
    pub(super) fn columns(&self, resolution: Resolution, newest: usize) -> Columns {
        match resolution {
            Resolution::Hour => self.hour.columns(newest),
            Resolution::Day => self.day.columns(newest),
        }
    }

    /// How many rows jobs delivered a second in the last hour, or since the first sample.
    pub(super) fn job_rows_per_second(&self, now: Instant) -> Option<f64> {
        let ((first_at, first), (_, last)) = (self.job_rows.front()?, self.job_rows.back()?);
        let seconds = now.since(*first_at).as_secs_f64();
        (seconds > 0.0).then(|| last.saturating_sub(*first) as f64 / seconds)
    }
}

/// Intervals of one length.
#[derive(Debug)]
struct Track {
    capacity: usize,
    samples: VecDeque<Sample>,
    /// The end of the last interval.
    before: Option<(Instant, Observed)>,
    /// Of the rows that were delivered in the interval that has begun.
    freshness: Durations<2>,
}

impl Track {
    fn new(capacity: usize) -> Self {
        Self { capacity, samples: VecDeque::new(), before: None, freshness: Durations::default() }
    }

    fn sample(&mut self, observed: Observed, now: Now) {
        let before = self.before.replace((now.instant, observed));
        let rows = self.freshness.count();
        let freshness = self.freshness.percentiles();
        self.freshness.clear();
        let Some((began, before)) = before else { return };
        let seconds = now.instant.since(began).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = |now: u64, before: u64| single(now.saturating_sub(before) as f64 / seconds);
        if self.samples.len() == self.capacity {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            time: unix_seconds(now.wall),
            accepted: rate(observed.accepted, before.accepted),
            coalesced: rate(observed.coalesced, before.coalesced),
            suppressed: rate(observed.suppressed, before.suppressed),
            delivered: rate(rows, 0),
            refused: rate(observed.refused, before.refused),
            pending_records: single(observed.pending_records as f64),
            oldest_pending: single(observed.oldest_pending.as_secs_f64()),
            freshness: match freshness {
                None => [-1.0; 2],
                Some(Percentiles { p50, p99 }) => [p50, p99].map(|it| single(it.as_secs_f64())),
            },
        });
    }

    fn columns(&self, newest: usize) -> Columns {
        let mut columns = Columns::default();
        for sample in self.samples.iter().skip(self.samples.len().saturating_sub(newest)) {
            columns.time.push(sample.time);
            columns.accepted.push(sample.accepted.into());
            columns.coalesced.push(sample.coalesced.into());
            columns.suppressed.push(sample.suppressed.into());
            columns.delivered.push(sample.delivered.into());
            columns.refused.push(sample.refused.into());
            columns.pending_records.push(sample.pending_records.into());
            columns.oldest_pending_seconds.push(sample.oldest_pending.into());
            columns.freshness_p50_seconds.push(sample.freshness[0].into());
            columns.freshness_p99_seconds.push(sample.freshness[1].into());
        }
        columns
    }
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_micros() as f64 / 1e6
}

/// Half as many bytes, and as exact as a chart can show.
#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a chart")]
fn single(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::now;

    fn accepted(accepted: u64) -> Observed {
        Observed { accepted, ..Observed::default() }
    }

    #[test]
    fn a_rate_is_what_was_counted_in_an_interval_over_its_length() {
        let mut series = Series::default();
        series.sample(accepted(1_000), now(5, 105));
        assert_eq!(series.columns(Resolution::Hour, 9), Columns::default());
        series.deliver(Duration::from_secs(2));
        series.deliver(Duration::from_secs(2));
        let observed = Observed { pending_records: 7, ..accepted(1_010) };
        // A sample may be late.
        series.sample(observed, now(9, 109));
        series.sample(accepted(1_010), now(14, 114));
        let columns = series.columns(Resolution::Hour, 9);
        assert_eq!(columns.time, [109.0, 114.0]);
        assert_eq!((columns.accepted, columns.delivered), (vec![2.5, 0.0], vec![0.5, 0.0]));
        assert_eq!(columns.pending_records, [7.0, 0.0]);
        let p50 = columns.freshness_p50_seconds;
        assert!((p50[0] - 2.0).abs() < 0.02 && p50[1] < 0.0, "{p50:?}");
        assert_eq!(series.columns(Resolution::Hour, 1).time, [114.0]);
    }

    #[test]
    fn twelve_samples_make_a_minute_of_the_days_history() {
        let mut series = Series::default();
        for sample in 0..=24 {
            series.sample(accepted(sample * 10), now(5 * sample, 5 * sample as i64));
            if sample == 3 {
                series.deliver(Duration::from_secs(9));
            }
        }
        let columns = series.columns(Resolution::Day, 9);
        assert_eq!((columns.time, columns.accepted), (vec![60.0, 120.0], vec![2.0, 2.0]));
        let p99 = columns.freshness_p99_seconds;
        assert!((p99[0] - 9.0).abs() < 0.1 && p99[1] < 0.0, "{p99:?}");
    }

    #[test]
    fn a_series_never_holds_more_than_an_hour_and_a_day() {
        let mut series = Series::default();
        for sample in 0..20_000 {
            series.sample(accepted(sample), now(5 * sample, 5 * sample as i64));
        }
        assert_eq!(series.columns(Resolution::Hour, usize::MAX).time.len(), HOUR_SAMPLES);
        assert_eq!(series.columns(Resolution::Day, usize::MAX).time.len(), DAY_SAMPLES);
        assert_eq!(series.job_rows.len(), HOUR_SAMPLES + 1);
    }

    #[test]
    fn what_jobs_delivered_is_told_of_the_last_hour_alone() {
        let rows = |job_rows| Observed { job_rows, ..Observed::default() };
        let mut series = Series::default();
        let at = |seconds| now(seconds, 0).instant;
        assert_eq!(series.job_rows_per_second(at(0)), None);
        series.sample(rows(100), now(0, 0));
        series.sample(rows(400), now(10, 0));
        assert_eq!(series.job_rows_per_second(at(10)), Some(30.0));
        // Nothing for an hour.
        for sample in 3..=730 {
            series.sample(rows(400), now(5 * sample, 0));
        }
        assert_eq!(series.job_rows_per_second(at(5 * 730)), Some(0.0));
    }
}
