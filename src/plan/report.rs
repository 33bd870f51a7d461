//! The answer.

use serde::Serialize;

use super::took::Took;
use crate::domain::update::Lane;

/// What came of a plan. Times are in seconds from its beginning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// For how long the world was watched.
    pub length_s: f64,
    /// Updates that were accepted.
    pub accepted_updates: u64,
    /// Of these, those that were merged into a record that was waiting.
    pub coalesced_updates: u64,
    /// Of the accepted ones, those that upstream needed nothing of.
    pub suppressed_updates: u64,
    /// Updates that were refused, since too much waited.
    pub refused_updates: u64,
    /// Updates that still waited for a job, or for express, at the end.
    pub waiting_updates: u64,
    /// Rows that were sent in jobs.
    pub rows: u64,
    /// The same for each accepted update that neither went by express nor waits.
    pub rows_per_update: f64,
    /// Records that were delivered by express.
    pub express_records: u64,
    /// Updates that were delivered in them.
    pub express_updates: u64,
    /// Express requests that upstream found too many.
    pub express_throttled: u64,
    /// Rows that were applied, as a share of what the budget would have allowed.
    pub utilisation: f64,
    /// The occupied share of the time in which more waited than one job may have, and upstream
    /// answered. `None` if that was never so.
    pub utilisation_with_backlog: Option<f64>,
    /// How much time that was.
    pub backlog_s: f64,
    /// Jobs that were taken.
    pub jobs: u64,
    /// Their rows, in the middle.
    pub job_rows_p50: u64,
    /// The rows of the largest.
    pub job_rows_max: u64,
    /// Submissions that found another job running.
    pub conflicts: u64,
    /// Submissions before the last job's occupancy had passed.
    pub early_submissions: u64,
    /// How long updates took until upstream had applied them: of each class, and then of each
    /// lane as a whole.
    pub freshness: Vec<Freshness>,
    /// What each backfill and resync got of the budget.
    pub backfills: Vec<BackfillGot>,
    /// Until when backfills and resyncs came, and outages lasted.
    pub disturbed_until_s: f64,
    /// When the backlog was drained after that: when the first job was applied that left nothing
    /// behind. `None` if that was not before the end.
    pub drained_at_s: Option<f64>,
    /// The same of the interactive lane.
    pub interactive_drained_at_s: Option<f64>,
    /// When the backlog would have been drained by jobs that cost nothing.
    pub drain_bound_s: Option<f64>,
    /// What waited over time.
    pub samples: Vec<Sample>,
}

/// From an update's acceptance until upstream has applied it. An update that still waits at the
/// end counts as long as it has waited by then.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Freshness {
    /// The class; `None` where it is all of the lane.
    pub class: Option<String>,
    /// The lane.
    pub lane: String,
    /// How many updates.
    pub updates: u64,
    /// The median.
    pub p50_s: f64,
    /// 19 of 20 were faster.
    pub p95_s: f64,
    /// 99 of 100 were faster.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
    /// When the last of those was accepted that took more than a minute. `None` if none did.
    pub over_a_minute_until_s: Option<f64>,
}

/// What a backfill or resync got of the budget, from when it came until it was applied, or until the
/// end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackfillGot {
    /// Its class.
    pub class: String,
    /// When it came.
    pub came_at_s: f64,
    /// When the last of its rows was applied. `None` if that was not before the end.
    pub applied_at_s: Option<f64>,
    /// Rows with an update of it that were applied by then.
    pub rows: u64,
    /// Rows without one that were.
    pub rows_of_others: u64,
    /// How many the budget allows in that time.
    pub budget_rows: f64,
    /// Its rows, as a share of what the others' left of these.
    pub share_of_the_rest: f64,
}

/// What waits at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When.
    pub at_s: f64,
    /// Rows in the interactive lane, and in the express lane.
    pub interactive_rows: u64,
    /// Rows in the bulk lane.
    pub bulk_rows: u64,
    /// For how long the oldest has waited, to within ten seconds.
    pub oldest_s: f64,
}

impl Report {
    /// The freshness of a class, or of the lane where it is `None`.
    pub fn freshness(&self, class: Option<&str>, lane: Lane) -> Option<&Freshness> {
        let lane = lane.to_string();
        self.freshness.iter().find(|of| of.class.as_deref() == class && of.lane == lane)
    }

    /// The longest that any update waited.
    pub fn oldest_s(&self) -> f64 {
        self.freshness.iter().map(|of| of.max_s).fold(0.0, f64::max)
    }
}

impl Freshness {
    pub(super) fn of(class: Option<String>, lane: Lane, took: &Took) -> Self {
        let Took { millis, over_a_minute_until } = took;
        let at = |quantile| millis.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            class,
            lane: lane.to_string(),
            updates: millis.len(),
            p50_s: at(0.5),
            p95_s: at(0.95),
            p99_s: at(0.99),
            max_s: millis.max() as f64 / 1_000.0,
            over_a_minute_until_s: over_a_minute_until.map(|at| at.as_secs_f64()),
        }
    }
}
