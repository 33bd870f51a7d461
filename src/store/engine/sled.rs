//! sled 0.34.7 behind the seam: one tree, one atomic step a commit, one honest flush.
//!
//! A large commit is a batch of sled's. A small one is a single entry ([`redo`]), which takes
//! half the writes; an update that comes alone is answered that much earlier.
//!
//! `docs/decisions/` says why this version and these settings.

use std::{
    fs,
    future::{Future, ready},
    io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use sled::IVec;

use super::{
    ENTRY_BYTES_MAX, Engine, EngineError, Entries, Transaction, check_entry,
    directory::{self, cannot_open, damaged},
    redo::{self, REDO_BYTES_MAX},
    sync,
};

/// How to open a sled store.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// The directory; made if it is missing.
    pub path: PathBuf,
    /// The page cache, in bytes. The process takes up to 1.4 times as much.
    pub cache_bytes_max: u64,
}

/// A store on disk.
#[derive(Clone, Debug)]
pub struct SledEngine {
    db: sled::Db,
    /// Whether there is a redo entry. Only the one writer changes it.
    redo: Arc<AtomicBool>,
    path: PathBuf,
    /// Held for as long as the store is open.
    _lock: Arc<fs::File>,
}

impl SledEngine {
    /// Opens the store, or makes it, and proves that its flush is honest.
    pub fn open(options: &SledOptions) -> Result<Self, EngineError> {
        let path = &options.path;
        let lock = directory::take(path, NAME)?;
        remove_half_made_snapshots(path).map_err(|error| cannot_open(path, error))?;
        let config = sled::Config::new()
            .path(path.join("sled"))
            .mode(sled::Mode::LowSpace)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes_max)
            // Drives its garbage collection. Commits flush by themselves.
            .flush_every_ms(Some(500));
        // A damaged store can make sled panic rather than return an error.
        let db = catch_unwind(AssertUnwindSafe(|| open_once_released(&config)))
            .map_err(|_| damaged(path, "sled panicked while it read the log"))?
            .map_err(|error| damaged(path, &error.to_string()))?;
        let engine = Self { db, redo: Arc::default(), path: path.clone(), _lock: Arc::new(lock) };
        engine.prove_flush()?;
        engine.redo()?;
        Ok(engine)
    }

    /// Applies the redo entry that the last process left: it may have died before it had.
    fn redo(&self) -> Result<(), EngineError> {
        let Some(entry) = self.db.get(REDO_KEY).map_err(failed)? else { return Ok(()) };
        let mut batch = sled::Batch::default();
        batch.remove(REDO_KEY);
        if let Some(puts) = redo::decode(&entry) {
            puts.into_iter().for_each(|(key, value)| batch.insert(key, value));
        } else {
            tracing::error!("the entry of the last commit is damaged; it may be lost in part");
            batch.insert(DAMAGED_REDO_KEY, entry);
        }
        self.db.apply_batch(batch).and_then(|()| self.db.flush()).map(drop).map_err(failed)
    }

    /// Writes something, flushes, and sees whether the flush reached the disk by way of
    /// [`sync`]. Where it did not, no answer could be trusted.
    fn prove_flush(&self) -> Result<(), EngineError> {
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        let before = sync::flushes();
        // Another value than at the last start: sled does not write what is there already.
        let starts = self.db.get(PROOF_KEY).map_err(failed)?;
        let starts = starts.and_then(|bytes| bytes.as_ref().try_into().ok());
        let starts = starts.map_or(0, u64::from_be_bytes).wrapping_add(1);
        self.db.insert(PROOF_KEY, &starts.to_be_bytes()).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        if sync::flushes() == before {
            let reason = "sled's flush does not reach the disk in this build: its call of \
                          sync_file_range was not replaced by fdatasync at link time"
                .to_owned();
            return Err(EngineError::Open { path: self.path.display().to_string(), reason });
        }
        Ok(())
    }
}

/// The engine's name in the configuration.
const NAME: &str = "sled";

/// sled puts a node of its tree that is larger than a quarter of a segment into a file of its
/// own, below `blobs/`. It never flushes these files, and removes them before what replaces
/// them is on the disk: after a loss of power the store lacks whole nodes, or does not open.
/// With its own 512 KiB three large records side by side are enough: each of 42 databases was
/// lost within four cuts (`tests/crash`). With segments of this size there are no such
/// files, as long as [`ENTRY_BYTES_MAX`] is kept to. A store keeps the size it was made with.
const SEGMENT_BYTES: usize = 8 << 20;

/// A leaf is split when it has more than 16 entries; while two are being merged, it may have a
/// few more.
const LEAF_ENTRIES_MAX: usize = 20;

// A full leaf of the largest entries stays in the log.
const _: () = assert!((ENTRY_BYTES_MAX + 1_024) * LEAF_ENTRIES_MAX <= SEGMENT_BYTES / 4);

/// Opens sled's files. The directory's lock is ours by now, so whoever still holds sled's own is
/// a store of this process that was closed: sled's threads let go of it a moment later.
fn open_once_released(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..RELEASE_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::sleep(RELEASE_PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

/// Together five seconds.
const RELEASE_TRIES: u32 = 500;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// These sort after every key of the queue.
const PROOF_KEY: &[u8] = &[0xff];
const REDO_KEY: &[u8] = &[0xfe];
const DAMAGED_REDO_KEY: &[u8] = &[0xfd];

/// A crash during open leaves `snap.*.generating`, and sled then answers `Corruption` for
/// ever (<https://github.com/spacejam/sled/issues/1527>, `/1533`). They hold nothing.
fn remove_half_made_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path.join("sled")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn failed(error: sled::Error) -> EngineError {
    EngineError::Failed(error.to_string())
}

impl Engine for SledEngine {
    type Transaction = SledTransaction;

    fn begin(&self) -> impl Future<Output = Result<SledTransaction, EngineError>> + Send {
        let (db, redo) = (self.db.clone(), self.redo.clone());
        ready(Ok(SledTransaction { db, redo, writes: Vec::new(), deletes: false }))
    }

    fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

/// A transaction over a [`SledEngine`].
#[derive(Debug)]
pub struct SledTransaction {
    db: sled::Db,
    redo: Arc<AtomicBool>,
    /// Keys, and their values where they are set.
    writes: Vec<(IVec, Option<IVec>)>,
    deletes: bool,
}

impl SledTransaction {
    /// The bytes of each key and its value.
    fn entry_bytes(&self) -> impl Iterator<Item = usize> {
        self.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, |v| v.len()))
    }

    /// Puts that are few enough for a redo entry.
    fn small(&self) -> Option<Vec<(&[u8], &[u8])>> {
        if self.deletes || self.entry_bytes().sum::<usize>() > REDO_BYTES_MAX {
            return None;
        }
        self.writes.iter().map(|(key, value)| Some((&**key, &**value.as_ref()?))).collect()
    }

    /// One entry to disk, then what it stands for to where it belongs. Readers beside the
    /// writer may see one before the other, as they may between two of their own reads.
    fn commit_small(&self, puts: &[(&[u8], &[u8])]) -> sled::Result<()> {
        self.db.insert(REDO_KEY, redo::encode(puts))?;
        self.redo.store(true, Relaxed);
        // Never `flush_async`: concurrent calls deadlock (spacejam/sled issue 1308).
        self.db.flush()?;
        // These are in the log before any later redo entry: whichever survives finds what it
        // follows.
        for (key, value) in &self.writes {
            if let Some(value) = value {
                self.db.insert(key, value.clone())?;
            }
        }
        Ok(())
    }

    /// All at once. A redo entry of before must not be applied over it.
    fn commit_large(self) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        if self.redo.swap(false, Relaxed) {
            batch.remove(REDO_KEY);
        }
        self.db.apply_batch(batch)?;
        self.db.flush().map(drop)
    }
}

impl Transaction for SledTransaction {
    type Value = IVec;

    fn get(
        &mut self,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<IVec>, EngineError>> + Send {
        ready(self.db.get(key).map_err(failed))
    }

    fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> impl Future<Output = Result<Entries<IVec>, EngineError>> + Send {
        let entries = self.db.range(range).take(limit);
        let entries = entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value)));
        ready(entries.collect::<Result<_, _>>().map_err(failed))
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.writes.push((key.into(), Some(value.into())));
    }

    fn delete(&mut self, key: &[u8]) {
        self.deletes = true;
        self.writes.push((key.into(), None));
    }

    fn commit(self) -> impl Future<Output = Result<(), EngineError>> + Send {
        let largest = self.entry_bytes().max().unwrap_or(0);
        if let Err(error) = check_entry(largest, ENTRY_BYTES_MAX) {
            return ready(Err(error));
        }
        let committed = match self.small() {
            Some(puts) => self.commit_small(&puts),
            None => self.commit_large(),
        };
        ready(committed.map_err(failed))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn open(path: &Path) -> SledEngine {
        SledEngine::open(&SledOptions { path: path.to_owned(), cache_bytes_max: 16 << 20 }).unwrap()
    }

    fn put(engine: &SledEngine, key: &[u8], value: Vec<u8>) -> Result<(), EngineError> {
        let mut transaction = engine.begin().now_or_never().unwrap()?;
        transaction.put(key, value);
        transaction.commit().now_or_never().unwrap()
    }

    fn blobs(path: &Path) -> usize {
        fs::read_dir(path.join("sled/blobs")).unwrap().count()
    }

    #[test]
    fn the_largest_entries_stay_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        for n in 0..200_u8 {
            // In no order, each written twice, so that leaves split and are written anew.
            let key = [n.wrapping_mul(77) % 100];
            put(&engine, &key, vec![n; ENTRY_BYTES_MAX - key.len()]).unwrap();
            assert_eq!(blobs(directory.path()), 0);
        }
    }

    fn value(engine: &SledEngine, key: &[u8]) -> Option<Vec<u8>> {
        engine.db.get(key).unwrap().map(|value| value.to_vec())
    }

    #[test]
    fn a_commit_that_was_cut_short_is_whole_after_the_next_opening() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        put(&engine, b"a", b"old".to_vec()).unwrap();
        // All that a small commit has done by the time it is durable.
        engine.db.insert(REDO_KEY, redo::encode(&[(b"a", b"new"), (b"b", b"1")])).unwrap();
        drop(engine);
        let engine = open(directory.path());
        assert_eq!(value(&engine, b"a").as_deref(), Some(&b"new"[..]));
        assert_eq!(value(&engine, b"b").as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&engine, REDO_KEY), None);
    }

    #[test]
    fn what_a_large_commit_wrote_is_not_undone_by_a_small_one_of_before() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        put(&engine, b"a", b"small".to_vec()).unwrap();
        assert!(value(&engine, REDO_KEY).is_some());
        put(&engine, b"a", vec![7; REDO_BYTES_MAX]).unwrap();
        drop(engine);
        let engine = open(directory.path());
        assert_eq!(value(&engine, b"a"), Some(vec![7; REDO_BYTES_MAX]));

        let mut transaction = engine.begin().now_or_never().unwrap().unwrap();
        transaction.delete(b"a");
        transaction.commit().now_or_never().unwrap().unwrap();
        drop(engine);
        assert_eq!(value(&open(directory.path()), b"a"), None);
    }

    #[test]
    fn a_damaged_redo_entry_is_kept_aside_and_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        engine.db.insert(REDO_KEY, b"torn").unwrap();
        drop(engine);
        let engine = open(directory.path());
        assert_eq!(value(&engine, REDO_KEY), None);
        assert_eq!(value(&engine, DAMAGED_REDO_KEY).as_deref(), Some(&b"torn"[..]));
    }
}
