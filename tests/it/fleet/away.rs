//! A database that does not answer for a while.

use tonic::Code;
use tonic_types::StatusExt as _;
use userpilot_gateway::proto::UpdateUserRequest;

use super::*;
use crate::rig::{Way, accepted, http, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_updates_are_refused_and_all_goes_on_once_it_is_back() {
    let mut fleet = Fleet::start(2, 100, Duration::from_millis(3_000)).await;
    for replica in &fleet.replicas {
        until("readiness", async || is_ready(replica).await.then_some(())).await;
    }
    let before: Vec<Change> = (0..20).map(|user| change(&user.to_string(), 1)).collect();
    accepted(send(Way::Batch, &mut fleet.ingest(0).await, &before).await);
    fleet.cluster.stop();
    for replica in &fleet.replicas {
        until("unreadiness", async || (!is_ready(replica).await).then_some(())).await;
        let request = UpdateUserRequest { update: Some(change("away", 1).update()) };
        let refused = replica.ingest().await.update_user(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let after = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!((1..=5).contains(&after.as_secs()), "{after:?}");
        let url = format!("http://{}/v1/identify", replica.addresses.http);
        let body = json!({"user_id": "away", "metadata": {"value": 1}});
        let answer = http().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        assert!(!replica.status().await.ready);
    }
    // By this thread: the server ends with the one that started it.
    fleet.cluster.serve();
    for replica in &fleet.replicas {
        until("readiness", async || is_ready(replica).await.then_some(())).await;
    }
    let after: Vec<Change> = (10..30).map(|user| change(&user.to_string(), 2)).collect();
    accepted(send(Way::Batch, &mut fleet.ingest(1).await, &after).await);
    fleet.settles().await;
    let profiles = fleet.simulator.profiles();
    for (user, value) in [("0", 1.0), ("9", 1.0), ("10", 2.0), ("29", 2.0)] {
        assert_eq!(profiles[user].metadata["value"].as_f64(), Some(value), "{user}");
    }
    assert!(!profiles.contains_key("away"));
    fleet.is_blameless();
}
