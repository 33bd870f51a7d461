//! Who sends to a fleet and asks it, and what befalls it from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use userpilot_gateway::{
    domain::update::{ClientId, Lane, Update, Value},
    store::{
        EngineError, StoreError,
        queue::{Accepted, Found},
    },
};

use super::{
    checker::Heard,
    facts::left_to_do,
    replica::{Process, live},
    scenario::Trouble,
    world::World,
};
use crate::{
    account::{company, subject_of},
    random::Random,
    scenario::Fault,
};

/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// For so long after its owner has heard that nothing is known of it, a commit may still be made.
const LATE_MAX: Duration = Duration::from_secs(6);
/// Within so much all is delivered, once nothing goes wrong any more.
const DRAIN_MAX: Duration = Duration::from_secs(2 * 3_600);

type Outcomes =
    Result<Vec<Result<Accepted, userpilot_gateway::domain::admission::QueueRefusal>>, StoreError>;

/// What is left to be done.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    clients: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }
}

/// Starts all: replicas, clients, and what befalls them.
pub(crate) fn start(world: &World) -> Progress {
    let progress = Progress::default();
    for place in 0..world.scenario.replicas {
        world.spawn(None, keep_up(world.clone(), place));
    }
    let clients = world.scenario.clients;
    progress.clients.store(clients, Relaxed);
    for number in 0..clients {
        let (world, left) = (world.clone(), progress.clients.clone());
        let client = Client::new(world.clone(), number);
        world.spawn(None, async move {
            client.send_all().await;
            left.fetch_sub(1, Relaxed);
        });
    }
    world.spawn(None, misfortune(world.clone()));
    world.spawn(None, come_to_an_end(world.clone(), progress.clone()));
    progress
}

/// Starts a replica again whenever it is gone.
async fn keep_up(world: World, place: usize) {
    let first = world.millis(0, 3_000);
    world.sleep(first).await;
    loop {
        let owner = world.be_born(place);
        world.spawn(Some(owner), live(world.clone(), owner));
        world.death_of(owner).await;
        let down_max = if world.is_calm() { 500 } else { 30_000 };
        let down = world.millis(50, down_max);
        world.sleep(down).await;
    }
}

/// What befalls replicas whatever they are about.
async fn misfortune(world: World) {
    while !world.is_calm() {
        let rest = world.millis(200, 12_000);
        world.sleep(rest).await;
        let replicas = world.scenario.replicas;
        let place = usize::try_from(world.below(replicas as u64)).unwrap_or(0);
        if world.strikes(Trouble::Stop, 3) {
            let length = world.millis(1, 12_000);
            world.stop(place, length);
        }
        if world.strikes(Trouble::LongStop, 5) {
            let length = world.millis(8_000, 90_000);
            world.stop(place, length);
        }
        if world.strikes(Trouble::Kill, 4) {
            world.kill(place);
        }
        if world.strikes(Trouble::Cut, 3) {
            let length = world.millis(50, 40_000);
            world.cut(place, length);
        }
        if world.strikes(Trouble::StoreAway, 6) {
            let length = world.millis(50, 20_000);
            (0..replicas).for_each(|place| world.cut(place, length));
        }
        if world.strikes(Trouble::Leave, 4) {
            let process = world.inside().processes[place].clone();
            process.iter().for_each(|process| process.ask_to_leave());
        }
    }
}

async fn come_to_an_end(world: World, progress: Progress) {
    while progress.clients.load(Relaxed) > 0 {
        world.sleep(Duration::from_secs(1)).await;
    }
    let rest = world.millis(0, 30_000);
    world.sleep(rest).await;
    world.calm();
    let until = world.time() + DRAIN_MAX;
    // Whoever stood still accepts what it had begun to accept.
    world.sleep(Duration::from_secs(12)).await;
    while left_to_do(&world) > 0 {
        if world.time() > until {
            return world.break_with(format!("not drained after {DRAIN_MAX:?}"));
        }
        world.sleep(Duration::from_secs(2)).await;
    }
    progress.is_over.store(true, Relaxed);
}

/// A client: it sends, hears, and sends the next.
struct Client {
    world: World,
    whim: std::sync::Mutex<Random>,
    actions: u64,
}

/// A group of updates of one app, with their numbers.
struct Group {
    app: usize,
    numbers: Vec<u64>,
    updates: Vec<Update>,
}

impl Client {
    fn new(world: World, number: usize) -> Self {
        let actions = world.scenario.actions / world.scenario.clients as u64;
        let whim = Random::new(world.scenario.seed, &format!("client {number}"));
        Self { world, whim: std::sync::Mutex::new(whim), actions }
    }

    fn below(&self, bound: u64) -> u64 {
        let mut whim = self.whim.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        whim.below(bound)
    }

    fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    async fn send_all(&self) {
        for _ in 0..self.actions {
            let rest = Duration::from_millis(self.below(self.world.scenario.rest_max_ms + 1));
            self.world.sleep(rest).await;
            match self.below(6) {
                0 => self.ask_after_some().await,
                _ => self.send().await,
            }
        }
    }

    /// One of the replicas that are up.
    fn some_process(&self) -> Option<Arc<Process>> {
        let processes: Vec<Arc<Process>> =
            self.world.inside().processes.iter().flatten().cloned().collect();
        let place = self.below(processes.len().max(1) as u64);
        usize::try_from(place).ok().and_then(|place| processes.get(place)).cloned()
    }

    fn make_group(&self) -> Group {
        let base = &self.world.scenario.base;
        let app = usize::try_from(self.below(self.world.scenario.apps as u64)).unwrap_or(0);
        let mut group = Group { app, numbers: Vec::new(), updates: Vec::new() };
        for _ in 0..=self.below(4) {
            let user = self.below(base.subjects);
            let is_company = self.percent(base.companies_percent);
            let user = if is_company { company(user) } else { user };
            let mut properties: Vec<u64> =
                (0..base.properties).filter(|_| self.percent(50)).collect();
            if properties.is_empty() {
                properties.push(0);
            }
            let now = self.world.time();
            let number = self.world.checker(app).send(user, properties.clone(), now);
            let value = || Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
            group.numbers.push(number);
            group.updates.push(Update {
                app: self.world.apps[app],
                client: ClientId(0),
                subject: subject_of(user),
                company_id: None,
                properties: properties.iter().map(|p| (format!("p{p}"), value())).collect(),
                occurred_at: None,
                lane: match self.below(10) {
                    0..3 => Lane::Bulk,
                    3..7 if base.has(Fault::Express) => Lane::Express,
                    _ => Lane::Interactive,
                },
            });
        }
        group
    }

    async fn send(&self) {
        let Some(process) = self.some_process() else { return };
        let Group { app, numbers, updates } = self.make_group();
        let (tell, told) = oneshot::channel::<Outcomes>();
        let worker = usize::try_from(self.below(process.accepting.len() as u64)).unwrap_or(0);
        process.say(|| format!("is sent {numbers:?}: {updates:?}"));
        let accepting = process.clone();
        self.world.spawn(Some(process.owner), async move {
            let mut queue = accepting.accepting[worker].lock().await;
            let now = accepting.now().wall;
            drop(tell.send(queue.accept(updates, now).await));
        });
        let late = std::pin::pin!(self.world.sleep(ANSWER_MAX));
        let outcomes = match select(told, late).await {
            Either::Left((Ok(outcomes), _)) => outcomes,
            Either::Left((Err(_), _)) => Err(EngineError::Unknown("it died".into()).into()),
            // Whoever stands still may accept it later.
            Either::Right(_) => return self.hear_nothing(app, &numbers, Duration::MAX),
        };
        self.hear(&process, (app, &numbers), outcomes);
    }

    fn hear_nothing(&self, app: usize, numbers: &[u64], until: Duration) {
        for number in numbers {
            let heard = self.world.checker(app).hear(*number, Heard::Nothing { until });
            self.world.hold(heard);
        }
    }

    fn hear(&self, process: &Process, (app, numbers): (usize, &[u64]), outcomes: Outcomes) {
        process.say(|| format!("answers {numbers:?}: {outcomes:?}"));
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(StoreError::Engine(EngineError::Away(_))) => {
                for number in numbers {
                    self.world.hold(self.world.checker(app).hear(*number, Heard::Refused));
                }
                return;
            }
            Err(StoreError::Engine(EngineError::Unknown(_))) => {
                return self.hear_nothing(app, numbers, self.world.time() + LATE_MAX);
            }
            Err(error) => return self.world.break_with(format!("accepting fails: {error}")),
        };
        for (number, outcome) in numbers.iter().zip(outcomes) {
            let heard = match outcome {
                Ok(accepted) => Heard::Accepted(accepted.sequence),
                Err(refusal) => return self.world.break_with(format!("refused: {refusal:?}")),
            };
            self.world.hold(self.world.checker(app).hear(*number, heard));
        }
    }

    /// Asks some replica after what was accepted by any.
    async fn ask_after_some(&self) {
        let app = usize::try_from(self.below(self.world.scenario.apps as u64)).unwrap_or(0);
        let accepted = self.world.checker(app).accepted();
        let Some(process) = self.some_process() else { return };
        if accepted.is_empty() {
            return;
        }
        let place = usize::try_from(self.below(accepted.len() as u64)).unwrap_or(0);
        let (number, user, sequence) = accepted[place];
        let (tell, told) = oneshot::channel();
        let asked = process.clone();
        self.world.spawn(Some(process.owner), async move {
            let id = asked.world.apps[app];
            drop(tell.send(asked.reads.find(id, &subject_of(user), sequence).await));
        });
        let late = std::pin::pin!(self.world.sleep(ANSWER_MAX));
        let Either::Left((Ok(Ok(found)), _)) = select(told, late).await else { return };
        self.world.hold(judge(&self.world, (app, number), &found));
    }
}

/// What an update is said to be, held against what is known of it.
pub(crate) fn judge(
    world: &World,
    (app, number): (usize, u64),
    found: &Found,
) -> Result<(), String> {
    match found {
        Found::Pending { .. } | Found::InFlight(_) | Found::InExpress | Found::Dead(_) => Ok(()),
        Found::Delivered { .. } | Found::DeliveredLongAgo => {
            world.checker(app).told_delivered(number)
        }
        Found::Forgotten | Found::Damaged | Found::Unknown => {
            Err(format!("update {number} is said to be {found:?}"))
        }
    }
}
