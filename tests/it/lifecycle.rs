//! The process: how it starts, why it does not, and how it ends.

use std::{
    fs,
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use userpilot_gateway::proto::{
    PauseRequest, ResumeRequest, StreamUserUpdatesRequest, UpdateUserRequest, WatchStatusRequest,
};

use crate::rig::{
    Change, Manner, Output, Process, Site, Stage, Way, at_speed, channel, get, send, until, within,
};

/// A site that never gets as far as its upstream.
fn nowhere() -> Site {
    Site::new("http://127.0.0.1:9", 100.0)
}

async fn refused(site: &Site) -> Output {
    let output = site.launch().end().await;
    assert!(!output.status.success(), "{output:?}");
    output
}

#[tokio::test]
async fn a_gateway_starts_again_and_again_on_the_same_store() {
    let mut stage = Stage::start(100).await;
    let mut changes = Vec::new();
    for nth in 0..6 {
        changes.push(Change::new("ada", json!({"nth": nth, (nth.to_string()): true})));
        stage.sent(&changes[nth..]).await;
        if nth % 2 == 0 {
            stage.restart().await;
        } else {
            stage.gateway.terminate();
            assert!(stage.gateway.end().await.status.success());
            stage.gateway = stage.site.serve().await;
        }
    }
    stage.delivers(&changes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_is_quick_and_forgets_nothing() {
    const GRACE: Duration = Duration::from_secs(20);
    let grace_ms = i64::try_from(GRACE.as_millis()).unwrap();
    let settings = |site: Site| site.with("server.shutdown_grace_ms", grace_ms);
    let mut stage = Stage::of(at_speed(20), settings).await;
    let enough = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for (client, way) in [Way::Unary, Way::Batch, Way::Stream].into_iter().enumerate() {
        let mut ingest = stage.gateway.ingest().await;
        let enough = Arc::clone(&enough);
        clients.spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0.. {
                let window: Vec<_> = (0..40)
                    .map(|user| Change::new(format!("{client}-{user}"), json!({"round": round})))
                    .collect();
                let answers = send(way, &mut ingest, &window).await;
                let refused = answers.iter().any(Option::is_none);
                let pairs = window.into_iter().zip(answers);
                acknowledged.extend(pairs.filter(|(_, answer)| answer.is_some()));
                if refused {
                    break;
                }
                if round == 20 {
                    enough.store(true, Ordering::Relaxed);
                }
            }
            acknowledged
        });
    }
    until("enough traffic", async || enough.load(Ordering::Relaxed).then_some(())).await;
    stage.gateway.terminate();
    let stopped = tokio::time::timeout(GRACE, stage.gateway.end()).await.unwrap();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert!(stopped.stderr.contains("\"stopped\"") && !stopped.stderr.contains("grace is over"));
    let acknowledged: Vec<_> = clients.join_all().await.into_iter().flatten().collect();

    stage.gateway = stage.site.serve().await;
    let last = acknowledged.iter().filter_map(|(_, answer)| answer.as_ref()).map(|it| it.sequence);
    let last_sequence = stage.gateway.status().await.store.unwrap().last_sequence;
    assert!(last.max() <= Some(last_sequence), "an acknowledged update is after {last_sequence}");
    crate::rig::settled(&stage.gateway).await;
    let profiles = stage.simulator.profiles();
    for (change, _) in &acknowledged {
        let round = |value: &serde_json::Value| value.as_u64().unwrap();
        let found = round(&profiles[&change.user_id].metadata["round"]);
        assert!(found >= round(&change.metadata["round"]), "{} went back", change.user_id);
    }
    stage.is_blameless();
    assert_eq!(stage.simulator.snapshot().conflicts, 0);
}

#[tokio::test]
async fn a_stop_ends_streams_that_their_clients_hold_open() {
    let mut stage = Stage::start(100).await;
    let mut ingest = stage.gateway.ingest().await;
    let mut admin = stage.gateway.admin().await;
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let update = Some(Change::new("ada", json!({"plan": "pro"})).update());
    sender.send(StreamUserUpdatesRequest { tag: 7, update, company: None }).await.unwrap();
    let mut answers = ingest.stream_user_updates(requests).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().tag, 7);
    let mut watch =
        admin.watch_status(WatchStatusRequest { interval: None }).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());

    stage.gateway.terminate();
    let ended = within("the end of the stream", answers.message()).await;
    assert!(ended.unwrap().is_none());
    let output = stage.gateway.end().await;
    assert_eq!(output.status.code(), Some(0));
    assert!(!output.stderr.contains("grace is over"), "{}", output.stderr);
}

#[tokio::test]
async fn a_stop_ends_the_watches_of_the_health_service() {
    let mut stage = Stage::start(100).await;
    let mut health = HealthClient::new(channel(&stage.gateway.addresses.grpc).await);
    let request = HealthCheckRequest { service: String::new() };
    let mut statuses = health.watch(request).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    stage.gateway.terminate();
    let last = within("the last status", statuses.message()).await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert!(within("the end of the watch", statuses.message()).await.unwrap().is_none());
    let output = stage.gateway.end().await;
    assert_eq!(output.status.code(), Some(0));
    assert!(!output.stderr.contains("grace is over"), "{}", output.stderr);
}

#[tokio::test]
async fn the_http_door_tells_of_a_stop_as_long_as_it_lasts() {
    let settings = |site: Site| site.with("server.shutdown_grace_ms", 60_000);
    let (mut stage, rogue) = Stage::ambushed("http", Manner::silent(), settings).await;
    stage.sent(&[Change::new("ada", json!({"plan": "pro"}))]).await;
    // Before its request has left, a submission is no reason to wait.
    until("a submission", async || (rogue.connections() > 0).then_some(())).await;
    stage.gateway.terminate();
    let page = until("a gateway that stops", async || {
        let (status, _, page) = stage.gateway.page("/readyz").await;
        (status == 503).then_some(page)
    })
    .await;
    assert_eq!(page, "the gateway is stopping\n");
    assert_eq!(stage.gateway.page("/healthz").await.0, 200);
    rogue.turn(Manner::Honest);
    assert_eq!(stage.gateway.end().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_gateway_that_opens_its_store_is_alive_and_not_ready() {
    let site = nowhere();
    // The engine's first read of its folder waits for a writer that never comes.
    fs::create_dir_all(site.path("data/sled")).unwrap();
    let made = Command::new("mkfifo").arg(site.path("data/sled/conf")).status().unwrap();
    assert!(made.success());
    let process = site.launch();
    let address = until("the address of the HTTP door", async || {
        let log = process.log();
        let line = log.iter().find(|line| line.contains("\"opens the store\""))?;
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        Some(line["http"].as_str().unwrap().to_owned())
    })
    .await;
    for (path, status) in [("healthz", 200), ("readyz", 503), ("metrics", 200)] {
        let answer = get(&format!("http://{address}/{path}")).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_store_is_refused_and_does_no_harm() {
    let stage = Stage::start(100).await;
    let output = refused(&stage.site).await;
    let store = stage.site.path("data");
    assert!(output.stderr.contains("data") && output.stderr.contains("in use"), "{output:?}");
    assert!(output.stderr.lines().count() < 10 && store.exists(), "{output:?}");
    let change = Change::new("ada", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&change)).await;
    stage.delivers([&change]).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_all_that_is_wrong() {
    let site = nowhere()
        .with("server.grpc_lisen", "127.0.0.1:0")
        .with("store.group_updates_max", 0)
        .with("app.users_per_minute", "many");
    let output = refused(&site).await;
    for part in [
        "3 problems",
        "server.grpc_lisen",
        "did you mean grpc_listen",
        "store.group_updates_max",
        "apps[0].users_per_minute",
        "gateway.toml",
    ] {
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }
    assert!(!site.path("data").exists(), "it has begun to work");

    fs::remove_file(site.path("userpilot.key")).unwrap();
    let output = refused(&nowhere().with("app.api_key_file", "missing.key")).await;
    assert!(output.stderr.contains("missing.key"), "{output:?}");
}

#[tokio::test]
async fn an_app_that_still_has_updates_cannot_be_renamed_away() {
    let mut stage = Stage::start(100).await;
    let mut admin = stage.gateway.admin().await;
    admin.pause(PauseRequest { app: String::new() }).await.unwrap();
    let changes = ["ada", "bob"].map(|user| Change::new(user, json!({"plan": "pro"})));
    stage.sent(&changes).await;
    stage.gateway.kill();
    stage.site = stage.site.with("app.name", "renamed");
    let output = refused(&stage.site).await;
    let message = "app \"production\" (2 pending and 0 in flight)";
    for part in [message, "Configure them again"] {
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }

    stage.site = stage.site.with("app.name", "production");
    stage.gateway = stage.site.serve().await;
    let resume = ResumeRequest { app: String::new() };
    stage.gateway.admin().await.resume(resume).await.unwrap();
    stage.delivers(&changes).await;
    // Nothing of it is left to deliver: it may go.
    stage.gateway.kill();
    stage.site = stage.site.with("app.name", "renamed");
    stage.gateway = stage.site.serve().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["grpc_listen", "http_listen", "admin_listen"] {
        let output = refused(&nowhere().with(&format!("server.{key}"), &*address)).await;
        let message = format!("cannot listen on server.{key} = {address}");
        assert!(output.stderr.contains(&message), "{output:?}");
        assert!(output.stderr.contains("in use"), "{output:?}");
    }
}

#[tokio::test]
async fn a_gateway_is_configured_by_its_environment_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
    command.arg("serve").env_clear().current_dir(&folder).envs([
        ("USERPILOT_API_KEY", "simulated-key"),
        ("USERPILOT_GATEWAY__SERVER__GRPC_LISTEN", "127.0.0.1:0"),
        ("USERPILOT_GATEWAY__SERVER__HTTP_LISTEN", "127.0.0.1:0"),
        ("USERPILOT_GATEWAY__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("USERPILOT_GATEWAY__APPS__0__BASE_URL", "http://127.0.0.1:9"),
    ]);
    let gateway = crate::rig::Gateway::of(Process::start(&mut command, "")).await;
    assert_eq!(gateway.app().await.users_per_minute, 1_800);
    assert!(folder.path().join("data").exists());
    assert!(!gateway.log().join("").contains("simulated-key"));
}

#[tokio::test]
async fn no_log_filter_lets_property_values_or_the_key_through() {
    let stage = Stage::start(100).await;
    let site = stage.site.with("store.path", "traced");
    let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
    command
        .args(["serve", "--config"])
        .arg(site.config())
        .env_clear()
        .env("RUST_LOG", "trace,sled=trace");
    let folder = tempfile::tempdir().unwrap();
    let gateway = crate::rig::Gateway::of(Process::start(command.current_dir(&folder), "")).await;
    let change = Change::new("ada", json!({"plan": "a-private-value"}));
    let request = UpdateUserRequest { update: Some(change.update()) };
    gateway.ingest().await.update_user(request).await.unwrap();
    crate::rig::settled(&gateway).await;
    let log = gateway.log();
    assert!(log.iter().any(|line| line.contains("\"TRACE\"")), "the filter is not in force");
    for line in log {
        for private in ["private-value", &bytes("private-value"), "simulated-key"] {
            assert!(!line.contains(private), "{line}");
        }
    }
}

/// The text's bytes, as Rust shows a list of them.
fn bytes(text: &str) -> String {
    format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned()
}
