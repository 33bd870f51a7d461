//! kill -9 of the gateway and of Userpilot, at any moment, under load, with Userpilot losing
//! answers, refusing and failing jobs in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use tokio::{sync::watch, task::JoinSet};
use userpilot_gateway::{
    proto::JobState,
    simulator::{Fault, FaultPoint, FaultRule, JobSnapshot, JobStatus, Profile, Snapshot},
};

use super::{
    CLIENTS, Draw, Gateway, Sent, Site, live, profiles_hold_all_that_was_acknowledged, say, seed,
    send_until_told, settled, within,
};
use crate::rig::{UpstreamSite, Way};

/// `PROCESS_ROUNDS` asks for more.
const ROUNDS: u64 = 30;
/// The longest that both live together, in milliseconds.
const LIFE_MS: u64 = 400;
/// 1,500 rows a second: a job of all users takes about as long as they live.
const SPEED: u32 = 50;
/// What the simulator grants: two machines' clocks never agree.
const TOLERANCE_MS: f64 = 7.0;

/// Who is killed in a round, and in which order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victims {
    Gateway,
    Upstream,
    GatewayThenUpstream,
    UpstreamThenGateway,
}

const VICTIMS: [Victims; 4] = [
    Victims::Gateway,
    Victims::Upstream,
    Victims::GatewayThenUpstream,
    Victims::UpstreamThenGateway,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_and_its_userpilot_that_are_killed_again_and_again_agree_in_the_end() {
    let rounds = env::var("PROCESS_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut draw = Draw(seed());
    let folder = tempfile::tempdir().unwrap();
    let mut place = UpstreamSite::new(folder.path().to_owned(), SPEED, &faults());
    let mut upstream = place.start(draw.below(u64::MAX)).await;
    let site = Site::new(upstream.url(), f64::from(SPEED))
        .with("app.request_timeout_ms", 500)
        .with("app.connect_timeout_ms", 500);
    let (addresses, address) = watch::channel(None);
    let clients = senders(&mut draw, &address);
    drop(address);

    let mut gateway = within("a start", site.serve()).await;
    let mut deaths = BTreeMap::new();
    // What all gateways told.
    let mut told = Vec::new();
    for _ in 0..rounds {
        addresses.send_replace(Some(gateway.addresses.grpc.clone()));
        live(draw.below(LIFE_MS)).await;
        let victims = VICTIMS[usize::try_from(draw.below(4)).unwrap()];
        *deaths.entry(format!("{victims:?}")).or_insert(0) += 1;
        let between = draw.below(30);
        if victims == Victims::UpstreamThenGateway {
            upstream.kill();
            live(between).await;
        }
        if victims != Victims::Upstream {
            gateway.kill();
            addresses.send_replace(None);
            told.extend(gateway.log());
        }
        if victims == Victims::GatewayThenUpstream {
            live(between).await;
        }
        if victims != Victims::Gateway {
            upstream.kill();
            upstream = place.start(draw.below(u64::MAX)).await;
        }
        if victims != Victims::Upstream {
            gateway = within("a start", site.serve()).await;
        }
    }
    // The clients end when their gateway does, and there is to be none.
    addresses.send_replace(None);
    drop(addresses);
    gateway.kill();
    told.extend(gateway.log());
    let sent: Vec<Vec<Sent>> = within("the clients", clients.join_all()).await;
    let gateway = within("a start", site.serve()).await;
    upstream.clear_faults().await;
    settled(&gateway).await;
    told.extend(gateway.log());

    let acknowledged = sent.iter().flatten().filter(|(_, acknowledged)| *acknowledged).count();
    let all = sent.iter().flatten().count();
    let seen = upstream.snapshot().await;
    let resumed = told.iter().filter(|line| line.contains("\"resumes a batch\"")).count();
    let failed = seen.jobs.iter().filter(|job| job.status == JobStatus::Failed).count();
    say(&format!(
        "{rounds} rounds {deaths:?}: {acknowledged} of {all} updates acknowledged, {resumed} \
         batches resumed; {} jobs, {failed} of them failed, {} submissions, {} conflicts",
        seen.jobs.len(),
        seen.submissions,
        seen.conflicts
    ));
    assert!(acknowledged > 500 && seen.jobs.len() as u64 > rounds / 2, "too gentle a test");
    assert!(seen.submissions >= seen.jobs.len() as u64, "the state was not kept");
    let profiles: BTreeMap<String, Profile> = upstream.profiles().await;
    profiles_hold_all_that_was_acknowledged(&profiles, &sent);
    every_rule_was_kept(&seen);
    each_batch_was_delivered_once(&seen, &told);
    both_tell_of_the_same_jobs(&gateway, &seen, acknowledged, all).await;
}

/// Clients that send until they are told to end.
fn senders(draw: &mut Draw, address: &watch::Receiver<Option<String>>) -> JoinSet<Vec<Sent>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let way = [Way::Unary, Way::Batch, Way::Stream][client % 3];
        let draw = Draw(draw.below(u64::MAX));
        clients.spawn(send_until_told(client, way, draw, address.clone()));
    }
    clients
}

/// All that passes by itself. Where a batch is sent again after `FailJob`, it is a new one.
fn faults() -> Vec<FaultRule> {
    let outage = |code| Fault::Status { code, body: "an outage".into(), retry_after: None };
    let slow_down =
        Fault::Status { code: 429, body: String::new(), retry_after: Some("0".to_owned()) };
    let rules = [
        (FaultPoint::Submit, Fault::LoseAnswer, 0.1),
        (FaultPoint::Submit, Fault::Truncated, 0.05),
        (FaultPoint::Submit, Fault::Hang { carried_out: true }, 0.03),
        (FaultPoint::Submit, Fault::Reset, 0.05),
        (FaultPoint::Submit, outage(503), 0.05),
        (FaultPoint::Submit, slow_down, 0.05),
        (FaultPoint::Submit, Fault::FailJob { rows: 3 }, 0.05),
        (FaultPoint::Job, Fault::Garbage, 0.05),
        (FaultPoint::Job, Fault::Delay { ms: 20 }, 0.1),
        (FaultPoint::Jobs, outage(500), 0.1),
        (FaultPoint::Jobs, Fault::Truncated, 0.1),
        (FaultPoint::Any, Fault::Reset, 0.02),
        (FaultPoint::Any, outage(502), 0.02),
    ];
    let rule = |(on, fault, probability)| FaultRule { probability, ..FaultRule::always(on, fault) };
    rules.map(rule).into()
}

/// By the simulator's book, and by the times and sizes of its jobs.
fn every_rule_was_kept(seen: &Snapshot) {
    assert_eq!(seen.violations, []);
    assert_eq!(seen.violations_total, 0);
    let per_ms = 1_800.0 * f64::from(SPEED) / 60_000.0;
    for (job, next) in seen.jobs.iter().zip(&seen.jobs[1..]) {
        let ended = job.finished_at_ms.unwrap();
        assert!(next.submitted_at_ms >= ended, "an overlap: {job:?}, {next:?}");
        #[expect(clippy::cast_precision_loss, reason = "some minutes and some hundred rows")]
        let early = job.rows as f64 / per_ms - (next.submitted_at_ms - job.submitted_at_ms) as f64;
        assert!(early < TOLERANCE_MS, "{early} ms too early: {job:?}, {next:?}");
    }
}

/// Else it is said what became of the batch, by the logs of its gateways.
fn each_batch_was_delivered_once(seen: &Snapshot, told: &[String]) {
    let mut names = BTreeSet::new();
    for job in seen.jobs.iter().filter(|job| job.status == JobStatus::Completed) {
        let name = job.filename.as_deref().unwrap();
        if !names.insert(name) {
            let batch = name.trim_start_matches("userpilot-gateway-").trim_end_matches(".ndjson");
            let jobs = seen.jobs.iter().filter(|job| job.filename.as_deref() == Some(name));
            let told = told.iter().filter(|line| line.contains(batch) || line.contains("serves"));
            let (jobs, told) = (jobs.collect::<Vec<_>>(), told.cloned().collect::<Vec<_>>());
            panic!("delivered twice: {jobs:#?}\n{}", told.join("\n"));
        }
    }
}

/// Each batch that was delivered is one job that was completed, and the other way round.
async fn both_tell_of_the_same_jobs(
    gateway: &Gateway,
    seen: &Snapshot,
    acknowledged: usize,
    all: usize,
) {
    let mut completed: BTreeMap<&str, &JobSnapshot> = BTreeMap::new();
    for job in seen.jobs.iter().filter(|job| job.status == JobStatus::Completed) {
        completed.insert(job.filename.as_deref().unwrap(), job);
    }
    let mut delivered = 0;
    for job in gateway.jobs(1_000).await {
        let name = format!("userpilot-gateway-{}.ndjson", job.batch_id);
        match job.state() {
            JobState::Delivered => {
                let theirs = completed.remove(&*name).unwrap_or_else(|| panic!("never: {job:?}"));
                assert_eq!(job.job_id, theirs.id);
                let rows = (theirs.rows as u64, theirs.completed as u64);
                assert_eq!((job.rows, job.completed_rows), rows, "torn: {job:?}, {theirs:?}");
                delivered += usize::try_from(job.updates).unwrap();
            }
            JobState::Requeued | JobState::Split => {
                assert!(!completed.contains_key(&*name), "{job:?}")
            }
            JobState::Unspecified
            | JobState::Claimed
            | JobState::Submitting
            | JobState::Running
            | JobState::Dead => panic!("is not over, or dead: {job:?}"),
        }
    }
    assert!(completed.is_empty(), "jobs that the gateway does not know of: {completed:?}");
    assert!((acknowledged..=all).contains(&delivered), "{acknowledged} {delivered} {all}");
}
