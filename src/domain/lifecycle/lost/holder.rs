//! Whose job holds the slot, where it is not ours: its end is waited for.

use super::{
    super::{Batch, Poll, polling},
    *,
};
use crate::domain::batch::is_gateway_filename;

impl Lifecycle {
    /// The job that seems to hold the slot. An entry without a name or a status says nothing.
    pub(super) fn holder_among<'a>(&self, jobs: &'a [JobReport]) -> Option<&'a JobReport> {
        jobs.iter().find(|job| {
            let is_told = !job.job_id.is_empty() && !job.status.is_empty();
            unfinished(job) && is_told && !self.search.ghosts.contains(&job.job_id)
        })
    }

    /// Counts another's job in that the list shows in the slot, once, where no submission has met it.
    pub(super) fn meet(&mut self, holder: Option<&JobReport>) {
        let before = self.search.waits_for.as_ref().map(|(job_id, _)| &**job_id);
        let is_foreign = |job: &&JobReport| {
            job.filename.as_ref().is_some_and(|filename| !is_gateway_filename(filename))
        };
        let met = holder.filter(is_foreign).filter(|job| before != Some(&*job.job_id));
        if met.is_some() {
            self.conflicts += 1;
            self.conflicts_with.count(met);
        }
    }

    /// How long a job that does not end is waited for.
    pub(super) fn patience(&self) -> Duration {
        let Self { settings, .. } = self;
        let full_job = occupancy(settings.batch.rows_max, settings.users_per_minute);
        (2 * full_job).max(PATIENCE_MIN)
    }

    /// Whether its end is waited for; not for ever, since the list may hold what nobody tends.
    pub(super) fn waits_for(&mut self, holder: &JobReport, now: Now) -> bool {
        let search = &self.search;
        let before = search.waits_for.as_ref().filter(|(job_id, _)| *job_id == holder.job_id);
        let since = before.map_or(now.instant, |(_, since)| *since);
        let is_askable = search.unaskable.as_ref() != Some(&holder.job_id);
        let (patience, interval) = (self.patience(), self.settings.poll_interval);
        self.search.waits_for = Some((holder.job_id.clone(), since));
        if now.instant.since(since) >= patience && self.occupied_until <= now.instant {
            self.search.given_up = Some(holder.job_id.clone());
            self.search.holder = None;
            return false;
        }
        self.slot_holder = Some(SlotHolder::of(holder));
        self.search.holder = is_askable.then(|| holder.job_id.clone());
        let until = match is_askable {
            true => polling::next(now.instant, since, interval),
            false => now.instant.plus(interval.1),
        };
        self.hold = Some(Hold { until, reason: HoldReason::SlotTaken });
        true
    }

    /// Somebody's job was asked after, whose end is waited for.
    pub(in super::super) fn on_holder_polled(
        &mut self,
        batch: Batch,
        poll: Poll,
        (now, random): Chance,
    ) {
        self.phase = Phase::Lost(batch);
        let Some((job_id, since)) = self.search.waits_for.clone() else {
            return debug_assert!(false, "an answer about a job that nobody waits for");
        };
        match poll {
            Ok(report) if unfinished(&report) => {
                self.asking.succeed();
                let interval = self.settings.poll_interval;
                let until = polling::next(now.instant, since, interval);
                self.hold = Some(Hold { until, reason: HoldReason::SlotTaken });
                if now.instant.since(since) >= self.patience() {
                    self.search.holder = None;
                }
            }
            Ok(report) => {
                self.asking.succeed();
                if self.disproves(&report) {
                    self.disprove();
                }
                // The list may be late with it.
                self.search.ghosts.push(job_id);
                self.search.holder = None;
            }
            // The list tells of it, too.
            Err(failure) => {
                self.fail_to_ask(&failure, now, random);
                self.search.unaskable = Some(job_id);
                self.search.holder = None;
            }
        }
    }

    /// Waits for whoever's job runs, where one does.
    pub(super) fn look_first(&mut self, jobs: &[JobReport], now: Now) {
        let holder = self.holder_among(jobs);
        self.meet(holder);
        if holder.is_some_and(|holder| self.waits_for(holder, now)) {
            let until = now.instant.plus(self.settings.poll_interval.1);
            self.hold = Some(Hold { until, reason: HoldReason::SlotTaken });
        } else {
            self.slot_holder = None;
            // It may be there all the same. Upstream says so when it does not take another.
            self.search.asks = true;
        }
    }
}
