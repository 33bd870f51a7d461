//! Time-outs, lost answers, restarts.

use super::{
    proxy::{Break, Proxy},
    *,
};

/// Through a proxy.
async fn behind(database: &Database, sharing: Sharing) -> (Proxy, PostgresEngine) {
    let proxy = Proxy::start(database.cluster.port).await;
    let hosts = vec![Host { name: "127.0.0.1".to_owned(), port: proxy.port }];
    let options = PostgresOptions { hosts, ..database.elsewhere(sharing) };
    let engine = PostgresEngine::open(&options).await.unwrap();
    (proxy, engine)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_done_once() {
    let database = Database::start();
    // Where the store is shared, whoever asked is told that it is not known.
    let (proxy, shared) = behind(&database, SHARED).await;
    for (what, value) in [(Break::BeforeCommit, None), (Break::AfterCommit, Some(&b"x"[..]))] {
        proxy.break_at(what);
        let error = put(&shared, b"r1", b"x").await.unwrap_err();
        assert!(proxy.has_broken());
        assert!(matches!(error, EngineError::Unknown(_)), "{what:?}: {error}");
        assert_eq!(get(&shared, b"r1").await.unwrap().as_deref(), value, "{what:?}");
    }
    // Where it is one's own, it is found out, and made up for.
    let (proxy, own) = behind(&database, Sharing::Alone).await;
    for (number, what) in [Break::BeforeCommit, Break::AfterCommit].into_iter().enumerate() {
        put(&own, b"r2", b"before").await.unwrap();
        proxy.break_at(what);
        put(&own, b"r2", b"after").await.unwrap();
        assert!(proxy.has_broken());
        assert_eq!(get(&own, b"r2").await.unwrap().as_deref(), Some(&b"after"[..]));
        let commits = database.sql("SELECT commits FROM gateway_store.fence");
        assert_eq!(commits, (2 * (number + 1)).to_string(), "{what:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_is_waited_for_by_who_has_the_store() {
    let mut database = Database::start();
    let own = database.open(Sharing::Alone).await;
    let shared = database.open(SHARED).await;
    put(&own, b"r1", b"1").await.unwrap();
    put(&shared, b"r9", b"1").await.unwrap();
    database.cluster.stop();
    // Others are told at once, and that nothing was stored: there was nobody to send it to.
    loop {
        let error = get(&shared, b"r1").await.unwrap_err();
        assert!(matches!(error, EngineError::Away(_)), "{error}");
        // Before that it may try connections that are as good as closed.
        if error.to_string().contains("refused") {
            break;
        }
    }
    let error = put(&shared, b"r1", b"x").await.unwrap_err();
    assert!(matches!(error, EngineError::Away(_)), "{error}");
    let writing = put(&own, b"r1", b"2");
    let reading = get(&own, b"r9");
    let serving = async { tokio::task::block_in_place(|| database.cluster.serve()) };
    let (written, read, ()) = tokio::join!(writing, reading, serving);
    written.unwrap();
    assert_eq!(read.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&shared, b"r1").await.unwrap().as_deref(), Some(&b"2"[..]));
    put(&shared, b"r1", b"3").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_reach_its_database_gives_the_store_up_before_another_may_take_it() {
    let mut database = Database::start();
    let lease = Duration::from_secs(3);
    let options = PostgresOptions { lease, ..database.elsewhere(Sharing::Alone) };
    let own = PostgresEngine::open(&options).await.unwrap();
    database.cluster.stop();
    let lost = own.lost().await.to_string();
    assert!(lost.contains("the database has not answered for 1500 ms"), "{lost}");
    let error = put(&own, b"r1", b"x").await.unwrap_err().to_string();
    assert!(error.contains("the database has not answered"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_waits_too_long_is_away_and_ends_at_the_server() {
    let database = Database::start();
    let statement_timeout = Duration::from_millis(1_000);
    let options = PostgresOptions { statement_timeout, ..database.elsewhere(SHARED) };
    let engine = PostgresEngine::open(&options).await.unwrap();
    put(&engine, b"a1", b"0").await.unwrap();
    let other = database.open(SHARED).await;
    let key = vec![b"a1".to_vec()];
    let held = other.begin_locked(&key, &[]).await.unwrap();
    let error = engine.begin_locked(&key, &[]).await.err().unwrap();
    assert!(matches!(error, EngineError::Away(_)), "{error}");
    assert!(error.to_string().contains("55P03"), "a lock time-out: {error}");
    let error = put(&engine, b"a1", b"1").await.unwrap_err();
    assert!(matches!(error, EngineError::Away(_)), "{error}");
    drop(held);
    put(&engine, b"a1", b"1").await.unwrap();
    // Who sleeps in a transaction is thrown out, and has committed nothing.
    let mut asleep = engine.begin_locked(&key, &[]).await.unwrap();
    asleep.put(b"a1", b"2".to_vec());
    let next = other.begin_locked(&key, &[]).await.unwrap();
    drop(next);
    let error = asleep.commit().await.unwrap_err();
    assert!(!matches!(error, EngineError::Failed(_)), "{error}");
    assert_eq!(get(&other, b"a1").await.unwrap().as_deref(), Some(&b"1"[..]));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    assert_eq!(database.sql(waiting), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_have_gone_silent_are_given_up_together() {
    let database = Database::start();
    let (proxy, engine) = behind(&database, SHARED).await;
    for key in [b"a1", b"a2"] {
        put(&engine, key, b"0").await.unwrap();
    }
    let mut used = engine.begin_locked(&[b"a1".to_vec()], &[]).await.unwrap();
    used.put(b"a1", b"1".to_vec());
    let idle = engine.begin_locked(&[b"a2".to_vec()], &[]).await.unwrap();
    idle.commit().await.unwrap();
    proxy.silence();
    let asking = async {
        let error = engine.time().await.unwrap_err();
        assert!(matches!(error, EngineError::Away(_)), "{error}");
        // By a new connection.
        engine.time().await.unwrap().unwrap();
    };
    let both = async { tokio::join!(used.commit(), asking) };
    // Sooner than a commit is given up that is not answered.
    let limit = Duration::from_secs(12);
    let (committed, ()) = timeout(limit, both).await.expect("it waits for ever");
    let error = committed.unwrap_err();
    assert!(matches!(error, EngineError::Unknown(_)), "{error}");
}

/// It is answered with success, and with a warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_standby_never_got_is_not_known() {
    let database = Database::of(Cluster::start(&["synchronous_standby_names=nobody"]));
    database.sql(&script(&Schema::new("gateway_store").unwrap(), "gateway"));
    let engine = database.open(SHARED).await;
    let cancel = async {
        let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
                      WHERE wait_event = 'SyncRep'";
        // It waits for the standby for ever: it comes to that.
        while tokio::task::block_in_place(|| database.sql(cancel)) == "0" {
            tokio::task::yield_now().await;
        }
    };
    let (committed, ()) = tokio::join!(put(&engine, b"a1", b"1"), cancel);
    let error = committed.unwrap_err();
    assert!(matches!(error, EngineError::Unknown(_)), "{error}");
    assert!(error.to_string().contains("standby"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_has_lost_commits_is_not_gone_on_with() {
    let database = Database::start();
    let (proxy, own) = behind(&database, Sharing::Alone).await;
    for _ in 0..3 {
        put(&own, b"r1", b"x").await.unwrap();
    }
    // As a standby would have it that was two commits behind.
    database.sql("UPDATE gateway_store.fence SET commits = commits - 2");
    proxy.break_at(Break::BeforeCommit);
    let error = put(&own, b"r1", b"y").await.unwrap_err().to_string();
    assert!(error.contains("the database has lost 2 commits"), "{error}");
    assert!(own.lost().await.to_string().contains("lost 2 commits"));
    assert_eq!(get(&own, b"r1").await.unwrap().as_deref(), Some(&b"x"[..]));
}
