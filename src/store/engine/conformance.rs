//! What every engine must do, run against each.

use std::{path::Path, pin::pin, sync::LazyLock};

use futures_util::FutureExt;
use tokio::runtime::Runtime;

use super::{postgres::tests::Database, *};

/// What engines wait in that are not embedded.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("embedded engines answer at once")
}

fn of<T>(engine: &impl Engine, future: impl Future<Output = T>) -> T {
    if engine.name() != "postgres" {
        return now(future);
    }
    RUNTIME.block_on(pin!(future))
}

fn write(engine: &impl Engine, writes: &[(&[u8], Option<&[u8]>)]) {
    let mut transaction = of(engine, engine.begin()).unwrap();
    for (key, value) in writes {
        match value {
            Some(value) => transaction.put(key, value.to_vec()),
            None => transaction.delete(key),
        }
    }
    of(engine, transaction.commit()).unwrap();
}

fn read(engine: &impl Engine, key: &[u8]) -> Option<Vec<u8>> {
    let mut transaction = of(engine, engine.begin()).unwrap();
    of(engine, transaction.get(key)).unwrap().map(|value| value.as_ref().to_vec())
}

fn keys(engine: &impl Engine, range: RangeInclusive<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    let mut transaction = of(engine, engine.begin()).unwrap();
    let range = range.start().to_vec()..=range.end().to_vec();
    of(engine, transaction.scan(range, limit)).unwrap().into_iter().map(|(key, _)| key).collect()
}

fn check(engine: &impl Engine, reopen: impl Fn()) {
    check_up_to(engine, ENTRY_BYTES_MAX, reopen);
}

fn check_up_to(engine: &impl Engine, entry_bytes_max: usize, reopen: impl Fn()) {
    // What was committed is read; the last write of a key wins; the rest is not there.
    write(engine, &[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3"))]);
    assert_eq!(read(engine, b"a").as_deref(), Some(&b"3"[..]));
    assert_eq!(read(engine, b"c"), None);

    // Writes are not seen before their commit, and never if there is none.
    let mut dropped = of(engine, engine.begin()).unwrap();
    dropped.put(b"c", b"x".to_vec());
    assert!(of(engine, dropped.get(b"c")).unwrap().is_none());
    drop(dropped);
    assert_eq!(read(engine, b"c"), None);

    // A transaction that has begun, and even has writes, holds up no other, and what is
    // committed last is what counts.
    let mut waiting = of(engine, engine.begin()).unwrap();
    waiting.put(b"b", b"4".to_vec());
    write(engine, &[(b"b", Some(b"5"))]);
    assert_eq!(read(engine, b"b").as_deref(), Some(&b"5"[..]));
    of(engine, waiting.commit()).unwrap();
    assert_eq!(read(engine, b"b").as_deref(), Some(&b"4"[..]));
    // Nor does one without writes.
    of(engine, of(engine, engine.begin()).unwrap().commit()).unwrap();

    // Scans are in byte order, inclusive, and limited.
    write(engine, &[(b"ab", Some(b"")), (b"\xff", Some(b"")), (b"b", None)]);
    assert_eq!(keys(engine, b"a"..=b"b", 9), [b"a".to_vec(), b"ab".to_vec()]);
    assert_eq!(keys(engine, b"a"..=b"\xff\xff", 2), [b"a".to_vec(), b"ab".to_vec()]);
    assert_eq!(keys(engine, b"ab"..=b"ab", 2), [b"ab".to_vec()]);

    // Values of every size that a record can have.
    for size in [0, 1, 4_095, 65_536, entry_bytes_max - 5] {
        let value: Vec<u8> = (0..=250).cycle().take(size).collect();
        write(engine, &[(b"sized", Some(&value))]);
        assert_eq!(read(engine, b"sized"), Some(value));
    }
    // A commit with an entry that is too large is refused, and refused whole.
    let mut transaction = of(engine, engine.begin()).unwrap();
    transaction.put(b"small", vec![]);
    transaction.put(b"sized", vec![0; entry_bytes_max - 4]);
    of(engine, transaction.commit()).unwrap_err();
    assert_eq!(read(engine, b"small"), None);
    check_together(engine);
    reopen();
}

/// What engines do that several share, and the others do too, in their way.
fn check_together(engine: &impl Engine) {
    // Locked or not, it reads and writes as any other.
    let key = |text: &str| text.as_bytes().to_vec();
    write(engine, &[(b"r1", Some(b"1")), (b"q1", None)]);
    let (locks, reads) = ([key("r1"), key("ab")], [key("r1"), key("q1")]);
    let mut transaction = of(engine, engine.begin_locked(&locks, &reads)).unwrap();
    let mut get = |key: &str| {
        let value = of(engine, transaction.get(key.as_bytes())).unwrap();
        value.map(|value| value.as_ref().to_vec())
    };
    assert_eq!((get("r1").as_deref(), get("q1"), get("q2")), (Some(&b"1"[..]), None, None));
    transaction.put(b"r1", b"2".to_vec());
    of(engine, transaction.prefetch(&[key("ab"), key("q1"), key("q3")])).unwrap();
    let ab = of(engine, transaction.get(b"ab")).unwrap();
    assert_eq!(ab.map(|value| value.as_ref().to_vec()), Some(Vec::new()));
    assert!(of(engine, transaction.get(b"q3")).unwrap().is_none());
    // The time after its locks, where there is a clock, is the store's.
    let (of_transaction, of_store) = (transaction.time(), of(engine, engine.time()).unwrap());
    assert!(of_transaction.is_none_or(|time| Some(time) <= of_store));
    of(engine, transaction.commit()).unwrap();
    assert_eq!(read(engine, b"r1").as_deref(), Some(&b"2"[..]));
    // An entry that is there stays; one that is not is put.
    let put =
        |key: &[u8], value: &[u8]| of(engine, engine.put_if_absent(key, value.to_vec())).unwrap();
    assert_eq!((put(b"r1", b"3"), put(b"r3", b"3")), (b"2".to_vec(), b"3".to_vec()));
    assert_eq!((put(b"\xffr", b"4"), put(b"\xffr", b"5")), (b"4".to_vec(), b"4".to_vec()));
    assert_eq!(read(engine, b"r1").as_deref(), Some(&b"2"[..]));
    assert_eq!(read(engine, b"r3").as_deref(), Some(&b"3"[..]));
    // Nobody has taken the store away.
    assert!(engine.lost().now_or_never().is_none());
}

#[test]
fn memory_conforms() {
    check(&MemoryEngine::default(), || {});
    check(&MemoryEngine::shared(8), || {});
}

#[test]
fn postgres_conforms_and_keeps_what_was_committed() {
    let database = Database::start();
    for sharing in [Sharing::Alone, Sharing::Shared { stripes: 8 }] {
        let options = database.options(sharing);
        let open = || RUNTIME.block_on(PostgresEngine::open(&options)).unwrap();
        let engine = open();
        check(&engine, || {});
        let mut transaction = of(&engine, engine.begin()).unwrap();
        transaction.delete(b"\xff");
        transaction.delete(b"\xffr");
        transaction.delete(b"r3");
        of(&engine, transaction.commit()).unwrap();
        drop(engine);
        let engine = open();
        assert_eq!(read(&engine, b"a").as_deref(), Some(&b"3"[..]));
        assert_eq!(read(&engine, b"sized").map(|value| value.len()), Some(ENTRY_BYTES_MAX - 5));
        assert_eq!(keys(&engine, b""..=b"\xff\xff", 9).len(), 4);
        let all = keys(&engine, b""..=b"\xff\xff", 9);
        let all: Vec<(&[u8], Option<&[u8]>)> = all.iter().map(|key| (&key[..], None)).collect();
        write(&engine, &all);
        drop(engine);
        let engine = RUNTIME.block_on(SealedEngine::wrap(open(), keys_of(1, &[]), "")).unwrap();
        check_up_to(&engine, ENTRY_BYTES_MAX - SEAL_BYTES, || {});
        let all = keys(&engine, b""..=b"\xff\xff", 99);
        let all: Vec<(&[u8], Option<&[u8]>)> = all.iter().map(|key| (&key[..], None)).collect();
        write(&engine, &all);
    }
}

#[test]
fn locks_of_a_shared_memory_keep_transactions_apart() {
    let engine = MemoryEngine::shared(8);
    let key = vec![b"a".to_vec()];
    assert!(now(engine.begin_locked(&key, &[])).is_err(), "what is not there cannot be locked");
    write(&engine, &[(b"a", Some(b"0"))]);
    let first = now(engine.begin_locked(&key, &[])).unwrap();
    let mut second = pin!(engine.begin_locked(&key, &[]));
    assert!(second.as_mut().now_or_never().is_none(), "it waits");
    drop(first);
    let second = now(second).unwrap();
    // One process's engine locks nothing.
    let alone = MemoryEngine::default();
    let both = [now(alone.begin_locked(&key, &[])), now(alone.begin_locked(&key, &[]))];
    assert!(both.iter().all(Result::is_ok));
    drop(second);
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
    assert_eq!(read(&engine, b"sized").map(|value| value.len()), Some(ENTRY_BYTES_MAX - 5));
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
    assert_eq!(read(&engine, b"sized").map(|value| value.len()), Some(ENTRY_BYTES_MAX - 5));
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

fn keys_of(active: u8, old: &[u8]) -> StoreKeys {
    let key = |byte: &u8| StoreKey::new(&[*byte; 32]);
    let active = (active > 0).then(|| key(&active));
    StoreKeys { active, old: old.iter().map(key).collect() }
}

fn sealed<E: Engine>(engine: E, active: u8, old: &[u8]) -> Result<SealedEngine<E>, EngineError> {
    SealedEngine::open(engine, keys_of(active, old), "the store")
}

#[test]
fn sealed_engines_conform() {
    let directory = tempfile::tempdir().unwrap();
    let max = ENTRY_BYTES_MAX - SEAL_BYTES;
    check_up_to(&sealed(MemoryEngine::default(), 1, &[]).unwrap(), max, || {});
    check_up_to(&sealed(MemoryEngine::default(), 0, &[]).unwrap(), max, || {});
    let path = directory.path().join("sled");
    check_up_to(&sealed(sled(&path).unwrap(), 1, &[]).unwrap(), max, || {});
    assert_eq!(
        read(&sealed(sled(&path).unwrap(), 1, &[]).unwrap(), b"a").as_deref(),
        Some(&b"3"[..])
    );
    let path = directory.path().join("redb");
    check_up_to(&sealed(redb(&path).unwrap(), 1, &[]).unwrap(), max, || {});
}

#[test]
fn a_sealed_value_is_nowhere_in_clear_and_opens_only_where_it_belongs() {
    let disk = MemoryEngine::default();
    let engine = sealed(disk.clone(), 1, &[]).unwrap();
    let secret = b"\x01ada@example.com";
    write(&engine, &[(b"a", Some(secret)), (b"b", Some(secret))]);
    assert_eq!(read(&engine, b"a").as_deref(), Some(&secret[..]));
    let stored = [b"a", b"b"].map(|key| read(&disk, key).unwrap());
    assert_ne!(stored[0][5..], stored[1][5..]);
    for stored in &stored {
        assert_eq!(stored.len(), secret.len() + SEAL_BYTES);
        assert!(!stored.windows(3).any(|part| part == b"ada"));
    }
    // Moved to another key, cut off, changed, or put there in clear, it is damaged.
    let damaged = |bytes: &[u8]| {
        disk.damage(b"a", bytes);
        assert_eq!(read(&engine, b"a").as_deref(), Some(&[0][..]), "{bytes:?}");
    };
    damaged(&stored[1]);
    damaged(&stored[0][..SEAL_BYTES - 1]);
    damaged(secret);
    damaged(b"");
    for place in 0..stored[0].len() {
        let mut changed = stored[0].clone();
        changed[place] ^= 1;
        damaged(&changed);
    }
    disk.damage(b"a", &stored[0]);
    assert_eq!(read(&engine, b"a").as_deref(), Some(&secret[..]));
}

#[test]
fn without_its_keys_a_store_does_not_open_and_is_left_as_it_is() {
    let disk = MemoryEngine::default();
    write(&sealed(disk.clone(), 1, &[]).unwrap(), &[(b"a", Some(b"1"))]);
    let before = (disk.keys(), read(&disk, b"a"));
    for (active, old) in [(0, &[][..]), (2, &[]), (2, &[3]), (0, &[2])] {
        let error = sealed(disk.clone(), active, old).err().unwrap().to_string();
        let id = StoreKey::new(&[1; 32]).id().to_string();
        assert!(error.contains(&id) && error.contains("store.encryption_key_file"), "{error}");
    }
    assert_eq!((disk.keys(), read(&disk, b"a")), before);
    sealed(disk, 2, &[1]).unwrap();
}

#[test]
fn resealing_turns_encryption_on_rotates_the_key_and_turns_it_off() {
    let disk = MemoryEngine::default();
    let value: fn(u32) -> Vec<u8> = |number| [&[1][..], &number.to_be_bytes()].concat();
    let key = |number: u32| number.to_be_bytes();
    let clear = sealed(disk.clone(), 0, &[]).unwrap();
    for number in 0..700 {
        write(&clear, &[(&key(number), Some(&value(number)))]);
    }
    for (active, old, gone) in [(1, &[][..], 0), (2, &[1], 1), (0, &[2], 2)] {
        let mut engine = sealed(disk.clone(), active, old).unwrap();
        assert!(engine.is_mixed());
        // What is there can be read, and what is new is sealed already.
        write(&engine, &[(&key(1), Some(&value(1)))]);
        assert_eq!(read(&engine, &key(2)), Some(value(2)));
        let done = now(engine.reseal()).unwrap();
        assert_eq!(done, Resealed { rewritten: 699, kept: 1, damaged: 0 });
        assert!(!engine.is_mixed());
        // The old key is not needed any more, nor does it do.
        let engine = sealed(disk.clone(), active, &[]).unwrap();
        for number in 0..700 {
            assert_eq!(read(&engine, &key(number)), Some(value(number)));
        }
        if active > 0 {
            sealed(disk.clone(), gone, &[]).unwrap_err();
        }
    }
}

#[test]
fn resealing_that_is_cut_off_goes_on() {
    let disk = MemoryEngine::default();
    for number in 0..600_u32 {
        write(&disk, &[(&number.to_be_bytes(), Some(b"\x01"))]);
    }
    let mut engine = sealed(disk.clone(), 1, &[]).unwrap();
    disk.crash_at(1, Crash::AfterCommit);
    now(engine.reseal()).unwrap_err();
    disk.restart();
    let mut engine = sealed(disk.clone(), 1, &[]).unwrap();
    assert!(engine.is_mixed());
    assert_eq!(now(engine.reseal()).unwrap(), Resealed { rewritten: 88, kept: 512, damaged: 0 });
}
