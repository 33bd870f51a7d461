//! The express lane's driver, in virtual time: the loop of [`crate::delivery::ExpressDelivery`]
//! around the real state machine and the real queue.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{World, at_once, bits, now};
use crate::{
    domain::{
        express::{Express, ExpressEnd, ExpressEvent, ExpressSettings, ExpressStep},
        row::RowValues,
        time::Now,
        update::{Lane, Subject},
        verdict::Identified,
    },
    plan::ledger::read_row,
    store::{StoreError, queue::TakenExpress},
    upstream::Upstream,
};

/// The lane.
pub(super) struct ExpressLane {
    machine: Express,
    /// Requests that are under way, with their answers and when these are heard, in this order.
    requests: VecDeque<(Duration, Subject, Option<Identified>)>,
    /// What is in flight by it: the value that was sent of each user.
    sent: BTreeMap<u32, i64>,
    /// When the machine wants to wake.
    wake: Option<Duration>,
}

impl ExpressLane {
    pub(super) fn new(settings: ExpressSettings, now: Now) -> Self {
        Self {
            machine: Express::new(settings, false, now),
            requests: VecDeque::new(),
            sent: BTreeMap::new(),
            wake: None,
        }
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.requests.is_empty()
    }
}

impl World<'_> {
    /// When the next update of the lane comes. While there is no lane, never.
    pub(super) fn next_express_at(&self) -> Option<Duration> {
        self.express.as_ref()?;
        self.arrivals.next_of(|source| self.plan.traffic[source].lane == Lane::Express)
    }

    /// When the lane has something to do, if nothing happens before.
    pub(super) fn express_stop(&self) -> Option<Duration> {
        let lane = self.express.as_ref()?;
        let heard = lane.requests.front().map(|(at, ..)| *at);
        let wakes = heard.into_iter().chain(lane.wake).filter(|at| *at > self.time);
        wakes.chain(self.next_express_at()).min()
    }

    /// Does what the lane has to do now.
    pub(super) fn express(&mut self) -> Result<(), StoreError> {
        if self.express.is_none() {
            return Ok(());
        }
        while self.express_step()? {}
        // The driver of jobs hears of it, too, when there is nothing for it any more.
        self.waiting();
        Ok(())
    }

    /// One step. Whether there was one to take.
    fn express_step(&mut self) -> Result<bool, StoreError> {
        let records = self.depth().express_records;
        let updates = self.ledger.queue.get_mut().express_updates(self.ledger.app);
        self.tell_express(ExpressEvent::Waiting { records, updates });
        let (time, at) = (self.time, now(self.time));
        let Some(lane) = &mut self.express else { return Ok(false) };
        if let Some((_, subject, answer)) =
            lane.requests.pop_front_if(|(heard_at, ..)| *heard_at <= time)
        {
            self.tell_express(ExpressEvent::Answered(subject, answer));
            return Ok(true);
        }
        match lane.machine.next(at) {
            ExpressStep::Take(max) => self.take_express(max)?,
            ExpressStep::Send(subject) => self.send_express(subject)?,
            ExpressStep::Settle(ends) => self.settle_express(&ends)?,
            ExpressStep::Wait(until) => {
                lane.wake = until.map(|until| time + until.since(at.instant));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take_express(&mut self, max: u64) -> Result<(), StoreError> {
        let (app, wall) = (self.ledger.app, now(self.time).wall);
        let taken = at_once(self.ledger.queue.get_mut().take_express(app, max, wall))?;
        let TakenExpress { subjects, cut_short } = taken;
        self.tell_express(ExpressEvent::Taken { subjects, cut_short });
        Ok(())
    }

    fn send_express(&mut self, subject: Subject) -> Result<(), StoreError> {
        self.tell_express(ExpressEvent::Begun(subject.clone()));
        let app = self.ledger.app;
        let body = self.ledger.reads.express_body(app, &subject, RowValues::default());
        let body = at_once(body)?;
        let sent = body.as_deref().and_then(read_row);
        let answer = body.map(|body| at_once(self.network.identify(subject.kind, body)));
        let heard_at = self.time + self.plan.pace.express_round_trip;
        if let Some(lane) = &mut self.express {
            lane.requests.push_back((heard_at, subject, answer));
            lane.sent.extend(sent);
        }
        Ok(())
    }

    fn settle_express(&mut self, ends: &[(Subject, ExpressEnd)]) -> Result<(), StoreError> {
        let (app, wall) = (self.ledger.app, now(self.time).wall);
        drop(at_once(self.ledger.queue.get_mut().settle_express(app, ends, wall))?);
        for (subject, end) in ends {
            let Some(lane) = &mut self.express else { break };
            let sent = number(subject).and_then(|user| lane.sent.remove_entry(&user));
            match (end, sent) {
                (ExpressEnd::Delivered, Some((user, value))) => {
                    let mut updates = Vec::new();
                    let each = |source, accepted_at| updates.push((source, accepted_at));
                    self.ages.take(user, value, each);
                    self.tally.express(&updates, self.time);
                }
                (ExpressEnd::Delivered, None)
                | (ExpressEnd::Back | ExpressEnd::Unknown | ExpressEnd::Refused, _) => {}
            }
        }
        self.tell_express(ExpressEvent::Settled);
        Ok(())
    }

    fn tell_express(&mut self, event: ExpressEvent) {
        let at = now(self.time);
        let Some(lane) = &mut self.express else { return };
        lane.machine.on(event, at, bits(&mut self.random));
    }
}

fn number(subject: &Subject) -> Option<u32> {
    subject.id.parse().ok()
}
