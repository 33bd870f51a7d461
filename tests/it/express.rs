//! The express lane, end to end: what a person waits to see is upstream at once, whatever else is
//! under way; and what is too much, or was under way at a death, arrives all the same.

use std::time::Duration;

use serde_json::json;
use userpilot_gateway::{
    clock,
    proto::{
        Lane, UpdateState, UpdateUserRequest, UpdateUsersRequest, get_update_response::Detail,
        update_users_result::Result as Outcome,
    },
};

use crate::rig::{Change, Gateway, Stage, Way, accepted, at_speed, send, settled, until};

fn changes(count: u64, value: u64) -> Vec<Change> {
    (0..count).map(|user| Change::new(format!("user-{user}"), json!({ "n": value }))).collect()
}

/// Sends these together by express, and returns their receipts.
async fn express(gateway: &Gateway, changes: &[Change]) -> Vec<String> {
    let mut updates: Vec<_> = changes.iter().map(Change::update).collect();
    updates.iter_mut().for_each(|update| update.set_lane(Lane::Express));
    let answer = gateway.ingest().await.update_users(UpdateUsersRequest { updates }).await;
    let results = answer.unwrap().into_inner().results.into_iter();
    let receipt = |result: Option<Outcome>| match result {
        Some(Outcome::Accepted(accepted)) => accepted.receipt,
        other => panic!("not accepted: {other:?}"),
    };
    results.map(|result| receipt(result.result)).collect()
}

/// Whether the update was delivered by express, once it is delivered.
async fn went_by_express(gateway: &Gateway, receipt: &str) -> bool {
    until("a delivery", async || {
        let update = gateway.update(receipt).await;
        match update.detail {
            Some(Detail::Delivered(detail))
                if update.state == i32::from(UpdateState::Delivered) =>
            {
                assert_eq!(detail.express, detail.batch_id.is_empty());
                Some(detail.express)
            }
            _ => None,
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_express_update_is_upstream_within_two_seconds_while_a_long_job_runs() {
    let stage = Stage::of(at_speed(1), |site| site.with("app.express", true)).await;
    let mut ingest = stage.gateway.ingest().await;
    // A job of twenty seconds.
    let backfill = changes(600, 1);
    accepted(send(Way::Batch, &mut ingest, &backfill).await);
    until("a job", async || stage.simulator.snapshot().running).await;
    // What waits of the subject goes along.
    let waiting = Change::new("ada", json!({ "name": "Ada" })).of_company("acme");
    let request = UpdateUserRequest { update: Some(waiting.update()) };
    ingest.update_user(request).await.unwrap();
    let sent_at = clock::now().instant;
    let bought = Change::new("ada", json!({ "plan": "pro" }));
    let receipts = express(&stage.gateway, std::slice::from_ref(&bought)).await;
    let profile = until("a profile", async || stage.simulator.profile("ada")).await;
    let took = clock::now().instant.since(sent_at);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(stage.simulator.snapshot().running.is_some(), "the job has ended: too gentle a test");
    assert_eq!(profile.company_id.as_deref(), Some("acme"));
    assert_eq!(json!(profile.metadata), json!({ "name": "Ada", "plan": "pro" }));
    assert!(went_by_express(&stage.gateway, &receipts[0]).await);
    // The status follows the store by a moment.
    until("an empty lane", async || {
        let status = stage.gateway.app().await;
        let left = status.pending_express_records + status.express_in_flight_records;
        (left == 0).then_some(())
    })
    .await;
    let (_, _, metrics) = stage.gateway.page("/metrics").await;
    let counted = "express_records_sent_total{app=\"production\",outcome=\"delivered\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    stage.is_blameless();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_the_pace_goes_with_the_next_job() {
    let settings =
        |site: crate::rig::Site| site.with("app.express", true).with("app.express_per_minute", 60);
    let stage = Stage::of(at_speed(20), settings).await;
    let sent = changes(300, 7);
    let receipts = express(&stage.gateway, &sent).await;
    let mut by_express = 0;
    for receipt in &receipts {
        by_express += u64::from(went_by_express(&stage.gateway, receipt).await);
    }
    stage.delivers(&sent).await;
    let snapshot = stage.simulator.snapshot();
    assert_eq!(snapshot.identified, by_express);
    assert!((1..=60).contains(&by_express) && !snapshot.jobs.is_empty(), "{by_express}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_between_loses_nothing_and_reorders_nothing() {
    let mut stage = Stage::of(at_speed(20), |site| site.with("app.express", true)).await;
    let mut sent = Vec::new();
    for round in 0..8 {
        let some = changes(12, round);
        express(&stage.gateway, &some).await;
        // Some of them are under way.
        let before = stage.simulator.snapshot().identified;
        let more = async || (stage.simulator.snapshot().identified > before).then_some(());
        until("a request", more).await;
        sent.extend(some);
        stage.restart().await;
    }
    settled(&stage.gateway).await;
    until("the last of them", async || {
        let status = stage.gateway.app().await;
        (status.express_in_flight_records == 0 && status.pending_records == 0).then_some(())
    })
    .await;
    stage.delivers(&sent).await;
}
