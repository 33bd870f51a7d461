//! The account: every rule of the document, as functions of an event and the time.

mod kept;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::SimulatorConfig;
use super::faults::JobFate;
use super::jobs::{File, Job, Owner, StartedJob, Submission};
use super::journal::Event;
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
    /// What has changed since it was last taken, where somebody keeps it.
    events: Option<Vec<Event>>,
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
            events: None,
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
        self.note(|| Event::Submitted);
        let slot_is_free = self.running(now).is_none();
        if slot_is_free {
            self.judge_pacing(now);
        }
        let submission = offered.inspect_err(|refusal| self.judge_size(now, refusal))?;
        if !slot_is_free {
            self.conflicts += 1;
            self.note(|| Event::Conflicted);
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
        let mut job = StartedJob {
            id: self.ids.job_id(),
            owner: Owner::Client,
            accepted: now,
            subjects: submission.subjects,
            file: submission.file,
            total_rows: rows,
            rows: submission.rows,
            skipped: (rows.saturating_sub(fate.skip_last)..rows).collect(),
            fails_after: fate.fails_after,
            forgotten: fate.forgotten,
        };
        if job.subjects == Subjects::Users {
            for (nth, row) in job.rows.iter().enumerate() {
                match self.poison.get(&row.subject) {
                    Some(PoisonMode::SkipRow) => {
                        job.skipped.insert(nth);
                    }
                    Some(PoisonMode::FailJob) => {
                        job.fails_after = Some(job.fails_after.map_or(nth, |least| least.min(nth)));
                    }
                    Some(PoisonMode::RejectBatch) | None => {}
                }
            }
        }
        self.note(|| Event::Started(job.clone()));
        self.begin(job)
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
        let file = filename.map(|name| File { name: Some(name), bytes: rows * 100 });
        let job = StartedJob::foreign(self.ids.job_id(), now, file, rows);
        self.note(|| Event::Started(job.clone()));
        Ok(self.begin(job))
    }

    fn begin(&mut self, job: StartedJob) -> &Job {
        let ending = job.fails_after.map_or(Ending::Completed, Ending::FailedAfter);
        let timeline = Timeline::new(job.accepted, job.total_rows, &self.pace, ending);
        if job.owner == Owner::Client {
            let until = job.accepted + self.pace.occupancy(job.total_rows);
            self.occupied_until = self.occupied_until.max(until);
        }
        self.remember(Job::new(job, timeline))
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

    /// Whether the API knows of this job.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.jobs.iter().rev().any(|job| job.id == id && !job.forgotten)
    }

    /// The job that the client asks for by its id.
    pub(super) fn tell_of(&mut self, id: &str) -> Option<&Job> {
        let job = self.jobs.iter_mut().rev().find(|job| job.id == id && !job.forgotten)?;
        let news = job.unheard || !job.asked;
        (job.unheard, job.asked) = (false, true);
        if news {
            self.note(|| Event::Asked { job_id: id.to_owned() });
        }
        self.jobs.iter().rev().find(|job| job.id == id)
    }

    /// The API denies the job from now on.
    pub(super) fn forget(&mut self, id: &str) {
        self.note(|| Event::Forgotten { job_id: id.to_owned() });
        if let Some(job) = self.by_id(id) {
            job.forgotten = true;
        }
    }

    /// The answer about this job did not reach the client, or not in time.
    pub(super) fn mark_unheard(&mut self, id: &str) {
        self.note(|| Event::Unheard { job_id: id.to_owned() });
        if let Some(job) = self.by_id(id) {
            job.unheard = true;
        }
    }

    fn by_id(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().rev().find(|job| job.id == id)
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
        self.note(|| Event::Identified { at: now, rows: rows.clone() });
        for (subjects, row) in rows {
            self.profiles.upsert(subjects, row);
        }
    }

    /// Carries out a track request.
    pub(super) fn track(&mut self) {
        self.tracked += 1;
        self.note(|| Event::Tracked);
    }

    /// Writes down that a rule was broken.
    pub(super) fn violate(&mut self, rule: Rule, now: Duration, detail: String) {
        self.note(|| Event::Violated { rule, at: now, detail: detail.clone() });
        self.violations.record(rule, now, detail);
    }

    fn judge_pacing(&mut self, now: Duration) {
        let early = self.occupied_until.saturating_sub(now);
        if early > PACING_TOLERANCE {
            let detail = format!("a submission came {} ms before its time", early.as_millis());
            self.violate(Rule::Pacing, now, detail);
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
        self.violate(rule, now, format!("a submission was refused: {refusal}"));
    }

    fn judge_overlap(&mut self, now: Duration) {
        let Some(holder) = self.running(now) else { return };
        if holder.owner == Owner::Client && !holder.unheard && !holder.forgotten {
            let detail = format!("a submission came while {} of the client's own ran", holder.id);
            self.violate(Rule::Overlap, now, detail);
        }
    }

    fn judge_duplicates(&mut self, now: Duration, rows: &[Row]) {
        let mut seen = HashSet::with_capacity(rows.len());
        let mut repeats = rows.iter().enumerate().filter(|(_, row)| !seen.insert(&row.subject));
        if let Some((nth, _)) = repeats.next() {
            let more = repeats.count();
            let detail = format!("line {} repeats a subject, and {more} lines after it", nth + 1);
            self.violate(Rule::DuplicateUser, now, detail);
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
            self.violate(Rule::Rate, now, detail);
            let whole_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Refusal::TooManyRequests { retry_after_s: whole_s.max(1) }
        })
    }
}
