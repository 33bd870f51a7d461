//! redb 4 behind the seam: one file, one table, one write transaction a commit.
//!
//! A transaction reads a snapshot of when it began, and holds no write transaction: writes are
//! collected, and applied in `commit`, between two awaits of whoever calls it. `docs/decisions/`
//! says how it compares with sled.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    future::{Future, ready},
    io,
    ops::{Bound, RangeInclusive},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    TableDefinition,
};

use super::{
    ENTRY_BYTES_MAX, Engine, EngineError, Entries, Transaction, check_entry,
    directory::{self, cannot_open, damaged},
};

/// How to open a redb store.
#[derive(Clone, Debug)]
pub struct RedbOptions {
    /// The directory; made if it is missing.
    pub path: PathBuf,
    /// The cache of pages that were read or are being written, in bytes.
    pub cache_bytes_max: u64,
}

/// A store on disk.
#[derive(Clone)]
pub struct RedbEngine {
    db: Arc<Database>,
    file: PathBuf,
    /// Held for as long as the store is open.
    _lock: Arc<fs::File>,
}

impl RedbEngine {
    /// Opens the store, or makes it.
    pub fn open(options: &RedbOptions) -> Result<Self, EngineError> {
        let path = &options.path;
        let lock = directory::take(path, NAME)?;
        let file = path.join(FILE);
        if !file.exists() {
            make(path, &file)?;
        }
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(options.cache_bytes_max).unwrap_or(usize::MAX));
        let told = Cell::new(false);
        builder.set_repair_callback(move |_| {
            if !told.replace(true) {
                tracing::info!("the store was not closed in order: reads all of it");
            }
        });
        // A file that was changed by others can make redb panic rather than return an error.
        let db = catch_unwind(AssertUnwindSafe(|| builder.open(&file)))
            .map_err(|_| damaged(path, "redb panicked while it opened its file"))?
            .map_err(|error| refused(path, error))?;
        Ok(Self { db: Arc::new(db), file, _lock: Arc::new(lock) })
    }

    fn snapshot(&self) -> Result<Snapshot, redb::Error> {
        Ok(self.db.begin_read()?.open_table(ENTRIES)?)
    }
}

/// The engine's name in the configuration.
const NAME: &str = "redb";

const FILE: &str = "store.redb";

/// Becomes [`FILE`] when it is whole.
const HALF_MADE: &str = "store.redb.new";

const ENTRIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");

type Snapshot = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Makes an empty store. redb does not open a file whose making was cut short, so that happens
/// under another name, and the file gets its own once it is on the disk.
fn make(path: &Path, file: &Path) -> Result<(), EngineError> {
    let half_made = path.join(HALF_MADE);
    match fs::remove_file(&half_made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(cannot_open(path, error));
        }
        Ok(()) | Err(_) => {}
    }
    fill(&half_made).map_err(|error| cannot_open(path, io::Error::other(error)))?;
    let named = fs::rename(&half_made, file);
    named.and_then(|()| fs::File::open(path)?.sync_all()).map_err(|error| cannot_open(path, error))
}

fn fill(file: &Path) -> Result<(), redb::Error> {
    let db = Builder::new().create(file)?;
    write(&db, &BTreeMap::new())?;
    Ok(db.close()?)
}

fn refused(path: &Path, error: DatabaseError) -> EngineError {
    // A fault of the disk or the system says nothing about the content.
    if let DatabaseError::Storage(redb::StorageError::Io(error)) = &error
        && !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    {
        return cannot_open(path, io::Error::other(error.to_string()));
    }
    damaged(path, &error.to_string())
}

fn failed(error: impl Into<redb::Error>) -> EngineError {
    EngineError::Failed(error.into().to_string())
}

impl Engine for RedbEngine {
    type Transaction = RedbTransaction;

    fn begin(&self) -> impl Future<Output = Result<RedbTransaction, EngineError>> + Send {
        let begun = self.snapshot().map_err(failed);
        ready(begun.map(|snapshot| RedbTransaction {
            db: self.db.clone(),
            snapshot,
            writes: BTreeMap::new(),
        }))
    }

    fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        // The file is made longer ahead of what it holds; what counts are its blocks.
        fs::metadata(&self.file).map_or(0, |file| file.blocks() * 512)
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

/// Each key and its new value, or none to remove it. In order, as redb writes them fastest.
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A transaction over a [`RedbEngine`].
pub struct RedbTransaction {
    db: Arc<Database>,
    snapshot: Snapshot,
    writes: Writes,
}

impl Transaction for RedbTransaction {
    /// A copy: what redb lends would keep its whole snapshot from being freed.
    type Value = Vec<u8>;

    fn get(
        &mut self,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<u8>>, EngineError>> + Send {
        let value = ReadableTable::get(&self.snapshot, key);
        ready(value.map(|value| value.map(|value| value.value().to_vec())).map_err(failed))
    }

    fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> impl Future<Output = Result<Entries<Vec<u8>>, EngineError>> + Send {
        ready(first(&self.snapshot, &range, limit).map_err(failed))
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.writes.insert(key.to_vec(), Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.writes.insert(key.to_vec(), None);
    }

    fn commit(self) -> impl Future<Output = Result<(), EngineError>> + Send {
        let Self { db, snapshot, writes } = self;
        // While it is read, its pages cannot be used again.
        drop(snapshot);
        let entry_bytes = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len)
        };
        let largest_bytes = writes.iter().map(entry_bytes).max().unwrap_or(0);
        let checked = check_entry(largest_bytes, ENTRY_BYTES_MAX);
        ready(checked.and_then(|()| write(&db, &writes).map_err(failed)))
    }
}

fn first(
    snapshot: &Snapshot,
    range: &RangeInclusive<Vec<u8>>,
    limit: usize,
) -> Result<Entries<Vec<u8>>, redb::StorageError> {
    let bounds =
        (Bound::Included(range.start().as_slice()), Bound::Included(range.end().as_slice()));
    ReadableTable::range::<&[u8]>(snapshot, bounds)?
        .take(limit)
        .map(|entry| entry.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        .collect()
}

/// One write transaction, on the disk when this returns. After an error redb accepts no other
/// until it is opened anew.
fn write(db: &Database, writes: &Writes) -> Result<(), redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for (key, value) in writes {
            match value {
                Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                None => drop(table.remove(key.as_slice())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use redb::{StorageBackend, backends::FileBackend};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Call {
        Write,
        SetLen,
        Sync,
    }

    /// A disk that fails the next call of a kind, and no other.
    #[derive(Clone, Debug)]
    struct Disk {
        file: Arc<FileBackend>,
        failing: Arc<Mutex<Option<Call>>>,
    }

    impl Disk {
        fn check(&self, call: Call) -> io::Result<()> {
            match self.failing.lock().unwrap().take_if(|failing| *failing == call) {
                Some(call) => Err(io::Error::other(format!("{call:?} failed"))),
                None => Ok(()),
            }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check(Call::SetLen)?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check(Call::Sync)?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check(Call::Write)?;
            self.file.write(offset, data)
        }
    }

    fn put(engine: &RedbEngine, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        let mut transaction = engine.begin().now_or_never().unwrap()?;
        transaction.put(key, value.to_vec());
        transaction.commit().now_or_never().unwrap()
    }

    fn get(engine: &RedbEngine, key: &[u8]) -> Option<Vec<u8>> {
        let mut transaction = engine.begin().now_or_never().unwrap().unwrap();
        transaction.get(key).now_or_never().unwrap().unwrap()
    }

    fn check(call: Call) {
        let directory = tempfile::tempdir().unwrap();
        let options = RedbOptions { path: directory.path().into(), cache_bytes_max: 16 << 20 };
        drop(RedbEngine::open(&options).unwrap());
        let path = directory.path().join(FILE);
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let disk = Disk {
            file: Arc::new(FileBackend::new(file.try_clone().unwrap()).unwrap()),
            failing: Arc::default(),
        };
        let db = Builder::new().create_with_backend(disk.clone()).unwrap();
        let engine = RedbEngine { db: Arc::new(db), file: path, _lock: Arc::new(file) };
        put(&engine, b"before", b"1").unwrap();
        *disk.failing.lock().unwrap() = Some(call);
        // Large enough for the file to grow.
        let large = vec![7; ENTRY_BYTES_MAX - 8];
        put(&engine, b"failed", &large).unwrap_err();
        assert_eq!(*disk.failing.lock().unwrap(), None, "{call:?} was never called");
        // The disk works again. What it holds is not known, so nothing more is taken.
        for _ in 0..3 {
            put(&engine, b"after", b"2").unwrap_err();
        }
        drop(engine);
        let engine = RedbEngine::open(&options).unwrap();
        assert_eq!(get(&engine, b"before").as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&engine, b"after"), None);
        assert!(get(&engine, b"failed").is_none_or(|found| found == large));
        put(&engine, b"after", b"2").unwrap();
    }

    #[test]
    fn after_a_commit_that_failed_none_succeeds_until_the_store_is_opened_again() {
        for call in [Call::Write, Call::SetLen, Call::Sync] {
            check(call);
        }
    }

    #[test]
    fn a_file_whose_making_was_cut_short_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let options = RedbOptions { path: directory.path().into(), cache_bytes_max: 16 << 20 };
        // As long as redb makes it at first, and still without redb's mark.
        fs::write(directory.path().join(HALF_MADE), vec![0; 72 << 10]).unwrap();
        put(&RedbEngine::open(&options).unwrap(), b"k", b"v").unwrap();
        assert_eq!(get(&RedbEngine::open(&options).unwrap(), b"k").as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn a_file_that_is_damaged_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let options = RedbOptions { path: directory.path().into(), cache_bytes_max: 16 << 20 };
        put(&RedbEngine::open(&options).unwrap(), b"k", b"v").unwrap();
        let file = directory.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for damaged in [vec![], whole[..4_096].to_vec(), vec![7; whole.len()]] {
            fs::write(&file, &damaged).unwrap();
            let error = RedbEngine::open(&options).err().unwrap().to_string();
            assert!(error.contains("The files were left as they are"), "{error}");
            assert_eq!(fs::read(&file).unwrap(), damaged);
        }
    }
}
