//! API keys that change while the gateway runs.

use std::{fs, time::Duration};

use serde_json::json;
use userpilot_gateway::{
    clock,
    proto::AppState,
    simulator::{Simulator, SimulatorConfig},
};

use crate::rig::{Change, Gateway, Process, Site, Stage, at_speed, get, run, settled, until};

fn ada(plan: &str) -> Change {
    Change::new("ada", json!({ "plan": plan }))
}

async fn send(gateway: &Gateway, change: &Change) {
    let update = Some(change.update());
    let request = userpilot_gateway::proto::UpdateUserRequest { update };
    gateway.ingest().await.update_user(request).await.unwrap();
}

async fn plan(simulator: &str) -> serde_json::Value {
    let profile = get(&format!("{simulator}/_simulator/profiles/ada")).await;
    profile.json::<serde_json::Value>().await.unwrap()["metadata"]["plan"].take()
}

/// Who reads the key says why it stays. Who reads the configuration may say the same before.
async fn complained(gateway: &Gateway, of: &str) {
    until("a complaint", async || {
        let is_of =
            |line: &String| line.contains("the API key stays as it was") && line.contains(of);
        gateway.log().iter().any(is_of).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_put_right_in_its_file_is_used_at_once() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
    command.args(["simulate-userpilot", "--listen", "127.0.0.1:0", "--speed", "100"]).env_clear();
    let simulator = Process::start(&mut command, "");
    let url = until("the simulator's address", async || {
        let printed = simulator.printed();
        printed.first()?.strip_prefix("simulated Userpilot listens on ").map(str::to_owned)
    })
    .await;
    // Nobody waits for the next try: it would come after ten minutes.
    let site = Site::new(&url, 100.0).with("app.held_retry_ms", 600_000);
    let key = site.path("userpilot.key");
    fs::write(&key, "wrong-key").unwrap();
    let gateway = site.serve().await;
    send(&gateway, &ada("free")).await;
    until("a key that is refused", async || {
        (gateway.app().await.state() == AppState::KeyRejected).then_some(())
    })
    .await;
    let written = clock::now().instant;
    fs::write(&key, "simulated-key\n").unwrap();
    gateway.says("there is another API key").await;
    let took = clock::now().instant.since(written);
    assert!(took < Duration::from_secs(1), "active after {took:?}");
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "free");

    // One that is none changes nothing, and is complained about once.
    fs::write(&key, "").unwrap();
    complained(&gateway, "is empty").await;
    send(&gateway, &ada("pro")).await;
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "pro");
    fs::write(&key, "sim").unwrap();
    complained(&gateway, "has fewer than 8 characters").await;
    send(&gateway, &ada("basic")).await;
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "basic");
    fs::remove_file(&key).unwrap();
    complained(&gateway, "cannot read the API key").await;
    send(&gateway, &ada("team")).await;
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "team");

    let log = gateway.log();
    let complaints = log.iter().filter(|line| line.contains("the API key stays as it was"));
    assert_eq!(complaints.count(), 3, "{log:?}");
    for key in ["wrong-key", "simulated-key"] {
        assert!(!log.join("").contains(key), "{key}");
    }
}

#[tokio::test]
async fn a_job_in_flight_is_polled_with_the_new_key() {
    // 30 rows a second: the job of 60 runs for seconds.
    let stage = Stage::of(at_speed(1), |site| site).await;
    let changes: Vec<_> =
        (0..60).map(|nth| Change::new(format!("user-{nth}"), json!({ "nth": nth }))).collect();
    stage.sent(&changes).await;
    until("a job", async || {
        stage.gateway.app().await.current_job.filter(|job| !job.job_id.is_empty())
    })
    .await;
    // The old key is worth nothing from here on.
    stage.simulator.change_api_key("second-key".to_owned());
    fs::write(stage.site.path("userpilot.key"), "second-key").unwrap();
    stage.delivers(&changes).await;
    assert_eq!(stage.simulator.snapshot().submissions, 1);
    assert_eq!(stage.gateway.jobs(10).await.len(), 1);
}

#[tokio::test]
async fn a_key_that_stands_in_the_ids_of_jobs_hides_no_job_and_is_not_shown() {
    // The simulator's ids begin with it.
    let key = "bulk:jobs".to_owned();
    let config = SimulatorConfig { api_key: key.clone(), ..at_speed(100) };
    let stage = Stage::of(config, |site| site.with_key_of(0, &key)).await;
    let changes = [ada("pro")];
    stage.sent(&changes).await;
    stage.delivers(&changes).await;
    assert_eq!(stage.simulator.snapshot().submissions, 1);
    let jobs = stage.gateway.jobs(10).await;
    assert!(jobs[0].job_id.starts_with("<redacted>:NX-"), "{jobs:?}");
    assert!(!stage.gateway.log().join("").contains(&key));
}

#[tokio::test]
async fn a_key_goes_to_no_proxy() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let simulator = Simulator::start(at_speed(100)).await.unwrap();
    let site = Site::new(&simulator.url(), 100.0);
    let variables = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"];
    let gateway = site.serve_with(&variables.map(|name| (name, &*address))).await;
    send(&gateway, &ada("pro")).await;
    settled(&gateway).await;
    assert_eq!(simulator.profile("ada").unwrap().metadata["plan"], "pro");
    assert_eq!(proxy.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_key_is_a_credential_of_systemds() {
    let simulator = Simulator::start(at_speed(100)).await.unwrap();
    let site = Site::new(&simulator.url(), 100.0).without("app.api_key_file");
    let site = site.with("app.api_key_credential", "userpilot.key");
    let folder = site.path("").display().to_string();
    let gateway = site.serve_with(&[("CREDENTIALS_DIRECTORY", &folder)]).await;
    send(&gateway, &ada("pro")).await;
    settled(&gateway).await;
    assert_eq!(simulator.profile("ada").unwrap().metadata["plan"], "pro");
}

#[tokio::test]
async fn check_key_tells_a_key_that_is_refused_from_one_that_could_not_be_asked_about() {
    let simulator = Simulator::start(at_speed(100)).await.unwrap();
    let site = Site::new(&simulator.url(), 100.0).and_app("nowhere", "http://127.0.0.1:9");
    let config = site.config().display().to_string();
    let check = async |app: &[&str], code: i32, words: &str| {
        let output = run(&[&["check-key", "--config", &config], app].concat(), "").await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!((output.stdout.clone() + &output.stderr).contains(words), "{output:?}");
    };
    check(&["--app", "production"], 0, "production: the key is accepted (http://127.0").await;
    check(&["--app", "nowhere"], 4, "nowhere: Userpilot could not be asked: cannot connect").await;
    check(&[], 4, "production: the key is accepted").await;
    check(&["--app", "prod"], 1, "no app is called \"prod\"").await;
    simulator.change_api_key("another".to_owned());
    check(&[], 3, "production: the key is refused: 403").await;
    // Nothing has been done with it.
    assert_eq!(simulator.snapshot().submissions, 0);
}
