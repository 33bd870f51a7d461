//! sled 0.34.7 behind the seam: one tree, one atomic batch a commit, one honest flush.
//!
//! `docs/decisions/` says why this version and these settings.

use std::{
    fs,
    future::{Future, ready},
    io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use sled::IVec;

use super::{ENTRY_BYTES_MAX, Engine, EngineError, Entries, Transaction, check_entry, sync};

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
    path: PathBuf,
    /// Held for as long as the store is open.
    _lock: Arc<fs::File>,
}

impl SledEngine {
    /// Opens the store, or makes it, and proves that its flush is honest.
    pub fn open(options: &SledOptions) -> Result<Self, EngineError> {
        let path = &options.path;
        fs::create_dir_all(path).map_err(|error| cannot_open(path, &error))?;
        let lock = lock(path)?;
        remove_half_made_snapshots(path).map_err(|error| cannot_open(path, &error))?;
        let config = sled::Config::new()
            .path(path.join("sled"))
            .mode(sled::Mode::LowSpace)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes_max)
            // Drives its garbage collection. Commits flush by themselves.
            .flush_every_ms(Some(500));
        // A damaged store can make sled panic rather than return an error.
        let db = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| damaged(path, "sled panicked while it read the log"))?
            .map_err(|error| damaged(path, &error.to_string()))?;
        let engine = Self { db, path: path.clone(), _lock: Arc::new(lock) };
        engine.prove_flush()?;
        Ok(engine)
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

/// Sorts after every key of the queue.
const PROOF_KEY: &[u8] = &[0xff];

const LOCK_FILE: &str = "LOCK";

/// Takes the directory's lock, and leaves this process's id in it for whoever comes second.
fn lock(path: &Path) -> Result<fs::File, EngineError> {
    let file = path.join(LOCK_FILE);
    let lock = fs::File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .map_err(|error| cannot_open(path, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok());
            return Err(EngineError::InUse { path: path.display().to_string(), holder });
        }
        Err(fs::TryLockError::Error(error)) => return Err(cannot_open(path, &error)),
    }
    fs::write(&file, std::process::id().to_string()).map_err(|error| cannot_open(path, &error))?;
    Ok(lock)
}

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

fn cannot_open(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Open { path: path.display().to_string(), reason: error.to_string() }
}

fn damaged(path: &Path, what: &str) -> EngineError {
    let reason = format!(
        "{what}. The files were left as they are. Keep a copy of the directory; to start \
         without what it holds, move it away"
    );
    EngineError::Open { path: path.display().to_string(), reason }
}

fn failed(error: sled::Error) -> EngineError {
    EngineError::Failed(error.to_string())
}

impl Engine for SledEngine {
    type Transaction = SledTransaction;

    fn begin(&self) -> impl Future<Output = Result<SledTransaction, EngineError>> + Send {
        let batch = sled::Batch::default();
        ready(Ok(SledTransaction { db: self.db.clone(), batch, largest_bytes: 0 }))
    }

    fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn name(&self) -> &'static str {
        "sled"
    }
}

/// A transaction over a [`SledEngine`].
#[derive(Debug)]
pub struct SledTransaction {
    db: sled::Db,
    batch: sled::Batch,
    /// The bytes of the largest entry in `batch`.
    largest_bytes: usize,
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
        self.largest_bytes = self.largest_bytes.max(key.len() + value.len());
        self.batch.insert(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.batch.remove(key);
    }

    fn commit(self) -> impl Future<Output = Result<(), EngineError>> + Send {
        if let Err(error) = check_entry(self.largest_bytes, ENTRY_BYTES_MAX) {
            return ready(Err(error));
        }
        // Never `flush_async`: concurrent calls deadlock (spacejam/sled issue 1308).
        let committed = self.db.apply_batch(self.batch).and_then(|()| self.db.flush());
        ready(committed.map(drop).map_err(failed))
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
}
