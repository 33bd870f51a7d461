//! Who would have a store to itself that is shared.

use userpilot_gateway::proto::PauseRequest;

use super::*;
use crate::{
    postgres::{over, store},
    rig::{Way, accepted, send},
};

const LEASE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_a_store_alone_that_is_shared_and_commands_want_all_replicas_stopped() {
    let mut fleet = Fleet::start(1, 100, LEASE).await;
    let alone = over(&fleet.cluster, Site::new(&fleet.simulator.url(), 100.0));
    let refused = alone.launch().end().await;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("shared by several, with 8 stripes an app"), "{refused:?}");

    fleet.replicas[0].admin().await.pause(PauseRequest::default()).await.unwrap();
    let changes: Vec<Change> = (0..5).map(|user| change(&user.to_string(), 1)).collect();
    accepted(send(Way::Batch, &mut fleet.ingest(0).await, &changes).await);
    let other = site(&fleet.simulator.url(), &[fleet.cluster.port], 100, LEASE);
    let refused = store(&other, &["check"]).await;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("stop all of them first"), "{refused:?}");

    fleet.replicas[0].terminate();
    assert!(fleet.replicas[0].end().await.status.success());
    let checked = store(&other, &["check"]).await;
    assert!(checked.status.success(), "{checked:?}");
    let exported = store(&other, &["export"]).await;
    assert_eq!(exported.stdout.matches("\"value\"").count(), 5, "{exported:?}");
    let refused = store(&other, &["reencrypt"]).await;
    assert!(refused.stderr.contains("cannot be rewritten in its place"), "{refused:?}");
}
