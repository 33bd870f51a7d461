//! Trouble upstream, end to end: nothing is lost, doubled or reordered by it.

use serde_json::json;
use userpilot_gateway::{
    proto::{AppState, FlushNowRequest, JobState},
    simulator::{
        Fault, FaultPoint, FaultRule, JobShape, RunningSimulator, Simulator, SimulatorConfig,
    },
};

use crate::rig::{Change, Site, Stage, applied, at_speed, same_profiles, settled, until};

fn changes() -> Vec<Change> {
    (0..50)
        .map(|nth| {
            let metadata = json!({"nth": nth, "text": format!("{nth} ü"), "nothing": null});
            let change = Change::new(format!("user-{}", nth % 20), metadata);
            if nth % 3 == 0 { change.of_company("acme") } else { change }
        })
        .collect()
}

fn status(code: u16) -> Fault {
    Fault::Status { code, body: "an outage".into(), retry_after: None }
}

/// Waits for a state of the app.
async fn seen(stage: &Stage, state: AppState) {
    let what = state.as_str_name();
    until(what, async || (stage.gateway.app().await.state() == state).then_some(())).await;
}

#[tokio::test]
async fn a_job_whose_answer_is_lost_is_found_and_adopted() {
    for fault in [Fault::LoseAnswer, Fault::Truncated] {
        let stage = Stage::faulty(vec![FaultRule::once(FaultPoint::Submit, fault)]).await;
        stage.sent(&changes()).await;
        stage.delivers(&changes()).await;
        let upstream = stage.simulator.snapshot();
        let first = &stage.gateway.jobs(50).await.pop().unwrap();
        assert_eq!((first.state(), first.submissions), (JobState::Delivered, 1));
        assert_eq!(first.job_id, upstream.jobs[0].id);
        assert_eq!(upstream.submissions, upstream.jobs.len() as u64);
        assert_eq!(upstream.conflicts, 0);
    }
}

#[tokio::test]
async fn an_outage_is_waited_out() {
    let faults = [status(503), status(500), Fault::Reset, Fault::Garbage];
    let faults = faults.map(|fault| FaultRule { times: Some(2), ..always(fault) });
    let stage = Stage::faulty(faults.into()).await;
    stage.sent(&changes()).await;
    stage.delivers(&changes()).await;
    let app = stage.gateway.app().await;
    assert!(app.totals.unwrap().failed_attempts >= 8);
    assert_eq!((app.failed_attempts, &*app.last_error), (0, ""));
    assert!(stage.simulator.faults().iter().all(|armed| armed.struck == 2));
}

fn always(fault: Fault) -> FaultRule {
    FaultRule::always(FaultPoint::Any, fault)
}

#[tokio::test]
async fn a_retry_comes_no_earlier_than_upstream_asked() {
    let asked = Fault::Status { code: 429, body: String::new(), retry_after: Some("1".into()) };
    let stage = Stage::faulty(vec![FaultRule::once(FaultPoint::Submit, asked)]).await;
    stage.sent(&changes()).await;
    let retry_at =
        until("the wait that was asked for", async || stage.gateway.app().await.retry_at).await;
    stage.delivers(&changes()).await;
    let submitted_at = stage.gateway.jobs(50).await[0].submitted_at.unwrap();
    let time = |at: prost_types::Timestamp| (at.seconds, at.nanos);
    assert!(time(submitted_at) >= time(retry_at), "{submitted_at:?} {retry_at:?}");
}

#[tokio::test]
async fn a_slot_that_somebody_else_holds_is_waited_for_and_is_no_failure() {
    let stage = Stage::of(at_speed(20), |site| site.with("app.linger_ms", 60_000)).await;
    stage.sent(&changes()).await;
    // A second of theirs.
    stage.simulator.start_foreign_job(600, Some("theirs.csv".into())).unwrap();
    let request = FlushNowRequest { app: String::new() };
    stage.gateway.admin().await.flush_now(request).await.unwrap();
    seen(&stage, AppState::SlotTaken).await;
    stage.delivers(&changes()).await;
    let totals = stage.gateway.app().await.totals.unwrap();
    assert_eq!((totals.failed_attempts, totals.completed_jobs), (0, 1));
    assert!(totals.conflicts >= 1);
    let (_, _, page) = stage.gateway.page("/metrics").await;
    let theirs = "userpilot_gateway_conflicts_total{app=\"production\",whose=\"other\"} ";
    let theirs = page.lines().find_map(|line| line.strip_prefix(theirs));
    assert_eq!(theirs, Some(&*totals.conflicts.to_string()), "{page}");
    let [theirs, ours] = stage.simulator.snapshot().jobs.try_into().unwrap();
    assert!(theirs.foreign && !ours.foreign);
    assert!(ours.submitted_at_ms >= theirs.finished_at_ms.unwrap());
}

#[tokio::test]
async fn a_key_that_is_refused_holds_the_app_and_loses_nothing() {
    let stage = Stage::of(at_speed(100), |site| site.with("app.held_retry_ms", 500)).await;
    stage.simulator.change_api_key("another-key".into());
    stage.sent(&changes()[..10]).await;
    seen(&stage, AppState::KeyRejected).await;
    stage.sent(&changes()[10..]).await;
    assert!(!stage.gateway.log().join("").contains("simulated-key"));
    stage.simulator.change_api_key("simulated-key".into());
    settled(&stage.gateway).await;
    same_profiles(&stage.simulator.profiles(), &applied(&changes()));
}

#[tokio::test]
async fn a_batch_whose_job_fails_is_delivered_by_another() {
    let fails = Fault::FailJob { rows: 3 };
    let stage = Stage::faulty(vec![FaultRule::once(FaultPoint::Submit, fails)]).await;
    stage.sent(&changes()).await;
    stage.delivers(&changes()).await;
    let first = stage.gateway.jobs(50).await.pop().unwrap();
    assert_eq!((first.state(), first.submissions), (JobState::Delivered, 2));
}

#[tokio::test]
async fn a_job_that_upstream_forgets_is_sent_again() {
    let forgets = FaultRule::once(FaultPoint::Job, Fault::ForgetJob);
    let stage = Stage::faulty(vec![forgets]).await;
    stage.sent(&changes()).await;
    settled(&stage.gateway).await;
    same_profiles(&stage.simulator.profiles(), &applied(&changes()));
    let first = stage.gateway.jobs(50).await.pop().unwrap();
    assert_eq!(first.state(), JobState::Delivered);
}

/// A simulator in the place of one that has ended.
async fn again(address: std::net::SocketAddr) -> RunningSimulator {
    let config = SimulatorConfig { listen: address, ..at_speed(100) };
    Simulator::start(config).await.unwrap()
}

#[tokio::test]
async fn while_upstream_is_down_updates_are_taken_and_afterwards_delivered() {
    let Stage { simulator, gateway, site } = Stage::start(100).await;
    let address = simulator.address();
    simulator.stop().await;
    let mut client = gateway.ingest().await;
    let mut send = async |changes: &[Change]| {
        let answers = crate::rig::send_all(crate::rig::Way::Stream, &mut client, changes).await;
        crate::rig::accepted(answers);
    };
    send(&changes()[..25]).await;
    until("a failure", async || {
        let app = gateway.app().await;
        (app.failed_attempts > 1 && !app.last_error.is_empty()).then_some(())
    })
    .await;
    send(&changes()[25..]).await;
    assert_eq!(gateway.page("/readyz").await.0, 200);
    let stage = Stage { simulator: again(address).await, gateway, site };
    stage.delivers(&changes()).await;
}

#[tokio::test]
async fn a_job_that_dies_with_upstream_is_sent_again() {
    let Stage { simulator, gateway, site } = Stage::start(1).await;
    let address = simulator.address();
    let stage = Stage { simulator, gateway, site };
    stage.sent(&changes()).await;
    seen(&stage, AppState::Running).await;
    let Stage { simulator, gateway, site } = stage;
    simulator.stop().await;
    let stage = Stage { simulator: again(address).await, gateway, site };
    stage.delivers(&changes()).await;
}

#[tokio::test]
async fn updates_arrive_as_a_json_body_too_and_with_either_job_object() {
    for (upload, job_shape) in
        [("json", JobShape::Long), ("json", JobShape::Short), ("file", JobShape::Short)]
    {
        let config = SimulatorConfig { job_shape, ..at_speed(100) };
        let stage = Stage::of(config, |site: Site| site.with("app.upload", upload)).await;
        stage.sent(&changes()).await;
        stage.delivers(&changes()).await;
        for job in stage.simulator.snapshot().jobs {
            assert_eq!(job.filename.is_some(), upload == "file");
        }
    }
}

#[tokio::test]
async fn where_upstream_lists_no_filenames_a_lost_batch_is_sent_again() {
    let faults = vec![FaultRule::once(FaultPoint::Submit, Fault::LoseAnswer)];
    let config = SimulatorConfig { list_filenames: false, faults, ..at_speed(100) };
    let stage = Stage::of(config, |site| site).await;
    stage.sent(&changes()).await;
    stage.delivers(&changes()).await;
    let first = stage.gateway.jobs(50).await.pop().unwrap();
    assert_eq!((first.state(), first.submissions), (JobState::Delivered, 2));
}
