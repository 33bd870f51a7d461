//! What each event makes of the machine's state.

use std::{mem, time::Duration};

use super::{
    super::{
        batch::{DeadReason, Happening},
        update::SubjectKind,
        verdict::{AcceptedJob, Failure},
    },
    Batch, BatchState, Event, FailureKind, Hold, HoldReason, JobPhase, JobReport, Lifecycle, Now,
    Phase, Poll, Settlement, Submission,
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
            Event::Looked(jobs) => self.on_looked(jobs, (now, random)),
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
            Err(failure) if self.stays(&batch, failure.kind, now) => {
                batch.note_not_taken(now.wall, &failure);
                self.began = None;
                self.release();
                self.stay(batch, &failure, (now, random));
            }
            Err(failure) => match self.disturbed(batch.note_not_taken(now.wall, &failure)) {
                FailureKind::Unknown => {
                    // Upstream may have taken it as late as now.
                    self.occupy(&batch, now);
                    self.lost_by_conflict = false;
                    self.note(&failure, now);
                    let delivering = self.delivering.of_mut(batch.kind);
                    let wait = delivering.fail(&self.settings.backoff, random);
                    self.lose(batch, wait, now);
                }
                // Ours or another's? The list tells. Ours may be this very submission, where a
                // proxy sent it twice.
                FailureKind::SlotTaken => {
                    self.conflicts += 1;
                    self.unexplained_conflict = true;
                    self.lost_by_conflict = true;
                    self.occupy(&batch, now);
                    self.blame(&failure, now);
                    self.lose_to_conflict(batch, now);
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
        self.search.end();
        if let Some(rescue) = &mut self.rescue {
            rescue.job_unknown = false;
        }
        // Upstream's pace counts from when it took the job, which is before now.
        self.occupy(&batch, now);
        self.phase = Phase::Accepted { batch, adopted: false };
    }

    fn on_polled(&mut self, poll: Poll, now: Now, random: u64) {
        let mut batch = match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running { batch, .. } => batch,
            Phase::Lost(batch) => return self.on_holder_polled(batch, poll, (now, random)),
            Phase::Idle
            | Phase::Claiming
            | Phase::Claimed(_)
            | Phase::Beginning(_)
            | Phase::Submitting(_)
            | Phase::Accepted { .. }
            | Phase::Settling(..) => {
                return debug_assert!(false, "an answer about a job that does not run");
            }
        };
        let report = match poll {
            Ok(report) => report,
            Err(failure) => {
                self.fail_to_ask(&failure, now, random);
                // A poll that came to nothing says nothing about the job; one that is refused again
                // and again does.
                match self.is_denied(failure.kind) {
                    true => {
                        batch.note_failure(Happening::Lost, now.wall, &failure);
                        self.deny(batch, now);
                    }
                    false => self.phase = Phase::Running { batch, poll_at: now.instant },
                }
                return;
            }
        };
        self.asking.succeed();
        self.search.refused_polls = 0;
        batch.upstream_status.clone_from(&report.status);
        batch.completed_rows = report.completed_rows.unwrap_or(batch.completed_rows);
        if report.phase == JobPhase::Unfinished {
            if self.is_beyond_knowing(&batch, now) {
                self.last_error =
                    format!("the job is {:?}, and nobody knows what that is", report.status);
                self.failing_since.get_or_insert(now.wall);
                self.last_cause.clone_from(&self.last_error);
                batch.note(Happening::Lost, now.wall, &self.last_error);
                return self.deny(batch, now);
            }
            let interval = self.settings.poll_interval;
            let poll_at = polling::next(now.instant, self.expected_end(batch.kind), interval);
            self.phase = Phase::Running { batch, poll_at };
            return;
        }
        if report.phase == JobPhase::Completed && report.completed_rows.is_none() {
            batch.completed_rows = batch.rows;
        }
        self.on_ended(batch, &report, (now, random));
    }

    /// The batch's job has ended.
    pub(super) fn on_ended(&mut self, mut batch: Batch, report: &JobReport, chance: Chance) {
        match report.phase {
            JobPhase::Unfinished => debug_assert!(false, "it has not ended"),
            JobPhase::Completed if report.completed_rows.is_none_or(|rows| rows >= batch.rows) => {
                batch.completed_rows = batch.completed_rows.min(batch.rows);
                self.deliver(batch, chance.0);
            }
            JobPhase::Completed => self.on_partial(batch, report, chance),
            JobPhase::Failed => self.on_failed(batch, report, chance),
        }
    }

    /// All rows are upstream's now.
    pub(super) fn deliver(&mut self, mut batch: Batch, now: Now) {
        let rows = format!("{} of {} rows", batch.completed_rows, batch.rows);
        batch.note(Happening::Completed, now.wall, &rows);
        // What is wrong with a kind that is halted is not over with a job of the other.
        if self.halted_until.of(batch.kind.other()).is_none() {
            self.last_error.clear();
            self.last_cause.clear();
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
        self.search.settle();
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

    /// A question came to nothing: ask again later. One that is refused does not halt anything.
    pub(super) fn fail_to_ask(&mut self, failure: &Failure, now: Now, random: u64) {
        self.began = None;
        self.note(failure, now);
        let wait = self.asking.fail(&self.settings.backoff, random);
        if is_of_the_endpoint(failure.kind) {
            self.hold_back(wait, HoldReason::Backoff, now);
        } else {
            self.hold_after(wait, failure.kind, now);
        }
    }

    pub(super) fn note(&mut self, failure: &Failure, now: Now) {
        self.failed_attempts += 1;
        self.blame(failure, now);
    }

    /// What is wrong now, and since when something is.
    fn blame(&mut self, failure: &Failure, now: Now) {
        self.last_error.clone_from(&failure.detail);
        self.last_cause.clone_from(&failure.cause);
        self.failing_since.get_or_insert(now.wall);
    }

    /// Waits after a failure of this kind: for `wait`, or for as long as it demands.
    pub(super) fn hold_after(&mut self, wait: Duration, kind: FailureKind, now: Now) {
        let (reason, demanded) = match kind {
            FailureKind::Throttled(asked) => {
                let asked = asked.unwrap_or_default().min(self.settings.retry_after_max);
                (HoldReason::Backoff, asked)
            }
            FailureKind::KeyRejected => (HoldReason::KeyRejected, self.settings.held_retry),
            // There is no such place.
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
