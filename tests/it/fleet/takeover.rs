//! The replica that delivers is killed, or stopped for longer than its lease.

use std::env;

use tokio::{sync::watch, task::JoinSet};
use userpilot_gateway::{
    clock,
    proto::{GetUpdateRequest, UpdateState},
};

use super::*;
use crate::{
    crashes::{Sent, live, profiles_hold_all_that_was_acknowledged, say, seed, window},
    rig::{Draw, Way, send, within},
};

/// `FLEET_ROUNDS` asks for more.
const ROUNDS: u64 = 10;
/// `FLEET_LEASE_MS` asks for another one.
const LEASE_MS: u64 = 3_000;
/// 1,500 rows a second: a job of all users takes about as long as a replica has the app.
const SPEED: u32 = 50;
const SENDERS: usize = 2;
/// The longest that a replica delivers before it is struck, in milliseconds.
const LIFE_MS: u64 = 1_500;

fn given(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// Senders, each of which sends to one replica until it is told of another, or of the end.
struct Senders {
    addresses: Vec<watch::Sender<Option<String>>>,
    sending: JoinSet<Vec<Sent>>,
}

impl Senders {
    fn start(fleet: &Fleet, draw: &mut Draw) -> Self {
        let mut sending = JoinSet::new();
        let mut addresses = Vec::new();
        for sender in 0..SENDERS {
            let (told, address) =
                watch::channel(Some(fleet.replicas[sender].addresses.grpc.clone()));
            addresses.push(told);
            sending.spawn(send_until_told(sender, Draw(draw.below(u64::MAX)), address));
        }
        Self { addresses, sending }
    }

    /// Those that send to `from` send to `to` from now on.
    fn turn(&self, from: &str, to: &str) {
        for address in &self.addresses {
            if address.borrow().as_deref() == Some(from) {
                address.send_replace(Some(to.to_owned()));
            }
        }
    }

    async fn end(self) -> Vec<Vec<Sent>> {
        self.addresses.iter().for_each(|address| drop(address.send_replace(None)));
        within("the senders", self.sending.join_all()).await
    }
}

/// Whoever is not answered does not send the same again.
async fn send_until_told(
    sender: usize,
    mut draw: Draw,
    mut address: watch::Receiver<Option<String>>,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    loop {
        let Some(current) = address.borrow_and_update().clone() else { return sent };
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{current}")).unwrap();
        let Ok(channel) = endpoint.connect().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut ingest = IngestServiceClient::new(channel);
        while !address.has_changed().unwrap_or(true) {
            let window = window(sender, sent.len(), &mut draw);
            let answers = send(Way::Batch, &mut ingest, &window).await;
            let broken = answers.iter().all(Option::is_none);
            let acknowledged = answers.iter().map(Option::is_some);
            sent.extend(window.into_iter().zip(acknowledged));
            if broken {
                break;
            }
        }
    }
}

/// All that was acknowledged is there, and Userpilot has nothing to complain about.
async fn all_is_well(fleet: &Fleet, sent: &[Vec<Sent>]) {
    fleet.settles().await;
    let acknowledged = sent.iter().flatten().filter(|(_, acknowledged)| *acknowledged).count();
    let all = sent.iter().flatten().count();
    let seen = fleet.simulator.snapshot();
    let (jobs, conflicts) = (seen.jobs.len(), seen.conflicts);
    say(&format!(
        "{acknowledged} of {all} updates acknowledged; {jobs} jobs, {conflicts} conflicts"
    ));
    assert!(acknowledged > 500, "too gentle a test");
    profiles_hold_all_that_was_acknowledged(&fleet.simulator.profiles(), sent);
    fleet.is_blameless();
}

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
        let jobs = fleet.simulator.snapshot().jobs.len();
        until("a job of the other one", async || {
            (fleet.simulator.snapshot().jobs.len() > jobs).then_some(())
        })
        .await;
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
