//! A store in memory that several write to, and that looks whether whoever writes has the locks
//! for it.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    domain::update::AppId,
    store::{
        engine::{Engine, EngineError, Entries, MemoryEngine, Sharing, Transaction},
        keys::{
            SUBJECT_AT,
            course::{OF_NAMES, course, lease, stripe_of},
        },
        walk::app_of,
    },
};

#[derive(Clone)]
pub(super) struct Watched {
    engine: MemoryEngine,
    stripes: u16,
    /// What is drawn from it says where others come in between; `None`: nowhere.
    dice: Option<Arc<AtomicU64>>,
}

impl Watched {
    pub(super) fn new(stripes: u16) -> Self {
        Self { engine: MemoryEngine::shared(stripes), stripes, dice: None }
    }

    /// One in which tasks take turns at random.
    pub(super) fn unsteady(stripes: u16, seed: u64) -> Self {
        let dice = Some(Arc::new(AtomicU64::new(seed)));
        Self { dice, ..Self::new(stripes) }
    }

    async fn let_others_in(&self) {
        let Some(dice) = &self.dice else { return };
        let drawn = dice.load(Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        dice.store(drawn, Relaxed);
        if drawn >> 61 < 3 {
            tokio::task::yield_now().await;
        }
    }

    fn watch(
        &self,
        inner: <MemoryEngine as Engine>::Transaction,
        locks: &[Vec<u8>],
    ) -> WatchedTransaction {
        let locks = locks.iter().cloned().collect();
        WatchedTransaction { inner, engine: self.clone(), locks }
    }
}

impl Engine for Watched {
    type Transaction = WatchedTransaction;

    async fn begin(&self) -> Result<WatchedTransaction, EngineError> {
        self.let_others_in().await;
        Ok(self.watch(self.engine.begin().await?, &[]))
    }

    fn sharing(&self) -> Sharing {
        self.engine.sharing()
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        reads: &[Vec<u8>],
    ) -> Result<WatchedTransaction, EngineError> {
        self.let_others_in().await;
        let inner = self.engine.begin_locked(locks, reads).await?;
        self.let_others_in().await;
        Ok(self.watch(inner, locks))
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        self.engine.put_if_absent(key, value).await
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn name(&self) -> &'static str {
        self.engine.name()
    }
}

pub(super) struct WatchedTransaction {
    inner: <MemoryEngine as Engine>::Transaction,
    engine: Watched,
    locks: BTreeSet<Vec<u8>>,
}

impl WatchedTransaction {
    fn has(&self, app: AppId, stripe: u16) -> bool {
        self.locks.contains(&course(app, stripe))
    }

    fn has_all(&self, app: AppId) -> bool {
        (0..self.engine.stripes).all(|stripe| self.has(app, stripe))
    }

    fn has_any(&self, app: AppId) -> bool {
        (0..self.engine.stripes).any(|stripe| self.has(app, stripe))
    }

    fn has_subject(&self, app: AppId, subject_key: &[u8]) -> bool {
        self.has(app, stripe_of(app, subject_key, self.engine.stripes))
    }

    /// Whether an entry may be changed under the locks.
    fn may_change(&self, key: &[u8]) -> bool {
        let numbers_names = self.has(OF_NAMES, 0);
        let Some(app) = app_of(key) else { return false };
        match key[0] {
            b'n' => numbers_names,
            b'a' => self.has_all(app) || numbers_names,
            b'c' => self.locks.contains(key) || numbers_names,
            b'o' => self.locks.contains(&lease(app)) || numbers_names,
            b'r' | b'f' | b'v' => self.has_subject(app, &key[SUBJECT_AT..]),
            b'm' => self.has_subject(app, &key[SUBJECT_AT..key.len() - 16]),
            b'l' | b'p' | b'q' => self.has_any(app),
            b'x' => !self.locks.is_empty(),
            b'b' | b'd' | b'g' | b'j' | b'k' | b'u' => self.has_all(app),
            _ => false,
        }
    }

    fn check(&self, key: &[u8]) {
        let kind = char::from(key[0]);
        assert!(self.may_change(key), "an entry of kind {kind} is changed without its lock");
    }
}

impl Transaction for WatchedTransaction {
    type Value = Arc<[u8]>;

    async fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, EngineError> {
        // What is read right after the locks was read together with them.
        if !matches!(key[0], b'c' | b'a' | b'u') {
            self.engine.let_others_in().await;
        }
        self.inner.get(key).await
    }

    async fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> Result<Entries<Arc<[u8]>>, EngineError> {
        self.engine.let_others_in().await;
        self.inner.scan(range, limit).await
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.check(key);
        self.inner.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.check(key);
        self.inner.delete(key);
    }

    async fn commit(self) -> Result<(), EngineError> {
        self.engine.let_others_in().await;
        self.inner.commit().await
    }
}
