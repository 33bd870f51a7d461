//! A replica: a process with a clock of its own, which takes leases, prolongs them and gives them up.
//! What it decides, `domain::lease` and `domain::spread` decide.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Mutex;
use userpilot_gateway::{
    domain::{
        lease::{Held, ReplicaId, sample},
        lifecycle::Lifecycle,
        spread::{AppLease, Look, Move, moves},
        time::{Instant, Now, Timestamp},
    },
    store::{
        StoreError,
        engine::Engine,
        queue::{Queue, Reads, lease::Renewal},
    },
};

use super::{
    engine::SimEngine,
    sabotage::Sabotage,
    scenario::Trouble,
    session::deliver,
    world::{Owner, World},
};
use crate::process::EPOCH_MICROS;

/// What a process knows of an app that it delivers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) held: Held,
    /// Its driver is to end.
    pub(crate) is_to_end: bool,
    /// It has ended.
    pub(crate) is_over: bool,
    /// The lease is given up then.
    gives_up: bool,
    /// Nothing is under way by jobs, or by express.
    pub(crate) is_idle: bool,
    pub(crate) is_express_idle: bool,
}

/// The clock of a machine: it runs at a rate of its own, and is set by the store's.
#[derive(Clone, Copy, Debug)]
struct Clock {
    started_at: Duration,
    /// How many millionths faster than time itself.
    ppm: i64,
    /// How far its own wall clock is off, in microseconds.
    off: i64,
    /// The store's time, at an instant.
    set: Option<(Timestamp, Instant)>,
}

/// The time that a process takes to come up.
const UP: Duration = Duration::from_millis(3);
const MILLION: u128 = 1_000_000;

impl Clock {
    fn rate(self) -> u128 {
        u128::try_from(1_000_000 + self.ppm).unwrap_or(MILLION)
    }

    fn instant(self, time: Duration) -> Instant {
        let micros = time.saturating_sub(self.started_at).as_micros() * self.rate() / MILLION;
        Instant::from_origin(UP + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// The time at which the clock shows an instant.
    fn time_of(self, instant: Instant) -> Duration {
        let shown = instant.since(Instant::from_origin(UP)).as_micros();
        // It shows whole microseconds.
        let micros = (shown + 1) * MILLION / self.rate() + 1;
        self.started_at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// A process.
pub(crate) struct Process {
    pub(crate) world: World,
    pub(crate) owner: Owner,
    pub(crate) me: ReplicaId,
    clock: StdMutex<Clock>,
    pub(crate) engine: SimEngine,
    /// Those that accept, each with a queue of its own.
    pub(crate) accepting: Vec<Mutex<Queue<SimEngine>>>,
    /// That of drivers.
    pub(crate) control: Mutex<Queue<SimEngine>>,
    leases: Mutex<Queue<SimEngine>>,
    pub(crate) reads: Reads<SimEngine>,
    held: StdMutex<BTreeMap<usize, Holding>>,
    /// Drivers that have ended, for the bug that goes on with them.
    parked: StdMutex<BTreeMap<usize, Lifecycle>>,
    is_leaving: AtomicBool,
}

impl Process {
    async fn open(world: &World, owner: Owner) -> Result<Self, StoreError> {
        let engine = SimEngine::new(world.clone(), owner);
        let limits = world.scenario.base.queue;
        let queue = || Queue::open(engine.another(), limits, world.number());
        let mut queues = Vec::new();
        for _ in 0..4 {
            let mut queue = queue().await?;
            for app in 0..world.scenario.apps {
                queue.app(&super::facts::name_of(app)).await?;
            }
            queues.push(Mutex::new(queue));
        }
        let mut next = || queues.pop().expect("there are four");
        let (control, leases, accepting) = (next(), next(), vec![next(), next()]);
        let drifts = world.scenario.has(Trouble::Drift);
        let own_clock = world.scenario.sabotage == Some(Sabotage::OwnClock);
        let signed = |below: u64| {
            let drawn = i64::try_from(world.below(2 * below + 1)).unwrap_or(0);
            drawn - i64::try_from(below).unwrap_or(0)
        };
        let clock = Clock {
            started_at: world.time(),
            ppm: if drifts { signed(200) } else { 0 },
            off: if drifts || own_clock { signed(600_000_000) } else { 0 },
            set: None,
        };
        Ok(Self {
            world: world.clone(),
            owner,
            me: ReplicaId(world.number()),
            clock: StdMutex::new(clock),
            reads: Reads::new(engine.another()),
            engine,
            accepting,
            control,
            leases,
            held: StdMutex::default(),
            parked: StdMutex::default(),
            is_leaving: AtomicBool::new(false),
        })
    }

    fn clock(&self) -> Clock {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, as the process takes it to be. A machine's uptime says nothing to others.
    pub(crate) fn now(&self) -> Now {
        let clock = self.clock();
        let instant = clock.instant(self.world.time());
        let own = Timestamp::from_micros(EPOCH_MICROS + clock.off).plus(self.world.time());
        let wall = match clock.set {
            Some((wall, at)) => wall.plus(instant.since(at)),
            None => own,
        };
        Now { instant, wall, uptime: None }
    }

    /// Sleeps until its clock shows an instant.
    pub(crate) async fn sleep_until(&self, instant: Instant) {
        let at = self.clock().time_of(instant);
        self.world.sleep_until(at).await;
    }

    /// Sets its clock by the store's.
    async fn set_clock(&self) -> Result<(), StoreError> {
        let asked_at = self.now().instant;
        let time = self.engine.time().await?;
        let heard_at = self.now().instant;
        let time = time.and_then(|time| sample(time, asked_at, heard_at));
        if self.world.scenario.sabotage == Some(Sabotage::OwnClock) {
            return Ok(());
        }
        if let Some(time) = time {
            self.clock.lock().unwrap_or_else(PoisonError::into_inner).set = Some((time, heard_at));
        }
        Ok(())
    }

    fn is_set(&self) -> bool {
        self.clock().set.is_some() || self.world.scenario.sabotage == Some(Sabotage::OwnClock)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<usize, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn holding(&self, app: usize) -> Option<Holding> {
        self.held().get(&app).copied()
    }

    /// Changes what is known of an app.
    pub(crate) fn note(&self, app: usize, what: impl FnOnce(&mut Holding)) {
        if let Some(holding) = self.held().get_mut(&app) {
            what(holding);
        }
    }

    /// A driver has ended.
    pub(crate) fn park(&self, app: usize, machine: Lifecycle) {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).insert(app, machine);
    }

    pub(crate) fn parked(&self, app: usize) -> Option<Lifecycle> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).remove(&app)
    }

    /// It is asked to stop.
    pub(crate) fn ask_to_leave(&self) {
        self.is_leaving.store(true, Relaxed);
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        self.world.say(Some(self.owner), what);
    }

    /// What went wrong passes; what does not, nothing here may bring about.
    pub(crate) fn bear<T>(&self, outcome: Result<T, StoreError>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.say(|| format!("{error}"));
                if !error.is_passing() {
                    self.world.break_with(format!("the store fails: {error}"));
                }
                None
            }
        }
    }

    /// Prolongs what it has, and says that it is there.
    async fn renew(&self) {
        let terms = self.world.scenario.terms;
        let asked_at = self.now().instant;
        let holdings: Vec<(usize, Held)> = {
            let held = self.held();
            let held = held.iter().filter(|(_, it)| !it.is_over && !it.gives_up);
            held.map(|(app, holding)| (*app, holding.held)).collect()
        };
        let id = |app: usize| self.world.apps[app];
        let renewal = Renewal {
            apps: self.world.apps.iter().copied().collect(),
            held: holdings.iter().map(|(app, held)| (id(*app), (held.token, Vec::new()))).collect(),
        };
        let renewed = self.leases.lock().await.renew_leases(self.me, &renewal, terms).await;
        let Some(renewed) = self.bear(renewed) else { return };
        for (app, held) in holdings {
            let is_own = renewed.get(&id(app)).is_some_and(|lease| lease.token == held.token);
            self.note(app, |holding| match is_own {
                true => holding.held.prolong(Held::new(held.token, asked_at, terms)),
                false => holding.is_to_end = true,
            });
        }
    }

    /// Looks who has what, and takes or gives up.
    async fn look_out(self: &Arc<Self>, gave_up_at: &mut Option<Timestamp>) {
        self.let_go(gave_up_at).await;
        let terms = self.world.scenario.terms;
        let looked = self.leases.lock().await.look_at_leases(&self.world.apps).await;
        let Some(looked) = self.bear(looked) else { return };
        let mut apps = Vec::new();
        for (place, app) in self.world.apps.iter().enumerate() {
            let Some(lease) = looked.leases.get(app) else { continue };
            let is_idle = self.holding(place).is_some_and(|it| it.is_idle && it.is_express_idle);
            apps.push(AppLease { app: *app, holder: lease.holder, until: lease.until, is_idle });
        }
        let steps = moves(&Look {
            me: self.me,
            replicas: &looked.replicas,
            apps: &apps,
            gave_up_at: *gave_up_at,
            now: looked.now,
            gone_after: terms.length,
        });
        for step in steps {
            let (Move::Take(app) | Move::GiveUp(app)) = step;
            let Some(place) = self.world.apps.iter().position(|it| *it == app) else { continue };
            match step {
                Move::Take(_) => self.take(place).await,
                Move::GiveUp(_) => self.give_up(place),
            }
        }
    }

    async fn take(self: &Arc<Self>, app: usize) {
        if self.held().contains_key(&app) {
            return;
        }
        let (id, terms) = (self.world.apps[app], self.world.scenario.terms);
        let asked_at = self.now().instant;
        let taken = self.leases.lock().await.take_lease(id, self.me, terms).await;
        let Some(Some(lease)) = self.bear(taken) else { return };
        self.say(|| format!("takes app {app} under token {}", lease.token));
        let holding = Holding {
            held: Held::new(lease.token, asked_at, terms),
            is_to_end: false,
            is_over: false,
            gives_up: false,
            is_idle: false,
            is_express_idle: true,
        };
        self.held().insert(app, holding);
        self.world.spawn(Some(self.owner), deliver(self.clone(), app, lease.token));
    }

    fn give_up(&self, app: usize) {
        self.note(app, |holding| {
            holding.is_to_end = true;
            holding.gives_up = true;
        });
    }

    /// Forgets the apps whose drivers have ended, and gives up those that it was to.
    async fn let_go(&self, gave_up_at: &mut Option<Timestamp>) {
        let over: Vec<(usize, Holding)> = {
            let mut held = self.held();
            held.extract_if(.., |_, holding| holding.is_over).collect()
        };
        for (app, holding) in over.into_iter().filter(|(_, holding)| holding.gives_up) {
            let own = (self.me, holding.held.token);
            let terms = self.world.scenario.terms;
            self.say(|| format!("gives up app {app}"));
            let id = self.world.apps[app];
            let given_up = self.leases.lock().await.give_up_lease(id, own, terms).await;
            if self.bear(given_up).is_some() {
                *gave_up_at = Some(self.now().wall);
            }
        }
    }

    /// Gives up all that it has, and is no more.
    async fn leave(&self) {
        self.say(|| "leaves".into());
        let apps: Vec<usize> = self.held().keys().copied().collect();
        for app in apps {
            self.give_up(app);
        }
        // A step that is under way is finished first, but not waited for for ever.
        let until = self.now().instant.plus(Duration::from_secs(20));
        while !self.held().values().all(|holding| holding.is_over) && self.now().instant < until {
            self.world.sleep(Duration::from_millis(100)).await;
        }
        self.let_go(&mut None).await;
        let departed = self.leases.lock().await.depart(self.me).await;
        self.bear(departed);
        self.world.kill(self.owner.place);
    }
}

/// A process, from its start to its end.
pub(crate) async fn live(world: World, owner: Owner) {
    let process = loop {
        match Process::open(&world, owner).await {
            Ok(process) => break Arc::new(process),
            Err(error) if error.is_passing() => world.sleep(Duration::from_millis(500)).await,
            Err(error) => return world.break_with(format!("does not start: {error}")),
        }
    };
    while !process.is_set() {
        let set = process.set_clock().await;
        process.bear(set);
        world.sleep(Duration::from_millis(50)).await;
    }
    process.say(|| format!("is up as {:?}", process.me));
    world.inside().processes[owner.place] = Some(process.clone());
    let (mut renewed_at, mut gave_up_at) = (None::<Instant>, None);
    loop {
        if process.is_leaving.load(Relaxed) {
            return process.leave().await;
        }
        let now = process.now().instant;
        let every = world.scenario.terms.renewal();
        if renewed_at.is_none_or(|at| now.since(at) >= every) {
            renewed_at = Some(now);
            let set = process.set_clock().await;
            process.bear(set);
            process.renew().await;
        }
        process.look_out(&mut gave_up_at).await;
        process.sleep_until(now.plus(every)).await;
    }
}
