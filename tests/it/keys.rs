//! API keys that change while the gateway runs.

use std::fs;

use serde_json::json;
use userpilot_gateway::proto::AppState;

use crate::rig::{Change, Gateway, Process, Site, get, settled, until};

fn ada(plan: &str) -> Change {
    Change::new("ada", json!({ "plan": plan }))
}

async fn send(gateway: &Gateway, change: &Change) {
    let update = Some(change.update());
    let request = userpilot_gateway::proto::UpdateUserRequest { update };
    gateway.ingest().await.update_user(request).await.unwrap();
}

async fn said(gateway: &Gateway, what: &str) {
    until(what, async || gateway.log().iter().any(|line| line.contains(what)).then_some(())).await;
}

async fn plan(simulator: &str) -> serde_json::Value {
    let profile = get(&format!("{simulator}/_simulator/profiles/ada")).await;
    profile.json::<serde_json::Value>().await.unwrap()["metadata"]["plan"].take()
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
    fs::write(&key, "simulated-key\n").unwrap();
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "free");

    // One that is none changes nothing, and is complained about once.
    fs::write(&key, "").unwrap();
    said(&gateway, "is empty").await;
    send(&gateway, &ada("pro")).await;
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "pro");
    fs::remove_file(&key).unwrap();
    said(&gateway, "cannot read the API key").await;
    send(&gateway, &ada("team")).await;
    settled(&gateway).await;
    assert_eq!(plan(&url).await, "team");

    let log = gateway.log();
    let complaints = log.iter().filter(|line| line.contains("the API key stays as it was"));
    assert_eq!(complaints.count(), 2, "{log:?}");
    for key in ["wrong-key", "simulated-key"] {
        assert!(!log.join("").contains(key), "{key}");
    }
}
