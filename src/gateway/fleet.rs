//! A gateway that shares its store with others: which apps it delivers, and what it tells and hears of
//! the others. Each app has a seat, in which a session delivers while this gateway has the app's
//! lease.

mod clock;
mod seat;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) use self::{
    clock::{anchored, watch_database},
    seat::Seat,
};
use super::Ended;
use crate::{
    clock as time,
    config::FleetConfig,
    delivery::{Operation, Operator, Place, Ports, Told},
    domain::{
        lease::{Held, Lease, LeaseTerms, ReplicaId},
        spread::{AppLease, Look, Move, moves},
        time::{Instant, Timestamp},
        update::AppId,
    },
    store::{
        Store,
        queue::lease::{Leases, Renewal},
    },
};

/// How often it is looked who else is there, and who has what.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether all sessions have ended, at a stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// How a gateway takes part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    me: ReplicaId,
    /// What the others call it.
    name: String,
    terms: LeaseTerms,
    renew_interval: Duration,
    poll_interval: Duration,
}

impl Part {
    /// That of a process that starts now.
    pub(super) fn of(config: &FleetConfig) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "a host" } else { host.trim() };
        Self {
            me: ReplicaId(rand::random()),
            name: format!("{host}, process {}", std::process::id()),
            terms: lease_terms(config),
            renew_interval: Duration::from_millis(config.renew_ms),
            poll_interval: Duration::from_millis(config.poll_ms),
        }
    }
}

/// How long leases last.
pub(super) fn lease_terms(config: &FleetConfig) -> LeaseTerms {
    LeaseTerms::of(Duration::from_millis(config.lease_ms))
}

/// What is known here of an app's lease, for its seat and for who keeps it.
pub(super) struct Chair {
    pub(super) app: AppId,
    pub(super) name: String,
    pub(super) operator: Operator,
    pub(super) ports: Ports,
    /// While this gateway has it.
    pub(super) held: watch::Sender<Option<Held>>,
    /// Whether the session is to end in order, so that another may have the app.
    pub(super) leave: watch::Sender<bool>,
    /// Whether a session delivers, or begins to.
    pub(super) seated: watch::Receiver<bool>,
    /// How often a flush was asked for that is done. `None` until the lease was seen once: what was
    /// asked before was asked of others.
    flushes: Option<u64>,
}

impl Chair {
    pub(super) fn new(
        (app, name): (AppId, String),
        (operator, ports): (Operator, Ports),
        seated: watch::Receiver<bool>,
    ) -> Self {
        let (held, leave) = (watch::Sender::new(None), watch::Sender::new(false));
        ports.place(Place::Nowhere);
        Self { app, name, operator, ports, held, leave, seated, flushes: None }
    }

    fn token(&self) -> Option<u64> {
        self.held.borrow().map(|held| held.token)
    }

    /// The lease was given, to what was asked at `asked_at`.
    fn hold(&mut self, lease: &Lease, asked_at: Instant, terms: LeaseTerms) {
        self.held.send_replace(Some(Held::new(lease.token, asked_at, terms)));
        let (wished, done) = (lease.wishes.flushes, self.flushes.unwrap_or(lease.wishes.flushes));
        let is_done = wished <= done || self.operator.ask_at_once(Operation::Flush);
        self.flushes = Some(if is_done { wished.max(done) } else { done });
    }
}

/// Keeps this gateway's leases, and looks at the others.
pub(super) struct Keeper {
    pub(super) part: Part,
    pub(super) store: Store,
    pub(super) chairs: Vec<Chair>,
    /// When it gave an app up last.
    gave_up_at: Option<Timestamp>,
}

impl Keeper {
    pub(super) fn new(part: Part, store: Store, chairs: Vec<Chair>) -> Self {
        Self { part, store, chairs, gave_up_at: None }
    }

    /// Works until it is told to stop and every session has ended. What fails is tried again: while
    /// the database is away, leases end by themselves.
    pub(super) async fn keep(mut self, stop: CancellationToken) -> Ended {
        tracing::info!(replica = self.part.name, "takes part among those that share the store");
        let (mut renew_at, mut look_at) = (time::instant(), time::instant());
        loop {
            let stops = stop.is_cancelled();
            if stops && !self.chairs.iter().any(|chair| *chair.seated.borrow()) {
                break;
            }
            let now = time::instant();
            if now >= renew_at {
                renew_at = now.plus(self.part.renew_interval);
                self.renew().await;
            }
            let looks = now >= look_at;
            if looks {
                look_at = now.plus(LOOK_INTERVAL);
            }
            self.refresh(looks).await;
            if looks && !stops {
                self.look().await;
            }
            self.let_others().await;
            let pause = if stops { STOP_INTERVAL } else { self.part.poll_interval };
            let next = now.plus(pause).min(renew_at).min(look_at);
            tokio::select! {
                () = stop.cancelled(), if !stops => {}
                () = time::sleep_until(Some(next)) => {}
            }
        }
        for place in 0..self.chairs.len() {
            self.give_up(place).await;
        }
        self.store.depart(self.part.me).await.ok();
        Ended::Housekeeper
    }

    /// Prolongs what it has, and tells of it.
    async fn renew(&mut self) {
        let now = time::now();
        let told = |chair: &Chair| {
            let token = chair.token()?;
            let told = Told::of(&self.part.name, &chair.ports.view(), now);
            Some((chair.app, (token, told.encode())))
        };
        let renewal = Renewal {
            apps: self.chairs.iter().map(|chair| chair.app).collect(),
            held: self.chairs.iter().filter_map(told).collect(),
        };
        // What is given counts from before it was asked for.
        let asked_at = time::instant();
        let Ok(renewed) = self.store.renew_leases(self.part.me, renewal).await else { return };
        for chair in self.chairs.iter_mut().filter(|chair| chair.token().is_some()) {
            match renewed.get(&chair.app) {
                Some(lease) => chair.hold(lease, asked_at, self.part.terms),
                None => {
                    tracing::warn!(app = chair.name, "another replica delivers the app by now");
                    chair.held.send_replace(None);
                }
            }
        }
    }

    /// Reads what waits: of its own apps, or of all.
    async fn refresh(&self, all: bool) {
        let looked_at = |chair: &&Chair| all || chair.token().is_some();
        let pauses: BTreeMap<AppId, u64> = self
            .chairs
            .iter()
            .filter(looked_at)
            .map(|chair| (chair.app, chair.operator.pauses()))
            .collect();
        let apps: BTreeSet<AppId> = pauses.keys().copied().collect();
        if apps.is_empty() {
            return;
        }
        let Ok(paused) = self.store.refresh(&apps).await else { return };
        for chair in &self.chairs {
            if let (Some(paused), Some(pauses)) = (paused.get(&chair.app), pauses.get(&chair.app)) {
                chair.operator.find_paused(*paused, *pauses);
            }
        }
    }

    /// Looks who is there and who has what, and takes what is free, or leaves what another wants.
    async fn look(&mut self) {
        let apps = self.chairs.iter().map(|chair| chair.app).collect();
        let Ok((leases, who_has)) = self.store.look_at_leases(apps).await else { return };
        self.see(&leases);
        // Its own that it was given without hearing of it.
        let is_mine = |it: &&AppLease| it.holder == Some(self.part.me) && it.until > leases.now;
        let is_unheard = |app| self.chairs.iter().any(|it| it.app == app && it.token().is_none());
        let unheard = who_has.iter().filter(is_mine).map(|it| it.app).filter(|it| is_unheard(*it));
        for app in unheard.collect::<Vec<_>>() {
            self.take(app).await;
        }
        let moves = moves(&Look {
            me: self.part.me,
            replicas: &leases.replicas,
            apps: &who_has,
            gave_up_at: self.gave_up_at,
            now: leases.now,
            gone_after: self.part.terms.length,
        });
        for a_move in moves {
            match a_move {
                Move::Take(app) => self.take(app).await,
                Move::GiveUp(app) => {
                    self.gave_up_at = Some(leases.now);
                    if let Some(chair) = self.chairs.iter().find(|chair| chair.app == app) {
                        tracing::info!(app = chair.name, "leaves the app to another replica");
                        chair.leave.send_replace(true);
                    }
                }
            }
        }
    }

    /// Shows what the others tell. What is asked of a holder, that one does.
    fn see(&mut self, leases: &Leases) {
        for chair in self.chairs.iter_mut().filter(|chair| chair.token().is_none()) {
            let lease = leases.leases.get(&chair.app);
            let held = lease.filter(|lease| lease.is_held(leases.now));
            // What is asked while nobody has it, whoever takes it does.
            let done = held.or(lease.filter(|_| chair.flushes.is_none()));
            chair.flushes = done.map(|lease| lease.wishes.flushes).or(chair.flushes);
            chair.ports.place(match held {
                Some(lease) => Place::Elsewhere(Box::new(Told::decode(&lease.view).by_somebody())),
                None => Place::Nowhere,
            });
        }
    }

    async fn take(&mut self, app: AppId) {
        let asked_at = time::instant();
        let Ok(Some(lease)) = self.store.take_lease(app, self.part.me).await else { return };
        let Some(chair) = self.chairs.iter_mut().find(|chair| chair.app == app) else { return };
        tracing::info!(app = chair.name, token = lease.token, "delivers the app from now on");
        chair.ports.place(Place::Here);
        chair.leave.send_replace(false);
        chair.hold(&lease, asked_at, self.part.terms);
    }

    /// Gives up what was left.
    async fn let_others(&mut self) {
        for place in 0..self.chairs.len() {
            let chair = &self.chairs[place];
            if *chair.leave.borrow() && !*chair.seated.borrow() {
                self.give_up(place).await;
            }
        }
    }

    async fn give_up(&mut self, place: usize) {
        let chair = &mut self.chairs[place];
        chair.leave.send_replace(false);
        let Some(held) = chair.held.send_replace(None) else { return };
        // Where it cannot be given up, it ends by itself.
        self.store.give_up_lease(chair.app, (self.part.me, held.token)).await.ok();
    }
}
