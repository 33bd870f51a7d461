//! Companies, end to end: they share the slot with users, and each profile comes out right.

use std::collections::BTreeMap;

use futures_util::stream;
use serde_json::json;
use tonic::transport::Channel;
use userpilot_gateway::{
    proto::{
        CompanyUpdate, Job, JobState, StreamUserUpdatesRequest, SubjectKind,
        UpdateCompaniesRequest, UpdateCompanyRequest, UpdateState,
        ingest_service_client::IngestServiceClient, stream_user_updates_response,
        update_companies_result,
    },
    simulator::{JobSnapshot, Properties, Subjects},
};

use crate::rig::{Change, Draw, Stage, at_speed, get, run, settled};

const ROUNDS: u64 = 600;
const SUBJECTS: u64 = 150;
const SEED: u64 = 7;

/// An update of a company, thought of as one of a user of that name.
fn as_company(change: &Change) -> CompanyUpdate {
    let update = change.update();
    CompanyUpdate {
        company_id: update.user_id,
        metadata: update.metadata,
        ..CompanyUpdate::default()
    }
}

fn change(draw: &mut Draw, kind: &str, nth: u64) -> Change {
    let id = format!("{kind}-{}", draw.below(SUBJECTS));
    let property = format!("property {}", draw.below(4));
    let change = Change::new(id, json!({ "nth": nth, property: nth }));
    // A user may belong to a company that has updates of its own.
    match kind == "user" && draw.below(3) == 0 {
        true => change.of_company(&format!("company-{}", draw.below(SUBJECTS))),
        false => change,
    }
}

/// What the changes make of companies, in their order.
fn companies(changes: &[Change]) -> BTreeMap<String, Properties> {
    let mut companies: BTreeMap<String, Properties> = BTreeMap::new();
    for change in changes {
        let properties = companies.entry(change.user_id.clone()).or_default();
        properties.extend(change.metadata.clone());
    }
    companies
}

/// Sends users and companies in turn over one stream, and returns the receipts of both.
async fn send_in_turn(
    client: &mut IngestServiceClient<Channel>,
    pairs: impl Iterator<Item = (Change, Change)>,
) -> Vec<String> {
    let requests = pairs.enumerate().flat_map(|(nth, (user, company))| {
        let tag = 2 * nth as u64;
        let message = StreamUserUpdatesRequest::default;
        [
            StreamUserUpdatesRequest { tag, update: Some(user.update()), ..message() },
            StreamUserUpdatesRequest {
                tag: tag + 1,
                company: Some(as_company(&company)),
                ..message()
            },
        ]
    });
    let requests: Vec<_> = requests.collect();
    let answers = client.stream_user_updates(stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut receipts = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.tag, receipts.len() as u64);
        let Some(stream_user_updates_response::Result::Accepted(update)) = answer.result else {
            panic!("refused: {answer:?}")
        };
        receipts.push(update.receipt);
    }
    receipts
}

/// No two jobs of the account overlap.
fn follow_each_other(jobs: &[JobSnapshot]) {
    let mut jobs: Vec<_> = jobs.iter().collect();
    jobs.sort_by_key(|job| job.submitted_at_ms);
    for pair in jobs.windows(2) {
        assert!(pair[0].finished_at_ms.unwrap() <= pair[1].submitted_at_ms, "{pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_companies_take_turns_and_both_arrive() {
    for upload in ["file", "json"] {
        let stage = Stage::of(at_speed(100), |site| {
            site.with("app.job_users_max", 40).with("app.upload", upload)
        });
        let stage = stage.await;
        let mut draw = Draw(SEED);
        let (users, of_companies): (Vec<_>, Vec<_>) = (0..ROUNDS)
            .map(|nth| (change(&mut draw, "user", nth), change(&mut draw, "company", nth)))
            .unzip();
        let mut client = stage.gateway.ingest().await;
        let pairs = users.iter().cloned().zip(of_companies.iter().cloned());
        let receipts = send_in_turn(&mut client, pairs).await;
        assert_eq!(receipts.len() as u64, 2 * ROUNDS);

        stage.delivers(&users).await;
        assert_eq!(stage.simulator.companies(), companies(&of_companies));
        for receipt in receipts.iter().step_by(97) {
            assert_eq!(stage.gateway.update(receipt).await.state(), UpdateState::Delivered);
        }
        let snapshot = stage.simulator.snapshot();
        assert_eq!(snapshot.conflicts, 0);
        follow_each_other(&snapshot.jobs);
        take_turns(&stage.gateway.jobs(50).await);
        let rows = |subjects| {
            let jobs = snapshot.jobs.iter().filter(|job| job.subjects == subjects);
            jobs.map(|job| job.completed).sum::<usize>()
        };
        assert!(rows(Subjects::Users) >= 140 && rows(Subjects::Companies) >= 140);
    }
}

/// While both kinds wait, as they do but for the first and the last job, they alternate.
fn take_turns(jobs: &[Job]) {
    let kinds: Vec<_> = jobs.iter().map(Job::kind).collect();
    assert!(jobs.iter().all(|job| job.state() == JobState::Delivered));
    for kind in [SubjectKind::User, SubjectKind::Company] {
        assert!(kinds.iter().filter(|it| **it == kind).count() >= 3, "{kinds:?}");
    }
    let last = kinds.len() - 2;
    let starved = kinds[1..last].windows(3).any(|three| three.iter().all(|it| *it == three[0]));
    assert!(!starved, "{kinds:?}");
}

#[tokio::test]
async fn each_call_takes_companies_and_refuses_bad_ones_by_name() {
    let stage = Stage::start(100).await;
    let mut client = stage.gateway.ingest().await;
    let first = Change::new("acme", json!({"plan": "free", "seats": 3}));
    let second = Change::new("acme", json!({"plan": "pro"}));
    let other = Change::new("initech", json!({"ended": null}));

    let request = UpdateCompanyRequest { update: Some(as_company(&first)) };
    let accepted = client.update_company(request).await.unwrap().into_inner();
    assert_eq!(accepted.sequence, 1);
    let bad = CompanyUpdate { company_id: String::new(), ..as_company(&second) };
    let request = UpdateCompanyRequest { update: Some(bad.clone()) };
    let refusal = client.update_company(request).await.unwrap_err();
    assert!(refusal.message().contains("update.company_id: is empty"), "{refusal:?}");

    let updates = vec![as_company(&second), bad, as_company(&other)];
    let results = client.update_companies(UpdateCompaniesRequest { updates }).await.unwrap();
    let results = results.into_inner().results.into_iter().map(|result| result.result.unwrap());
    let fields: Vec<_> = results
        .map(|result| match result {
            update_companies_result::Result::Accepted(_) => None,
            update_companies_result::Result::Error(error) => {
                Some(error.violations[0].field.clone())
            }
        })
        .collect();
    assert_eq!(fields, [None, Some("updates[1].company_id".to_owned()), None]);

    let (update, company) = (Some(first.update()), Some(as_company(&first)));
    let both = StreamUserUpdatesRequest { tag: 1, update, company };
    let mut answers = client.stream_user_updates(stream::iter([both])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().result.unwrap();
    let stream_user_updates_response::Result::Error(error) = answer else { panic!("{answer:?}") };
    assert_eq!(error.violations[0].field, "company");

    stage.delivers(&[]).await;
    assert_eq!(stage.simulator.companies(), companies(&[first, second, other]));
}

#[tokio::test]
async fn the_commands_know_companies() {
    let stage = Stage::start(100).await;
    let addresses = stage.gateway.addresses.clone();
    let (grpc, admin) =
        (format!("http://{}", addresses.grpc), format!("http://{}", addresses.admin));
    let pause = userpilot_gateway::proto::PauseRequest { app: String::new() };
    stage.gateway.admin().await.pause(pause).await.unwrap();
    let sent = ["send", "--address", &grpc, "--company-id", "acme", "--set", "seats=3"];
    let output = run(&sent, "").await;
    assert!(output.status.success(), "{output:?}");
    let lines = r#"{"company_id":"initech","metadata":{"seats":4}}
{"user_id":"ada","company_id":"acme","metadata":{"plan":"pro"}}
"#;
    let output = run(&["send", "--address", &grpc, "--file", "-"], lines).await;
    assert_eq!(output.stdout, "2 accepted (0 coalesced), 0 refused\n", "{output:?}");

    let app = stage.gateway.app().await;
    assert_eq!((app.pending_records, app.pending_companies), (3, 2));
    let output = run(&["status", "--address", &admin], "").await;
    assert!(output.stdout.contains("1 users and 2 companies"), "{output:?}");
    let page = get(&format!("http://{}/metrics", addresses.http)).await.text().await.unwrap();
    assert!(page.contains("pending_companies{app=\"production\"} 2"), "{page}");
    for (lane, records) in [("express", 0), ("interactive", 3), ("bulk", 0)] {
        let of = format!("_pending_records{{app=\"production\",lane=\"{lane}\"}} {records}\n");
        assert!(page.contains(&of), "{of}{page}");
    }

    let resume = userpilot_gateway::proto::ResumeRequest { app: String::new() };
    stage.gateway.admin().await.resume(resume).await.unwrap();
    settled(&stage.gateway).await;
    let seats =
        |seats: u64| serde_json::from_value::<Properties>(json!({ "seats": seats })).unwrap();
    let expected = [("acme", seats(3)), ("initech", seats(4))];
    let expected = expected.map(|(id, properties)| (id.to_owned(), properties));
    assert_eq!(stage.simulator.companies(), BTreeMap::from(expected));
    let jobs = run(&["jobs", "--address", &admin], "").await.stdout;
    assert!(jobs.contains("companies") && jobs.contains("users"), "{jobs}");
}
