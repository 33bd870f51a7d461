//! The network between a replica and the database is cut.

use std::net::SocketAddr;

use tonic::Code;
use userpilot_gateway::{clock, proto::UpdateUserRequest};

use super::{
    load::{LEASE_MS, LIFE_MS, SPEED, Senders, all_is_well},
    *,
};
use crate::{
    crashes::{live, say, seed},
    rig::{Draw, Proxy},
};

const REPLICAS: usize = 2;

/// What a replica reaches others by.
struct Ways {
    database: Proxy,
    upstream: Proxy,
}

/// Replicas, each of which reaches the database and Userpilot by ways of its own.
async fn apart(lease: Duration, statement: Duration) -> (Fleet, Vec<Ways>) {
    let simulator = Simulator::start(at_speed(SPEED)).await.unwrap();
    let cluster = cluster();
    let (mut ways, mut sites) = (Vec::new(), Vec::new());
    for _ in 0..REPLICAS {
        let database = Proxy::before(SocketAddr::from(([127, 0, 0, 1], cluster.port))).await;
        let upstream = Proxy::before(simulator.address()).await;
        let url = format!("http://127.0.0.1:{}", upstream.port);
        let statement_ms = i64::try_from(statement.as_millis()).unwrap();
        let site = site(&url, &[database.port], SPEED, lease)
            .with("store.postgres.statement_timeout_ms", statement_ms)
            .with("store.postgres.connect_timeout_ms", 1_000);
        sites.push(site);
        ways.push(Ways { database, upstream });
    }
    (Fleet::of(simulator, cluster, sites).await, ways)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_for_longer_than_its_lease_is_silent_and_comes_back() {
    let lease = Duration::from_millis(LEASE_MS);
    let mut draw = Draw(seed());
    let (fleet, ways) = apart(lease, Duration::from_secs(2)).await;
    let senders = Senders::start(&fleet, &mut draw);
    let mut took = Vec::new();
    for is_late in [false, true, false, true] {
        let (holder, token) = fleet.holder().await;
        fleet.delivers_more().await;
        live(draw.below(LIFE_MS)).await;
        let (replica, way) = (&fleet.replicas[holder], &ways[holder]);
        way.database.cut();
        let cut = clock::instant();
        let taken_by = fleet.taken_over(token).await;
        let taken_after = clock::instant().since(cut);
        assert_ne!(taken_by, holder);
        until("unreadiness", async || (!is_ready(replica).await).then_some(())).await;
        let request = UpdateUserRequest { update: Some(change("cut-off", 1).update()) };
        let refused = replica.ingest().await.update_user(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        // Senders that go to the other one are served.
        senders.goes_on(Some(1 - holder)).await;
        fleet.delivers_more().await;
        let heard = way.upstream.heard().unwrap();
        assert!(heard < cut.plus(lease), "{:?} past the cut", heard.since(cut));

        heal(way, is_late);
        let healed = clock::instant();
        until("readiness", async || is_ready(replica).await.then_some(())).await;
        senders.goes_on(Some(holder)).await;
        let (back_after, silent_after) = (clock::instant().since(healed), heard.since(cut));
        took.push((taken_after, silent_after, back_after));
        assert_eq!(fleet.tokens().into_iter().max(), fleet.tokens().get(taken_by).copied());
    }
    say(&format!("cuts, each taken over, silent and, once healed, back after: {took:?}"));
    let sent = senders.end().await;
    all_is_well(&fleet, &sent).await;
    assert!(!fleet.simulator.profiles().contains_key("cut-off"));
}

/// What is sent again comes late, or the connections are silent from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_for_a_moment_keeps_its_app() {
    let mut draw = Draw(seed());
    let (fleet, ways) = apart(Duration::from_secs(10), Duration::from_secs(8)).await;
    let senders = Senders::start(&fleet, &mut draw);
    let mut back = Vec::new();
    for is_late in [true, false] {
        let (holder, token) = fleet.holder().await;
        fleet.delivers_more().await;
        ways[holder].database.cut();
        let cut = clock::instant();
        live(1_000).await;
        heal(&ways[holder], is_late);
        let healed = clock::instant();
        senders.goes_on(Some(holder)).await;
        let back_after = clock::instant().since(healed);
        back.push(back_after);
        assert!(back_after < Duration::from_secs(10), "{back_after:?}");
        // Nothing but a lease that is prolonged outlasts this.
        let lasts = cut.plus(Duration::from_secs(12));
        until("a lease's time", async || (clock::instant() > lasts).then_some(())).await;
        fleet.delivers_more().await;
        assert_eq!(fleet.holder().await, (holder, token), "late: {is_late}");
    }
    say(&format!("cuts of a second, accepting again after: {back:?}"));
    let sent = senders.end().await;
    all_is_well(&fleet, &sent).await;
}

fn heal(way: &Ways, is_late: bool) {
    if is_late {
        way.database.resume();
    } else {
        way.database.heal();
    }
}
