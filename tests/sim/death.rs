//! How processes die, and how the next one goes on.

use userpilot_gateway::{
    domain::{lifecycle::Event, update::ByKind},
    store::{StoreError, engine::Crash},
};

use crate::{
    process::{Process, at_once},
    scenario::Fault,
    world::{Halt, World},
};

impl World {
    /// Whether a fault of this kind happens now.
    pub(crate) fn strikes(&mut self, fault: Fault, one_in: u64) -> bool {
        self.quiet_since.is_none()
            && self.scenario.has(fault)
            && self.chaos.percent(self.scenario.fault_percent)
            && self.chaos.below(one_in) == 0
    }

    /// Dies, if it is to.
    pub(crate) fn die_of(&mut self, fault: Fault, when: &str) -> Result<(), Halt> {
        if self.strikes(fault, 6) {
            self.say(|| format!("  killed {when}"));
            return Err(Halt::Died);
        }
        Ok(())
    }

    /// The process is down for a while; the next one goes on from what is on disk.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.tally.deaths += 1;
        // What it claimed last is not known.
        self.passed_over = ByKind::default();
        loop {
            let down_max = if self.chaos.percent(30) { 120_000 } else { 500 };
            let down = self.chaos.millis(1, down_max);
            self.set_time(self.time + down);
            self.watch()?;
            let rebooted = self.engine.has_crashed();
            self.boot += u64::from(rebooted);
            self.set_the_clock(rebooted);
            self.engine.restart();
            self.cut_is_due = false;
            self.damage();
            self.plan_a_cut();
            let started = (self.time, self.now());
            let switched_off = self.scenario.memory_is_switched && self.chaos.percent(50);
            let suppression = self.scenario.suppression.filter(|_| !switched_off);
            let engine = self.engine.clone();
            match Process::start(engine, &self.scenario, started, suppression) {
                Ok(process) => self.process = process,
                Err(error) if self.engine.has_crashed() => {
                    self.say(|| format!("died while it started: {error}"));
                    continue;
                }
                Err(error) => return Err(format!("does not start: {error}")),
            }
            self.say(|| "restarted".into());
            self.forget_what_was_heard();
            if self.process.rescued && self.resume().is_err() {
                continue;
            }
            self.note_the_dead()?;
            return self.count();
        }
    }

    /// Of jobs that were seen and not known for its own the next process knows nothing: that one was
    /// waited for whose answer was lost, and which no list names, died with the last one. It knows
    /// those that are written down with its batch.
    fn forget_what_was_heard(&mut self) {
        let batch = self.process.machine.view(self.now()).batch;
        let known: Vec<String> = batch
            .map(|batch| batch.former_jobs.into_iter().chain(batch.job_id).collect())
            .unwrap_or_default();
        for job in &mut self.network.inside().account.jobs {
            job.is_heard_of &= known.contains(&job.id);
        }
    }

    /// Damages the app's state, or some batch.
    fn damage(&mut self) {
        const APP: u8 = b'a';
        const BATCH: u8 = b'b';
        for kind in [APP, BATCH] {
            let mut keys = self.engine.keys();
            keys.retain(|key| key.first() == Some(&kind));
            if !keys.is_empty() && self.strikes(Fault::Damage, 3) {
                // The newest batches, which stand first, matter most.
                let place = self.chaos.below(keys.len().min(2) as u64);
                let key = keys.swap_remove(usize::try_from(place).unwrap_or(0));
                self.say(|| format!("damaged: {}", char::from(kind)));
                self.engine.damage(&key, b"\x01nonsense");
                // The names of its jobs may be lost with it.
                for job in &mut self.network.inside().account.jobs {
                    job.is_heard_of = false;
                }
                self.state_was_lost |= kind == APP;
            }
        }
    }

    /// An operator has seen why the app is paused, and resumes it at once.
    fn resume(&mut self) -> Result<(), StoreError> {
        self.network.inside().account.paused_since = None;
        let app = self.process.ledger.app;
        at_once(self.process.ledger.queue.get_mut().pause(app, false))?;
        self.process.operations.push(Event::Paused(false));
        Ok(())
    }

    /// Sets the wall clock, never to before the beginning: what occurred before stays so.
    pub(crate) fn set_the_clock(&mut self, rebooted: bool) {
        let elapsed = i64::try_from(self.time.as_micros()).unwrap_or(i64::MAX);
        let jump = self.chaos.millis(0, 600_000).as_micros();
        let jump = i64::try_from(jump).unwrap_or(0);
        let forward = match rebooted {
            true => Fault::ClockAheadAfterReboot,
            false => Fault::ClockSetForward,
        };
        if self.strikes(Fault::ClockSetBack, 1) {
            self.wall_offset = (self.wall_offset - jump).max(-elapsed);
        } else if self.strikes(forward, 1) {
            self.wall_offset += jump;
        }
    }

    /// Plans a power cut at one of the next commits.
    pub(crate) fn plan_a_cut(&mut self) {
        if !self.cut_is_due && self.strikes(Fault::PowerCut, 1) {
            let side = self.chaos.one(&[Crash::BeforeCommit, Crash::AfterCommit]);
            self.engine.crash_at(self.chaos.below(8), side.unwrap_or(Crash::BeforeCommit));
            self.cut_is_due = true;
        }
    }

    /// What is counted as waiting is what waits.
    pub(crate) fn count(&self) -> Result<(), String> {
        const PENDING: u8 = b'r';
        let keys = self.engine.keys();
        let records = keys.iter().filter(|key| key.first() == Some(&PENDING)).count() as u64;
        let counted = self.process.depth().records;
        match records == counted {
            true => Ok(()),
            false => Err(format!("{records} records wait, {counted} are counted")),
        }
    }
}
