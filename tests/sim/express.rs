//! The express lane's driver, step by step between the steps of everybody else.

use std::time::Duration;

use userpilot_gateway::{
    domain::{
        express::{Express, ExpressEnd, ExpressEvent, ExpressStep},
        row::RowValues,
        update::Subject,
        verdict::{FailureKind, Identified},
    },
    store::{
        StoreError,
        engine::{Engine, MemoryEngine, Transaction},
        queue::TakenExpress,
    },
};

use crate::{
    account::number_of,
    process::at_once,
    sabotage::Sabotage,
    scenario::Fault,
    world::{Halt, World},
};

/// The lane's driver in one process.
pub(crate) struct Lane {
    pub(crate) machine: Express,
    /// What was answered, and when it is heard.
    requests: Vec<(Duration, Subject, Option<Identified>)>,
}

impl Lane {
    pub(crate) fn new(machine: Express) -> Self {
        Self { machine, requests: Vec::new() }
    }

    fn is_idle(&self) -> bool {
        self.machine.is_idle() && self.requests.is_empty()
    }
}

impl World {
    /// The lane's driver does some of what it has to do, or all of it.
    pub(crate) fn express(&mut self) -> Result<(), Halt> {
        while self.process.express.is_some() && !self.chaos.percent(25) {
            if !self.express_step()? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn express_is_idle(&self) -> bool {
        self.process.express.as_ref().is_none_or(Lane::is_idle)
    }

    /// An operator's word reaches the lane's driver.
    pub(crate) fn tell_express(&mut self, event: ExpressEvent) {
        let (now, random) = (self.now(), self.chaos.next());
        if let Some(lane) = &mut self.process.express {
            lane.machine.on(event, now, random);
        }
    }

    /// When the lane's driver has something to do, if nothing happens before.
    pub(crate) fn express_wake(&mut self) -> Option<Duration> {
        let (now, time) = (self.now(), self.time);
        self.tell_express_what_waits();
        let lane = self.process.express.as_mut()?;
        let heard = lane.requests.iter().map(|(at, ..)| *at).min();
        let due = match lane.machine.next(now) {
            ExpressStep::Wait(until) => until.map(|until| time + until.since(now.instant)),
            ExpressStep::Take(_) | ExpressStep::Send(_) | ExpressStep::Settle(_) => Some(time),
        };
        heard.into_iter().chain(due).min().map(|at| at.max(time))
    }

    fn tell_express_what_waits(&mut self) {
        let records = self.process.depth().express_records;
        let queue = self.process.ledger.queue.get_mut();
        let updates = queue.express_updates(self.process.ledger.app);
        self.tell_express(ExpressEvent::Waiting { records, updates });
    }

    /// One step. Whether there was one to take.
    fn express_step(&mut self) -> Result<bool, Halt> {
        let now = self.now();
        self.tell_express_what_waits();
        let time = self.time;
        let Some(lane) = &mut self.process.express else { return Ok(false) };
        if let Some(place) = lane.requests.iter().position(|(at, ..)| *at <= time) {
            let (_, subject, mut answer) = lane.requests.remove(place);
            let lies = self.scenario.sabotage == Some(Sabotage::ExpressUnknownIsDelivered);
            if lies && is_unknown(answer.as_ref()) {
                answer = Some(Ok(()));
            }
            self.tell_express(ExpressEvent::Answered(subject, answer));
            return Ok(true);
        }
        let step = lane.machine.next(now);
        if step != lane.machine.next(now) {
            return Err(Halt::Broken("asked twice, express answers twice".into()));
        }
        if matches!(step, ExpressStep::Wait(_)) {
            return Ok(false);
        }
        self.tally.commands += 1;
        self.say(|| format!("  express: {step:?}"));
        self.die_of(Fault::Kill, "before a step of express")?;
        match step {
            ExpressStep::Take(max) => self.take_express(max)?,
            ExpressStep::Send(subject) => self.send_express(subject)?,
            ExpressStep::Settle(ends) => self.settle_express(&ends)?,
            ExpressStep::Wait(_) => {}
        }
        self.watch().map_err(Halt::Broken)?;
        Ok(true)
    }

    fn take_express(&mut self, max: u64) -> Result<(), Halt> {
        let (app, wall) = (self.process.ledger.app, self.now().wall);
        let blind = self.scenario.sabotage == Some(Sabotage::ExpressIgnoresFlight);
        let hidden = match blind {
            true => hide_rows(&self.engine, |_| true).map_err(|_| Halt::Died)?,
            false => Vec::new(),
        };
        let queue = self.process.ledger.queue.get_mut();
        let taken = at_once(queue.take_express(app, max, wall));
        if blind {
            show_rows(&self.engine, hidden).map_err(|_| Halt::Died)?;
        }
        let taken = taken.map_err(|_| Halt::Died)?;
        self.say(|| format!("  taken: {taken:?}"));
        let TakenExpress { subjects, cut_short } = taken;
        self.tell_express(ExpressEvent::Taken { subjects, cut_short });
        Ok(())
    }

    fn send_express(&mut self, subject: Subject) -> Result<(), Halt> {
        self.tell_express(ExpressEvent::Begun(subject.clone()));
        let ledger = &self.process.ledger;
        let body = ledger.reads.express_body(ledger.app, &subject, RowValues::Primitive);
        let body = at_once(body).map_err(|error| Halt::Broken(format!("no body: {error}")))?;
        let answer = body.map(|body| self.network.inside().identify(subject.kind, &body));
        self.say(|| format!("  answered: {answer:?}"));
        let takes = if self.chaos.percent(5) { 10_000 } else { 400 };
        let heard_at = self.time + self.chaos.millis(0, takes);
        if let Some(lane) = &mut self.process.express {
            lane.requests.push((heard_at, subject, answer));
        }
        Ok(())
    }

    fn settle_express(&mut self, ends: &[(Subject, ExpressEnd)]) -> Result<(), Halt> {
        let (app, wall) = (self.process.ledger.app, self.now().wall);
        let queue = self.process.ledger.queue.get_mut();
        let settled = at_once(queue.settle_express(app, ends, wall));
        // Where it died, it may be durable.
        let mark = self.checker.sent.len() as u64;
        for (subject, _) in ends.iter().filter(|(_, end)| *end == ExpressEnd::Delivered) {
            if let Some(user) = number_of(subject) {
                let time = self.time;
                self.checker.settled_by_express(user, mark, time);
            }
        }
        settled.map_err(|_| Halt::Died)?;
        self.tell_express(ExpressEvent::Settled);
        Ok(())
    }
}

fn is_unknown(answer: Option<&Identified>) -> bool {
    matches!(answer, Some(Err(failure)) if failure.kind == FailureKind::Unknown)
}

pub(crate) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether a row in flight goes by express: its batch comes first behind the header, and is 0.
pub(crate) fn goes_by_express(row: &[u8]) -> bool {
    row.get(5) == Some(&0)
}

/// Takes rows in flight out of the store.
pub(crate) fn hide_rows(
    engine: &MemoryEngine,
    which: impl Fn(&[u8]) -> bool,
) -> Result<Entries, StoreError> {
    at_once(async {
        let mut transaction = engine.begin().await?;
        let rows = transaction.scan(vec![b'f']..=vec![b'f', 0xff, 0xff, 0xff], usize::MAX).await?;
        let rows = rows.into_iter().map(|(key, row)| (key, AsRef::<[u8]>::as_ref(&row).to_vec()));
        let hidden: Entries = rows.filter(|(_, row)| which(row)).collect();
        for (key, _) in &hidden {
            transaction.delete(key);
        }
        transaction.commit().await?;
        Ok(hidden)
    })
}

/// Puts them back, where nothing has come in their places.
pub(crate) fn show_rows(engine: &MemoryEngine, hidden: Entries) -> Result<(), StoreError> {
    at_once(async {
        let mut transaction = engine.begin().await?;
        for (key, row) in hidden {
            if transaction.get(&key).await?.is_none() {
                transaction.put(&key, row);
            }
        }
        transaction.commit().await?;
        Ok(())
    })
}
