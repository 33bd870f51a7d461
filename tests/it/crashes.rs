//! kill -9, again and again, under load: what was acknowledged is there, in its order, and the
//! job that ran is gone on with. The same where the disk takes no more.

mod both;
mod outage;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use userpilot_gateway::{
    proto::{JobState, PauseRequest, ResumeRequest, ingest_service_client::IngestServiceClient},
    simulator::{Profile, Simulator},
};

use crate::rig::{
    Change, Draw, Gateway, Process, Site, Stage, Way, applied, at_speed, same_profiles, send,
    settled, within,
};

const CLIENTS: usize = 4;
const USERS: u64 = 60;
/// The longest that a gateway serves, in milliseconds.
const LIFE_MS: u64 = 500;
/// The longest that one lives that is not waited for.
const SHORT_LIFE_MS: u64 = 60;

/// A change, and whether it was acknowledged.
pub(crate) type Sent = (Change, bool);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_again_and_again_keeps_what_it_acknowledged() {
    keeps_what_it_acknowledged("sled", 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_one_over_redb() {
    keeps_what_it_acknowledged("redb", 20).await;
}

async fn keeps_what_it_acknowledged(engine: &str, rounds: u64) {
    let seed = seed();
    let mut draw = Draw(seed);
    // 1,500 rows a second: a job of all users takes about as long as a gateway lives.
    let simulator = Simulator::start(at_speed(50)).await.unwrap();
    let site = Site::new(&simulator.url(), 50.0).with("store.engine", engine);
    let (addresses, address) = watch::channel(None);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = address.clone();
        let way = [Way::Unary, Way::Batch, Way::Stream][client % 3];
        clients.spawn(send_until_told(client, way, Draw(draw.below(u64::MAX)), address));
    }
    drop(address);

    let mut resumed = 0;
    for round in 0..rounds {
        // Every fifth is killed while it starts, or soon after.
        if round % 5 == 4 {
            let mut process = site.launch();
            live(draw.below(SHORT_LIFE_MS)).await;
            process.kill();
            continue;
        }
        let mut gateway = within("a start", site.serve()).await;
        addresses.send_replace(Some(gateway.addresses.grpc.clone()));
        live(draw.below(LIFE_MS)).await;
        gateway.kill();
        addresses.send_replace(None);
        let log = gateway.log();
        resumed += usize::from(log.iter().any(|line| line.contains("\"resumes a batch\"")));
    }
    drop(addresses);
    let sent: Vec<Vec<Sent>> = within("the clients", clients.join_all()).await;
    let gateway = site.serve().await;
    settled(&gateway).await;

    let stage = Stage { simulator, site, gateway };
    let acknowledged = sent.iter().flatten().filter(|(_, acknowledged)| *acknowledged).count();
    let all = sent.iter().flatten().count();
    say(&format!("{acknowledged} of {all} updates acknowledged, {resumed} batches resumed"));
    let enough = acknowledged > 1_000 && all > acknowledged && resumed as u64 > rounds / 10;
    assert!(enough, "too gentle a test");
    profiles_hold_all_that_was_acknowledged(&stage.simulator.profiles(), &sent);
    every_batch_became_one_job(&stage, acknowledged, all).await;
}

#[tokio::test]
async fn over_redb_a_disk_that_takes_no_more_ends_the_gateway_and_costs_nothing() {
    let simulator = Simulator::start(at_speed(500)).await.unwrap();
    let site = Site::new(&simulator.url(), 500.0).with("store.engine", "redb");
    // No file may grow past some MiB: the shell counts in 512 or 1,024 bytes.
    let script = "trap '' XFSZ; ulimit -f 8000; exec \"$0\" serve --config \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_userpilot-gateway")]).arg(site.config());
    command.env_clear().current_dir(site.path(""));
    let mut gateway = Gateway::of(Process::start(&mut command, "")).await;
    gateway.admin().await.pause(PauseRequest::default()).await.unwrap();

    let mut ingest = gateway.ingest().await;
    let mut sent: Vec<Sent> = Vec::new();
    while sent.iter().all(|(_, acknowledged)| *acknowledged) {
        let text = "x".repeat(2_000);
        let user = |nth| format!("user-{}", sent.len() + nth);
        let changes: Vec<Change> =
            (0..24).map(|nth| Change::new(user(nth), json!({ "text": &text }))).collect();
        let answers = send(Way::Batch, &mut ingest, &changes).await;
        sent.extend(changes.into_iter().zip(answers.iter().map(Option::is_some)));
    }
    let output = gateway.end().await;
    assert!(!output.status.success() && output.stderr.contains("the store failed"), "{output:?}");

    let gateway = site.serve().await;
    gateway.admin().await.resume(ResumeRequest::default()).await.unwrap();
    settled(&gateway).await;
    let acknowledged = sent.iter().filter(|(_, acknowledged)| *acknowledged).count();
    assert!(acknowledged > 100, "too small a disk");
    profiles_hold_all_that_was_acknowledged(&simulator.profiles(), &[sent]);
}

/// `CRASH_SEED` replays a run, as far as time allows.
pub(crate) fn seed() -> u64 {
    let given = env::var("CRASH_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| {
        let age = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        u64::from(age.subsec_nanos())
    });
    say(&format!("CRASH_SEED={seed}"));
    seed
}

#[expect(clippy::print_stderr, reason = "whoever replays a failure needs to read it")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// How long a gateway lives is what this test is about: it waits for nothing.
pub(crate) async fn live(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Sends windows of changes to whichever gateway lives, until there will be none. A change
/// that was not acknowledged is not sent again.
async fn send_until_told(
    client: usize,
    way: Way,
    mut draw: Draw,
    mut address: watch::Receiver<Option<String>>,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    loop {
        let Ok(current) = address.wait_for(Option::is_some).await.map(|it| it.clone()) else {
            return sent;
        };
        let Some(channel) = connect(current.as_deref().unwrap()).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut ingest = IngestServiceClient::new(channel);
        loop {
            let window = window(client, sent.len(), &mut draw);
            let answers = send(way, &mut ingest, &window).await;
            let broken = answers.iter().any(Option::is_none);
            let acknowledged = answers.iter().map(Option::is_some);
            sent.extend(window.into_iter().zip(acknowledged));
            if broken {
                break;
            }
        }
    }
}

async fn connect(address: &str) -> Option<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.ok()
}

/// Up to 24 changes of as many users. Each has a value that no other has, in two properties:
/// half a change would show.
pub(crate) fn window(client: usize, from: usize, draw: &mut Draw) -> Vec<Change> {
    let first = draw.below(USERS);
    (0..=draw.below(24))
        .map(|nth| {
            let user = (first + nth) % USERS;
            let number = from as u64 + nth;
            let slot = format!("slot {}", draw.below(5));
            Change::new(format!("{client}-{user}"), json!({"last": number, (slot): number}))
        })
        .collect()
}

/// A change that was not acknowledged was applied whole or not at all: where a trace of it is
/// left, all of it must have been applied in its place.
pub(crate) fn profiles_hold_all_that_was_acknowledged(
    profiles: &BTreeMap<String, Profile>,
    sent: &[Vec<Sent>],
) {
    let left_a_trace = |change: &Change| {
        profiles.get(&change.user_id).is_some_and(|profile| {
            change.metadata.iter().any(|(name, value)| profile.metadata.get(name) == Some(value))
        })
    };
    let effective = sent.iter().flatten();
    let effective =
        effective.filter(|(change, acknowledged)| *acknowledged || left_a_trace(change));
    same_profiles(profiles, &applied(effective.map(|(change, _)| change)));
}

async fn every_batch_became_one_job(stage: &Stage, acknowledged: usize, all: usize) {
    stage.is_blameless();
    let upstream = stage.simulator.snapshot();
    assert_eq!(upstream.conflicts, 0);
    let mut theirs = BTreeMap::new();
    for job in &upstream.jobs {
        let name = job.filename.as_deref().unwrap();
        let before = theirs.insert(name.to_owned(), job);
        assert!(before.is_none(), "{name} was taken twice: {before:?} and {job:?}");
    }
    let jobs = stage.gateway.jobs(1_000).await;
    let mut batches = BTreeSet::new();
    for job in &jobs {
        assert_eq!(job.state(), JobState::Delivered, "{job:?}");
        assert!(batches.insert(&job.batch_id), "{} is listed twice", job.batch_id);
        let name = format!("userpilot-gateway-{}.ndjson", job.batch_id);
        let theirs = theirs.remove(&name).unwrap_or_else(|| panic!("{job:?} was never taken"));
        assert_eq!(job.job_id, theirs.id);
        let rows = (theirs.rows as u64, theirs.completed as u64);
        assert_eq!((job.rows, job.completed_rows), rows, "a torn batch: {job:?}, {theirs:?}");
    }
    assert!(theirs.is_empty(), "jobs that the gateway does not know of: {theirs:?}");
    // No update is counted twice, and none that was acknowledged is missing.
    let delivered = usize::try_from(jobs.iter().map(|job| job.updates).sum::<u64>()).unwrap();
    assert!((acknowledged..=all).contains(&delivered), "{acknowledged} {delivered} {all}");
}
