//! The store as one process of a fleet meets it: over a way on which connections break, and which
//! may be cut. The store ends a transaction that nobody uses, as a database does.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tokio::sync::oneshot;
use userpilot_gateway::{
    domain::time::Timestamp,
    store::engine::{Engine, EngineError, Entries, MemoryEngine, Sharing, Transaction},
};

use super::{
    sabotage::Sabotage,
    scenario::{STRIPES, Trouble},
    world::{Owner, World},
};
use crate::process::at_once;

/// Kinds of entries, by the first byte of their keys.
const COURSE: u8 = b'c';
const STATE: u8 = b'a';
const LEASE: u8 = b'o';
const RESCUE: u8 = b'u';

/// A statement that waits for a lock for longer fails.
const LOCK_MAX: Duration = Duration::from_secs(6);
/// A client that hears nothing for longer gives up.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A transaction of the store itself.
pub(crate) type MemoryTransaction = <MemoryEngine as Engine>::Transaction;

/// A key and its new value, or none.
type Write = (Vec<u8>, Option<Arc<[u8]>>);
type Known = BTreeMap<Vec<u8>, Option<Arc<[u8]>>>;

/// The way of one process to the store.
#[derive(Clone)]
pub(crate) struct SimEngine {
    world: World,
    owner: Owner,
    /// What the process wrote of leases last, for the bugs that go by it.
    leases: Arc<Mutex<Known>>,
    /// What was known of apps before a lock, for the bug that goes by it.
    known: Arc<Mutex<Known>>,
}

impl SimEngine {
    pub(crate) fn new(world: World, owner: Owner) -> Self {
        Self { world, owner, leases: Arc::default(), known: Arc::default() }
    }

    /// The same way, for another queue of the process.
    pub(crate) fn another(&self) -> Self {
        Self { known: Arc::default(), ..self.clone() }
    }

    fn is(&self, sabotage: Sabotage) -> bool {
        self.world.scenario.sabotage == Some(sabotage)
    }

    /// Whether it takes the store for one with half as many stripes.
    fn halves(&self) -> bool {
        self.is(Sabotage::SameResidue) && self.owner.place % 2 == 1
    }

    /// Something is on its way to the store, or back.
    async fn pass(&self) {
        self.world.point(self.owner, 150).await;
        if self.world.strikes(Trouble::SlowStore, 6) {
            let most = if self.world.percent(80) { 200 } else { 1_500 };
            let length = self.world.millis(1, most);
            self.world.sleep(length).await;
        }
    }

    /// Something is asked of the store.
    async fn ask(&self) -> Result<(), EngineError> {
        self.pass().await;
        if self.world.is_cut(self.owner) {
            let length = self.world.millis(0, 3_000);
            self.world.sleep(length).await;
            return Err(EngineError::Away("there is no way to it".into()));
        }
        if self.world.strikes(Trouble::Reset, 60) {
            return Err(EngineError::Away("the connection is broken".into()));
        }
        Ok(())
    }

    fn of(&self, inner: MemoryTransaction, locks: &[Vec<u8>]) -> SimTransaction {
        let id = self.world.number();
        let begun_at = inner.time();
        self.world.open(id, inner);
        let locks_of = |kind| locks.iter().any(|key| key.first() == Some(&kind));
        SimTransaction {
            id,
            engine: self.clone(),
            begun_at,
            of_app: locks_of(COURSE),
            of_lease: locks_of(LEASE),
            writes: Vec::new(),
            is_left: false,
        }
    }

    /// Takes the locks, whatever becomes of the client meanwhile.
    async fn lock(&self, locks: &[Vec<u8>]) -> Result<SimTransaction, EngineError> {
        let inner = &self.world.engine;
        if let Some(begun) = inner.begin_locked(locks, &[]).now_or_never() {
            return Ok(self.of(begun?, locks));
        }
        let (tell, told) = oneshot::channel();
        let (engine, keys) = (self.clone(), locks.to_vec());
        self.world.spawn(None, async move {
            let begin = std::pin::pin!(engine.world.engine.begin_locked(&keys, &[]));
            let late = std::pin::pin!(engine.world.sleep(LOCK_MAX));
            let begun = match select(begin, late).await {
                Either::Left((begun, _)) => begun.map(|inner| engine.of(inner, &keys)),
                Either::Right(_) => Err(EngineError::Away("it waited for a lock".into())),
            };
            drop(tell.send(begun));
        });
        let late = std::pin::pin!(self.world.sleep(ANSWER_MAX));
        match select(told, late).await {
            Either::Left((Ok(begun), _)) => begun,
            Either::Left((Err(_), _)) | Either::Right(_) => {
                Err(EngineError::Away("it does not answer".into()))
            }
        }
    }

    /// What a bug makes of what is read under locks.
    fn distort(
        &self,
        key: &[u8],
        locked: (bool, bool),
        read: Option<Arc<[u8]>>,
    ) -> Option<Arc<[u8]>> {
        let kind = key.first().copied().unwrap_or_default();
        let blind = match kind {
            LEASE if locked.0 => self.is(Sabotage::NoFence),
            LEASE if locked.1 => self.is(Sabotage::RenewsWithoutLooking),
            _ => false,
        };
        if blind && let Some(own) = lock(&self.leases).get(key) {
            return own.clone();
        }
        if self.is(Sabotage::StaleState) && matches!(kind, COURSE | STATE | RESCUE) {
            let mut known = lock(&self.known);
            if locked.0 {
                return known.entry(key.to_vec()).or_insert(read).clone();
            }
            known.insert(key.to_vec(), read.clone());
        }
        if self.halves() && key == of_names() {
            return Some(as_if_halved());
        }
        read
    }

    /// What a process has written, its bugs go by.
    fn note(&self, writes: &[Write]) {
        for (key, value) in writes {
            match key.first() {
                Some(&LEASE) => drop(lock(&self.leases).insert(key.clone(), value.clone())),
                Some(&(COURSE | STATE | RESCUE)) => {
                    drop(lock(&self.known).insert(key.clone(), value.clone()));
                }
                _ => {}
            }
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key that says how many stripes there are.
fn of_names() -> Vec<u8> {
    vec![COURSE, 0xff, 0xff, 0, 0]
}

/// What stands there in a store with half as many.
fn as_if_halved() -> Arc<[u8]> {
    use userpilot_gateway::{domain::admission::QueueLimits, store::queue::Queue};
    let engine = MemoryEngine::shared(STRIPES / 2);
    let limits =
        QueueLimits { records_max: 1, bytes_max: 1, record_bytes_max: 1, record_properties_max: 1 };
    at_once(Queue::open(engine.clone(), limits, 1)).expect("it is new");
    let mut transaction = at_once(engine.begin()).expect("it is in memory");
    at_once(transaction.get(&of_names())).expect("it is in memory").expect("it is shared")
}

impl Engine for SimEngine {
    type Transaction = SimTransaction;

    async fn begin(&self) -> Result<SimTransaction, EngineError> {
        self.ask().await?;
        let inner = self.world.engine.begin().await?;
        Ok(self.of(inner, &[]))
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared { stripes: if self.halves() { STRIPES / 2 } else { STRIPES } }
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        _: &[Vec<u8>],
    ) -> Result<SimTransaction, EngineError> {
        self.ask().await?;
        let mut locks = locks.to_vec();
        if self.halves() {
            // Nobody else comes in between for that.
            let others: Vec<Vec<u8>> = locks.iter().filter_map(|key| other_half(key)).collect();
            locks.extend(others);
        }
        let transaction = self.lock(&locks).await?;
        self.pass().await;
        Ok(transaction)
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        self.ask().await?;
        self.world.engine.put_if_absent(key, value).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, EngineError> {
        self.ask().await?;
        let time = self.world.engine.time().await;
        self.pass().await;
        time
    }

    fn disk_bytes(&self) -> u64 {
        self.world.engine.disk_bytes()
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

/// The stripe that goes with another one where there are half as many.
fn other_half(key: &[u8]) -> Option<Vec<u8>> {
    let (last, rest) = key.split_last()?;
    let of_app = key.first() == Some(&COURSE) && key != of_names();
    let half = u8::try_from(STRIPES / 2).unwrap_or(0);
    of_app.then(|| [rest, &[(last + half) % (2 * half)]].concat())
}

/// A transaction as its client has it. The store has it, too, under the same number, as long as it
/// wants.
pub(crate) struct SimTransaction {
    id: u64,
    engine: SimEngine,
    /// The store's time once it had its locks.
    begun_at: Option<Timestamp>,
    /// Whether it has locks of an app's stripes, and those of leases.
    of_app: bool,
    of_lease: bool,
    writes: Vec<Write>,
    /// Whether it goes on without its client.
    is_left: bool,
}

impl SimTransaction {
    /// What the store has of it, if it has not ended it.
    fn with<T>(&self, what: impl FnOnce(&mut MemoryTransaction) -> T) -> Result<T, EngineError> {
        let world = &self.engine.world;
        let mut inside = world.inside();
        let now = inside.time;
        let Some(open) = inside.open.get_mut(&self.id) else {
            return Err(EngineError::Away("the store has ended it".into()));
        };
        open.used_at = now;
        Ok(what(&mut open.inner))
    }

    async fn ask(&self) -> Result<(), EngineError> {
        self.engine.ask().await
    }

    fn close(&self) -> Option<MemoryTransaction> {
        self.engine.world.inside().open.remove(&self.id).map(|open| open.inner)
    }

    /// Commits, as the store does it.
    fn commit_now(&self) -> Result<(), EngineError> {
        let inner = self.close();
        let inner = inner.ok_or_else(|| EngineError::Away("the store has ended it".into()))?;
        at_once(inner.commit())?;
        self.engine.note(&self.writes);
        if self.of_lease {
            super::facts::look_at_leases(&self.engine.world);
        }
        Ok(())
    }
}

impl Transaction for SimTransaction {
    type Value = Arc<[u8]>;

    async fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, EngineError> {
        // What is read right after the locks was read together with them.
        if !matches!(key.first(), Some(&(COURSE | STATE | RESCUE))) {
            self.ask().await?;
        }
        let read = self.with(|inner| at_once(inner.get(key)))??;
        Ok(self.engine.distort(key, (self.of_app, self.of_lease), read))
    }

    async fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> Result<Entries<Arc<[u8]>>, EngineError> {
        self.ask().await?;
        self.with(|inner| at_once(inner.scan(range, limit)))?
    }

    fn time(&self) -> Option<Timestamp> {
        self.begun_at
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.writes.push((key.to_vec(), Some(value.clone().into())));
        drop(self.with(|inner| inner.put(key, value)));
    }

    fn delete(&mut self, key: &[u8]) {
        self.writes.push((key.to_vec(), None));
        drop(self.with(|inner| inner.delete(key)));
    }

    async fn commit(mut self) -> Result<(), EngineError> {
        let world = self.engine.world.clone();
        let owner = self.engine.owner;
        world.point(owner, 50).await;
        if world.strikes(Trouble::Cut, 40) {
            let length = world.millis(50, 40_000);
            world.cut(owner.place, length);
        }
        let is_cut = world.is_cut(owner);
        if !is_cut && !world.strikes(Trouble::Reset, 30) {
            self.commit_now()?;
            self.engine.pass().await;
            return Ok(());
        }
        let unknown = || Err(EngineError::Unknown("it did not answer".into()));
        match world.below(3) {
            // It never heard of it.
            0 => {}
            1 => self.commit_now()?,
            _ => {
                self.is_left = true;
                let at = world.time() + world.millis(0, 3_900);
                let (engine, writes) = (self.engine.clone(), std::mem::take(&mut self.writes));
                let Self { id, begun_at, of_app, of_lease, is_left, .. } = self;
                let left = Self { id, engine, begun_at, of_app, of_lease, writes, is_left };
                world.at(at, move |world| {
                    if left.commit_now().is_ok() {
                        world.inside().tally.committed_late += 1;
                    }
                });
                let length = world.millis(0, 6_000);
                world.sleep(length).await;
                return unknown();
            }
        }
        if is_cut {
            let length = world.millis(0, 6_000);
            world.sleep(length).await;
        }
        unknown()
    }
}

impl Drop for SimTransaction {
    fn drop(&mut self) {
        // Where there is no way to the store, it does not hear that its client is gone.
        if !self.is_left && !self.engine.world.is_cut(self.engine.owner) {
            drop(self.close());
        }
    }
}
