//! The world: virtual time, what arrives, the gateway's scheduler, and the account.

mod dry;
mod express;

use std::{
    future::Future, sync::atomic::AtomicI64, sync::atomic::Ordering::Relaxed, time::Duration,
};

use futures_util::FutureExt;
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::Mutex;

use self::express::ExpressLane;
use super::{
    Plan, PlanError,
    account::Account,
    ages::Ages,
    ledger::{Network, VirtualLedger},
    profiles::Profiles,
    report::{Report, Sample},
    tally::{Left, Tally},
    traffic::{Arrival, Arrivals, Sends, Source, bits},
};
use crate::{
    delivery::{Ledger, carry_out},
    domain::{
        batch::Settlement,
        lifecycle::{Command, Event, Lifecycle, Recovered, Step, Waiting},
        memory::Memory,
        time::{Instant, Now, Timestamp},
        update::{ClientId, Lane, Subject, Update, Value},
    },
    store::{
        StoreError,
        engine::MemoryEngine,
        queue::{ClientTerms, Disposition, PruneCursor, Queue, QueueDepth, Reads, Retention},
    },
};

/// When the wall clock says it is at the beginning.
const EPOCH_MICROS: i64 = 1_800_000_000_000_000;
/// Updates that are accepted together, and how long they may be apart.
const GROUP_UPDATES_MAX: usize = 4_096;
const GROUP_SPAN_MAX: Duration = Duration::from_secs(10);
/// Points of the chart.
const SAMPLES: u32 = 400;
/// The one property that is updated.
const PROPERTY: &str = "v";

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Result<Report, PlanError> {
    let mut world = World::new(plan)?;
    world.play()?;
    Ok(world.report())
}

/// Runs a plan to its end, and then on with nothing more to come, until nothing waits. Tells with
/// the report, which is of the end, how many accepted updates were lost: upstream's profiles are
/// compared with what those updates make of them, and of each profile that is wrong, the updates
/// count that it does not hold; one at least.
pub fn run_dry(plan: &Plan) -> Result<(Report, u64), PlanError> {
    let mut world = World::new(plan)?;
    world.play()?;
    let report = world.report();
    world.drain()?;
    Ok((report, world.lost_updates()))
}

struct World<'a> {
    plan: &'a Plan,
    time: Duration,
    arrivals: Arrivals,
    clients: Vec<ClientId>,
    ages: Ages,
    /// What the accepted updates make of the profiles.
    profiles: Profiles,
    tally: Tally,
    ledger: VirtualLedger,
    network: Network,
    machine: Lifecycle,
    express: Option<ExpressLane>,
    /// Since when something waits.
    since: Option<Instant>,
    /// The jitter of retries.
    random: StdRng,
    next_sample_at: Duration,
    disturbed_until: Duration,
    /// Until when it is played.
    end: Duration,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> Result<Self, StoreError> {
        let engine = MemoryEngine::default();
        let terms: Vec<(String, ClientTerms)> =
            plan.traffic.iter().map(|source| (source.client.clone(), terms(source))).collect();
        let start = async {
            let mut queue = Queue::open(engine.clone(), plan.queue, plan.seed).await?;
            let app = queue.app("plan").await?;
            queue.suppress(app, plan.suppression).await?;
            let clients = queue.clients(&terms).await?;
            Ok::<_, StoreError>((queue, app, clients))
        };
        let (queue, app, clients) = at_once(start)?;
        let disturbed_until = disturbed_until(plan);
        let mut world = Self {
            plan,
            time: Duration::ZERO,
            arrivals: Arrivals::new(&plan.traffic, plan.seed),
            clients,
            ages: Ages::default(),
            profiles: Profiles::default(),
            tally: Tally::new(&plan.traffic, plan.length, disturbed_until),
            ledger: VirtualLedger {
                queue: Mutex::new(queue),
                reads: Reads::new(engine),
                app,
                wall: AtomicI64::new(EPOCH_MICROS),
            },
            network: Network::new(Account::new(plan.pace.clone())),
            machine: Lifecycle::new(plan.settings, Recovered::default(), now(Duration::ZERO)),
            express: plan.express.map(|settings| ExpressLane::new(settings, now(Duration::ZERO))),
            since: None,
            random: StdRng::seed_from_u64(plan.seed),
            next_sample_at: Duration::ZERO,
            disturbed_until,
            end: plan.length,
        };
        world.deliver_what_was_before()?;
        world.set_time(Duration::ZERO)?;
        Ok(world)
    }

    /// Plays until the end.
    fn play(&mut self) -> Result<(), StoreError> {
        while self.time < self.end {
            self.turn()?;
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let account = self.network.inside().account.clone();
        self.tally.clone().report(&account, &mut self.ages.clone())
    }

    /// What a resync repeats was delivered before the beginning, in no time: only the memory of it
    /// matters.
    fn deliver_what_was_before(&mut self) -> Result<(), StoreError> {
        if self.plan.suppression.is_none() {
            return Ok(());
        }
        let mut known: Vec<Arrival> = Vec::new();
        for (index, source) in self.plan.traffic.iter().enumerate() {
            if let Sends::Resync { users, .. } = &source.sends {
                let value = |user| Arrival { at: Duration::ZERO, source: index, user, value: 0 };
                known.extend(users.clone().map(value));
            }
        }
        for Arrival { user, value, .. } in &known {
            self.profiles.set(*user, *value);
            self.network.inside().profiles.set(*user, *value);
        }
        let limits = self.plan.settings.batch;
        for group in known.chunks(GROUP_UPDATES_MAX) {
            let updates = group.iter().map(|arrival| self.update(arrival)).collect();
            let queue = self.ledger.queue.get_mut();
            at_once(queue.accept(updates, now(Duration::ZERO).wall))?;
            while let Some(mut batch) = at_once(self.ledger.claim(limits.into()))? {
                batch.completed_rows = batch.rows;
                let delivered = || {
                    let (batch, memory) = (batch.clone(), Memory::default());
                    at_once(self.ledger.settle(batch, Settlement::Delivered, memory))
                };
                while !delivered()?.complete {}
            }
            self.forget_history()?;
        }
        Ok(())
    }

    /// One turn of the driver's loop.
    fn turn(&mut self) -> Result<(), StoreError> {
        self.express()?;
        let waiting = self.waiting();
        self.tell(Event::Waiting(waiting));
        match self.machine.next(now(self.time)) {
            Step::Do(command) => self.execute(command),
            Step::Wait(until) => self.wait(until, waiting.any()),
        }
    }

    /// Carries a command out, as the driver does.
    fn execute(&mut self, command: Command) -> Result<(), StoreError> {
        let asks = matches!(command, Command::Submit(_) | Command::Look | Command::Poll(_));
        let settles = matches!(command, Command::Settle(..));
        let current = self.machine.view(now(self.time)).batch;
        let done = carry_out(command, current.as_ref(), &self.ledger, &self.network, |_, _| {});
        let event = at_once(done)?;
        self.count_job();
        if asks {
            self.pass(self.time + self.plan.pace.round_trip)?;
        }
        self.tell(event);
        if settles {
            self.forget_history()?;
        }
        Ok(())
    }

    /// Waits until the machine wants to wake, or something comes for which it would.
    fn wait(&mut self, until: Option<Instant>, something_waits: bool) -> Result<(), StoreError> {
        let wake = until.map(|until| self.time + until.since(now(self.time).instant));
        debug_assert!(wake.is_none_or(|wake| wake > self.time), "waits for the past");
        // While something waits already, nothing that comes makes it wake sooner.
        let news = self.arrivals.next_at().into_iter().chain(self.express_stop());
        let news = news.filter(|_| !something_waits);
        let next = wake.into_iter().chain(news).min().unwrap_or(self.end);
        self.pass(next.min(self.end))
    }

    /// Lets time pass: what comes meanwhile is accepted.
    fn pass(&mut self, until: Duration) -> Result<(), StoreError> {
        loop {
            let mark = self.next_sample_at.max(self.time);
            let disturbed = self.disturbed_until;
            let stop = if disturbed > self.time { mark.min(disturbed) } else { mark };
            let stop = self.express_stop().into_iter().fold(stop.min(until), Duration::min);
            self.accept_until(stop)?;
            self.set_time(stop)?;
            self.express()?;
            if stop >= until {
                return Ok(());
            }
        }
    }

    fn set_time(&mut self, time: Duration) -> Result<(), StoreError> {
        self.time = time;
        self.network.inside().now = time;
        self.ledger.wall.store(now(time).wall.as_micros(), Relaxed);
        if time >= self.disturbed_until {
            let records = self.depth().records;
            self.tally.backlog(records);
        }
        if time >= self.next_sample_at {
            self.next_sample_at = time + self.plan.length / SAMPLES;
            let depth = self.depth();
            let oldest = at_once(self.ledger.reads.oldest(self.ledger.app))?;
            let oldest = oldest.map_or(Duration::ZERO, |oldest| now(time).wall.since(oldest));
            self.tally.sample(Sample {
                at_s: time.as_secs_f64(),
                interactive_rows: depth.records - depth.bulk_records,
                bulk_rows: depth.bulk_records,
                oldest_s: oldest.as_secs_f64(),
            });
            if self.express.is_some() {
                self.forget_history()?;
            }
        }
        Ok(())
    }

    /// Accepts what comes until then, in groups.
    fn accept_until(&mut self, until: Duration) -> Result<(), StoreError> {
        while let Some(first_at) = self.arrivals.next_at().filter(|at| *at <= until) {
            // How long a record has been the express lane's is told to the second.
            let express = self.next_express_at().map(|at| match at > first_at {
                true => at - Duration::from_nanos(1),
                false => first_at,
            });
            let end = express.into_iter().fold(until.min(first_at + GROUP_SPAN_MAX), Duration::min);
            let (mut came, mut updates) = (Vec::new(), Vec::new());
            while came.len() < GROUP_UPDATES_MAX
                && let Some(arrival) = self.arrivals.next_until(end)
            {
                updates.push(self.update(&arrival));
                came.push(arrival);
            }
            let queue = self.ledger.queue.get_mut();
            let outcomes = at_once(queue.accept(updates, now(first_at).wall))?;
            for (arrival, outcome) in came.iter().zip(outcomes) {
                let Ok(accepted) = outcome else {
                    self.tally.refused += 1;
                    continue;
                };
                self.tally.accepted += 1;
                self.profiles.set(arrival.user, arrival.value);
                match accepted.disposition {
                    Disposition::Queued => self.tally.queued(arrival.at),
                    Disposition::Coalesced => self.tally.coalesced += 1,
                    // Upstream holds it as it comes.
                    Disposition::Unchanged => {
                        self.tally.suppressed += 1;
                        continue;
                    }
                }
                self.tally.came(arrival.source);
                self.ages.arrive(arrival);
            }
        }
        Ok(())
    }

    fn update(&self, arrival: &Arrival) -> Update {
        Update {
            app: self.ledger.app,
            client: self.clients[arrival.source],
            subject: Subject::user(arrival.user.to_string()),
            company_id: None,
            properties: vec![(PROPERTY.to_owned(), Value::Integer(arrival.value))],
            occurred_at: None,
            lane: self.lane(arrival.source),
        }
    }

    /// The lane of a source's updates, as the door takes them.
    fn lane(&self, source: usize) -> Lane {
        match self.plan.traffic[source].lane {
            Lane::Express if self.express.is_none() => Lane::Interactive,
            lane @ (Lane::Express | Lane::Interactive | Lane::Bulk) => lane,
        }
    }

    /// Counts the job that upstream has taken, if it has just done so.
    fn count_job(&mut self) {
        let depth = self.depth();
        // What express sends within the second is no backlog.
        let interactive = depth.records - depth.bulk_records - depth.express_records;
        let left = Left { interactive, bulk: depth.bulk_records };
        let mut network = self.network.inside();
        if let Some((job, rows)) = network.taken.take() {
            self.tally.job(&job, &rows, left, &network.account, &mut self.ages);
        }
    }

    /// Deliveries are remembered for who asks after them: nobody does here.
    fn forget_history(&mut self) -> Result<(), StoreError> {
        let before = now(self.time).wall.plus(Duration::from_micros(1));
        let retention = Retention { before, batches_max: 1, ..Retention::default() };
        let mut from = PruneCursor::default();
        loop {
            let queue = self.ledger.queue.get_mut();
            from = at_once(queue.prune(from, retention))?;
            if from.deliveries.is_none() {
                return Ok(());
            }
        }
    }

    fn depth(&mut self) -> QueueDepth {
        self.ledger.queue.get_mut().depth(self.ledger.app)
    }

    /// What waits, as the driver hears of it.
    fn waiting(&mut self) -> Waiting {
        let depth = self.depth();
        let instant = now(self.time).instant;
        self.since = (depth.records > 0).then(|| self.since.unwrap_or(instant));
        let urgent_updates = self.ledger.queue.get_mut().urgent_updates(self.ledger.app);
        Waiting { records: depth.by_kind(), since: self.since, urgent_updates }
    }

    fn tell(&mut self, event: Event) {
        let random = bits(&mut self.random);
        self.machine.on(event, now(self.time), random);
    }
}

fn terms(source: &Source) -> ClientTerms {
    ClientTerms { weight: source.weight, ..ClientTerms::default() }
}

/// When the last backfill or resync comes, and the last outage is over.
pub fn disturbed_until(plan: &Plan) -> Duration {
    let of_traffic = plan.traffic.iter().filter_map(|source| match source.sends {
        Sends::Backfill { at, .. } | Sends::Resync { at, .. } => Some(at),
        Sends::Flow { .. } | Sends::Recorded(_) => None,
    });
    of_traffic.chain(plan.pace.outages.iter().map(|outage| outage.end)).max().unwrap_or_default()
}

fn now(time: Duration) -> Now {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    Now {
        // Some time goes by before anybody looks.
        instant: Instant::from_origin(time + Duration::from_millis(1)),
        wall: Timestamp::from_micros(EPOCH_MICROS.saturating_add(micros)),
        uptime: None,
    }
}

/// The outcome of a future that has no reason to wait: not to let others run, either, where a
/// runtime is around it.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    tokio::task::unconstrained(future).now_or_never().expect("nothing here waits")
}
