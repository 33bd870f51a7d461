//! The database's primary dies, and its standby takes over.

use std::mem::replace;

use userpilot_gateway::clock;

use super::{
    load::{LEASE_MS, LIFE_MS, SPEED, Senders, all_is_well, given},
    *,
};
use crate::{
    crashes::{live, say, seed},
    rig::Draw,
};

const REPLICAS: usize = 3;
/// `FLEET_FAILOVERS` asks for more.
const ROUNDS: u64 = 1;

/// A standby that the commits of its primary wait for. Without that, a standby may lack what was
/// acknowledged.
async fn synchronous_standby(primary: &Cluster) -> Cluster {
    let standby = primary.standby();
    primary.waits_for_a_standby();
    until("a standby", async || primary.is_followed().then_some(())).await;
    standby
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_primary_is_killed_its_synchronous_standby_has_all_that_was_acknowledged() {
    let (rounds, lease_ms) = (given("FLEET_FAILOVERS", ROUNDS), given("FLEET_LEASE_MS", LEASE_MS));
    let (mut silences, mut promotions) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (silence, promotion) = fails_over(Duration::from_millis(lease_ms)).await;
        silences.push(silence);
        promotions.push(promotion);
    }
    say(&format!(
        "{rounds} primaries killed: nothing was acknowledged for {silences:?}, of which the \
         promotion of the standby took {promotions:?}"
    ));
}

/// For how long nothing was acknowledged, and how long it took to make a primary of the standby.
async fn fails_over(lease: Duration) -> (Duration, Duration) {
    let mut draw = Draw(seed());
    let simulator = Simulator::start(at_speed(SPEED)).await.unwrap();
    let primary = cluster();
    let standby = synchronous_standby(&primary).await;
    let ports = [primary.port, standby.port];
    let one = || site(&simulator.url(), &ports, SPEED, lease);
    let sites = (0..REPLICAS).map(|_| one()).collect();
    let mut fleet = Fleet::of(simulator, primary, sites).await;
    let senders = Senders::start(&fleet, &mut draw);
    fleet.delivers_more().await;
    live(draw.below(LIFE_MS)).await;

    fleet.cluster.kill();
    let killed = clock::instant();
    standby.promote();
    let promotion = clock::instant().since(killed);
    drop(replace(&mut fleet.cluster, standby));
    for sender in [None, Some(0), Some(1)] {
        senders.goes_on(sender).await;
    }
    fleet.delivers_more().await;
    // Replicas that start now pass by the server that is gone.
    let (holder, token) = fleet.holder().await;
    fleet.replicas[holder].kill();
    let dead = fleet.replicas[holder].addresses.grpc.clone();
    senders.turn(&dead, &fleet.replicas[(holder + 1) % REPLICAS].addresses.grpc);
    fleet.taken_over(token).await;
    fleet.replicas[holder] = fleet.sites[holder].serve().await;
    fleet.delivers_more().await;

    let silence = senders.longest_silence(killed);
    let sent = senders.end().await;
    all_is_well(&fleet, &sent).await;
    (silence, promotion)
}
