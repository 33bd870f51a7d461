//! Against a server of the tests' own.

#[path = "../../../../tests/it/rig/postgres.rs"]
mod cluster;
mod outages;
mod proxy;
mod schemas;
mod tls;

use std::{path::Path, time::Duration};

use secrecy::SecretString;
use tempfile::TempDir;

use self::cluster::Cluster;
use super::*;
use crate::store::engine::{Entries, Transaction};

const PASSWORD: &str = "hush-of-the-database";

/// A cluster with a database and a role, and a folder for a gateway.
pub(in crate::store) struct Database {
    cluster: Cluster,
    folder: TempDir,
}

impl Database {
    pub(in crate::store) fn start() -> Self {
        Self::of(Cluster::start(&[]))
    }

    fn of(cluster: Cluster) -> Self {
        cluster.sql("postgres", &format!("CREATE ROLE gateway LOGIN PASSWORD '{PASSWORD}'"));
        cluster.sql("postgres", "CREATE DATABASE store OWNER gateway");
        Self { cluster, folder: tempfile::tempdir().unwrap() }
    }

    pub(in crate::store) fn sql(&self, sql: &str) -> String {
        self.cluster.sql("store", sql)
    }

    pub(in crate::store::engine) fn options(&self, sharing: Sharing) -> PostgresOptions {
        PostgresOptions {
            hosts: vec![Host { name: "127.0.0.1".to_owned(), port: self.cluster.port }],
            database: "store".to_owned(),
            user: "gateway".to_owned(),
            password: Some(SecretString::from(PASSWORD)),
            schema: Schema::new("gateway_store").unwrap(),
            tls: None,
            connections_max: 12,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(8),
            sharing,
            lease: Duration::from_secs(60),
            folder: self.folder.path().join("own"),
            makes_schema: true,
        }
    }

    /// As another gateway would open it, elsewhere.
    fn elsewhere(&self, sharing: Sharing) -> PostgresOptions {
        let folder = self.folder.path().join(format!("{:x}", rand::random::<u64>()));
        PostgresOptions { folder, ..self.options(sharing) }
    }

    pub(in crate::store) async fn open(&self, sharing: Sharing) -> PostgresEngine {
        PostgresEngine::open(&self.elsewhere(sharing)).await.unwrap()
    }
}

const SHARED: Sharing = Sharing::Shared { stripes: 8 };

async fn put(engine: &PostgresEngine, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    let mut transaction = engine.begin().await?;
    transaction.put(key, value.to_vec());
    transaction.commit().await
}

async fn get(engine: &PostgresEngine, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
    engine.begin().await?.get(key).await
}

/// Whoever wants to start waits, or is refused, as long as another one is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_has_the_store() {
    let database = Database::start();
    let lease = Duration::from_secs(6);
    let options = PostgresOptions { lease, ..database.options(Sharing::Alone) };
    let elsewhere = PostgresOptions { lease, ..database.elsewhere(Sharing::Alone) };
    let first = PostgresEngine::open(&options).await.unwrap();
    put(&first, b"r1", b"first").await.unwrap();

    // While its holder prolongs the lease, another one is refused, and told who it is.
    let refused = PostgresEngine::open(&elsewhere).await.err().unwrap();
    assert!(matches!(refused, EngineError::InUse { .. }), "{refused}");
    let process = format!("process {}", std::process::id());
    assert!(refused.to_string().contains(&process), "{refused}");

    // One that is gone without a word is waited for: its lease is of the past then.
    first.shared.stop.cancel();
    first.shared.released.lock().unwrap().recv().unwrap();
    database.sql("UPDATE gateway_store.lease SET until = clock_timestamp() + interval '1 s'");
    let second = PostgresEngine::open(&elsewhere).await.unwrap();

    // What the first one still sends is refused, and it is told.
    let late = put(&first, b"r1", b"late").await.unwrap_err();
    assert!(late.to_string().contains("another gateway has taken the store over"), "{late}");
    assert!(first.lost().await.to_string().contains("another gateway"));
    assert_eq!(get(&second, b"r1").await.unwrap().as_deref(), Some(&b"first"[..]));
    put(&second, b"r1", b"second").await.unwrap();

    // One that was closed in order is not waited for.
    drop(second);
    drop(first);
    let third = PostgresOptions { lease: Duration::from_secs(600), ..options.clone() };
    let third = PostgresEngine::open(&third).await.unwrap();
    assert_eq!(get(&third, b"r1").await.unwrap().as_deref(), Some(&b"second"[..]));

    // Nor one that was killed in the same folder: its lock is free.
    third.shared.stop.cancel();
    third.shared.released.lock().unwrap().recv().unwrap();
    database.sql("UPDATE gateway_store.lease SET until = clock_timestamp() + interval '1 h'");
    drop(third);
    let fourth = PostgresEngine::open(&options).await.unwrap();
    put(&fourth, b"r1", b"fourth").await.unwrap();
    assert_eq!(database.sql("SELECT commits FROM gateway_store.fence"), "3");
}

/// What a fleet needs: several engines on one store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_keep_transactions_apart() {
    const RAISES: u32 = 60;
    let database = Database::start();
    let engines = [database.open(SHARED).await, database.open(SHARED).await];
    put(&engines[0], b"a1", b"0").await.unwrap();
    let raise = async |engine: &PostgresEngine| {
        for _ in 0..RAISES {
            let keys = [b"a1".to_vec()];
            let [key] = &keys;
            let mut transaction = engine.begin_locked(&keys, &keys).await.unwrap();
            let value = transaction.get(key).await.unwrap().unwrap();
            let number: u32 = std::str::from_utf8(&value).unwrap().parse().unwrap();
            transaction.put(key, (number + 1).to_string().into_bytes());
            transaction.commit().await.unwrap();
        }
    };
    let raising = (0..8).map(|task| raise(&engines[task % 2]));
    futures_util::future::join_all(raising).await;
    let raised = get(&engines[0], b"a1").await.unwrap().unwrap();
    assert_eq!(raised, (8 * RAISES).to_string().into_bytes());

    // A transaction that is dropped leaves no lock, and none of its writes.
    let key = vec![b"a1".to_vec()];
    let mut dropped = engines[0].begin_locked(&key, &[]).await.unwrap();
    dropped.put(b"a1", b"lost".to_vec());
    assert!(dropped.time().is_some());
    drop(dropped);
    let mut next = engines[1].begin_locked(&key, &[]).await.unwrap();
    assert_eq!(next.get(b"a1").await.unwrap().unwrap(), raised);
    // What was not there when it was read ahead is not there for it.
    next.prefetch(&[b"r1".to_vec(), b"a1".to_vec()]).await.unwrap();
    put(&engines[0], b"r1", b"x").await.unwrap();
    assert_eq!(next.get(b"r1").await.unwrap(), None);
    drop(next);

    // What is not there cannot be locked.
    let missing = engines[0].begin_locked(&[b"a2".to_vec()], &[]).await.err().unwrap();
    assert!(matches!(missing, EngineError::Failed(_)), "{missing}");

    // Of several that put an entry one is first.
    let putting =
        (0..6_u8).map(|task| engines[usize::from(task % 2)].put_if_absent(b"\xffr", vec![task]));
    let found: Vec<_> = futures_util::future::join_all(putting).await;
    let first = found[0].as_ref().unwrap().clone();
    assert!(found.iter().all(|found| *found.as_ref().unwrap() == first));
    let now = engines[0].time().await.unwrap().unwrap();
    assert!(now.since(clock_of(&database)) < Duration::from_secs(60));
}

fn clock_of(database: &Database) -> Timestamp {
    let micros = database.sql("SELECT (extract(epoch FROM now()) * 1000000)::int8 - 30000000");
    Timestamp::from_micros(micros.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_goes_through_the_tables_in_the_order_of_keys() {
    let database = Database::start();
    let engine = database.open(SHARED).await;
    let keys: Vec<&[u8]> = vec![b"a\xff", b"c\0", b"f", b"q1", b"q2", b"r\0", b"z", b"\xffs"];
    let mut transaction = engine.begin().await.unwrap();
    for key in keys.iter().rev() {
        transaction.put(key, key.to_vec());
    }
    transaction.commit().await.unwrap();
    let scan = async |from: &[u8], to: &[u8], limit| -> Vec<Vec<u8>> {
        let mut transaction = engine.begin().await.unwrap();
        let found: Entries<Vec<u8>> =
            transaction.scan(from.to_vec()..=to.to_vec(), limit).await.unwrap();
        assert!(found.iter().all(|(key, value)| key == value));
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(scan(b"", b"\xff\xff", 99).await, keys);
    assert_eq!(scan(b"b", b"q1", 2).await, keys[1..3]);
    assert_eq!(scan(b"q", b"q\xff", 9).await, keys[3..5]);
    assert_eq!(scan(b"x", b"y", 9).await, Vec::<Vec<u8>>::new());
    // An operator can look.
    assert_eq!(database.sql("SELECT count(*) FROM gateway_store.page"), "2");
}

/// A way to the database and back for each page would be most of what a claim takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_that_goes_on_under_locks_reads_ahead() {
    const ENTRIES: u8 = 40;
    let database = Database::start();
    let engine = database.open(SHARED).await;
    let mut transaction = engine.begin().await.unwrap();
    transaction.put(b"a1", Vec::new());
    for number in 0..ENTRIES {
        transaction.put(&[b'z', number], vec![number]);
    }
    transaction.commit().await.unwrap();
    let mut transaction = engine.begin_locked(&[b"a1".to_vec()], &[]).await.unwrap();
    let (mut from, mut found) = (b"z".to_vec(), Vec::new());
    while let [(key, value)] = &transaction.scan(from..=b"z\xff".to_vec(), 1).await.unwrap()[..] {
        from = [&key[..], &[0]].concat();
        found.push(value[0]);
        // What others put behind it was not there when it was read ahead: what is locked, they
        // would not have put. Nor does it see what it deletes itself.
        let next = [b'z', value[0], 1];
        match value[0] {
            2 | 17 => put(&engine, &next, b"new").await.unwrap(),
            30 => transaction.delete(&[b'z', 31]),
            _ => {}
        }
    }
    assert_eq!(found, (0..ENTRIES).collect::<Vec<_>>());
    // Of another end, or from elsewhere, it is read anew.
    let anew = transaction.scan(b"z\x02".to_vec()..=b"z\xff".to_vec(), 3).await.unwrap();
    let anew: Vec<_> = anew.into_iter().map(|(_, value)| value).collect();
    assert_eq!(anew, [&[2][..], b"new", &[3]]);
}

/// The password of the options stands in no text.
#[test]
fn a_password_is_never_shown() {
    let options = PostgresOptions {
        hosts: vec![Host { name: "db".to_owned(), port: 5432 }],
        database: "store".to_owned(),
        user: "gateway".to_owned(),
        password: Some(SecretString::from(PASSWORD)),
        schema: Schema::new("s").unwrap(),
        tls: None,
        connections_max: 3,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        sharing: Sharing::Alone,
        lease: Duration::from_secs(3),
        folder: Path::new("x").to_owned(),
        makes_schema: true,
    };
    let shown = format!("{options:?} {}", options.place());
    assert!(!shown.contains("hush"), "{shown}");
}
