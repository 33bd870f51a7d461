//! The fleet's world: virtual time, the tasks of all processes by turns that are drawn, and what
//! befalls them. A task gives way wherever the code that it runs waits for something, so that
//! others come in between wherever they may in truth.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
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
    fate::Standing,
    replica::Process,
    scenario::{FleetScenario, STRIPES, Trouble},
    tally::Tally,
};
use crate::{process::EPOCH_MICROS, random::Random, upstream::Network};

/// A process: the place of its replica, and which life of it this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) place: usize,
    pub(crate) life: u64,
}

pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;
type Due = Box<dyn FnOnce(&World) + Send>;

/// A transaction as the store sees it.
pub(crate) struct Open {
    pub(crate) inner: MemoryTransaction,
    pub(crate) used_at: Duration,
}

pub(crate) struct Inside {
    pub(crate) time: Duration,
    due: BTreeMap<(Duration, u64), Due>,
    next_id: u64,
    pub(crate) chaos: Random,
    pub(crate) standings: Vec<Standing>,
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

impl World {
    pub(crate) fn new(scenario: FleetScenario) -> Self {
        let engine = MemoryEngine::shared(STRIPES);
        engine.set_time(Timestamp::from_micros(EPOCH_MICROS));
        let (observer, apps) = Observer::new(engine.clone(), &scenario);
        // Requests are some time on their way, and so a little closer to each other, perhaps.
        let mut base = scenario.base.clone();
        base.express.per_minute += 1;
        let networks: Vec<Network> = (0..scenario.apps).map(|_| Network::new(&base)).collect();
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

    /// Tasks that are new.
    pub(crate) fn spawned(&self) -> Vec<(Option<Owner>, Job)> {
        std::mem::take(&mut self.inside().spawned)
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
    pub(crate) fn advance(&self) -> bool {
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
    pub(crate) fn end(&self) {
        let mut inside = self.inside();
        let due = std::mem::take(&mut inside.due);
        let rest = (std::mem::take(&mut inside.spawned), std::mem::take(&mut inside.processes));
        let open = std::mem::take(&mut inside.open);
        drop(inside);
        drop((due, rest, open));
    }
}
