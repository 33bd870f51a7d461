//! The fleet's world: virtual time, the tasks of all processes by turns that are drawn, and what
//! befalls them. A task gives way wherever the code that it runs waits for something, so that
//! others come in between wherever they may in truth.

use std::{
    collections::BTreeMap,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use userpilot_gateway::{
    domain::{time::Timestamp, update::AppId},
    store::engine::MemoryEngine,
};

use super::{
    checker::Checker,
    engine::MemoryTransaction,
    facts::Observer,
    replica::Process,
    scenario::{FleetScenario, STRIPES, Trouble},
};
use crate::{process::EPOCH_MICROS, random::Random, upstream::Network};

/// A process: the place of its replica, and which life of it this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) place: usize,
    pub(crate) life: u64,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;
type Due = Box<dyn FnOnce(&World) + Send>;

/// What the world knows of a replica.
#[derive(Debug, Default)]
struct Standing {
    life: u64,
    is_alive: bool,
    stopped_until: Duration,
    cut_until: Duration,
    /// Who waits for its death.
    mourner: Option<Waker>,
}

/// A transaction as the store sees it.
pub(crate) struct Open {
    pub(crate) inner: MemoryTransaction,
    pub(crate) used_at: Duration,
}

/// What happened in a run, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) updates: u64,
    pub(crate) jobs: u64,
    pub(crate) virtual_seconds: u64,
    pub(crate) turns: u64,
    pub(crate) stops: u64,
    pub(crate) deaths: u64,
    pub(crate) cuts: u64,
    /// How often a holder found that it had lost its lease, by what told it.
    pub(crate) fenced: u64,
    pub(crate) held_back: u64,
    /// How often a transaction was ended by the store, or committed behind its owner's back.
    pub(crate) ended_idle: u64,
    pub(crate) committed_late: u64,
    /// Apps that were taken over from another replica, by what the last holder was about.
    pub(crate) taken_over: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, run: &Self) {
        self.updates += run.updates;
        self.jobs += run.jobs;
        self.virtual_seconds += run.virtual_seconds;
        self.turns += run.turns;
        self.stops += run.stops;
        self.deaths += run.deaths;
        self.cuts += run.cuts;
        self.fenced += run.fenced;
        self.held_back += run.held_back;
        self.ended_idle += run.ended_idle;
        self.committed_late += run.committed_late;
        for (step, count) in &run.taken_over {
            *self.taken_over.entry(step).or_default() += count;
        }
    }
}

pub(crate) struct Inside {
    pub(crate) time: Duration,
    due: BTreeMap<(Duration, u64), Due>,
    next_id: u64,
    pub(crate) chaos: Random,
    standings: Vec<Standing>,
    spawned: Vec<(Option<Owner>, Job)>,
    pub(crate) open: BTreeMap<u64, Open>,
    vacuum_is_due: bool,
    /// Nothing goes wrong any more.
    calm: bool,
    broken: Option<String>,
    pub(crate) tally: Tally,
    /// Who drove an app last, and what it was about.
    pub(crate) drivers: BTreeMap<usize, (Owner, &'static str)>,
    /// The processes that are up.
    pub(crate) processes: Vec<Option<Arc<Process>>>,
}

/// The world. Clones are the same one.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) scenario: Arc<FleetScenario>,
    /// The store, past all that gets in the way.
    pub(crate) engine: MemoryEngine,
    /// Upstream's account of each app, and who watches it.
    pub(crate) networks: Arc<Vec<Network>>,
    pub(crate) checkers: Arc<Vec<Mutex<Checker>>>,
    /// The apps, and who looks at the store past all that gets in the way.
    pub(crate) apps: Arc<Vec<AppId>>,
    pub(crate) observer: Arc<Mutex<Observer>>,
    inside: Arc<Mutex<Inside>>,
}

/// A transaction that nobody uses for so long is ended by the store.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// No run needs more turns.
const TURNS_MAX: u64 = 3_000_000;

impl World {
    pub(crate) fn new(scenario: FleetScenario) -> Self {
        let engine = MemoryEngine::shared(STRIPES);
        engine.set_time(Timestamp::from_micros(EPOCH_MICROS));
        let (observer, apps) = Observer::new(engine.clone(), &scenario);
        let networks: Vec<Network> =
            (0..scenario.apps).map(|_| Network::new(&scenario.base)).collect();
        for network in &networks {
            // As with one gateway: the budget is used as fast as its clock runs.
            network.inside().account.early_max = Duration::from_millis(20);
        }
        let checkers = (0..scenario.apps).map(|_| Mutex::default()).collect();
        let standings = (0..scenario.replicas).map(|_| Standing::default()).collect();
        let inside = Inside {
            time: Duration::ZERO,
            due: BTreeMap::new(),
            next_id: 0,
            chaos: Random::new(scenario.seed, "fleet's chaos"),
            standings,
            spawned: Vec::new(),
            open: BTreeMap::new(),
            vacuum_is_due: false,
            calm: false,
            broken: None,
            tally: Tally::default(),
            drivers: BTreeMap::new(),
            processes: (0..scenario.replicas).map(|_| None).collect(),
        };
        Self {
            scenario: Arc::new(scenario),
            engine,
            networks: Arc::new(networks),
            checkers: Arc::new(checkers),
            apps: Arc::new(apps),
            observer: Arc::new(Mutex::new(observer)),
            inside: Arc::new(Mutex::new(inside)),
        }
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checker(&self, app: usize) -> MutexGuard<'_, Checker> {
        self.checkers[app].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn time(&self) -> Duration {
        self.inside().time
    }

    /// The store's clock.
    pub(crate) fn store_time(&self) -> Timestamp {
        Timestamp::from_micros(EPOCH_MICROS).plus(self.time())
    }

    /// Tells what happens, where that is wanted.
    pub(crate) fn say(&self, owner: Option<Owner>, what: impl FnOnce() -> String) {
        if self.scenario.trace {
            let who = owner.map(|owner| format!("{}.{}", owner.place, owner.life));
            eprintln!("{:>12.3?} {:>5}  {}", self.time(), who.unwrap_or_default(), what());
        }
    }

    pub(crate) fn count(&self, what: impl FnOnce(&mut Tally)) {
        what(&mut self.inside().tally);
    }

    /// A promise is broken: the first one counts.
    pub(crate) fn break_with(&self, what: impl Into<String>) {
        self.inside().broken.get_or_insert(what.into());
    }

    pub(crate) fn hold(&self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.break_with(what);
        }
    }

    pub(crate) fn broken(&self) -> Option<String> {
        self.inside().broken.clone()
    }

    /// One below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.inside().chaos.below(bound)
    }

    pub(crate) fn percent(&self, percent: u64) -> bool {
        self.inside().chaos.percent(percent)
    }

    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        self.inside().chaos.millis(low, high)
    }

    /// Whether something of this kind happens now.
    pub(crate) fn strikes(&self, trouble: Trouble, one_in: u64) -> bool {
        let has = self.scenario.has(trouble);
        let mut inside = self.inside();
        has && !inside.calm
            && inside.chaos.percent(self.scenario.trouble_percent)
            && inside.chaos.below(one_in) == 0
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.inside().calm
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.say(None, || "all is well from now on".into());
        let mut inside = self.inside();
        inside.calm = true;
        let now = inside.time;
        for standing in &mut inside.standings {
            standing.stopped_until = standing.stopped_until.min(now);
            standing.cut_until = standing.cut_until.min(now);
        }
        drop(inside);
        for network in self.networks.iter() {
            network.inside().healthy = true;
        }
    }

    /// Does something at some time.
    pub(crate) fn at(&self, at: Duration, what: impl FnOnce(&Self) + Send + 'static) {
        let mut inside = self.inside();
        let id = inside.next_id;
        inside.next_id += 1;
        let at = at.max(inside.time);
        inside.due.insert((at, id), Box::new(what));
    }

    /// Starts a task, of a process or of nobody.
    pub(crate) fn spawn(
        &self,
        owner: Option<Owner>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.inside().spawned.push((owner, Box::pin(task)));
    }

    pub(crate) async fn sleep_until(&self, at: Duration) {
        let mut is_set = false;
        poll_fn(|context| {
            if self.time() >= at {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_set, true) {
                let waker = context.waker().clone();
                self.at(at, move |_| waker.wake());
            }
            Poll::Pending
        })
        .await;
    }

    pub(crate) async fn sleep(&self, length: Duration) {
        self.sleep_until(self.time() + length).await;
    }

    pub(crate) async fn give_way(&self) {
        let mut given = false;
        poll_fn(|context| {
            if std::mem::replace(&mut given, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// A point of a process's life: others come in between, it may stand still here, or die.
    pub(crate) async fn point(&self, owner: Owner, one_in: u64) {
        if self.strikes(Trouble::Stop, one_in) {
            let length = self.millis(1, 12_000);
            self.stop(owner.place, length);
        }
        if self.strikes(Trouble::LongStop, one_in * 2) {
            let length = self.millis(8_000, 90_000);
            self.stop(owner.place, length);
        }
        if self.strikes(Trouble::Kill, one_in * 2) {
            self.kill(owner.place);
            pending::<()>().await;
        }
        match self.below(10) {
            0..6 => {}
            6..9 => self.give_way().await,
            _ => {
                let length = self.millis(0, 8);
                self.sleep(length).await;
            }
        }
        // Whoever was stopped goes on from here.
        if self.is_stopped(Some(owner)) {
            self.give_way().await;
        }
    }

    pub(crate) fn stop(&self, place: usize, length: Duration) {
        let mut inside = self.inside();
        let until = inside.time + length;
        let standing = &mut inside.standings[place];
        let life = standing.life;
        standing.stopped_until = standing.stopped_until.max(until);
        inside.tally.stops += 1;
        drop(inside);
        self.say(Some(Owner { place, life }), || format!("stands still for {length:?}"));
        // So that time comes to an end there.
        self.at(until, |_| {});
    }

    pub(crate) fn kill(&self, place: usize) {
        let mut inside = self.inside();
        let standing = &mut inside.standings[place];
        if !std::mem::replace(&mut standing.is_alive, false) {
            return;
        }
        let life = standing.life;
        let mourner = standing.mourner.take();
        inside.processes[place] = None;
        inside.tally.deaths += 1;
        drop(inside);
        self.say(Some(Owner { place, life }), || "dies".into());
        if let Some(mourner) = mourner {
            mourner.wake();
        }
    }

    pub(crate) fn cut(&self, place: usize, length: Duration) {
        let mut inside = self.inside();
        let until = inside.time + length;
        let standing = &mut inside.standings[place];
        standing.cut_until = standing.cut_until.max(until);
        let life = standing.life;
        inside.tally.cuts += 1;
        drop(inside);
        self.say(Some(Owner { place, life }), || format!("is cut off for {length:?}"));
    }

    /// A new life of a replica begins.
    pub(crate) fn be_born(&self, place: usize) -> Owner {
        let mut inside = self.inside();
        let standing = &mut inside.standings[place];
        standing.life += 1;
        standing.is_alive = true;
        standing.stopped_until = Duration::ZERO;
        Owner { place, life: standing.life }
    }

    /// Until a process is no more.
    pub(crate) async fn death_of(&self, owner: Owner) {
        poll_fn(|context| {
            if !self.is_alive(owner) {
                return Poll::Ready(());
            }
            self.inside().standings[owner.place].mourner = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn is_alive(&self, owner: Owner) -> bool {
        let standing = &self.inside().standings[owner.place];
        standing.is_alive && standing.life == owner.life
    }

    pub(crate) fn is_cut(&self, owner: Owner) -> bool {
        let inside = self.inside();
        inside.standings[owner.place].cut_until > inside.time
    }

    fn is_stopped(&self, owner: Option<Owner>) -> bool {
        let Some(owner) = owner else { return false };
        let inside = self.inside();
        inside.standings[owner.place].stopped_until > inside.time
    }

    /// A number of its own.
    pub(crate) fn number(&self) -> u64 {
        let mut inside = self.inside();
        inside.next_id += 1;
        inside.next_id
    }

    /// The store has a transaction, and ends it if nobody uses it.
    pub(crate) fn open(&self, id: u64, inner: MemoryTransaction) {
        let mut inside = self.inside();
        let (now, is_due) = (inside.time, inside.vacuum_is_due);
        inside.open.insert(id, Open { inner, used_at: now });
        inside.vacuum_is_due = true;
        drop(inside);
        if !is_due {
            self.at(now + IDLE_MAX, Self::vacuum);
        }
    }

    fn vacuum(&self) {
        let mut inside = self.inside();
        let now = inside.time;
        let ended: Vec<Open> = inside
            .open
            .extract_if(.., |_, it| it.used_at + IDLE_MAX <= now)
            .map(|it| it.1)
            .collect();
        inside.tally.ended_idle += ended.len() as u64;
        inside.vacuum_is_due = !inside.open.is_empty();
        let is_due = inside.vacuum_is_due;
        drop((inside, ended));
        if is_due {
            self.at(now + Duration::from_millis(500), Self::vacuum);
        }
    }

    /// Goes to the next moment at which something is due.
    fn advance(&self) -> bool {
        let Some((at, first)) = ({
            let mut inside = self.inside();
            let first = inside.due.pop_first();
            first.map(|((at, _), what)| {
                inside.time = at;
                (at, what)
            })
        }) else {
            return false;
        };
        self.engine.set_time(Timestamp::from_micros(EPOCH_MICROS).plus(at));
        for (app, network) in self.networks.iter().enumerate() {
            network.inside().advance(at);
            self.watch(app);
        }
        first(self);
        true
    }

    /// Shows the checker what upstream saw.
    pub(crate) fn watch(&self, app: usize) {
        let mut network = self.networks[app].inside();
        let sights = std::mem::take(&mut network.account.sights);
        let broken = network.account.broken.pop();
        drop(network);
        let mut checker = self.checker(app);
        for sight in sights {
            self.hold(checker.see(&sight));
        }
        if let Some(broken) = broken {
            self.break_with(broken);
        }
    }

    /// Ends what refers to itself.
    fn end(&self) {
        let mut inside = self.inside();
        let due = std::mem::take(&mut inside.due);
        let rest = (std::mem::take(&mut inside.spawned), std::mem::take(&mut inside.processes));
        let open = std::mem::take(&mut inside.open);
        drop(inside);
        drop((due, rest, open));
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Task {
    owner: Option<Owner>,
    job: Job,
    flag: Arc<Flag>,
}

/// Runs all tasks by turns, until `is_over` or a promise is broken.
pub(crate) fn run(world: &World, is_over: impl Fn() -> bool) -> Result<(), String> {
    let outcome = take_turns(world, is_over);
    world.end();
    outcome
}

fn take_turns(world: &World, is_over: impl Fn() -> bool) -> Result<(), String> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut order = Random::new(world.scenario.seed, "turns");
    for turn in 0..TURNS_MAX {
        for (owner, job) in std::mem::take(&mut world.inside().spawned) {
            tasks.push(Task { owner, job, flag: Arc::new(Flag(AtomicBool::new(true))) });
        }
        // Whoever died drops all that it has.
        tasks.retain(|task| task.owner.is_none_or(|owner| world.is_alive(owner)));
        if let Some(what) = world.broken() {
            return Err(what);
        }
        if is_over() {
            world.inside().tally.turns = turn;
            return Ok(());
        }
        let may = |task: &Task| task.flag.0.load(Relaxed) && !world.is_stopped(task.owner);
        let ready: Vec<usize> = (0..tasks.len()).filter(|place| may(&tasks[*place])).collect();
        let Some(place) = order.one(&ready) else {
            if !world.advance() {
                return Err("all wait for ever".into());
            }
            continue;
        };
        let task = &mut tasks[place];
        task.flag.0.store(false, Relaxed);
        let waker = Waker::from(task.flag.clone());
        if task.job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(tasks.swap_remove(place));
        }
    }
    Err(format!("{TURNS_MAX} turns, and no end"))
}
