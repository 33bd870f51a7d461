//! Trouble with the disk: what is nearly full is not filled, what fails ends the process, what
//! was acknowledged is there afterwards.

use std::{fs, path::Path};

use serde_json::json;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use userpilot_gateway::proto::{
    FlushNowRequest, UpdateUserRequest, UpdateUsersRequest, update_users_result,
};

use crate::rig::{
    Change, Gateway, Output, Site, SmallDisk, Stage, Way, applied, at_speed, channel, run,
    same_profiles, send_all, settled, until,
};

const MIB: u64 = 1 << 20;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn changes(count: usize) -> Vec<Change> {
    (0..count)
        .map(|nth| Change::new(format!("user-{}", nth % 40), json!({(nth % 3).to_string(): nth})))
        .collect()
}

async fn health(gateway: &Gateway) -> ServingStatus {
    let mut health = HealthClient::new(channel(&gateway.addresses.grpc).await);
    let service = "userpilot_gateway.v1.IngestService".to_owned();
    health.check(HealthCheckRequest { service }).await.unwrap().into_inner().status()
}

/// Every call is refused, says when to try again, and stores nothing.
async fn refuses(gateway: &Gateway) {
    let before = gateway.status().await.store.unwrap().last_sequence;
    let mut ingest = gateway.ingest().await;
    let update = || Change::new("eve", json!({"plan": "pro"})).update();
    let refusal = ingest.update_user(UpdateUserRequest { update: Some(update()) }).await;
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(refusal.message().contains("store.free_bytes_min"), "{refusal:?}");
    assert!(refusal.get_details_retry_info().unwrap().retry_delay.is_some());
    let request = UpdateUsersRequest { updates: vec![update()] };
    let answer = ingest.update_users(request).await.unwrap().into_inner();
    let Some(update_users_result::Result::Error(error)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    assert!(error.retry_delay.is_some() && !error.may_be_stored, "{error:?}");
    let streamed = send_all(Way::Stream, &mut ingest, &changes(1)).await;
    assert_eq!(streamed, [None]);
    assert_eq!(gateway.status().await.store.unwrap().last_sequence, before);
}

async fn is_unready(gateway: &Gateway) {
    until("an unready gateway", async || (gateway.page("/readyz").await.0 == 503).then_some(()))
        .await;
    assert!(gateway.page("/readyz").await.2.contains("nearly full"));
    until("its health", async || {
        (health(gateway).await == ServingStatus::NotServing).then_some(())
    })
    .await;
    let status = gateway.status().await;
    assert!(!status.ready && status.not_ready_reason.contains("store.free_bytes_min"));
    says_so(gateway).await;
    refuses(gateway).await;
}

/// The command answers whoever looks; with `--ready` its exit code does, too.
async fn says_so(gateway: &Gateway) {
    let address = format!("http://{}", gateway.addresses.admin);
    let status = ["status", "--address", &address];
    let seen = run(&status, "").await;
    assert_eq!(seen.status.code(), Some(0), "{seen:?}");
    assert!(seen.stdout.contains("\nproduction: Updates are refused: the disk is nearly full"));
    let ready = run(&[&status[..], &["--ready"]].concat(), "").await;
    assert_eq!(ready.status.code(), Some(3), "{ready:?}");
    assert!(ready.stderr.contains("no updates are taken: the disk is nearly full"), "{ready:?}");
}

async fn is_ready(gateway: &Gateway) {
    let address = format!("http://{}", gateway.addresses.admin);

    until("a ready gateway", async || (gateway.page("/readyz").await.0 == 200).then_some(())).await;
    until("its health", async || (health(gateway).await == ServingStatus::Serving).then_some(()))
        .await;
    let ready = run(&["status", "--ready", "--address", &address], "").await;
    assert_eq!(ready.status.code(), Some(0), "{ready:?}");
}

#[tokio::test]
async fn a_gateway_on_a_disk_that_is_nearly_full_refuses_from_its_start_on() {
    let most = 1_i64 << 50;
    let stage = Stage::of(at_speed(100), |site| site.with("store.free_bytes_min", most)).await;
    is_unready(&stage.gateway).await;
    let page = stage.gateway.page("/metrics").await.2;
    let free =
        page.lines().find_map(|line| line.strip_prefix("userpilot_gateway_store_free_bytes "));
    assert!(free.unwrap().parse::<f64>().unwrap() > 0.0);
    assert!(page.contains("userpilot_gateway_ready 0"));
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_delivery_goes_on_and_with_room_all_does() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = path(&disk.path().join("data")).to_owned();
    let settings = |site: Site| {
        site.with("store.path", &*store)
            .with("store.free_bytes_min", 32 * MIB as i64)
            .with("app.linger_ms", 3_600_000)
    };
    let stage = Stage::of(at_speed(100), settings).await;
    is_ready(&stage.gateway).await;
    let changes = changes(60);
    stage.sent(&changes[..30]).await;
    disk.leave(24 * MIB);
    is_unready(&stage.gateway).await;
    stage.gateway.admin().await.flush_now(FlushNowRequest::default()).await.unwrap();
    stage.delivers(&changes[..30]).await;
    // A little above the watermark is not enough.
    disk.leave(33 * MIB);
    is_unready(&stage.gateway).await;
    disk.leave(64 * MIB);
    is_ready(&stage.gateway).await;
    stage.sent(&changes[30..]).await;
    stage.gateway.admin().await.flush_now(FlushNowRequest::default()).await.unwrap();
    stage.delivers(&changes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_the_engine_finds_full_ends_the_process_and_loses_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = path(&disk.path().join("data")).to_owned();
    let settings = |site: Site| {
        site.with("store.path", &*store)
            .with("store.free_bytes_min", 0)
            .with("app.linger_ms", 3_600_000)
    };
    let mut stage = Stage::of(at_speed(100), settings).await;
    disk.leave(20 * MIB);
    let mut ingest = stage.gateway.ingest().await;
    let mut sent = Vec::new();
    let text = "x".repeat(20_000);
    while stage.gateway.ended().is_none() {
        let first = sent.len();
        let window: Vec<_> = (first..first + 50)
            .map(|nth| {
                let values = json!({"nth": nth, "text": format!("{nth}{text}")});
                Change::new(format!("user-{nth}"), values)
            })
            .collect();
        let answers = send_all(Way::Batch, &mut ingest, &window).await;
        let broken = answers.iter().any(Option::is_none);
        let answers = answers.iter().map(Option::is_some);
        sent.extend(window.into_iter().zip(answers).filter(|(_, it)| *it).map(|(it, _)| it));
        if broken {
            break;
        }
    }
    let Output { status, stderr, .. } = stage.gateway.end().await;
    assert_eq!(status.code(), Some(1), "{stderr}");
    let error = stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
    for part in ["the store failed", "No space left", "has room", &store] {
        assert!(error.contains(part), "{part}: {stderr}");
    }
    assert!(sent.len() > 100, "{} acknowledged", sent.len());

    disk.leave(80 * MIB);
    stage.site = stage.site.with("app.linger_ms", 20);
    stage.gateway = stage.site.serve().await;
    settled(&stage.gateway).await;
    // One whose acknowledgement did not come may have been stored, and delivered, too.
    let mut profiles = stage.simulator.profiles();
    let expected = applied(&sent);
    profiles.retain(|user, _| expected.contains_key(user));
    same_profiles(&profiles, &expected);
}

/// A start on this store fails with one line that has these parts.
async fn is_refused(site: &Site, parts: &[&str]) {
    let output = site.launch().end().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("Error: ")).collect();
    let [error] = errors[..] else { panic!("{output:?}") };
    for part in parts {
        assert!(error.contains(part), "{part}: {output:?}");
    }
}

fn nowhere() -> Site {
    Site::new("http://127.0.0.1:9", 100.0)
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
    let site = nowhere();
    fs::write(site.path("data"), "").unwrap();
    is_refused(&site, &["in data: ", "a file is in its place"]).await;

    let Some(disk) = SmallDisk::new() else { return };
    let store = path(&disk.path().join("data")).to_owned();
    let mut stage = Stage::of(at_speed(100), |site| {
        site.with("store.path", &*store).with("store.free_bytes_min", 0)
    })
    .await;
    let change = Change::new("ada", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&change)).await;
    stage.delivers([&change]).await;
    stage.gateway.kill();
    disk.remount("ro");
    is_refused(&stage.site, &[&store, "mount it for writing"]).await;
    disk.remount("rw");
    stage.gateway = stage.site.serve().await;
}

#[tokio::test]
async fn a_disk_that_fails_under_the_engine_ends_the_process_and_loses_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = path(&disk.path().join("data")).to_owned();
    let settings = |site: Site| {
        site.with("store.path", &*store)
            .with("store.free_bytes_min", 0)
            .with("app.linger_ms", 3_600_000)
    };
    let mut stage = Stage::of(at_speed(100), settings).await;
    let changes = changes(30);
    stage.sent(&changes).await;
    if !disk.fail() {
        return;
    }
    let mut ingest = stage.gateway.ingest().await;
    let later = [Change::new("eve", json!({"plan": "pro"}))];
    assert_eq!(send_all(Way::Batch, &mut ingest, &later).await, [None]);
    let Output { status, stderr, .. } = stage.gateway.end().await;
    assert_eq!(status.code(), Some(1), "{stderr}");
    let error = stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
    for part in ["the store failed", "nput/output error", &store] {
        assert!(error.contains(part), "{part}: {stderr}");
    }
    disk.recover();
    stage.site = stage.site.with("app.linger_ms", 20);
    stage.gateway = stage.site.serve().await;
    stage.delivers(&changes).await;
}
