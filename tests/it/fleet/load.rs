//! What goes on while a fleet is struck: senders that go on from replica to replica, and what is to be
//! so in the end.

use std::{
    env,
    sync::{Arc, Mutex},
};

use tokio::{sync::watch, task::JoinSet};
use userpilot_gateway::{clock, domain::time::Instant};

use super::*;
use crate::{
    crashes::{Sent, live, profiles_hold_all_that_was_acknowledged, say, window},
    rig::{Draw, Way, send, within},
};

/// `FLEET_LEASE_MS` asks for another one.
pub(super) const LEASE_MS: u64 = 3_000;
/// 1,500 rows a second: a job of all users takes about as long as a replica has the app.
pub(super) const SPEED: u32 = 50;
/// The longest that a replica delivers before it is struck, in milliseconds.
pub(super) const LIFE_MS: u64 = 1_500;
const SENDERS: usize = 2;
/// Who is refused comes back so much later.
const PAUSE_MS: u64 = 20;

pub(super) fn given(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// Senders, each of which sends to one replica until it is told of another, or of the end.
pub(super) struct Senders {
    addresses: Vec<watch::Sender<Option<String>>>,
    /// When something was acknowledged, and to which sender.
    acknowledged: Acknowledged,
    sending: JoinSet<Vec<Sent>>,
}

type Acknowledged = Arc<Mutex<Vec<(Instant, usize)>>>;

impl Senders {
    pub(super) fn start(fleet: &Fleet, draw: &mut Draw) -> Self {
        let mut sending = JoinSet::new();
        let mut addresses = Vec::new();
        let acknowledged = Acknowledged::default();
        for sender in 0..SENDERS {
            let (told, address) =
                watch::channel(Some(fleet.replicas[sender].addresses.grpc.clone()));
            addresses.push(told);
            let (draw, heard) = (Draw(draw.below(u64::MAX)), acknowledged.clone());
            sending.spawn(send_until_told(sender, draw, address, heard));
        }
        Self { addresses, acknowledged, sending }
    }

    /// Those that send to `from` send to `to` from now on.
    pub(super) fn turn(&self, from: &str, to: &str) {
        for address in &self.addresses {
            if address.borrow().as_deref() == Some(from) {
                address.send_replace(Some(to.to_owned()));
            }
        }
    }

    /// Waits until something is acknowledged to this sender, or to any, that was not before.
    pub(super) async fn goes_on(&self, sender: Option<usize>) {
        let counts = |of: usize| sender.is_none_or(|sender| sender == of);
        let count = || self.all_acknowledged().iter().filter(|(_, of)| counts(*of)).count();
        let before = count();
        until("an acknowledgement", async || (count() > before).then_some(())).await;
    }

    /// For how long nothing was acknowledged to anybody, at most, to the end of which it was later
    /// than `since`.
    pub(super) fn longest_silence(&self, since: Instant) -> Duration {
        let all = self.all_acknowledged();
        let pairs = all.iter().zip(all.iter().skip(1));
        let silences = pairs.filter(|(_, (end, _))| *end >= since);
        silences.map(|((begin, _), (end, _))| end.since(*begin)).max().unwrap()
    }

    fn all_acknowledged(&self) -> Vec<(Instant, usize)> {
        self.acknowledged.lock().unwrap().clone()
    }

    pub(super) async fn end(self) -> Vec<Vec<Sent>> {
        self.addresses.iter().for_each(|address| drop(address.send_replace(None)));
        within("the senders", self.sending.join_all()).await
    }
}

/// Whoever is not answered does not send the same again.
async fn send_until_told(
    sender: usize,
    mut draw: Draw,
    mut address: watch::Receiver<Option<String>>,
    heard: Acknowledged,
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
                live(PAUSE_MS).await;
                break;
            }
            heard.lock().unwrap().push((clock::instant(), sender));
        }
    }
}

/// All that was acknowledged is there, and Userpilot has nothing to complain about.
pub(super) async fn all_is_well(fleet: &Fleet, sent: &[Vec<Sent>]) {
    fleet.settles().await;
    let acknowledged = sent.iter().flatten().filter(|(_, acknowledged)| *acknowledged).count();
    let all = sent.iter().flatten().count();
    let seen = fleet.simulator.snapshot();
    let (jobs, conflicts) = (seen.jobs.len(), seen.conflicts);
    say(&format!(
        "{acknowledged} of {all} updates acknowledged; {jobs} jobs, {conflicts} conflicts"
    ));
    assert!(acknowledged > 200, "too gentle a test");
    profiles_hold_all_that_was_acknowledged(&fleet.simulator.profiles(), sent);
    fleet.is_blameless();
}
