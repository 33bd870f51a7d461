//! What each event makes of the machine's state.

use std::{mem, time::Duration};

use super::{
    super::{
        batch::{DeadReason, Happening, is_gateway_filename},
        update::SubjectKind,
        verdict::{AcceptedJob, Failure, JobPhase},
    },
    Batch, BatchState, Event, FailureKind, Hold, HoldReason, JobReport, Jobs, Lifecycle, Now,
    Phase, Poll, Settlement, SlotHolder, Submission,
    halts::is_of_the_endpoint,
    polling,
};

impl Lifecycle {
    /// Tells the machine what happened. `random` is 64 even random bits, for the jitter.
    pub fn on(&mut self, event: Event, now: Now, random: u64) {
        match event {
            Event::Waiting(waiting) => self.on_waiting(waiting, now),
            Event::Paused(paused) => self.on_paused(paused),
            Event::Flush => self.on_flush(now),
            Event::Claimed(batch) => self.on_claimed(batch, (now, random)),
            Event::Advanced => self.on_advanced(now),
            Event::Submitted(submission) => self.on_submitted(submission, now, random),
            Event::Looked(jobs) => self.on_looked(jobs, now, random),
            Event::Polled(poll) => self.on_polled(poll, now, random),
            Event::Settled(next) => self.on_settled(next, now),
            Event::KeyChanged => self.on_key_changed(),
        }
    }

    fn on_flush(&mut self, now: Now) {
        self.flush = self.waiting.any();
        self.hold = None;
        for kind in SubjectKind::ALL {
            let halt = self.halted_until.of_mut(kind);
            *halt = halt.map(|until| until.min(now.instant));
            // Whoever says so has seen that upstream takes rows: what it refused is the rows.
            self.memory.of_mut(kind).unproven = 0;
        }
        if let Phase::Running { poll_at, .. } = &mut self.phase {
            *poll_at = now.instant;
        }
    }

    fn on_key_changed(&mut self) {
        self.hold = self.hold.take().filter(|hold| hold.reason != HoldReason::KeyRejected);
    }

    fn on_claimed(&mut self, batch: Option<Box<Batch>>, (now, random): Chance) {
        self.flush = false;
        self.phase = Phase::Idle;
        // Of a kind that is in doubt, nothing may have been in reach.
        self.reach = reach(random);
        match batch {
            Some(batch) => {
                self.note_size(&batch, now);
                self.phase = Phase::Claimed(*batch);
            }
            // What was waiting has gone another way, or nothing is in reach. Do not ask again in a
            // hot loop.
            None => {
                let until = now.instant.plus(self.settings.poll_interval.0);
                self.hold = Some(Hold { until, reason: HoldReason::NothingToClaim });
            }
        }
    }

    fn on_advanced(&mut self, now: Now) {
        self.phase = match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Beginning(batch) => Phase::Submitting(batch),
            Phase::Accepted { batch, adopted: true } => {
                Phase::Running { batch, poll_at: now.instant }
            }
            Phase::Accepted { batch, adopted: false } => {
                let interval = self.settings.poll_interval;
                let poll_at = polling::first(now.instant, self.occupied_until, interval);
                Phase::Running { batch, poll_at }
            }
            Phase::Idle
            | Phase::Claiming
            | Phase::Claimed(_)
            | Phase::Submitting(_)
            | Phase::Lost(_)
            | Phase::Running { .. }
            | Phase::Settling(..) => return debug_assert!(false, "no step was under way"),
        };
    }

    fn on_submitted(&mut self, submission: Submission, now: Now, random: u64) {
        let Phase::Submitting(mut batch) = mem::replace(&mut self.phase, Phase::Idle) else {
            return debug_assert!(false, "an answer to a submission that was not made");
        };
        match submission {
            Ok(job) => self.accept(batch, job, now),
            Err(failure) => match self.disturbed(batch.note_not_taken(now.wall, &failure)) {
                FailureKind::Unknown => {
                    // Upstream may have taken it as late as now.
                    self.occupy(&batch, now);
                    self.lost_by_conflict = false;
                    self.note(&failure, now);
                    self.phase = Phase::Lost(batch);
                }
                // Ours or another's? The list tells. Ours may be this very submission, where a
                // proxy sent it twice.
                FailureKind::SlotTaken => {
                    self.conflicts += 1;
                    self.unexplained_conflict = true;
                    self.lost_by_conflict = true;
                    self.occupy(&batch, now);
                    self.blame(&failure, now);
                    self.phase = Phase::Lost(batch);
                }
                FailureKind::BadRows => {
                    self.release();
                    self.refuse(batch, DeadReason::BadRow, &failure, (now, random));
                }
                FailureKind::TooLarge => {
                    self.release();
                    self.refuse_as_too_large(batch, &failure, (now, random));
                }
                FailureKind::NotSent
                | FailureKind::Throttled(_)
                | FailureKind::KeyRejected
                | FailureKind::NotFound
                | FailureKind::Refused => {
                    self.release();
                    self.put_back(batch, &failure, (now, random));
                }
            },
        }
    }

    fn accept(&mut self, mut batch: Batch, job: AcceptedJob, now: Now) {
        batch.state = BatchState::Running;
        batch.note_accepted(now.wall, &job);
        batch.job_id = Some(job.job_id);
        batch.request_id = job.request_id;
        self.slot_holder = None;
        // Upstream's pace counts from when it took the job, which is before now.
        self.occupy(&batch, now);
        self.phase = Phase::Accepted { batch, adopted: false };
    }

    fn on_looked(&mut self, jobs: Jobs, now: Now, random: u64) {
        let jobs = match jobs {
            Ok(jobs) => {
                self.asking.succeed();
                jobs
            }
            // There is no list to be had: go on as though it were empty.
            Err(failure)
                if matches!(failure.kind, FailureKind::NotFound | FailureKind::Refused) =>
            {
                self.fail_to_ask(&failure, now, random);
                Vec::new()
            }
            Err(failure) => return self.fail_to_ask(&failure, now, random),
        };
        if self.looks_first() {
            return self.look_first(&jobs, now);
        }
        let Phase::Lost(batch) = mem::replace(&mut self.phase, Phase::Idle) else {
            return debug_assert!(false, "a list of jobs that nothing was looked for in");
        };
        self.find(batch, &jobs, now, random);
    }

    /// Looks for the batch's job among `jobs`.
    fn find(&mut self, mut batch: Batch, jobs: &[JobReport], now: Now, random: u64) {
        let conflict = mem::take(&mut self.unexplained_conflict);
        let filename = batch.id.filename();
        // A store that was copied back can give a name twice: the rows must be as many, too.
        let ours = |job: &&JobReport| {
            job.filename.as_deref() == Some(&*filename)
                && !job.job_id.is_empty()
                && !batch.former_jobs.contains(&job.job_id)
                && job.total_rows.is_none_or(|rows| rows == batch.rows)
        };
        let rank = |job: &&JobReport| match job.phase {
            JobPhase::Unfinished => 2,
            JobPhase::Completed => 1,
            JobPhase::Failed => 0,
        };
        let found = jobs.iter().filter(ours).max_by_key(rank);
        let holder = jobs.iter().find(|job| unfinished(job));
        if conflict {
            self.conflicts_with.count(found.or(holder));
        }
        if let Some(job) = found {
            batch.state = BatchState::Running;
            batch.job_id = Some(job.job_id.clone());
            batch.note(Happening::Adopted, now.wall, &job.job_id);
            self.slot_holder = None;
            self.phase = Phase::Accepted { batch, adopted: true };
            return;
        }
        if let Some(holder) = holder {
            if conflict && holder.filename.is_some() {
                self.release();
            }
            self.slot_holder = Some(SlotHolder::of(holder));
            return self.wait_for_slot(Phase::Lost(batch), now);
        }
        self.slot_holder = None;
        // Where other uploads are listed by name and this one is not, it was not taken.
        let names_are_echoed =
            jobs.iter().any(|job| job.filename.as_deref().is_some_and(is_gateway_filename));
        if names_are_echoed && self.settings.uploads_are_named {
            self.release();
        }
        // Nobody holds it now. The list may be late: look once more before the next try.
        if conflict {
            return self.wait_for_slot(Phase::Lost(batch), now);
        }
        if !self.lost_by_conflict {
            let delivering = self.delivering.of_mut(batch.kind);
            let wait = delivering.fail(&self.settings.backoff, random);
            self.hold_back(wait, HoldReason::Backoff, now);
        }
        batch.state = BatchState::Claimed;
        self.phase = Phase::Claimed(batch);
    }

    fn wait_for_slot(&mut self, phase: Phase, now: Now) {
        self.phase = phase;
        let until = now.instant.plus(self.settings.poll_interval.1);
        self.hold = Some(Hold { until, reason: HoldReason::SlotTaken });
    }

    fn on_polled(&mut self, poll: Poll, now: Now, random: u64) {
        let Phase::Running { mut batch, .. } = mem::replace(&mut self.phase, Phase::Idle) else {
            return debug_assert!(false, "an answer about a job that does not run");
        };
        let report = match poll {
            Ok(report) => report,
            Err(failure) if failure.kind == FailureKind::NotFound => {
                self.fail_to_ask(&failure, now, random);
                batch.give_up_job();
                batch.note_failure(Happening::Lost, now.wall, &failure);
                self.lost_by_conflict = false;
                // It was taken once: its occupancy stands, whatever the list says.
                self.occupied_before = (self.memory.occupancy, self.occupied_until);
                self.phase = Phase::Lost(batch);
                return;
            }
            // A failed poll says nothing about the job.
            Err(failure) => {
                self.fail_to_ask(&failure, now, random);
                self.phase = Phase::Running { batch, poll_at: now.instant };
                return;
            }
        };
        self.asking.succeed();
        batch.upstream_status.clone_from(&report.status);
        batch.completed_rows = report.completed_rows.unwrap_or(batch.completed_rows);
        match report.phase {
            JobPhase::Unfinished => {
                let interval = self.settings.poll_interval;
                let end = self.expected_end(batch.kind);
                let poll_at = polling::next(now.instant, end, interval);
                self.phase = Phase::Running { batch, poll_at };
            }
            JobPhase::Completed if report.completed_rows.is_none_or(|rows| rows >= batch.rows) => {
                batch.completed_rows = batch.rows;
                self.deliver(batch, now);
            }
            JobPhase::Completed => self.on_partial(batch, &report, (now, random)),
            JobPhase::Failed => self.on_failed(batch, &report, (now, random)),
        }
    }

    /// All rows are upstream's now.
    pub(super) fn deliver(&mut self, mut batch: Batch, now: Now) {
        let rows = format!("{} of {} rows", batch.completed_rows, batch.rows);
        batch.note(Happening::Completed, now.wall, &rows);
        // What is wrong with a kind that is halted is not over with a job of the other.
        if self.halted_until.of(batch.kind.other()).is_none() {
            self.last_error.clear();
            self.failing_since = None;
        }
        self.memory.of_mut(batch.kind).take(now.wall);
        self.learn_cost(&batch, now);
        self.phase = Phase::Settling(batch, Settlement::Delivered);
    }

    /// Upstream did not take the batch, and may take it later. Its rows go back into the queue,
    /// where they meet newer values; a part stays as it is, since it would be found out anew,
    /// unless the other kind would have to wait behind it for ever.
    pub(super) fn put_back(&mut self, mut batch: Batch, failure: &Failure, (now, random): Chance) {
        self.note(failure, now);
        batch.last_error.clone_from(&failure.detail);
        batch.request_id = failure.request_id.clone().or(batch.request_id);
        let wait = self.delivering.of_mut(batch.kind).fail(&self.settings.backoff, random);
        let halts = is_of_the_endpoint(failure.kind);
        if halts {
            self.halt(batch.kind, wait, now);
        } else {
            self.hold_after(wait, failure.kind, now);
        }
        self.phase = if !halts && (batch.is_part() || batch.failures > 0) {
            batch.state = BatchState::Claimed;
            Phase::Claimed(batch)
        } else {
            batch.note(Happening::Requeued, now.wall, "");
            Phase::Settling(batch, Settlement::Requeued)
        };
    }

    fn on_settled(&mut self, next: Option<Box<Batch>>, now: Now) {
        let Phase::Settling(batch, settlement) = mem::replace(&mut self.phase, Phase::Idle) else {
            return debug_assert!(false, "a settlement that was not asked for");
        };
        match settlement {
            Settlement::Delivered => {
                self.delivering.of_mut(batch.kind).succeed();
                *self.halted_until.of_mut(batch.kind) = None;
                self.completed_jobs += 1;
                self.delivered_rows += batch.rows;
            }
            Settlement::Dead(_) => self.dead_rows += batch.rows,
            Settlement::Requeued | Settlement::Split(_) => {}
        }
        self.began = None;
        if let Some(mut next) = next {
            // What is left of a batch of a halted kind goes back, too, so that others go on.
            self.phase = if self.is_halted(next.kind, now) {
                next.note(Happening::Requeued, now.wall, "its kind is halted");
                Phase::Settling(*next, Settlement::Requeued)
            } else {
                Phase::Claimed(*next)
            };
        }
    }

    /// A question came to nothing: ask again later.
    fn fail_to_ask(&mut self, failure: &Failure, now: Now, random: u64) {
        self.began = None;
        self.note(failure, now);
        let wait = self.asking.fail(&self.settings.backoff, random);
        self.hold_after(wait, failure.kind, now);
    }

    pub(super) fn note(&mut self, failure: &Failure, now: Now) {
        self.failed_attempts += 1;
        self.blame(failure, now);
    }

    /// What is wrong now, and since when something is.
    fn blame(&mut self, failure: &Failure, now: Now) {
        self.last_error.clone_from(&failure.detail);
        self.failing_since.get_or_insert(now.wall);
    }

    /// Waits after a failure of this kind: for `wait`, or for as long as it demands.
    fn hold_after(&mut self, wait: Duration, kind: FailureKind, now: Now) {
        let (reason, demanded) = match kind {
            FailureKind::Throttled(asked) => {
                let asked = asked.unwrap_or_default().min(self.settings.retry_after_max);
                (HoldReason::Backoff, asked)
            }
            FailureKind::KeyRejected => (HoldReason::KeyRejected, self.settings.held_retry),
            // There is no list to be had, and no job.
            FailureKind::NotFound | FailureKind::Refused => (HoldReason::Halted, Duration::ZERO),
            FailureKind::NotSent
            | FailureKind::Unknown
            | FailureKind::SlotTaken
            | FailureKind::TooLarge
            | FailureKind::BadRows => (HoldReason::Backoff, Duration::ZERO),
        };
        self.hold_back(wait.max(demanded), reason, now);
    }

    pub(super) fn hold_back(&mut self, wait: Duration, reason: HoldReason, now: Now) {
        self.hold = Some(Hold { until: now.instant.plus(wait), reason });
    }
}

/// Now, and 64 even random bits.
pub(super) type Chance = (Now, u64);

/// A number up to some ten million whose logarithm is even.
pub(super) fn reach(random: u64) -> u64 {
    const BITS_MAX: u64 = 24;
    (random >> 32 | 1 << 31) >> (31 - random % BITS_MAX)
}

pub(super) fn unfinished(job: &JobReport) -> bool {
    job.phase == JobPhase::Unfinished
}
