//! A submission whose outcome is not known, and a job whose name is lost: what is looked for among
//! upstream's jobs, whose end is waited for, and when the batch is sent again.
//!
//! A list proves what it shows, and nothing by what it does not show: it may be paged, in either
//! order, or late, or hold entries that nobody tends any more; it may be refused for ever. So the
//! occupancy of what was lost stands, and in the end a submission asks: the account has one slot,
//! and a 409 does no harm. Until upstream has taken a job again, the rows of what was lost stay
//! in flight, so that nothing newer overtakes them.

mod holder;

use std::{mem, time::Duration};

use super::{
    super::{
        batch::Happening,
        budget::occupancy,
        verdict::{Failure, is_known_status},
    },
    Batch, BatchState, FailureKind, Hold, HoldReason, Instant, JobPhase, JobReport, Jobs,
    Lifecycle, Now, Phase, Rescue, SlotHolder,
    answers::Chance,
};

/// For how long after its occupancy a job of which nothing was heard is counted on. A job as large
/// as can be takes five and a half minutes; one that takes three times as long is not waited for.
const OVERRUN_MAX: Duration = Duration::from_secs(15 * 60);
/// For how long an entry of the list that does not end is taken for the holder of the slot, at the
/// least: twice as long as any job takes at the usual pace.
const PATIENCE_MIN: Duration = Duration::from_secs(10 * 60);
/// After so many looks in a row that were answered with a failure, or not in time, a minute in all,
/// the list is taken for one that does not come.
const FAILED_LOOKS_MAX: u32 = 5;
/// After so many polls in a row that were refused, the job is taken for forgotten.
const REFUSED_POLLS_MAX: u32 = 3;
/// After so many jobs of a batch that were taken and then denied, what the list says of them counts.
const DENIED_JOBS_MAX: usize = 3;
/// More entries that never end are not known apart.
const GHOSTS_MAX: usize = 20;

/// What is known of what is looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// Until when a job may run of which nothing was heard.
    unheard_until: Option<Instant>,
    /// Its rows are refused since: only that doubt keeps them from being isolated.
    is_refused: bool,
    /// Before then the batch is not sent again.
    retry_at: Instant,
    /// Looks that failed, in a row, although upstream could be reached.
    failed_looks: u32,
    /// Polls of a job of ours that were refused, in a row.
    pub(super) refused_polls: u32,
    /// The job whose end is waited for, and since when.
    waits_for: Option<(String, Instant)>,
    /// The same, where it can be asked after.
    pub(super) holder: Option<String>,
    /// The last job that could not be.
    unaskable: Option<String>,
    /// The job that held the slot when a submission found it taken: once it is seen to end, that
    /// submission was not taken.
    disproof: Option<String>,
    /// The job whose end is not waited for any longer.
    given_up: Option<String>,
    /// Jobs that do not hold the slot, whatever the list says of them.
    ghosts: Vec<String>,
    /// Times in a row that the slot was found taken.
    conflicts: u32,
    /// Jobs of the batch that upstream took, and denied then.
    denied: Vec<String>,
    /// A job whose name is lost was looked for: the next submission finds out whether it runs.
    pub(super) asks: bool,
}

impl Search {
    /// Upstream has taken a job: none runs that was not heard of. What was waited for in vain was
    /// none.
    pub(super) fn end(&mut self) {
        let mut ghosts = mem::take(&mut self.ghosts);
        ghosts.extend(self.given_up.take());
        let surplus = ghosts.len().saturating_sub(GHOSTS_MAX);
        ghosts.drain(..surplus);
        *self = Self { ghosts, denied: mem::take(&mut self.denied), ..Self::default() };
    }

    /// The batch is settled.
    pub(super) fn settle(&mut self) {
        self.denied.clear();
    }
}

impl Lifecycle {
    /// It is not known whether upstream has a job of the batch. `wait`: before it is sent again,
    /// if it is not found.
    pub(super) fn lose(&mut self, batch: Batch, wait: Duration, now: Now) {
        let search = mem::take(&mut self.search);
        self.doubt(now);
        self.search = Search {
            unheard_until: self.search.unheard_until,
            retry_at: now.instant.plus(wait),
            ghosts: search.ghosts,
            conflicts: search.conflicts,
            denied: search.denied,
            asks: search.asks,
            ..Search::default()
        };
        self.phase = Phase::Lost(batch);
    }

    /// A job may run of which nothing was heard.
    pub(super) fn doubt(&mut self, now: Now) {
        let from = self.occupied_until.max(now.instant);
        self.search.unheard_until = Some(from.plus(OVERRUN_MAX));
    }

    /// The slot is taken: by whom, the list may tell. Ever longer until the next upload.
    pub(super) fn lose_to_conflict(&mut self, batch: Batch, now: Now) {
        let doublings = self.search.conflicts.min(16);
        self.search.conflicts = self.search.conflicts.saturating_add(1);
        let wait = self.settings.poll_interval.1;
        let most = self.settings.backoff.max.max(wait);
        self.lose(batch, wait.saturating_mul(1 << doublings).min(most), now);
    }

    /// Until when rows that are refused are left as they are at most, because an earlier submission of
    /// them was never heard of.
    pub(super) fn doubts_refusal_until(&self, now: Now) -> Option<Instant> {
        let unheard = self.search.unheard_until.filter(|until| *until > now.instant);
        unheard.filter(|_| self.search.is_refused && matches!(self.phase, Phase::Claimed(_)))
    }

    /// Upstream knows the job no more.
    pub(super) fn deny(&mut self, mut batch: Batch, now: Now) {
        self.search.denied.extend(batch.job_id.clone());
        batch.give_up_job();
        self.lost_by_conflict = false;
        // It was taken once: its occupancy stands, whatever the list says.
        self.occupied_before = (self.memory.occupancy, self.occupied_until);
        self.lose(batch, Duration::ZERO, now);
    }

    /// Whether a poll that failed so says that there is no such job.
    pub(super) fn is_denied(&mut self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::NotFound => true,
            FailureKind::Refused
            | FailureKind::BadRows
            | FailureKind::TooLarge
            | FailureKind::SlotTaken => {
                self.search.refused_polls += 1;
                self.search.refused_polls >= REFUSED_POLLS_MAX
            }
            FailureKind::NotSent
            | FailureKind::Unknown
            | FailureKind::Throttled(_)
            | FailureKind::KeyRejected => false,
        }
    }

    /// Whether a job of ours has a status that nobody knows, for longer than any job takes.
    pub(super) fn is_beyond_knowing(&self, batch: &Batch, now: Now) -> bool {
        let end = self.expected_end(batch.kind);
        !is_known_status(&batch.upstream_status) && now.instant >= end.plus(self.patience())
    }

    /// Whether a submission that was refused leaves the batch as it is: an earlier one may have
    /// been taken, and what came since must not overtake it. That its rows are refused now does not
    /// disprove that: a refusal may pass. It makes parts of the batch, which stay in flight.
    pub(super) fn stays(&self, batch: &Batch, kind: FailureKind, now: Now) -> bool {
        let unheard = self.search.unheard_until.is_some_and(|until| until > now.instant);
        let goes_on = matches!(kind, FailureKind::Unknown | FailureKind::SlotTaken);
        unheard && !goes_on && !self.splits(batch, kind, now)
    }

    /// Leaves it so, to be sent again after a while. Where it is not its rows that are refused,
    /// upstream was away, and its list may have been: that is asked anew before.
    pub(super) fn stay(&mut self, mut batch: Batch, failure: &Failure, (now, random): Chance) {
        self.note(failure, now);
        self.search.is_refused =
            matches!(failure.kind, FailureKind::BadRows | FailureKind::TooLarge);
        batch.last_error.clone_from(&failure.detail);
        batch.request_id = failure.request_id.clone().or(batch.request_id);
        let wait = self.delivering.of_mut(batch.kind).fail(&self.settings.backoff, random);
        self.hold_after(wait, failure.kind, now);
        self.search.failed_looks = 0;
        self.phase = match self.search.is_refused {
            true => {
                batch.state = BatchState::Claimed;
                Phase::Claimed(batch)
            }
            false => Phase::Lost(batch),
        };
    }

    pub(super) fn on_looked(&mut self, jobs: Jobs, chance: Chance) {
        let (now, random) = chance;
        let jobs = match jobs {
            Ok(jobs) => {
                self.asking.succeed();
                self.search.failed_looks = 0;
                jobs
            }
            Err(failure) => {
                self.fail_to_ask(&failure, now, random);
                // Where nobody answers, a submission would come to nothing, too: the outage is waited
                // for. The job is found in what is listed after it.
                self.search.failed_looks += u32::from(failure.kind != FailureKind::NotSent);
                let is_none = matches!(failure.kind, FailureKind::NotFound | FailureKind::Refused);
                let too_often = self.search.failed_looks >= FAILED_LOOKS_MAX;
                let is_given_up = too_often && self.occupied_until <= now.instant;
                if !is_none && !is_given_up {
                    return;
                }
                // There is no list to be had: go on as though it were empty.
                Vec::new()
            }
        };
        if self.looks_first() {
            return self.look_first(&jobs, now);
        }
        let Phase::Lost(batch) = mem::replace(&mut self.phase, Phase::Idle) else {
            return debug_assert!(false, "a list of jobs that nothing was looked for in");
        };
        self.find(batch, &jobs, chance);
    }

    /// Looks for the batch's job among `jobs`.
    fn find(&mut self, mut batch: Batch, jobs: &[JobReport], chance: Chance) {
        let now = chance.0;
        let conflict = mem::take(&mut self.unexplained_conflict);
        let filename = batch.id.filename();
        // A store that was copied back can give a name twice: the rows must be as many, too.
        let ours = |job: &&JobReport| {
            job.filename.as_deref() == Some(&*filename)
                && !job.job_id.is_empty()
                && job.total_rows.is_none_or(|rows| rows == batch.rows)
        };
        let rank = |job: &&JobReport| match job.phase {
            JobPhase::Unfinished => 2,
            JobPhase::Completed => 1,
            JobPhase::Failed => 0,
        };
        // Of a batch that had many, former ones are forgotten, and those that were denied are not.
        let denied = self.search.denied.clone();
        let is_new = |job: &&JobReport| {
            !batch.former_jobs.contains(&job.job_id) && !denied.contains(&job.job_id)
        };
        let found = jobs.iter().filter(ours).filter(is_new).max_by_key(rank);
        let holder = self.holder_among(jobs);
        if conflict {
            self.conflicts_with.count(found.or(holder));
            let named = holder.filter(|job| job.filename.is_some());
            self.search.disproof = named.map(|job| job.job_id.clone());
        } else if found.is_none() {
            self.meet(holder);
        }
        if let Some(job) = found {
            batch.state = BatchState::Running;
            batch.job_id = Some(job.job_id.clone());
            batch.note(Happening::Adopted, now.wall, &job.job_id);
            self.slot_holder = None;
            // It is heard of; and when it was taken, no other ran.
            self.search.unheard_until = None;
            self.rescue = self.rescue.map(|rescue| Rescue { job_unknown: false, ..rescue });
            self.phase = Phase::Accepted { batch, adopted: true };
            return;
        }
        let ended = jobs.iter().filter(|job| !unfinished(job)).find(|job| self.disproves(job));
        if ended.is_some() {
            self.disprove();
        }
        if holder.is_some_and(|holder| self.waits_for(holder, now)) {
            self.phase = Phase::Lost(batch);
            return;
        }
        self.slot_holder = None;
        let believed = jobs.iter().filter(ours).filter(|job| self.is_believed(job));
        if let Some(job) = believed.max_by_key(rank) {
            return self.believe(batch, job, chance);
        }
        self.send_again(batch, now);
    }

    /// The batch's job was not found, and nobody is known to hold the slot. Before it is sent again,
    /// another look shows what the list was late with.
    fn send_again(&mut self, mut batch: Batch, now: Now) {
        let retry_at = self.search.retry_at.max(self.occupied_until);
        if retry_at <= now.instant {
            batch.state = BatchState::Claimed;
            self.phase = Phase::Claimed(batch);
            return;
        }
        let reason = match self.lost_by_conflict {
            true => HoldReason::SlotTaken,
            false => HoldReason::Backoff,
        };
        let held_until = self.hold.as_ref().map_or(retry_at, |hold| hold.until.max(retry_at));
        self.hold = Some(Hold { until: held_until, reason });
        self.phase = Phase::Lost(batch);
    }

    /// Whether what the list says of the end of this job of the batch counts, although upstream
    /// denies it when asked. Each wrote the same rows; that the last has failed says that it did.
    fn is_believed(&self, job: &JobReport) -> bool {
        let denied = &self.search.denied;
        denied.len() >= DENIED_JOBS_MAX
            && match job.phase {
                JobPhase::Unfinished => false,
                JobPhase::Completed => denied.contains(&job.job_id),
                JobPhase::Failed => denied.last() == Some(&job.job_id),
            }
    }

    fn believe(&mut self, mut batch: Batch, job: &JobReport, chance: Chance) {
        batch.job_id = Some(job.job_id.clone());
        batch.note(Happening::Adopted, chance.0.wall, &job.job_id);
        // It has ended, and no other of ours runs.
        self.search.unheard_until = None;
        batch.upstream_status.clone_from(&job.status);
        // The list does not say how many rows were taken, as a rule.
        batch.completed_rows = job.completed_rows.unwrap_or(batch.completed_rows);
        self.on_ended(batch, job, chance);
    }

    /// Whether the job's end disproves the submission that found the slot taken.
    fn disproves(&self, job: &JobReport) -> bool {
        self.search.disproof.as_ref() == Some(&job.job_id)
    }

    fn disprove(&mut self) {
        self.search.disproof = None;
        self.release();
    }
}

fn unfinished(job: &JobReport) -> bool {
    job.phase == JobPhase::Unfinished
}
