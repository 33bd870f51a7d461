//! A job as a function of time: what its status is and how many rows are behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How fast the account works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) users_per_minute: u32,
    pub(super) fixed_cost: Duration,
    pub(super) speed: f64,
}

impl Pace {
    /// How long so many rows occupy the account's budget.
    pub(super) fn occupancy(&self, rows: usize) -> Duration {
        let per_second = f64::from(self.users_per_minute) * self.speed / 60.0;
        Duration::from_secs_f64(rows as f64 / per_second)
    }

    fn fixed_cost(&self) -> Duration {
        self.fixed_cost.div_f64(self.speed)
    }

    /// The account's minute.
    pub(super) fn minute(&self) -> Duration {
        Duration::from_secs(60).div_f64(self.speed)
    }
}

/// How a job is going to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Completed,
    /// It fails when so many rows are behind it.
    FailedAfter(usize),
}

/// Where a job is in its life, by the documented names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Accepted, not looked at yet.
    Queued,
    /// Being checked.
    Validating,
    /// Its rows are being applied.
    Processing,
    /// All rows are applied; what depends on them is being renewed.
    PendingRefresh,
    /// Over, and well.
    Completed,
    /// Over, and not well: no row or only some rows were applied.
    Failed,
}

/// The moments at which one job changes.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) accepted: Duration,
    validating: Duration,
    processing: Duration,
    /// When all rows would be behind it, whatever its ending.
    processed: Duration,
    pub(super) ended: Duration,
    rows: usize,
    ending: Ending,
}

impl Timeline {
    /// A quarter of the fixed cost is spent queued, a quarter validating, and the rest after
    /// the rows. A job that fails does so at its row, without a refresh.
    pub(super) fn new(accepted: Duration, rows: usize, pace: &Pace, ending: Ending) -> Self {
        let quarter = pace.fixed_cost() / 4;
        let validating = accepted + quarter;
        let processing = validating + quarter;
        let processed = processing + pace.occupancy(rows);
        let ended = match ending {
            Ending::Completed => processed + quarter * 2,
            Ending::FailedAfter(passed) => processing + pace.occupancy(passed.min(rows)),
        };
        Self { accepted, validating, processing, processed, ended, rows, ending }
    }

    pub(super) fn status(&self, now: Duration) -> JobStatus {
        if now >= self.ended {
            match self.ending {
                Ending::Completed => JobStatus::Completed,
                Ending::FailedAfter(_) => JobStatus::Failed,
            }
        } else if now >= self.processed {
            JobStatus::PendingRefresh
        } else if now >= self.processing {
            JobStatus::Processing
        } else if now >= self.validating {
            JobStatus::Validating
        } else {
            JobStatus::Queued
        }
    }

    pub(super) fn is_over(&self, now: Duration) -> bool {
        now >= self.ended
    }

    /// How many rows are behind the job.
    pub(super) fn rows_passed(&self, now: Duration) -> usize {
        let limit = match self.ending {
            Ending::Completed => self.rows,
            Ending::FailedAfter(passed) => passed.min(self.rows),
        };
        if now >= self.processed || now >= self.ended {
            return limit;
        }
        let whole = (self.processed - self.processing).as_nanos().max(1);
        let spent = now.saturating_sub(self.processing).as_nanos();
        let passed = spent.saturating_mul(self.rows as u128) / whole;
        usize::try_from(passed).unwrap_or(limit).min(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn pace(speed: f64) -> Pace {
        Pace { users_per_minute: 1_800, fixed_cost: Duration::from_secs(4), speed }
    }

    fn after_ms(ms: u64) -> Duration {
        START + Duration::from_millis(ms)
    }

    #[test]
    fn a_job_goes_through_every_status_at_its_time() {
        let timeline = Timeline::new(START, 300, &pace(1.0), Ending::Completed);
        let seen = |ms| (timeline.status(after_ms(ms)), timeline.rows_passed(after_ms(ms)));
        assert_eq!(seen(0), (JobStatus::Queued, 0));
        assert_eq!(seen(999), (JobStatus::Queued, 0));
        assert_eq!(seen(1_000), (JobStatus::Validating, 0));
        assert_eq!(seen(2_000), (JobStatus::Processing, 0));
        assert_eq!(seen(7_000), (JobStatus::Processing, 150));
        assert_eq!(seen(12_000), (JobStatus::PendingRefresh, 300));
        assert_eq!(seen(13_999), (JobStatus::PendingRefresh, 300));
        assert_eq!(seen(14_000), (JobStatus::Completed, 300));
    }

    #[test]
    fn a_full_job_occupies_five_minutes_and_33_seconds() {
        assert_eq!(pace(1.0).occupancy(10_000).as_secs(), 333);
    }

    #[test]
    fn speed_divides_every_part() {
        let timeline = Timeline::new(START, 300, &pace(10.0), Ending::Completed);
        assert_eq!(timeline.ended, after_ms(1_400));
        assert_eq!(timeline.rows_passed(after_ms(700)), 150);
    }

    #[test]
    fn a_failing_job_ends_at_its_row() {
        let timeline = Timeline::new(START, 300, &pace(1.0), Ending::FailedAfter(30));
        assert_eq!(timeline.status(after_ms(2_999)), JobStatus::Processing);
        assert_eq!(timeline.status(after_ms(3_000)), JobStatus::Failed);
        assert_eq!(timeline.rows_passed(after_ms(3_000)), 30);
        assert_eq!(timeline.rows_passed(after_ms(60_000)), 30);
    }

    #[test]
    fn a_job_that_fails_before_its_first_row_passes_none() {
        let timeline = Timeline::new(START, 300, &pace(1.0), Ending::FailedAfter(0));
        assert_eq!(timeline.status(after_ms(2_000)), JobStatus::Failed);
        assert_eq!(timeline.rows_passed(after_ms(60_000)), 0);
    }

    #[test]
    fn a_row_is_behind_the_job_no_earlier_than_its_share_of_the_time() {
        let timeline = Timeline::new(START, 3, &pace(1.0), Ending::Completed);
        assert_eq!(timeline.rows_passed(after_ms(2_033)), 0);
        assert_eq!(timeline.rows_passed(after_ms(2_034)), 1);
        assert_eq!(timeline.rows_passed(after_ms(2_100)), 3);
    }
}
