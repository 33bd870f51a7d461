//! What every engine must do, run against each.

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
fn a_second_process_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = SledOptions { path: directory.path().into(), cache_bytes_max: 16 << 20 };
    let _first = SledEngine::open(&options).unwrap();
    let error = SledEngine::open(&options).unwrap_err();
    let EngineError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(std::process::id()));
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
