//! The account: every rule of the document, as functions of an event and the time.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::SimulatorConfig;
use super::faults::JobFate;
use super::jobs::{File, Job, Owner, Submission};
use super::profiles::{Profiles, Row, Subjects};
use super::random::Random;
use super::rate::RateLimit;
use super::refusal::Refusal;
use super::timeline::{Ending, Pace, Timeline};
use super::violations::{Rule, Violations};

/// By how much a submission may come early, since two machines' clocks never agree.
const PACING_TOLERANCE: Duration = Duration::from_millis(5);
/// How many jobs the account remembers.
const JOBS_MAX: usize = 10_000;

/// What becomes of a submission that names a poisoned user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonMode {
    /// The whole submission is answered with 422, in words that name no row.
    RejectBatch,
    /// The job is accepted and fails when it comes to the row.
    FailJob,
    /// The job completes without the row.
    SkipRow,
}

/// The slot is taken, so no foreign job can start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("another bulk job is in progress")]
pub struct SlotTaken;

pub(super) struct Account {
    pace: Pace,
    ids: Random,
    /// Oldest first; only the last one can be running.
    pub(super) jobs: VecDeque<Job>,
    pub(super) profiles: Profiles,
    pub(super) poison: BTreeMap<String, PoisonMode>,
    pub(super) violations: Violations,
    pub(super) conflicts: u64,
    pub(super) submissions: u64,
    pub(super) identified: u64,
    pub(super) tracked: u64,
    identify_limit: RateLimit,
    track_limit: RateLimit,
    /// When the client's accepted jobs no longer occupy the budget. A foreign job needs no
    /// place here: it never fails, so it holds the slot longer than it occupies the budget.
    occupied_until: Duration,
}

impl Account {
    pub(super) fn new(config: &SimulatorConfig) -> Self {
        let pace = config.pace();
        let limit = || RateLimit::new(config.realtime_per_minute, pace.minute());
        Self {
            pace,
            ids: Random::new(config.seed, 1),
            jobs: VecDeque::new(),
            profiles: Profiles::default(),
            poison: BTreeMap::new(),
            violations: Violations::default(),
            conflicts: 0,
            submissions: 0,
            identified: 0,
            tracked: 0,
            identify_limit: limit(),
            track_limit: limit(),
            occupied_until: Duration::ZERO,
        }
    }

    /// Brings the running job to `now`. To be called before anything is read or changed.
    pub(super) fn advance(&mut self, now: Duration) {
        if let Some(job) = self.jobs.back_mut() {
            job.advance(now, &mut self.profiles);
        }
    }

    /// Judges a submission that arrived, whether or not it could be read.
    pub(super) fn admit(
        &mut self,
        now: Duration,
        offered: Result<Submission, Refusal>,
    ) -> Result<Submission, Refusal> {
        self.advance(now);
        self.submissions += 1;
        let slot_is_free = self.running(now).is_none();
        if slot_is_free {
            self.judge_pacing(now);
        }
        let submission = offered.inspect_err(|refusal| self.judge_size(now, refusal))?;
        if !slot_is_free {
            self.conflicts += 1;
            self.judge_overlap(now);
            return Err(Refusal::SlotTaken);
        }
        self.judge_duplicates(now, &submission.rows);
        let rejected = |row: &Row| self.poison.get(&row.subject) == Some(&PoisonMode::RejectBatch);
        if submission.subjects == Subjects::Users && submission.rows.iter().any(rejected) {
            return Err(Refusal::Invalid("invalid record".to_owned()));
        }
        Ok(submission)
    }

    /// Starts the job of an admitted submission.
    pub(super) fn start(&mut self, now: Duration, submission: Submission, fate: &JobFate) -> &Job {
        let rows = submission.rows.len();
        let mut skipped: BTreeSet<usize> = (rows.saturating_sub(fate.skip_last)..rows).collect();
        let mut fails_after = fate.fails_after;
        if submission.subjects == Subjects::Users {
            for (nth, row) in submission.rows.iter().enumerate() {
                match self.poison.get(&row.subject) {
                    Some(PoisonMode::SkipRow) => {
                        skipped.insert(nth);
                    }
                    Some(PoisonMode::FailJob) => {
                        fails_after = Some(fails_after.map_or(nth, |least| least.min(nth)));
                    }
                    Some(PoisonMode::RejectBatch) | None => {}
                }
            }
        }
        let ending = fails_after.map_or(Ending::Completed, Ending::FailedAfter);
        let timeline = Timeline::new(now, rows, &self.pace, ending);
        self.occupied_until = self.occupied_until.max(now + self.pace.occupancy(rows));
        let mut job = Job::new(self.ids.job_id(), Owner::Client, submission, timeline, skipped);
        job.forgotten = fate.forgotten;
        self.remember(job)
    }

    /// Starts a job of somebody else's, of `rows` rows.
    pub(super) fn start_foreign(
        &mut self,
        now: Duration,
        rows: usize,
        filename: Option<String>,
    ) -> Result<&Job, SlotTaken> {
        self.advance(now);
        if self.running(now).is_some() {
            return Err(SlotTaken);
        }
        let timeline = Timeline::new(now, rows, &self.pace, Ending::Completed);
        let file = filename.map(|name| File { name: Some(name), bytes: rows * 100 });
        let id = self.ids.job_id();
        Ok(self.remember(Job::foreign(id, file, rows, timeline)))
    }

    fn remember(&mut self, job: Job) -> &Job {
        if self.jobs.len() == JOBS_MAX {
            self.jobs.pop_front();
        }
        self.jobs.push_back(job);
        &self.jobs[self.jobs.len() - 1]
    }

    /// The job that holds the account's one slot.
    pub(super) fn running(&self, now: Duration) -> Option<&Job> {
        self.jobs.back().filter(|job| !job.timeline.is_over(now))
    }

    /// A job by its id, unless it is forgotten.
    pub(super) fn job_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().rev().find(|job| job.id == id && !job.forgotten)
    }

    /// The answer about this job did not reach the client, or not in time.
    pub(super) fn mark_unheard(&mut self, id: &str) {
        if let Some(job) = self.jobs.iter_mut().rev().find(|job| job.id == id) {
            job.unheard = true;
        }
    }

    /// Takes one of the minute's identify requests.
    pub(super) fn take_identify(&mut self, now: Duration) -> Result<(), Refusal> {
        let taken = self.identify_limit.take(now);
        self.judge_rate(now, "identify", taken)
    }

    /// Takes one of the minute's track requests.
    pub(super) fn take_track(&mut self, now: Duration) -> Result<(), Refusal> {
        let taken = self.track_limit.take(now);
        self.judge_rate(now, "track", taken)
    }

    /// Applies an identify request at once, after the rows that came before it.
    pub(super) fn identify(&mut self, now: Duration, rows: Vec<(Subjects, Row)>) {
        self.advance(now);
        self.identified += 1;
        for (subjects, row) in rows {
            self.profiles.upsert(subjects, row);
        }
    }

    fn judge_pacing(&mut self, now: Duration) {
        let early = self.occupied_until.saturating_sub(now);
        if early > PACING_TOLERANCE {
            let detail = format!("a submission came {} ms before its time", early.as_millis());
            self.violations.record(Rule::Pacing, now, detail);
        }
    }

    fn judge_size(&mut self, now: Duration, refusal: &Refusal) {
        let rule = match refusal {
            Refusal::TooManyRows { .. } => Rule::TooManyRows,
            Refusal::TooLarge { .. } => Rule::TooLarge,
            Refusal::KeyMissing
            | Refusal::KeyWrong
            | Refusal::NoSuchJob
            | Refusal::NoSuchAddress
            | Refusal::NoSuchMethod
            | Refusal::Malformed(_)
            | Refusal::Invalid(_)
            | Refusal::SlotTaken
            | Refusal::TooManyRequests { .. } => return,
        };
        self.violations.record(rule, now, format!("a submission was refused: {refusal}"));
    }

    fn judge_overlap(&mut self, now: Duration) {
        let Some(holder) = self.running(now) else { return };
        if holder.owner == Owner::Client && !holder.unheard && !holder.forgotten {
            let detail = format!("a submission came while {} of the client's own ran", holder.id);
            self.violations.record(Rule::Overlap, now, detail);
        }
    }

    fn judge_duplicates(&mut self, now: Duration, rows: &[Row]) {
        let mut seen = HashSet::with_capacity(rows.len());
        let mut repeats = rows.iter().enumerate().filter(|(_, row)| !seen.insert(&row.subject));
        if let Some((nth, _)) = repeats.next() {
            let more = repeats.count();
            let detail = format!("line {} repeats a subject, and {more} lines after it", nth + 1);
            self.violations.record(Rule::DuplicateUser, now, detail);
        }
    }

    fn judge_rate(
        &mut self,
        now: Duration,
        what: &str,
        taken: Result<(), Duration>,
    ) -> Result<(), Refusal> {
        taken.map_err(|wait| {
            let detail = format!("more {what} requests than a minute allows");
            self.violations.record(Rule::Rate, now, detail);
            let whole_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Refusal::TooManyRequests { retry_after_s: whole_s.max(1) }
        })
    }
}

#[cfg(test)]
mod tests;
