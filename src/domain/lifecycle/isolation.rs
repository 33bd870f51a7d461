//! What becomes of a batch that upstream will not take as it is: it is split, until the rows
//! that cannot be taken stand alone, and these become dead letters.
//!
//! Rows become dead letters where upstream has lately taken others. Where it has not, it may
//! refuse everything (the wrong endpoint, a trouble with the account), and a row at random is
//! tried before the batch is halved. A few rows are given up without such proof, for want of
//! others; then the app halts and says why.

use super::{
    super::{
        batch::{Cut, DeadReason, Happening},
        verdict::Failure,
    },
    Batch, BatchState, FailureKind, HoldReason, JobReport, Lifecycle, Now, PartialPolicy, Phase,
    Settlement,
    answers::{Chance, reach},
};

impl Lifecycle {
    /// Upstream refused the batch, and will refuse it again.
    pub(super) fn refuse(
        &mut self,
        mut batch: Batch,
        reason: DeadReason,
        failure: &Failure,
        (now, random): Chance,
    ) {
        self.note(failure, now);
        batch.last_error.clone_from(&failure.detail);
        batch.request_id = failure.request_id.clone().or(batch.request_id);
        let refused_at = *batch.refused_at.get_or_insert(now.wall);
        let experience = self.memory.of_mut(batch.kind);
        let proven = experience.is_proven(refused_at, now.wall);
        let settlement = if proven || !experience.is_in_doubt() {
            if batch.rows > 1 {
                let probe = Cut::Probe(random % batch.rows);
                Settlement::Split(if proven { Cut::Halves } else { probe })
            } else {
                experience.unproven += u32::from(!proven);
                Settlement::Dead(reason)
            }
        } else {
            // To try its rows one by one would hold up all others for as long: they go back, and
            // single ones are claimed, old and new.
            self.reach = reach(random);
            self.halt(batch.kind, self.settings.held_retry, now);
            Settlement::Requeued
        };
        // Refusals cost no budget, and many in a row must not become a flood.
        self.hold_back(self.settings.poll_interval.0 / 2, HoldReason::Isolating, now);
        batch.note(ending(settlement), now.wall, "");
        self.phase = Phase::Settling(batch, settlement);
    }

    /// Whether a submission of the batch that is refused so makes parts of it.
    pub(super) fn splits(&self, batch: &Batch, kind: FailureKind, now: Now) -> bool {
        let experience = self.memory.of(batch.kind);
        let refused_at = batch.refused_at.unwrap_or(now.wall);
        let splits = match kind {
            FailureKind::BadRows => {
                experience.is_proven(refused_at, now.wall) || !experience.is_in_doubt()
            }
            FailureKind::TooLarge => true,
            FailureKind::NotSent
            | FailureKind::Unknown
            | FailureKind::SlotTaken
            | FailureKind::Throttled(_)
            | FailureKind::KeyRejected
            | FailureKind::NotFound
            | FailureKind::Refused => false,
        };
        splits && batch.rows > 1
    }

    /// The size is to blame: half of it is tried, and remembered.
    pub(super) fn refuse_as_too_large(
        &mut self,
        mut batch: Batch,
        failure: &Failure,
        chance: Chance,
    ) {
        if batch.rows <= 1 {
            return self.refuse(batch, DeadReason::TooLarge, failure, chance);
        }
        self.note(failure, chance.0);
        batch.last_error.clone_from(&failure.detail);
        self.memory.of_mut(batch.kind).learn(batch.rows, batch.bytes, chance.0.wall);
        batch.note(Happening::Split, chance.0.wall, "");
        self.phase = Phase::Settling(batch, Settlement::Split(Cut::Halves));
    }

    /// The job completed without some of the rows.
    pub(super) fn on_partial(&mut self, mut batch: Batch, report: &JobReport, chance: Chance) {
        match self.settings.partial {
            PartialPolicy::Accept => self.deliver(batch, chance.0),
            PartialPolicy::Isolate => {
                if batch.completed_rows > 0 {
                    self.memory.of_mut(batch.kind).take(chance.0.wall);
                }
                let failure = ended(&batch, report);
                batch.note_failure(Happening::Failed, chance.0.wall, &failure);
                self.refuse(batch, DeadReason::NotTaken, &failure, chance);
            }
        }
    }

    /// The job failed. It may do better next time; a part that is still to be split is not
    /// given as many times.
    pub(super) fn on_failed(&mut self, mut batch: Batch, report: &JobReport, chance: Chance) {
        let failure = ended(&batch, report);
        batch.note_failure(Happening::Failed, chance.0.wall, &failure);
        batch.failures += 1;
        let failures_max = match batch.is_part() && batch.rows > 1 {
            true => 1,
            false => self.settings.failed_jobs_max,
        };
        if batch.failures < failures_max {
            batch.give_up_job();
            batch.state = BatchState::Claimed;
            self.put_back(batch, &failure, chance);
        } else {
            self.refuse(batch, DeadReason::JobFailed, &failure, chance);
        }
    }
}

/// How a batch that is settled so comes to its end.
fn ending(settlement: Settlement) -> Happening {
    match settlement {
        Settlement::Delivered => Happening::Completed,
        Settlement::Requeued => Happening::Requeued,
        Settlement::Split(_) => Happening::Split,
        Settlement::Dead(_) => Happening::Dead,
    }
}

fn ended(batch: &Batch, report: &JobReport) -> Failure {
    let detail = format!(
        "job {} ended {} with {} of {} rows",
        report.job_id, batch.upstream_status, batch.completed_rows, batch.rows
    );
    let request_id = batch.request_id.clone();
    Failure { kind: FailureKind::Unknown, cause: detail.clone(), detail, request_id }
}
