//! What every engine must do, run against each.

use std::path::Path;

use futures_util::FutureExt;

use super::*;

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("embedded engines answer at once")
}

fn write(engine: &impl Engine, writes: &[(&[u8], Option<&[u8]>)]) {
    let mut transaction = now(engine.begin()).unwrap();
    for (key, value) in writes {
        match value {
            Some(value) => transaction.put(key, value.to_vec()),
            None => transaction.delete(key),
        }
    }
    now(transaction.commit()).unwrap();
}

fn read(engine: &impl Engine, key: &[u8]) -> Option<Vec<u8>> {
    let mut transaction = now(engine.begin()).unwrap();
    now(transaction.get(key)).unwrap().map(|value| value.as_ref().to_vec())
}

fn keys(engine: &impl Engine, range: RangeInclusive<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    let mut transaction = now(engine.begin()).unwrap();
    let range = range.start().to_vec()..=range.end().to_vec();
    now(transaction.scan(range, limit)).unwrap().into_iter().map(|(key, _)| key).collect()
}

fn check(engine: &impl Engine, reopen: impl Fn()) {
    // What was committed is read; the last write of a key wins; the rest is not there.
    write(engine, &[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3"))]);
    assert_eq!(read(engine, b"a").as_deref(), Some(&b"3"[..]));
    assert_eq!(read(engine, b"c"), None);

    // Writes are not seen before their commit, and never if there is none.
    let mut dropped = now(engine.begin()).unwrap();
    dropped.put(b"c", b"x".to_vec());
    assert!(now(dropped.get(b"c")).unwrap().is_none());
    drop(dropped);
    assert_eq!(read(engine, b"c"), None);

    // A transaction that has begun, and even has writes, holds up no other, and what is
    // committed last is what counts.
    let mut waiting = now(engine.begin()).unwrap();
    waiting.put(b"b", b"4".to_vec());
    write(engine, &[(b"b", Some(b"5"))]);
    assert_eq!(read(engine, b"b").as_deref(), Some(&b"5"[..]));
    now(waiting.commit()).unwrap();
    assert_eq!(read(engine, b"b").as_deref(), Some(&b"4"[..]));
    // Nor does one without writes.
    now(now(engine.begin()).unwrap().commit()).unwrap();

    // Scans are in byte order, inclusive, and limited.
    write(engine, &[(b"ab", Some(b"")), (b"\xff", Some(b"")), (b"b", None)]);
    assert_eq!(keys(engine, b"a"..=b"b", 9), [b"a".to_vec(), b"ab".to_vec()]);
    assert_eq!(keys(engine, b"a"..=b"\xff\xff", 2), [b"a".to_vec(), b"ab".to_vec()]);
    assert_eq!(keys(engine, b"ab"..=b"ab", 2), [b"ab".to_vec()]);

    // Values of every size that a record can have.
    for size in [0, 1, 4_095, 65_536, ENTRY_BYTES_MAX - 5] {
        let value: Vec<u8> = (0..=250).cycle().take(size).collect();
        write(engine, &[(b"large", Some(&value))]);
        assert_eq!(read(engine, b"large"), Some(value));
    }
    // A commit with an entry that is too large is refused, and refused whole.
    let mut transaction = now(engine.begin()).unwrap();
    transaction.put(b"small", vec![]);
    transaction.put(b"large", vec![0; ENTRY_BYTES_MAX - 4]);
    now(transaction.commit()).unwrap_err();
    assert_eq!(read(engine, b"small"), None);
    reopen();
}

#[test]
fn memory_conforms() {
    check(&MemoryEngine::default(), || {});
}

#[test]
fn sled_conforms_and_keeps_what_was_committed() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        SledOptions { path: directory.path().join("store"), cache_bytes_max: 16 * 1024 * 1024 };
    let engine = SledEngine::open(&options).unwrap();
    check(&engine, || {});
    drop(engine);
    let engine = SledEngine::open(&options).unwrap();
    assert_eq!(read(&engine, b"a").as_deref(), Some(&b"3"[..]));
    assert_eq!(read(&engine, b"large").map(|value| value.len()), Some(ENTRY_BYTES_MAX - 5));
}

#[test]
fn redb_conforms_and_keeps_what_was_committed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let engine = redb(&path).unwrap();
    check(&engine, || {});
    drop(engine);
    let engine = redb(&path).unwrap();
    assert_eq!(read(&engine, b"a").as_deref(), Some(&b"3"[..]));
    assert_eq!(read(&engine, b"large").map(|value| value.len()), Some(ENTRY_BYTES_MAX - 5));
}

fn sled(path: &Path) -> Result<SledEngine, EngineError> {
    SledEngine::open(&SledOptions { path: path.into(), cache_bytes_max: 16 << 20 })
}

fn redb(path: &Path) -> Result<RedbEngine, EngineError> {
    RedbEngine::open(&RedbOptions { path: path.into(), cache_bytes_max: 16 << 20 })
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let refused = |path: &Path| {
        for error in [sled(path).err().unwrap(), redb(path).err().unwrap()] {
            let EngineError::InUse { holder, .. } = &error else { panic!("{error}") };
            assert_eq!(*holder, Some(std::process::id()));
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let first = sled(directory.path()).unwrap();
    refused(directory.path());
    drop(first);
    let directory = tempfile::tempdir().unwrap();
    let _first = redb(directory.path()).unwrap();
    refused(directory.path());
}

#[test]
fn a_directory_that_another_engine_made_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    write(&sled(directory.path()).unwrap(), &[(b"k", Some(b"v"))]);
    let error = redb(directory.path()).err().unwrap().to_string();
    for part in ["the engine sled made it", "asks for redb", "store export", "store import"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(read(&sled(directory.path()).unwrap(), b"k").as_deref(), Some(&b"v"[..]));

    let directory = tempfile::tempdir().unwrap();
    write(&redb(directory.path()).unwrap(), &[(b"k", Some(b"v"))]);
    let error = sled(directory.path()).err().unwrap().to_string();
    assert!(error.contains("the engine redb made it"), "{error}");
    assert_eq!(read(&redb(directory.path()).unwrap(), b"k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_flush_of_sleds_is_a_flush_of_the_disks() {
    let directory = tempfile::tempdir().unwrap();
    let options = SledOptions { path: directory.path().into(), cache_bytes_max: 16 << 20 };
    let engine = SledEngine::open(&options).unwrap();
    let before = sync::flushes();
    write(&engine, &[(b"k", Some(b"v"))]);
    assert!(sync::flushes() > before);
}

#[test]
fn a_snapshot_that_was_half_made_does_not_stop_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let options = SledOptions { path: directory.path().into(), cache_bytes_max: 16 << 20 };
    write(&SledEngine::open(&options).unwrap(), &[(b"k", Some(b"v"))]);
    std::fs::write(directory.path().join("sled/snap.0000000000000000.generating"), b"x").unwrap();
    let engine = SledEngine::open(&options).unwrap();
    assert_eq!(read(&engine, b"k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn memory_loses_a_commit_whole_or_keeps_it_whole() {
    for (crash, survives) in [(Crash::BeforeCommit, false), (Crash::AfterCommit, true)] {
        let engine = MemoryEngine::default();
        engine.crash_at(0, crash);
        let mut transaction = now(engine.begin()).unwrap();
        transaction.put(b"a", vec![]);
        transaction.put(b"b", vec![]);
        now(transaction.commit()).unwrap_err();
        assert!(now(engine.begin()).is_err());
        engine.restart();
        assert_eq!(engine.keys().len(), if survives { 2 } else { 0 });
    }
}
