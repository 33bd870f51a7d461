//! The gateway over PostgreSQL: one at a time, whatever happens to it or to the server.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use toml::{Table, Value};
use userpilot_gateway::proto::PauseRequest;

use crate::rig::{Change, Cluster, Gateway, Output, Site, Stage, at_speed, get, run, until};

const PASSWORD: &str = "hush-of-the-database";

/// A cluster with a database for a gateway, whose role owns it.
pub(crate) fn cluster() -> Cluster {
    let cluster = Cluster::start(&[]);
    let role = format!("CREATE ROLE gateway LOGIN PASSWORD '{PASSWORD}'");
    cluster.sql("postgres", &role);
    cluster.sql("postgres", "CREATE DATABASE store OWNER gateway");
    cluster
}

/// A site whose store is there.
pub(crate) fn over(cluster: &Cluster, site: Site) -> Site {
    at(&[cluster.port], site)
}

/// A site whose store is at whichever server takes writes, of those at these ports.
pub(crate) fn at(ports: &[u16], site: Site) -> Site {
    let password = site.path("postgres.password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let mut postgres = Table::new();
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    postgres.insert("hosts".to_owned(), Value::from(hosts));
    postgres.insert("database".to_owned(), Value::from("store"));
    postgres.insert("user".to_owned(), Value::from("gateway"));
    postgres.insert("password_file".to_owned(), Value::from("postgres.password"));
    postgres.insert("tls".to_owned(), Value::from("disable"));
    postgres.insert("lease_ms".to_owned(), Value::from(20_000));
    let folder = text(&site, "data");
    site.with("store.engine", "postgres")
        .with("store.path", folder)
        .with("store.postgres", postgres)
}

/// A path of its folder: commands run elsewhere.
fn text(site: &Site, name: &str) -> String {
    site.path(name).to_str().unwrap().to_owned()
}

fn changes(values: &str) -> Vec<Change> {
    let change = |nth: usize| Change::new(format!("user-{nth}"), json!({"plan": values}));
    (0..20).map(change).collect()
}

#[tokio::test]
async fn a_gateway_over_postgresql_outlives_kills_and_restarts_and_lets_no_second_one_in() {
    let mut cluster = cluster();
    let mut stage = Stage::of(at_speed(100), |site| over(&cluster, site)).await;
    let mut all = changes("first");
    stage.sent(&all).await;
    stage.delivers(&all).await;

    // Another one, with a folder of its own, is refused while this one is there.
    let second = over(&cluster, Site::new("http://127.0.0.1:9", 1.0));
    let refused = second.launch().end().await;
    assert!(!refused.status.success());
    for part in ["in use by another process", "schema userpilot_gateway of database store"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }

    // Killed, and started again where it was: it does not wait for its own lease.
    let more = changes("second");
    stage.sent(&more).await;
    stage.gateway.kill();
    stage.gateway = stage.site.serve().await;
    all.extend(more);
    stage.delivers(&all).await;

    // The server is restarted under it: what comes meanwhile is taken once it is back.
    let third = changes("third");
    cluster.stop();
    let back = async {
        tokio::task::spawn_blocking(move || {
            cluster.serve();
            cluster
        })
        .await
    };
    let (_, back) = tokio::join!(stage.sent(&third), back);
    let cluster = back.unwrap();
    all.extend(third);
    stage.delivers(&all).await;

    let log = stage.gateway.log().join("\n");
    assert!(log.contains("the database is away: tries again"), "{log}");
    assert!(!log.contains("hush") && !cluster.log().contains("hush"));
    stage.gateway.terminate();
    let ended = stage.gateway.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(cluster.sql("store", "SELECT until <= now() FROM userpilot_gateway.lease"), "t");
    let checked = store(&stage.site, &["check"]).await;
    assert!(checked.status.success(), "{checked:?}");
    assert!(checked.stdout.contains("the postgres store in schema userpilot_gateway"));
}

pub(crate) async fn store(site: &Site, arguments: &[&str]) -> Output {
    let config = site.config();
    let config = config.to_str().unwrap();
    run(&[&["store"], arguments, &["--config", config]].concat(), "").await
}

#[tokio::test]
async fn what_waits_moves_from_sled_into_postgresql_and_back() {
    let cluster = cluster();
    let changes = changes("moved");
    let mut stage = Stage::of(at_speed(100), |site| {
        let folder = text(&site, "data");
        site.with("store.path", folder)
    })
    .await;
    let all = PauseRequest { app: String::new() };
    stage.gateway.admin().await.pause(all).await.unwrap();
    stage.sent(&changes).await;
    stage.gateway.kill();
    let exported = store(&stage.site, &["export"]).await;
    assert!(exported.status.success(), "{exported:?}");

    // The folder of sled's store is not taken for the database's.
    let site = over(&cluster, stage.site);
    let refused = store(&site, &["check"]).await;
    assert!(refused.stderr.contains("the engine sled made it"), "{refused:?}");
    let other = text(&site, "other");
    let site = site.with("store.path", other);
    let refused = store(&site, &["check"]).await;
    assert!(refused.stderr.contains("there is no store"), "{refused:?}");
    let made = store(&site, &["migrate"]).await;
    assert!(made.stdout.ends_with(": made\n"), "{made:?}");
    let again = store(&site, &["migrate"]).await;
    assert!(again.stdout.ends_with(": up to date already\n"), "{again:?}");
    let printed = store(&site, &["migrate", "--print", "--grant-to", "little"]).await;
    assert!(printed.stdout.contains("TO \"little\""), "{printed:?}");

    let file = site.path("waiting.ndjson");
    fs::write(&file, &exported.stdout).unwrap();
    let imported = store(&site, &["import", file.to_str().unwrap()]).await;
    assert!(imported.stdout.starts_with("20 records imported"), "{imported:?}");
    assert!(store(&site, &["check"]).await.status.success());
    let pending = "SELECT entries FROM userpilot_gateway.counts WHERE kind = 'pending'";
    assert_eq!(cluster.sql("store", pending), "20");
    // And out again.
    let back = store(&site, &["export"]).await;
    assert_eq!(back.stdout.lines().count(), exported.stdout.lines().count());
    let shown = run(&["check-config", "--config", site.config().to_str().unwrap()], "").await;
    assert!(shown.status.success() && !format!("{shown:?}").contains("hush"), "{shown:?}");
    assert!(shown.stdout.contains("password_file = "), "{shown:?}");

    stage.site = site;
    stage.gateway = stage.site.serve().await;
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_at_the_start_is_waited_for() {
    let mut cluster = cluster();
    cluster.stop();
    let site = over(&cluster, Site::new("http://127.0.0.1:9", 1.0));
    let mut process = site.launch();
    process.says("the database is away: tries again").await;
    process.terminate();
    let ended = process.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("stopped before the store was open"), "{ended:?}");

    let waiting = site.launch();
    waiting.says("the database is away: tries again").await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.serve();
        cluster
    })
    .await
    .unwrap();
    let gateway = Gateway::of(waiting).await;
    until("readiness", async || {
        let ready = get(&format!("http://{}/readyz", gateway.addresses.http)).await;
        (ready.status() == 200).then_some(())
    })
    .await;
    drop(cluster);
}
