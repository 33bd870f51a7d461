//! A store in memory that several write to, by turns that are drawn.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    domain::time::Timestamp,
    store::engine::{Engine, EngineError, Entries, MemoryEngine, Sharing, Transaction},
};

#[derive(Clone)]
pub(super) struct Crowd {
    engine: MemoryEngine,
    /// What is drawn from it says where others come in between; `None`: nowhere.
    dice: Option<Arc<AtomicU64>>,
}

impl Crowd {
    pub(super) fn new(stripes: u16) -> Self {
        Self { engine: MemoryEngine::shared(stripes), dice: None }
    }

    /// One in which tasks take turns at random.
    pub(super) fn unsteady(stripes: u16, seed: u64) -> Self {
        let dice = Some(Arc::new(AtomicU64::new(seed)));
        Self { dice, ..Self::new(stripes) }
    }

    pub(super) fn set_time(&self, time: Timestamp) {
        self.engine.set_time(time);
    }

    async fn let_others_in(&self) {
        let Some(dice) = &self.dice else { return };
        let drawn = dice.load(Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        dice.store(drawn, Relaxed);
        if drawn >> 61 < 3 {
            tokio::task::yield_now().await;
        }
    }

    fn of(&self, inner: <MemoryEngine as Engine>::Transaction) -> CrowdTransaction {
        CrowdTransaction { inner, engine: self.clone() }
    }
}

impl Engine for Crowd {
    type Transaction = CrowdTransaction;

    async fn begin(&self) -> Result<CrowdTransaction, EngineError> {
        self.let_others_in().await;
        Ok(self.of(self.engine.begin().await?))
    }

    fn sharing(&self) -> Sharing {
        self.engine.sharing()
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        reads: &[Vec<u8>],
    ) -> Result<CrowdTransaction, EngineError> {
        self.let_others_in().await;
        let inner = self.engine.begin_locked(locks, reads).await?;
        self.let_others_in().await;
        Ok(self.of(inner))
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        self.engine.put_if_absent(key, value).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, EngineError> {
        self.let_others_in().await;
        self.engine.time().await
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn name(&self) -> &'static str {
        self.engine.name()
    }
}

pub(super) struct CrowdTransaction {
    inner: <MemoryEngine as Engine>::Transaction,
    engine: Crowd,
}

impl Transaction for CrowdTransaction {
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

    fn time(&self) -> Option<Timestamp> {
        self.inner.time()
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.inner.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.inner.delete(key);
    }

    async fn commit(self) -> Result<(), EngineError> {
        self.engine.let_others_in().await;
        self.inner.commit().await
    }
}
