//! A store in memory that can crash, for the simulation and for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, ready},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

use super::{
    ENTRY_BYTES_MAX, Engine, EngineError, Entries, Sharing, Transaction, check_entry, guard::Guard,
};
use crate::domain::time::Timestamp;

/// A store in memory. Clones share it, as processes share a disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
    sharing: Sharing,
}

#[derive(Debug)]
struct Disk {
    entries: BTreeMap<Vec<u8>, Arc<[u8]>>,
    commits: u64,
    crash: Option<(u64, Crash)>,
    crashed: bool,
    entry_bytes_max: usize,
    /// Those of entries that were ever locked.
    locks: BTreeMap<Vec<u8>, Arc<Lock<()>>>,
    time: Option<Timestamp>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            commits: 0,
            crash: None,
            crashed: false,
            entry_bytes_max: ENTRY_BYTES_MAX,
            locks: BTreeMap::new(),
            time: None,
        }
    }
}

/// A key and its new value, or none to remove it.
type Write = (Vec<u8>, Option<Arc<[u8]>>);

/// At which side of a commit the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing of the commit is on disk.
    BeforeCommit,
    /// All of it is, but nobody hears of it.
    AfterCommit,
}

impl MemoryEngine {
    /// A store with smaller entries than [`ENTRY_BYTES_MAX`], so that small records reach it.
    pub fn with_entry_bytes_max(entry_bytes_max: usize) -> Self {
        let disk = Disk { entry_bytes_max, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)), sharing: Sharing::Alone }
    }

    /// A store that several write to, as they would to a database.
    pub fn shared(stripes: u16) -> Self {
        Self { sharing: Sharing::Shared { stripes }, ..Self::default() }
    }

    /// The same store, as a program opens it that takes it for another kind.
    #[must_use]
    pub fn opened_as(&self, sharing: Sharing) -> Self {
        Self { disk: self.disk.clone(), sharing }
    }

    /// Sets the store's clock. It has none before.
    pub fn set_time(&self, time: Timestamp) {
        self.disk().time = Some(time);
    }

    /// Cuts the power at the commit that is `commits` commits ahead (0: the next). From then
    /// on everything fails, until [`Self::restart`].
    pub fn crash_at(&self, commits: u64, crash: Crash) {
        let mut disk = self.disk();
        disk.crash = Some((disk.commits + commits, crash));
    }

    /// Whether the power is off.
    pub fn has_crashed(&self) -> bool {
        self.disk().crashed
    }

    /// Turns the power on again.
    pub fn restart(&self) {
        let mut disk = self.disk();
        disk.crash = None;
        disk.crashed = false;
    }

    /// Overwrites what is stored under `key`, as a failing disk would.
    pub fn damage(&self, key: &[u8], bytes: &[u8]) {
        self.disk().entries.insert(key.to_vec(), bytes.into());
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.disk().entries.keys().cloned().collect()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn check(&self) -> Result<(), EngineError> {
        if self.crashed { Err(EngineError::Failed("the power is off".into())) } else { Ok(()) }
    }

    fn lock(&mut self, key: &[u8]) -> Result<Arc<Lock<()>>, EngineError> {
        if !self.entries.contains_key(key) {
            return Err(EngineError::Failed("an entry to be locked is not there".into()));
        }
        Ok(self.locks.entry(key.to_vec()).or_default().clone())
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), EngineError> {
        self.check()?;
        for (key, value) in &writes {
            let value_bytes = value.as_ref().map_or(0, |value| value.len());
            check_entry(key.len() + value_bytes, self.entry_bytes_max)?;
        }
        let crash = self.crash.filter(|(at, _)| *at == self.commits).map(|(_, crash)| crash);
        self.commits += 1;
        self.crashed = crash.is_some();
        if crash == Some(Crash::BeforeCommit) {
            return self.check();
        }
        for (key, value) in writes {
            match value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        self.check()
    }
}

impl Engine for MemoryEngine {
    type Transaction = MemoryTransaction;

    fn begin(&self) -> impl Future<Output = Result<MemoryTransaction, EngineError>> + Send {
        let begun = self.disk().check();
        ready(begun.map(|()| MemoryTransaction {
            engine: self.clone(),
            writes: Vec::new(),
            held: Vec::new(),
            guard: Guard::new(self.sharing, &[]),
        }))
    }

    fn sharing(&self) -> Sharing {
        self.sharing
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        _: &[Vec<u8>],
    ) -> Result<MemoryTransaction, EngineError> {
        let mut transaction = self.begin().await?;
        if self.sharing == Sharing::Alone {
            return Ok(transaction);
        }
        for key in locks.iter().collect::<BTreeSet<_>>() {
            let lock = self.disk().lock(key)?;
            transaction.held.push(lock.lock_owned().await);
        }
        transaction.guard = Guard::new(self.sharing, locks);
        Ok(transaction)
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        let mut disk = self.disk();
        disk.check()?;
        if let Some(found) = disk.entries.get(key) {
            return Ok(found.to_vec());
        }
        disk.commit(vec![(key.to_vec(), Some(value.clone().into()))])?;
        Ok(value)
    }

    fn time(&self) -> impl Future<Output = Result<Option<Timestamp>, EngineError>> + Send {
        let disk = self.disk();
        ready(disk.check().map(|()| disk.time))
    }

    fn disk_bytes(&self) -> u64 {
        let disk = self.disk();
        let bytes: usize = disk.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        bytes as u64
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

/// A transaction over a [`MemoryEngine`].
#[derive(Debug)]
pub struct MemoryTransaction {
    engine: MemoryEngine,
    writes: Vec<Write>,
    /// Held until it ends.
    held: Vec<OwnedMutexGuard<()>>,
    guard: Guard,
}

impl Transaction for MemoryTransaction {
    type Value = Arc<[u8]>;

    fn get(
        &mut self,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Arc<[u8]>>, EngineError>> + Send {
        let disk = self.engine.disk();
        ready(disk.check().map(|()| disk.entries.get(key).cloned()))
    }

    fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> impl Future<Output = Result<Entries<Arc<[u8]>>, EngineError>> + Send {
        let disk = self.engine.disk();
        let entries = || {
            let entries = disk.entries.range(range).take(limit);
            entries.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        ready(disk.check().map(|()| entries()))
    }

    fn time(&self) -> Option<Timestamp> {
        self.engine.disk().time
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.guard.watch(key);
        self.writes.push((key.to_vec(), Some(value.into())));
    }

    fn delete(&mut self, key: &[u8]) {
        self.guard.watch(key);
        self.writes.push((key.to_vec(), None));
    }

    fn commit(self) -> impl Future<Output = Result<(), EngineError>> + Send {
        let committed = self.engine.disk().commit(self.writes);
        ready(committed)
    }
}
