//! What Userpilot holds already is not sent again, end to end.

use serde_json::json;
use userpilot_gateway::proto::{Disposition, UpdateState, UpdateUserRequest};

use crate::rig::{Change, Gateway, Stage, at_speed, run};

/// Sends one, and says what became of it.
async fn send(gateway: &Gateway, change: &Change) -> Disposition {
    let request = UpdateUserRequest { update: Some(change.update()) };
    let accepted = gateway.ingest().await.update_user(request).await.unwrap().into_inner();
    if accepted.disposition() == Disposition::Unchanged {
        let state = gateway.update(&accepted.receipt).await.state();
        assert_eq!(state, UpdateState::Delivered);
    }
    accepted.disposition()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_nothing_is_answered_so_over_restarts_until_its_user_is_forgotten() {
    let settings = |site: crate::rig::Site| site.with("app.suppress_unchanged", true);
    let mut stage = Stage::of(at_speed(100), settings).await;
    let ada = Change::new("ada", json!({ "plan": "pro", "seats": 3 })).of_company("acme");
    assert_eq!(send(&stage.gateway, &ada).await, Disposition::Queued);
    stage.delivers([&ada]).await;
    assert_eq!(send(&stage.gateway, &ada).await, Disposition::Unchanged);
    let (_, _, metrics) = stage.gateway.page("/metrics").await;
    let counted = "suppressed_updates_total{app=\"production\"} 1";
    assert!(metrics.contains(counted), "{metrics}");

    stage.restart().await;
    assert_eq!(send(&stage.gateway, &ada).await, Disposition::Unchanged);
    let jobs = stage.gateway.jobs(9).await.len();
    let part = Change::new("ada", json!({ "plan": "pro" }));
    assert_eq!(send(&stage.gateway, &part).await, Disposition::Unchanged);
    let other = Change::new("bob", json!({ "plan": "pro" }));
    assert_eq!(send(&stage.gateway, &other).await, Disposition::Queued);
    stage.delivers([&ada, &other]).await;
    assert_eq!(stage.gateway.jobs(9).await.len(), jobs + 1);

    let address = format!("http://{}", stage.gateway.addresses.admin);
    let forgotten = run(&["user", "forget", "ada", "--yes", "--address", &address], "").await;
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert_eq!(send(&stage.gateway, &part).await, Disposition::Queued);
    assert_eq!(send(&stage.gateway, &other).await, Disposition::Unchanged);
    stage.is_blameless();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_go_up_otherwise_are_sent_again() {
    let settings = |site: crate::rig::Site| site.with("app.suppress_unchanged", true);
    let mut stage = Stage::of(at_speed(100), settings).await;
    let ada = Change::new("ada", json!({ "seats": 3 }));
    assert_eq!(send(&stage.gateway, &ada).await, Disposition::Queued);
    stage.delivers([&ada]).await;
    stage.site = stage.site.with("app.stringify_values", true);
    stage.restart().await;
    assert_eq!(send(&stage.gateway, &ada).await, Disposition::Queued);
}
