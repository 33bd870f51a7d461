//! The main path: what is accepted arrives, once, in order, and can be followed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use userpilot_gateway::{
    proto::{
        AcceptedUpdate, AppState, Disposition, FlushNowRequest, GetJobRequest, Job, JobState,
        UpdateState, UpdateUserRequest, get_update_response::Detail,
    },
    simulator::JobStatus,
};

use crate::rig::{Change, Draw, Stage, Way, accepted, at_speed, send_all, until};

const CLIENTS: usize = 8;
const USERS: usize = 3_000;
const UPDATES: usize = 20_000;
const SEED: u64 = 2;

/// What one client sends: each of its users once, and then some of them again and again.
fn traffic(client: usize) -> Vec<Change> {
    let mut draw = Draw(SEED + client as u64);
    let users = USERS / CLIENTS;
    (0..UPDATES / CLIENTS)
        .map(|nth| {
            let user = if nth < users { nth } else { draw_user(&mut draw, users) };
            change(&mut draw, client, user, nth)
        })
        .collect()
}

/// Some users are busier than others.
fn draw_user(draw: &mut Draw, users: usize) -> usize {
    let bound = if draw.below(2) == 0 { users / 10 } else { users };
    usize::try_from(draw.below(bound as u64)).unwrap()
}

fn change(draw: &mut Draw, client: usize, user: usize, nth: usize) -> Change {
    let mut metadata = json!({ "nth": nth });
    for _ in 0..draw.below(4) {
        let name = format!("property {}", draw.below(6));
        metadata[name] = match draw.below(5) {
            0 => Value::Null,
            1 => json!(draw.below(2) == 0),
            2 => json!(0.5 + nth as f64),
            3 => json!(format!("«{nth}» \"ü\" 🦀")),
            _ => json!(nth),
        };
    }
    let change = Change::new(format!("user-{client}-{user}"), metadata);
    match draw.below(4) {
        0 => change.of_company(&format!("company-{}", draw.below(9))),
        _ => change,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_updates_of_eight_clients_arrive_in_their_order() {
    let stage = Stage::of(at_speed(100), |site| site.with("app.job_users_max", 1_000)).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut ingest = stage.gateway.ingest().await;
        let way = [Way::Unary, Way::Batch, Way::Stream][client % 3];
        clients.spawn(async move {
            let changes = traffic(client);
            let answers = accepted(send_all(way, &mut ingest, &changes).await);
            (changes, answers)
        });
    }
    let (changes, answers): (Vec<_>, Vec<_>) = clients.join_all().await.into_iter().unzip();
    for (changes, answers) in changes.iter().zip(&answers) {
        each_user_keeps_its_order(changes, answers);
    }
    // Each user belongs to one client, so any order of the clients is the users' order.
    stage.delivers(changes.iter().flatten()).await;
    assert_eq!(stage.simulator.snapshot().conflicts, 0);

    let answers: Vec<_> = answers.into_iter().flatten().collect();
    let jobs = numbers_add_up(&stage, &answers).await;
    receipts_lead_to_their_jobs(&stage, &answers, &jobs).await;
}

fn each_user_keeps_its_order(changes: &[Change], answers: &[AcceptedUpdate]) {
    let mut last = BTreeMap::new();
    for (change, answer) in changes.iter().zip(answers) {
        let before = last.insert(&change.user_id, answer.sequence);
        assert!(before < Some(answer.sequence), "{}", change.user_id);
    }
}

async fn numbers_add_up(stage: &Stage, answers: &[AcceptedUpdate]) -> Vec<Job> {
    let sequences: BTreeSet<u64> = answers.iter().map(|answer| answer.sequence).collect();
    assert_eq!(sequences, (1..=UPDATES as u64).collect());
    let coalesced = |answer: &&AcceptedUpdate| answer.disposition() == Disposition::Coalesced;
    let coalesced = answers.iter().filter(coalesced).count() as u64;

    let status = stage.gateway.status().await;
    assert_eq!(status.store.unwrap().last_sequence, UPDATES as u64);
    let totals = status.apps[0].totals.unwrap();
    assert_eq!((totals.accepted_updates, totals.refused_updates), (UPDATES as u64, 0));
    assert_eq!((totals.failed_attempts, totals.conflicts), (0, 0));
    assert_eq!(totals.coalesced_updates, coalesced);
    assert_eq!(totals.delivered_rows, UPDATES as u64 - coalesced);

    let jobs = stage.gateway.jobs(3).await;
    assert_eq!(jobs.len() as u64, totals.completed_jobs);
    assert!(jobs.len() > 3, "too few jobs to tell: {}", jobs.len());
    assert!(jobs.is_sorted_by(|newer, older| time(newer.claimed_at) > time(older.claimed_at)));
    assert_eq!(jobs.iter().map(|job| job.rows).sum::<u64>(), totals.delivered_rows);
    assert_eq!(jobs.iter().map(|job| job.updates).sum::<u64>(), UPDATES as u64);

    let upstream = stage.simulator.snapshot();
    assert_eq!(upstream.submissions, totals.completed_jobs);
    assert_eq!(upstream.jobs.len(), jobs.len());
    for (job, theirs) in jobs.iter().rev().zip(&upstream.jobs) {
        assert_eq!((job.state(), theirs.status), (JobState::Delivered, JobStatus::Completed));
        assert_eq!((&*job.upstream_status, job.submissions), ("completed", 1));
        assert_eq!(job.job_id, theirs.id);
        let filename = format!("userpilot-gateway-{}.ndjson", job.batch_id);
        assert_eq!(theirs.filename.as_ref(), Some(&filename));
        assert_eq!((job.rows, job.completed_rows), (theirs.rows as u64, theirs.completed as u64));
        assert!(!job.request_id.is_empty() && job.bytes > 0 && job.last_error.is_empty());
        let life = [job.claimed_at, job.submitted_at, job.settled_at].map(time);
        assert!(life.is_sorted(), "{life:?}");
    }
    jobs
}

fn time(at: Option<prost_types::Timestamp>) -> (i64, i32) {
    at.map(|at| (at.seconds, at.nanos)).unwrap()
}

async fn receipts_lead_to_their_jobs(stage: &Stage, answers: &[AcceptedUpdate], jobs: &[Job]) {
    let jobs: BTreeMap<&str, &Job> = jobs.iter().map(|job| (&*job.batch_id, job)).collect();
    let mut absorbed = 0;
    for answer in answers.iter().step_by(199) {
        let update = stage.gateway.update(&answer.receipt).await;
        assert_eq!((update.state(), update.sequence), (UpdateState::Delivered, answer.sequence));
        let Some(Detail::Delivered(delivered)) = update.detail else { panic!("{update:?}") };
        assert_eq!(delivered.job_id, jobs[&*delivered.batch_id].job_id);
        if let Some(by) = delivered.absorbed_by_sequence {
            assert!(by > answer.sequence);
            absorbed += 1;
        }
    }
    assert!(absorbed > 0);

    let mut admin = stage.gateway.admin().await;
    for job in jobs.values().step_by(3) {
        for id in [&job.batch_id, &job.job_id] {
            let request = GetJobRequest { app: "production".into(), id: id.clone() };
            let found = admin.get_job(request).await.unwrap().into_inner().job.unwrap();
            assert_eq!(&&found, job);
        }
    }
}

#[tokio::test]
async fn an_update_is_pending_then_in_flight_then_delivered_or_absorbed() {
    // 30 rows a second, and a job costs two seconds more.
    let stage = Stage::of(at_speed(1), |site| site.with("app.linger_ms", 60_000)).await;
    let first = Change::new("ada", json!({"plan": "free", "seats": 1}));
    let second = Change::new("bob", json!({"plan": null}));
    let third = Change::new("ada", json!({"plan": "pro"}));
    let receipts = stage.sent(&[first.clone(), second.clone(), third.clone()]).await;

    let waiting = [(0, 3), (1, 2), (0, 3)];
    for (receipt, (place, last_sequence)) in receipts.iter().zip(waiting) {
        let update = stage.gateway.update(receipt).await;
        assert_eq!(update.state(), UpdateState::Pending);
        let Some(Detail::Pending(pending)) = update.detail else { panic!("{update:?}") };
        assert_eq!((pending.place, pending.last_sequence), (place, last_sequence));
        assert!(pending.age.is_some() && !pending.place_is_lower_bound);
    }
    assert_eq!(stage.gateway.app().await.state(), AppState::Lingering);

    stage.gateway.admin().await.flush_now(of_all()).await.unwrap();
    let in_flight = until("a job", async || {
        let update = stage.gateway.update(&receipts[0]).await;
        let Some(Detail::InFlight(in_flight)) = update.detail else { return None };
        (!in_flight.job_id.is_empty()).then_some(in_flight)
    })
    .await;
    assert_eq!(in_flight.total_rows, 2);
    // It arrives while its user is in flight, and waits for the next job.
    let fourth = Change::new("ada", json!({"seats": 4}));
    let [late] = stage.sent(std::slice::from_ref(&fourth)).await.try_into().unwrap();
    assert_eq!(stage.gateway.update(&late).await.state(), UpdateState::Pending);

    let absorbed_by = [Some(3), None, None];
    for (receipt, absorbed_by) in receipts.iter().zip(absorbed_by) {
        let delivered =
            until("a delivery", async || match stage.gateway.update(receipt).await.detail {
                Some(Detail::Delivered(delivered)) => Some(delivered),
                _ => None,
            })
            .await;
        assert_eq!(delivered.absorbed_by_sequence, absorbed_by);
        assert_eq!(delivered.job_id, in_flight.job_id);
        assert_eq!(delivered.batch_id, in_flight.batch_id);
        assert!(delivered.delivered_at.is_some());
    }
    assert_eq!(stage.gateway.update(&late).await.state(), UpdateState::Pending);
    stage.gateway.admin().await.flush_now(of_all()).await.unwrap();
    stage.delivers([&first, &second, &third, &fourth]).await;
}

fn of_all() -> FlushNowRequest {
    FlushNowRequest { app: String::new() }
}

#[tokio::test]
async fn the_value_that_occurred_later_wins_property_by_property() {
    let stage = Stage::of(at_speed(100), |site| site.with("app.linger_ms", 60_000)).await;
    let mut ingest = stage.gateway.ingest().await;
    for (seconds, metadata) in [
        (1_000, json!({"plan": "pro"})),
        (900, json!({"plan": "free", "seats": 1})),
        (1_100, json!({"city": "Graz"})),
    ] {
        let mut update = Change::new("ada", metadata).update();
        update.occurred_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        ingest.update_user(UpdateUserRequest { update: Some(update) }).await.unwrap();
    }
    stage.gateway.admin().await.flush_now(of_all()).await.unwrap();
    stage.delivers([&Change::new("ada", json!({"plan": "pro", "seats": 1, "city": "Graz"}))]).await;
}

#[tokio::test]
async fn an_update_in_flight_says_how_far_its_job_is() {
    // A second for the job.
    let stage = Stage::start(20).await;
    let changes: Vec<_> =
        (0..600).map(|nth| Change::new(format!("user-{nth}"), json!({"nth": nth}))).collect();
    let receipts = stage.sent(&changes).await;
    until("a job that is half done", async || {
        let Some(Detail::InFlight(job)) = stage.gateway.update(&receipts[0]).await.detail else {
            return None;
        };
        assert!(job.completed_rows <= job.total_rows);
        (job.completed_rows > 0).then_some(())
    })
    .await;
    stage.delivers(&changes).await;
}
