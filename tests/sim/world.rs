//! The world: time, the gateway's process, upstream, who acts on them, and who watches.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use userpilot_gateway::{
    delivery::carry_out,
    domain::{
        batch::Claimable,
        express::ExpressEvent,
        lifecycle::{Activity, Command, Event, Step},
        time::{Instant, Now, Timestamp, Uptime},
        update::{ByKind, SubjectKind},
    },
    store::{check::check, engine::MemoryEngine, queue::Found},
};

use crate::{
    checker::Checker,
    process::{EPOCH_MICROS, Process, at_once, instant},
    random::Random,
    scenario::{Fault, Scenario},
    upstream::Network,
};

/// Why a step did not come to its end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The process died.
    Died,
    /// A promise was broken.
    Broken(String),
}

/// What happened in a run, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) updates: u64,
    pub(crate) commands: u64,
    pub(crate) requests: u64,
    pub(crate) jobs: u64,
    pub(crate) deaths: u64,
    /// Groups that were sent between the commits of one command.
    pub(crate) between: u64,
    pub(crate) virtual_seconds: u64,
}

impl Tally {
    /// Adds another run.
    pub(crate) fn add(&mut self, run: Self) {
        self.updates += run.updates;
        self.commands += run.commands;
        self.requests += run.requests;
        self.jobs += run.jobs;
        self.deaths += run.deaths;
        self.between += run.between;
        self.virtual_seconds += run.virtual_seconds;
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) engine: MemoryEngine,
    pub(crate) network: Network,
    pub(crate) checker: Checker,
    pub(crate) process: Process,
    /// Who decides what clients and operators do.
    pub(crate) whim: Random,
    /// Who decides what breaks.
    pub(crate) chaos: Random,
    /// Virtual time.
    pub(crate) time: Duration,
    /// How far the wall clock is off.
    pub(crate) wall_offset: i64,
    /// How often the machine has started.
    pub(crate) boot: u64,
    next_action_at: Duration,
    pub(crate) actions_left: u64,
    /// A power cut is due at some commit.
    pub(crate) cut_is_due: bool,
    /// An app's state was damaged: of what history forgot, no more may be known.
    pub(crate) state_was_lost: bool,
    /// Since when nothing goes wrong and nobody sends.
    pub(crate) quiet_since: Option<Duration>,
    /// How many batches in a row have passed over each kind, while something of it waited.
    pub(crate) passed_over: ByKind<u32>,
    pub(crate) tally: Tally,
}

/// More than any run needs.
const STEPS_MAX: u64 = 50_000;
/// Within this much virtual time everything is delivered, once nothing goes wrong any more.
const DRAIN_MAX: Duration = Duration::from_secs(2 * 3_600);

/// Runs a scenario to its end.
pub(crate) fn run(scenario: Scenario) -> Result<Tally, String> {
    let mut world = World::new(scenario)?;
    while world.tally.commands < STEPS_MAX {
        let turn = world.turn();
        // What upstream saw up to a death counts, too.
        world.watch()?;
        match turn {
            Ok(false) => {}
            Ok(true) => return world.finish(),
            Err(Halt::Died) => world.restart()?,
            Err(Halt::Broken(what)) => return Err(what),
        }
    }
    Err(format!("{STEPS_MAX} commands, and no end"))
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Result<Self, String> {
        let engine = MemoryEngine::with_entry_bytes_max(scenario.entry_bytes_max);
        let now = Now {
            instant: instant(Duration::ZERO, Duration::ZERO),
            wall: Timestamp::from_micros(EPOCH_MICROS),
            uptime: Some(Uptime { boot: 0, length: Duration::ZERO }),
        };
        let start = (Duration::ZERO, now);
        let process = Process::start(engine.clone(), &scenario, start, scenario.suppression)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            network: Network::new(&scenario),
            checker: Checker::new(&scenario),
            whim: Random::new(scenario.seed, "clients"),
            chaos: Random::new(scenario.seed, "chaos"),
            actions_left: scenario.actions,
            engine,
            process,
            scenario,
            time: Duration::ZERO,
            wall_offset: 0,
            boot: 0,
            next_action_at: Duration::ZERO,
            cut_is_due: false,
            state_was_lost: false,
            quiet_since: None,
            passed_over: ByKind::default(),
            tally: Tally::default(),
        })
    }

    /// Tells what happens, where that is wanted.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.scenario.trace {
            eprintln!("{:>12.3?}  {}", self.time, what());
        }
    }

    pub(crate) fn now(&self) -> Now {
        let micros = i64::try_from(self.time.as_micros()).unwrap_or(i64::MAX);
        Now {
            instant: instant(self.time, self.process.started_at),
            wall: Timestamp::from_micros(EPOCH_MICROS + micros + self.wall_offset),
            uptime: Some(Uptime { boot: self.boot, length: self.time }),
        }
    }

    /// One turn of the driver's loop. `true` once all is done.
    pub(crate) fn turn(&mut self) -> Result<bool, Halt> {
        self.express()?;
        let now = self.now();
        let waiting = self.process.waiting(now.instant);
        // What is in flight may come back.
        let in_flight_max =
            self.scenario.settings.batch.rows_max + u64::from(self.scenario.express.requests_max);
        let records_max = self.scenario.queue.records_max + in_flight_max;
        let records = waiting.records.users + waiting.records.companies;
        if records > records_max {
            return Err(Halt::Broken(format!("{records} records wait, too many")));
        }
        self.tell(Event::Waiting(waiting));
        let step = self.process.machine.next(now);
        if step != self.process.machine.next(now) {
            return Err(Halt::Broken("asked twice, the machine answers twice".into()));
        }
        match step {
            Step::Do(command) => self.execute(command).map(|()| false),
            Step::Wait(until) => self.wait(until),
        }
    }

    fn tell(&mut self, event: Event) {
        let event = match self.scenario.sabotage {
            Some(sabotage) => sabotage.distort(event),
            None => event,
        };
        let random = self.chaos.next();
        self.process.machine.on(event, self.now(), random);
    }

    /// Carries a command out, as the driver does; meanwhile others act, and anything may die.
    fn execute(&mut self, command: Command) -> Result<(), Halt> {
        self.tally.commands += 1;
        self.say(|| format!("  {command:?}"));
        let asks = matches!(command, Command::Submit(_) | Command::Look | Command::Poll(_));
        let (before, after) = if asks { (60, 400) } else { (2, 5) };
        self.spend(before)?;
        self.die_of(Fault::Kill, "before the command")?;
        let current = self.process.machine.view(self.now()).batch;
        let wall = self.now().wall.as_micros();
        self.process.ledger.wall.store(wall, Relaxed);
        self.note_settled(&command);
        let between = self.prepare_between();
        let claims = if let Command::Claim(claimable) = &command {
            // What express may take, or has taken, a claim passes over.
            let depth = self.process.depth();
            let express = depth.express_records + depth.express_in_flight > 0;
            Some((**claimable, if express { ByKind::default() } else { depth.by_kind() }))
        } else {
            None
        };
        let done = at_once(carry_out(
            command,
            current.as_ref(),
            &self.process.ledger,
            &self.network,
            |_, _| {},
        ));
        self.hear_between(between)?;
        let event = done.map_err(|error| {
            self.say(|| format!("  died: {error}"));
            Halt::Died
        })?;
        self.say(|| format!("  {event:?}"));
        if let (Some(claims), Event::Claimed(Some(batch))) = (claims, &event) {
            self.check_turn(batch.kind, claims).map_err(Halt::Broken)?;
        }
        if matches!(event, Event::Settled(_)) {
            self.note_the_dead().map_err(Halt::Broken)?;
        }
        self.die_of(Fault::Kill, "before the event")?;
        // A time-out takes its time.
        let times_out = asks && self.chaos.percent(5);
        self.spend(if times_out { 30_000 } else { after })?;
        self.tell(event);
        Ok(())
    }

    /// Neither kind waits for more than one batch of the other, unless it may not be claimed, or
    /// only in part.
    fn check_turn(
        &mut self,
        claimed: SubjectKind,
        (claimable, waiting): (Claimable, ByKind<u64>),
    ) -> Result<(), String> {
        let other = claimed.other();
        let open = claimable.of(other).is_some_and(|limits| limits.reach == u64::MAX);
        *self.passed_over.of_mut(claimed) = 0;
        let passed = self.passed_over.of_mut(other);
        *passed = if open && *waiting.of(other) > 0 { *passed + 1 } else { 0 };
        if *passed > 1 {
            return Err(format!("{other} rows wait behind {passed} batches of the other kind"));
        }
        Ok(())
    }

    fn spend(&mut self, max_ms: u64) -> Result<(), Halt> {
        let until = self.time + self.chaos.millis(0, max_ms);
        self.pass(until)
    }

    /// Lets time pass; clients and operators act in their time.
    fn pass(&mut self, until: Duration) -> Result<(), Halt> {
        while self.quiet_since.is_none() && self.next_action_at <= until {
            self.set_time(self.next_action_at);
            self.watch().map_err(Halt::Broken)?;
            let rest = match self.actions_left {
                0 => {
                    self.calm();
                    break;
                }
                // Upstream stays as it is for a while after the last action.
                1 => 200_000,
                _ => self.scenario.rest_max_ms,
            };
            self.actions_left -= 1;
            self.next_action_at = self.time + self.whim.millis(0, rest);
            self.act()?;
            self.express()?;
        }
        self.set_time(until);
        self.express()
    }

    pub(crate) fn set_time(&mut self, time: Duration) {
        self.time = self.time.max(time);
        let mut network = self.network.inside();
        network.advance(self.time);
        network.account.mark = self.checker.sent.len() as u64;
    }

    /// Nobody acts any more, nothing goes wrong any more, nothing is paused.
    fn calm(&mut self) {
        self.say(|| "traffic stops, upstream is healthy".into());
        self.quiet_since = Some(self.time);
        self.cut_is_due = false;
        self.engine.restart();
        {
            let mut network = self.network.inside();
            network.healthy = true;
            network.account.paused_since = None;
        }
        let app = self.process.ledger.app;
        let queue = self.process.ledger.queue.get_mut();
        at_once(queue.pause(app, false)).expect("the power stays on");
        self.process.operations.push(Event::Paused(false));
        self.tell_express(ExpressEvent::Paused(false));
    }

    /// Sleeps until the machine wants to wake, or somebody does something.
    fn wait(&mut self, until: Option<Instant>) -> Result<bool, Halt> {
        if !self.process.operations.is_empty() {
            let operation = self.process.operations.remove(0);
            self.tell(operation);
            return Ok(false);
        }
        let now = self.now();
        let idle = self.process.machine.view(now).batch.is_none();
        if let Some(since) = self.quiet_since {
            if idle && self.process.depth().records == 0 && self.express_is_idle() {
                return Ok(true);
            }
            if self.process.machine.view(now).activity == Activity::Halted
                && self.time >= self.next_action_at
            {
                self.next_action_at = self.time + Duration::from_secs(300);
                self.send_something_good()?;
                // Where there is no room for that, an operator looks after it.
                self.process.operations.push(Event::Flush);
                return Ok(false);
            }
            if self.time - since > DRAIN_MAX {
                return Err(Halt::Broken(format!("not drained after {DRAIN_MAX:?}")));
            }
        }
        let wake = until.map(|until| self.time + until.since(now.instant));
        let action = self.quiet_since.is_none().then_some(self.next_action_at);
        let express = self.express_wake();
        let Some(next) = wake.into_iter().chain(action).chain(express).min() else {
            return Err(Halt::Broken("waits for ever, while something waits".into()));
        };
        if next <= self.time && ![action, express].contains(&Some(next)) {
            return Err(Halt::Broken("waits for the past".into()));
        }
        self.pass(next)?;
        Ok(false)
    }

    /// Shows the checker what upstream saw.
    pub(crate) fn watch(&mut self) -> Result<(), String> {
        let mut network = self.network.inside();
        for sight in std::mem::take(&mut network.account.sights) {
            self.checker.see(sight)?;
        }
        match network.account.broken.pop() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    /// Looks at everything once more, now that all should be delivered.
    fn finish(mut self) -> Result<Tally, String> {
        self.count()?;
        let depth = self.process.depth();
        if (depth.bytes, depth.bulk_records, depth.company_records) != (0, 0, 0) {
            return Err(format!("nothing waits, and {depth:?} is counted"));
        }
        if (depth.express_records, depth.express_in_flight) != (0, 0) {
            return Err(format!("nothing goes by express, and {depth:?} is counted"));
        }
        let findings = at_once(check(&self.engine)).map_err(|error| error.to_string())?;
        if let Some(problem) = findings.problems.first() {
            return Err(format!("a check of the store says {problem:?}"));
        }
        const IN_FLIGHT: u8 = b'f';
        if self.engine.keys().iter().any(|key| key.first() == Some(&IN_FLIGHT)) {
            return Err("something is in flight, and in no batch".into());
        }
        for number in 0..self.checker.sent.len() as u64 {
            match self.ask_after(number)? {
                Some(Found::Delivered { .. } | Found::DeliveredLongAgo | Found::Forgotten)
                | None => {}
                Some(Found::Dead(_)) => self.checker.bury(number),
                Some(found) => return Err(format!("update {number} ended as {found:?}")),
            }
        }
        self.checker.finish()?;
        let account = &self.network.inside().account;
        Ok(Tally {
            updates: self.checker.sent.len() as u64,
            requests: account.requests,
            jobs: account.jobs.iter().filter(|job| job.ours).count() as u64,
            virtual_seconds: self.time.as_secs(),
            ..self.tally
        })
    }
}
