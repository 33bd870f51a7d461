//! The schema, and whose it is.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_start_at_once_make_one_schema_and_a_newer_one_is_refused() {
    let database = Database::start();
    let options: Vec<_> = (0..4).map(|_| database.elsewhere(SHARED)).collect();
    let opening = options.iter().map(PostgresEngine::open);
    let engines = futures_util::future::join_all(opening).await;
    for engine in &engines {
        assert!(engine.is_ok(), "{:?}", engine.as_ref().err());
    }
    let versions = "SELECT string_agg(version::text, ' ') FROM gateway_store.migration";
    assert_eq!(database.sql(versions), "1 2");
    assert_eq!(PostgresEngine::migrate(&options[0], None).await.unwrap(), Age::Current);
    assert_eq!(database.sql("SELECT count(*) FROM gateway_store.counts"), "0");

    // One that an older program made is brought up to date, with all that it holds.
    database.sql("DROP TABLE gateway_store.course, gateway_store.app_lease");
    database.sql("DELETE FROM gateway_store.migration WHERE version > 1");
    database.sql("INSERT INTO gateway_store.pending VALUES ('r1', 'x')");
    let engine = database.open(SHARED).await;
    assert_eq!(database.sql(versions), "1 2");
    assert_eq!(get(&engine, b"r1").await.unwrap().as_deref(), Some(&b"x"[..]));
    assert_eq!(get(&engine, b"c1").await.unwrap(), None);
    drop(engine);

    database.sql("INSERT INTO gateway_store.migration (version) VALUES (7)");
    drop(engines);
    for options in [database.elsewhere(Sharing::Alone), options[0].clone()] {
        let refused = PostgresEngine::open(&options).await.err().unwrap().to_string();
        for part in ["a newer version", "schema version 7", "Nothing was changed"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
    let age = PostgresEngine::migrate(&options[0], None).await.unwrap();
    assert_eq!(age, Age::Newer(7));
    assert_eq!(database.sql("SELECT token FROM gateway_store.fence"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_role_needs_no_more_than_it_is_granted() {
    let database = Database::start();
    database.sql("CREATE ROLE little LOGIN PASSWORD 'hush-of-little'");
    let little = |options: PostgresOptions| PostgresOptions {
        user: "little".to_owned(),
        password: Some(SecretString::from("hush-of-little")),
        ..options
    };
    // It may not make a schema, and is told who may.
    let options = little(database.elsewhere(Sharing::Alone));
    let refused = PostgresEngine::open(&options).await.err().unwrap().to_string();
    assert!(refused.contains("`store migrate`") && refused.contains("42501"), "{refused}");
    let refused = PostgresOptions { makes_schema: false, ..options.clone() };
    let refused = PostgresEngine::open(&refused).await.err().unwrap().to_string();
    assert!(refused.contains("there is no store"), "{refused}");

    let migrated = PostgresEngine::migrate(&database.options(SHARED), Some("little")).await;
    assert_eq!(migrated.unwrap(), Age::Old(0));
    let engine = PostgresEngine::open(&options).await.unwrap();
    put(&engine, b"r1", b"x").await.unwrap();
    assert_eq!(engine.put_if_absent(b"r1", b"y".to_vec()).await.unwrap(), b"x");
    drop(engine);

    // The same by hand.
    let other = Schema::new("by_hand").unwrap();
    database.sql(&script(&other, "little"));
    let options = PostgresOptions { schema: other, ..little(database.elsewhere(Sharing::Alone)) };
    let engine = PostgresEngine::open(&options).await.unwrap();
    put(&engine, b"r1", b"x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loses_what_it_confirms_is_refused() {
    let database = Database::of(Cluster::start(&["fsync=off"]));
    let refused = PostgresEngine::open(&database.options(SHARED)).await.err().unwrap();
    assert!(refused.to_string().contains("fsync = off"), "{refused}");
}
