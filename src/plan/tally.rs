//! What a run comes to, counted while it goes: of every scheduler that is run, in the same way.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    account::{Account, Job},
    ages::Ages,
    backfills::Backfill,
    report::{Freshness, Report, Sample},
    took::Took,
    traffic::Source,
};
use crate::domain::update::Lane;

/// Counts.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The class and the lane of each source, by their places in `freshness`.
    of_source: Vec<usize>,
    freshness: Vec<(String, Lane, Took)>,
    backfills: Vec<Backfill>,
    length: Duration,
    /// Updates that were accepted.
    pub accepted: u64,
    /// Of these, those that were merged into a record that was waiting.
    pub coalesced: u64,
    /// Of the accepted ones, those that upstream needed nothing of.
    pub suppressed: u64,
    /// Updates that were refused, since too much waited.
    pub refused: u64,
    rows: u64,
    express_records: u64,
    express_updates: u64,
    applied_rows: u64,
    jobs: Histogram<u64>,
    last: Option<(Job, bool)>,
    /// Time in which a backlog waited and upstream answered, and what of it was occupied.
    backlogged: (Duration, Duration),
    /// The last time that a backlog came to be, or could not go.
    disturbed_at: Duration,
    drained_at: Option<Duration>,
    interactive_drained_at: Option<Duration>,
    /// What was waiting when the disturbance ended, and how many records have come to wait since.
    backlog: Option<(u64, u64)>,
    /// The same once it was drained.
    backlog_drained: Option<(u64, u64)>,
    samples: Vec<Sample>,
}

/// What a job leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Rows in the interactive lane that could have gone with it, had there been room.
    pub interactive: u64,
    /// The same of the bulk lane.
    pub bulk: u64,
}

impl Tally {
    /// Nothing yet. From `disturbed_at` on, the run is to be drained.
    pub fn new(sources: &[Source], length: Duration, disturbed_at: Duration) -> Self {
        let mut freshness: Vec<(String, Lane, Took)> = Vec::new();
        let mut place = |source: &Source| {
            let known = |(class, lane, _): &(String, Lane, _)| {
                *class == source.class && *lane == source.lane
            };
            freshness.iter().position(known).unwrap_or_else(|| {
                freshness.push((source.class.clone(), source.lane, Took::new()));
                freshness.len() - 1
            })
        };
        Self {
            of_source: sources.iter().map(&mut place).collect(),
            freshness,
            backfills: Backfill::of(sources),
            length,
            accepted: 0,
            coalesced: 0,
            suppressed: 0,
            refused: 0,
            rows: 0,
            express_records: 0,
            express_updates: 0,
            applied_rows: 0,
            jobs: sizes(),
            last: None,
            backlogged: (Duration::ZERO, Duration::ZERO),
            disturbed_at,
            drained_at: None,
            interactive_drained_at: None,
            backlog: None,
            backlog_drained: None,
            samples: Vec::new(),
        }
    }

    /// An update has come to wait.
    pub fn came(&mut self, source: usize) {
        self.backfills.iter_mut().for_each(|backfill| backfill.came(source));
    }

    /// A job was taken, with these rows: the user and the value of each; `left` stays behind.
    pub fn job(
        &mut self,
        job: &Job,
        rows: &[(u32, i64)],
        left: Left,
        account: &Account,
        ages: &mut Ages,
    ) {
        let (mut applied, mut sources) = (0, Vec::new());
        for (place, (user, value)) in (0..).zip(rows) {
            let at = job.applied_at(place);
            applied += u64::from(at <= self.length);
            sources.clear();
            ages.take(*user, *value, |source, accepted_at| {
                self.applied(source, accepted_at, at);
                sources.push(source);
            });
            self.count_for_backfills(&sources, true, at);
        }
        self.rows += job.rows;
        self.applied_rows += applied;
        self.jobs.saturating_record(job.rows);
        if let Some((last, true)) = self.last
            && !account.pace().is_down_between(last.taken_at, job.taken_at)
        {
            self.backlogged.0 += job.taken_at - last.taken_at;
            self.backlogged.1 += last.occupancy();
        }
        self.last = Some((*job, left.interactive + left.bulk > 0));
        if job.taken_at < self.disturbed_at {
            return;
        }
        let drained_at = || Some(job.applied_at(job.rows.saturating_sub(1)));
        if left.interactive == 0 && self.interactive_drained_at.is_none() {
            self.interactive_drained_at = drained_at();
        }
        if left.interactive + left.bulk == 0 && self.drained_at.is_none() {
            self.drained_at = drained_at();
            self.backlog_drained = self.backlog;
        }
    }

    /// A record was applied by express, with these updates: the source and the time of each.
    pub fn express(&mut self, updates: &[(usize, Duration)], at: Duration) {
        self.express_records += 1;
        self.express_updates += updates.len() as u64;
        for (source, accepted_at) in updates {
            self.applied(*source, *accepted_at, at);
        }
        let sources: Vec<usize> = updates.iter().map(|(source, _)| *source).collect();
        self.count_for_backfills(&sources, false, at);
    }

    fn count_for_backfills(&mut self, sources: &[usize], by_row: bool, at: Duration) {
        for backfill in self.backfills.iter_mut().filter(|_| at <= self.length) {
            backfill.applied(sources, by_row, at);
        }
    }

    /// One update is applied at `at`, which may be after the end of the run.
    fn applied(&mut self, source: usize, accepted_at: Duration, at: Duration) {
        let age = at.min(self.length).saturating_sub(accepted_at);
        let (_, _, took) = &mut self.freshness[self.of_source[source]];
        took.record(accepted_at, age);
    }

    /// A record has come to wait.
    pub fn queued(&mut self, at: Duration) {
        if let Some((_, came)) = &mut self.backlog
            && at >= self.disturbed_at
        {
            *came += 1;
        }
    }

    /// So much waits at the end of the disturbance.
    pub fn backlog(&mut self, records: u64) {
        self.backlog.get_or_insert((records, 0));
    }

    /// A point of the chart.
    pub fn sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The run is over. What still waits has been waiting until now.
    pub fn report(mut self, account: &Account, ages: &mut Ages) -> Report {
        let waiting = ages.waiting();
        let in_jobs = self.accepted.saturating_sub(waiting + self.express_updates);
        let (mut all, length) = (Vec::new(), self.length);
        ages.take_all(|source, accepted_at| all.push((source, accepted_at)));
        for (source, accepted_at) in all {
            self.applied(source, accepted_at, length);
        }
        let pace = f64::from(account.pace().users_per_minute) / 60.0;
        let within =
            |at: Option<Duration>| at.filter(|at| *at <= length).map(|at| at.as_secs_f64());
        let freshness = self.freshness();
        let (span, occupied) = self.backlogged;
        Report {
            length_s: length.as_secs_f64(),
            accepted_updates: self.accepted,
            coalesced_updates: self.coalesced,
            suppressed_updates: self.suppressed,
            refused_updates: self.refused,
            waiting_updates: waiting,
            rows: self.rows,
            rows_per_update: self.rows as f64 / in_jobs.max(1) as f64,
            express_records: self.express_records,
            express_updates: self.express_updates,
            express_throttled: account.throttled(),
            utilisation: self.applied_rows as f64 / (pace * length.as_secs_f64()),
            utilisation_with_backlog: (!span.is_zero())
                .then(|| occupied.as_secs_f64() / span.as_secs_f64()),
            backlog_s: span.as_secs_f64(),
            jobs: self.jobs.len(),
            job_rows_p50: self.jobs.value_at_quantile(0.5),
            job_rows_max: self.jobs.max(),
            conflicts: account.conflicts(),
            early_submissions: account.early(),
            freshness,
            backfills: self.backfills.iter().map(|backfill| backfill.got(pace, length)).collect(),
            drained_at_s: within(self.drained_at),
            interactive_drained_at_s: within(self.interactive_drained_at),
            drain_bound_s: self.backlog_drained.map(|(waited, came)| {
                self.disturbed_at.as_secs_f64() + (waited + came) as f64 / pace
            }),
            disturbed_until_s: self.disturbed_at.as_secs_f64(),
            samples: self.samples,
        }
    }

    /// Of each class, and then of each lane as a whole.
    fn freshness(&self) -> Vec<Freshness> {
        let mut freshness = Vec::new();
        for lane in Lane::ALL {
            let mut of_lane = Took::new();
            for (class, _, of_class) in self.freshness.iter().filter(|(_, its, _)| *its == lane) {
                of_lane.add(of_class);
                freshness.push(Freshness::of(Some(class.clone()), lane, of_class));
            }
            if !of_lane.millis.is_empty() {
                freshness.push(Freshness::of(None, lane, &of_lane));
            }
        }
        freshness
    }
}

/// Counts job sizes exactly.
fn sizes() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000, 5).expect("five digits are what it can count")
}
