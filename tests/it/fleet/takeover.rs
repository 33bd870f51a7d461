//! The replica that delivers is killed, or stopped for longer than its lease.

use userpilot_gateway::{
    clock,
    proto::{GetUpdateRequest, UpdateState},
};

use super::{
    load::{LEASE_MS, LIFE_MS, SPEED, Senders, all_is_well, given},
    *,
};
use crate::{
    crashes::{live, say, seed},
    rig::{Draw, Way, send},
};

/// `FLEET_ROUNDS` asks for more.
const ROUNDS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_replicas_delivers_and_when_it_is_killed_another_one_does() {
    let (rounds, lease_ms) = (given("FLEET_ROUNDS", ROUNDS), given("FLEET_LEASE_MS", LEASE_MS));
    let mut draw = Draw(seed());
    let mut fleet = Fleet::start(3, SPEED, Duration::from_millis(lease_ms)).await;
    let senders = Senders::start(&fleet, &mut draw);
    let mut took = Vec::new();
    for _ in 0..rounds {
        let (holder, token) = fleet.holder().await;
        live(draw.below(LIFE_MS)).await;
        let next = fleet.replicas[(holder + 1) % 3].addresses.grpc.clone();
        let dead = fleet.replicas[holder].addresses.grpc.clone();
        fleet.replicas[holder].kill();
        let killed = clock::instant();
        senders.turn(&dead, &next);
        fleet.taken_over(token).await;
        took.push(clock::instant().since(killed));
        fleet.replicas[holder] = fleet.sites[holder].serve().await;
    }
    // Who has no part in delivery knows of it, and of every update.
    let (holder, _) = fleet.holder().await;
    let other = &fleet.replicas[(holder + 1) % 3];
    let name = format!("process {}", fleet.replicas[holder].id());
    until("what the holder tells", async || {
        other.app().await.delivered_by.ends_with(&name).then_some(())
    })
    .await;
    let sent = senders.end().await;
    all_is_well(&fleet, &sent).await;
    a_receipt_is_known_everywhere(&fleet).await;
    took.sort_unstable();
    let (p50, max) = (took[took.len() / 2], took[took.len() - 1]);
    say(&format!(
        "{rounds} kills, leases of {lease_ms} ms: taken over in p50 {p50:?}, max {max:?}"
    ));
    // A machine that is busy with much else is slower.
    assert!(max < Duration::from_millis(lease_ms * 4), "{took:?}");
}

async fn a_receipt_is_known_everywhere(fleet: &Fleet) {
    let answers = send(Way::Batch, &mut fleet.ingest(0).await, &[change("late", 1)]).await;
    let receipt = answers[0].clone().unwrap().receipt;
    for replica in 0..fleet.replicas.len() {
        let mut ingest = fleet.ingest(replica).await;
        until("the delivery", async || {
            let request = GetUpdateRequest { receipt: receipt.clone() };
            let found = ingest.get_update(request).await.unwrap().into_inner();
            (found.state() == UpdateState::Delivered).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_stopped_for_longer_than_its_lease_has_lost_the_app_when_it_goes_on() {
    let mut draw = Draw(seed());
    let fleet = Fleet::start(2, SPEED, Duration::from_millis(LEASE_MS)).await;
    let senders = Senders::start(&fleet, &mut draw);
    for _ in 0..3 {
        let (holder, token) = fleet.holder().await;
        live(draw.below(LIFE_MS)).await;
        let stopped = &fleet.replicas[holder];
        stopped.stop();
        let taken_by = fleet.taken_over(token).await;
        assert_ne!(taken_by, holder);
        fleet.delivers_more().await;
        let lost = |gateway: &Gateway| {
            let lines = gateway.log();
            lines.iter().filter(|it| it.contains("another replica delivers the app by now")).count()
        };
        let before = lost(stopped);
        stopped.go_on();
        until("a replica that knows", async || (lost(stopped) > before).then_some(())).await;
    }
    let sent = senders.end().await;
    all_is_well(&fleet, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_in_order_leaves_its_app_to_another_one_at_once() {
    let mut fleet = Fleet::start(2, SPEED, Duration::from_secs(30)).await;
    let (holder, token) = fleet.holder().await;
    let ended = clock::instant();
    fleet.replicas[holder].terminate();
    let output = fleet.replicas[holder].end().await;
    assert!(output.status.success(), "{output:?}");
    fleet.taken_over(token).await;
    let took = clock::instant().since(ended);
    assert!(took < Duration::from_secs(15), "{took:?}: the lease was not given up");
}
