//! The delivery of an app under one lease: its driver, which ends with it.

use std::{sync::Arc, time::Duration};

use userpilot_gateway::{
    delivery::{Ledger, carry_out},
    domain::{
        batch::{Batch, BatchState, Claimable, Settlement},
        budget::Occupancy,
        lifecycle::{Command, Event, Lifecycle, Recovered, Step, Waiting},
        memory::Memory,
        time::Instant,
    },
    store::{
        AppTerms, StoreError,
        queue::{Claim, Settling},
    },
};

use super::{
    express::{Lane, first},
    facts::name_of,
    gate::{Gate, may_ask},
    replica::Process,
    sabotage::Sabotage,
};
use crate::scenario::Fault;

/// Why a driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is no way to the store, for now.
    Away,
    /// The lease is lost, as a transaction or a clock told.
    Fenced,
    HeldBack,
    /// It was told to.
    Told,
}

/// How often what others did is looked at.
pub(crate) const REFRESH: Duration = Duration::from_secs(1);

/// Delivers an app for as long as the lease is held that has this token.
pub(crate) async fn deliver(process: Arc<Process>, app: usize, token: u64) {
    loop {
        let mut machine = None;
        let end = Box::pin(session(&process, (app, token), &mut machine)).await;
        process.say(|| format!("app {app}, token {token}: {end:?}"));
        process.world.count(|tally| {
            tally.fenced += u64::from(end == End::Fenced);
            tally.held_back += u64::from(end == End::HeldBack);
        });
        machine.into_iter().for_each(|machine| process.park(app, machine));
        let holding = process.holding(app);
        let goes_on = holding.is_some_and(|it| !it.is_to_end && may_ask(&process, app));
        if end != End::Away || !goes_on {
            break;
        }
        // Under the same lease it adopts the app anew, once it can.
        process.world.sleep(Duration::from_millis(500)).await;
    }
    process.note(app, |holding| holding.is_over = true);
}

async fn adopt(process: &Process, (app, token): (usize, u64)) -> Result<Recovered, StoreError> {
    let base = &process.world.scenario.base;
    let (rows, pace) = (base.settings.batch.rows_max, base.settings.users_per_minute);
    let now = process.now();
    let terms = AppTerms {
        name: name_of(app),
        full_job: Occupancy::begin(rows, pace, now),
        suppression: base.suppression,
    };
    let adopted = process.control.lock().await.adopt(&terms, token, now.wall).await;
    let (_, mut recovered) = adopted?;
    // Whoever had it went by another clock.
    recovered.memory.occupancy = recovered.memory.occupancy.handed_over();
    note_take_over(process, app, &recovered);
    Ok(recovered)
}

fn note_take_over(process: &Process, app: usize, recovered: &Recovered) {
    let mut inside = process.world.inside();
    let last = inside.drivers.insert(app, (process.owner, "between two steps"));
    let Some((owner, step)) = last.filter(|(owner, _)| *owner != process.owner) else { return };
    *inside.tally.taken_over.entry(step).or_default() += 1;
    let state = match recovered.unsettled.as_ref().map(|batch| batch.state) {
        None => "of no batch",
        Some(BatchState::Claiming) => "of a batch that is being claimed",
        Some(BatchState::Claimed) => "of a claimed batch",
        Some(BatchState::Submitting) => "of a batch that is being submitted",
        Some(BatchState::Running) => "of a job that runs",
        Some(BatchState::Settling(_) | BatchState::Settled(_)) => {
            "of a batch that is being settled"
        }
    };
    *inside.tally.taken_over.entry(state).or_default() += 1;
    drop(inside);
    process.say(|| format!("takes app {app} over from {owner:?}, {step}, {state}"));
}

/// One driver, and that of the express lane beside it, from what is recovered to the end of one.
async fn session(
    process: &Arc<Process>,
    (app, token): (usize, u64),
    kept: &mut Option<Lifecycle>,
) -> End {
    let base = &process.world.scenario.base;
    let recovered = match adopt(process, (app, token)).await {
        Ok(recovered) => recovered,
        Err(error) => return end_of(process, error),
    };
    let gate = Gate::new(process.clone(), app, token);
    let lane = Lane::new(process, &gate, recovered.paused);
    let mut machine = Lifecycle::new(base.settings, recovered, process.now());
    if process.world.scenario.sabotage == Some(Sabotage::KeepsItsDriver) {
        machine = process.parked(app).unwrap_or(machine);
    }
    let hands = Hands { process: process.clone(), app };
    let driven = Box::pin(drive(&mut machine, &hands, &gate));
    let end = match base.has(Fault::Express) {
        true => first(driven, Box::pin(async { end_of(process, lane.run().await) })).await,
        false => driven.await,
    };
    *kept = Some(machine);
    end
}

async fn drive(machine: &mut Lifecycle, hands: &Hands, gate: &Gate) -> End {
    let (process, app) = (&hands.process, hands.app);
    let world = &process.world;
    let (mut looked_at, mut since) = (None::<Instant>, None);
    loop {
        let now = process.now();
        if process.holding(app).is_none_or(|holding| holding.is_to_end) {
            return End::Told;
        }
        if !may_ask(process, app) || gate.is_held_back() {
            return End::HeldBack;
        }
        if looked_at.is_none_or(|at| now.instant.since(at) >= REFRESH) {
            looked_at = Some(now.instant);
            let mut queue = process.control.lock().await;
            if let Err(error) = queue.refresh(&[world.apps[app]]).await {
                return end_of(process, error);
            }
        }
        let waiting = waiting(process, app, &mut since).await;
        machine.on(Event::Waiting(waiting), now, world.below(u64::MAX));
        process.note(app, |it| it.is_idle = machine.view(now).batch.is_none());
        match machine.next(now) {
            Step::Do(command) => match step(machine, command, (hands, gate)).await {
                // Of what was not sent, nothing is known any more.
                Ok(_) if gate.is_held_back() => return End::HeldBack,
                Ok(event) => machine.on(event, process.now(), world.below(u64::MAX)),
                Err(error) => return end_of(process, error),
            },
            Step::Wait(until) => {
                if until.is_some_and(|until| until <= now.instant) {
                    world.break_with("waits for the past");
                    world.give_way().await;
                }
                let at = now.instant.plus(REFRESH);
                process.sleep_until(until.map_or(at, |until| until.min(at))).await;
            }
        }
    }
}

fn end_of(process: &Process, error: StoreError) -> End {
    let is_fenced = matches!(error, StoreError::LeaseLost { .. });
    process.bear::<()>(Err(error));
    if is_fenced { End::Fenced } else { End::Away }
}

async fn waiting(process: &Process, app: usize, since: &mut Option<Instant>) -> Waiting {
    let queue = process.control.lock().await;
    let id = process.world.apps[app];
    let depth = queue.depth(id);
    let now = process.now().instant;
    *since = (depth.records > 0).then(|| since.unwrap_or(now));
    let urgent_updates = queue.urgent_updates(id);
    Waiting { records: depth.by_kind(), since: *since, urgent_updates }
}

/// Carries a command out; anything may happen before and after.
async fn step(
    machine: &Lifecycle,
    command: Command,
    (hands, gate): (&Hands, &Gate),
) -> Result<Event, StoreError> {
    let (process, app) = (&hands.process, hands.app);
    process.say(|| format!("app {app}: {command:?}"));
    let about = match &command {
        Command::Claim(_) => "claiming",
        Command::Advance(..) => "advancing",
        Command::Submit(_) => "submitting",
        Command::Look => "looking",
        Command::Poll(_) => "polling",
        Command::Settle(..) => "settling",
    };
    let note = |about| {
        let mut inside = process.world.inside();
        if let Some((owner, step)) = inside.drivers.get_mut(&app)
            && *owner == process.owner
        {
            *step = about;
        }
    };
    note(about);
    process.world.point(process.owner, 15).await;
    let current = machine.view(process.now()).batch;
    let event = carry_out(command, current.as_ref(), hands, gate, |_, _| {}).await?;
    process.say(|| format!("app {app}: {event:?}"));
    process.world.point(process.owner, 15).await;
    note("between two steps");
    Ok(event)
}

/// A driver's hands on the store.
struct Hands {
    process: Arc<Process>,
    app: usize,
}

impl Ledger for Hands {
    type Error = StoreError;

    async fn claim(&self, claimable: Claimable) -> Result<Option<Box<Batch>>, StoreError> {
        let (app, mut continued) = (self.process.world.apps[self.app], None);
        loop {
            let now = self.process.now().wall;
            let mut queue = self.process.control.lock().await;
            match queue.claim(app, claimable, continued, now).await? {
                Claim::Continues(batch) => continued = Some(batch),
                Claim::Complete(batch) => return Ok(batch),
            }
        }
    }

    async fn advance(&self, batch: Box<Batch>, memory: Memory) -> Result<(), StoreError> {
        self.process.control.lock().await.advance(&batch, memory).await
    }

    async fn settle(
        &self,
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
    ) -> Result<Settling, StoreError> {
        let now = self.process.now().wall;
        self.process.control.lock().await.settle(&batch, settlement, memory, now).await
    }

    async fn upload(&self, batch: &Batch) -> Result<Vec<u8>, StoreError> {
        self.process.reads.upload(batch).await
    }
}
