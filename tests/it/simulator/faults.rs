//! What goes wrong when it is told to, and what is left afterwards.

use userpilot_gateway::cli::simulate_userpilot;
use userpilot_gateway::simulator::{Fault, FaultPoint, PoisonMode, StartError};

use super::*;

#[tokio::test]
async fn a_lost_answer_leaves_the_job_behind() {
    let rules = json!([{"on": "submit", "fault": {"kind": "lose_answer"}, "times": 1}]);
    let stage = Stage::faulty(slow(), rules).await;
    let error = stage.file("ours.ndjson", "{\"user_id\":\"ada\"}\n").send().await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_status(), "{error:?}");
    assert_eq!(stage.listed().await[0]["filename"], "ours.ndjson");

    // The client cannot have known of that job.
    refused(stage.one_user(), 409).await;
    assert_eq!(stage.simulator.snapshot().violations, []);
}

#[tokio::test]
async fn a_reset_takes_nothing() {
    let rules = json!([{"on": "submit", "fault": {"kind": "reset"}, "times": 1}]);
    let stage = Stage::faulty(slow(), rules).await;
    let line = "{\"user_id\":\"ada\"}\n";
    assert!(stage.file("ours.ndjson", line.repeat(10_000)).send().await.is_err());
    let snapshot = stage.simulator.snapshot();
    assert_eq!((snapshot.submissions, snapshot.jobs.len()), (0, 0));
    accepted(stage.one_user()).await;
}

#[tokio::test]
async fn a_hang_ends_only_by_the_clients_patience() {
    let rules = json!([
        {"on": "submit", "fault": {"kind": "hang"}, "times": 1},
        {"on": "submit", "fault": {"kind": "hang", "carried_out": true}, "times": 1},
    ]);
    let stage = Stage::faulty(slow(), rules).await;
    for jobs_left in [0, 1] {
        let request = stage.one_user().timeout(Duration::from_millis(300));
        assert!(request.send().await.unwrap_err().is_timeout());
        assert_eq!(stage.simulator.snapshot().jobs.len(), jobs_left);
    }
}

#[tokio::test]
async fn a_truncated_answer_is_carried_out_and_cannot_be_read() {
    let rules = json!([{"on": "submit", "fault": {"kind": "truncated"}, "times": 1}]);
    let stage = Stage::faulty(slow(), rules).await;
    let response = stage.one_user().send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert!(response.bytes().await.is_err());
    assert_eq!(stage.simulator.snapshot().jobs.len(), 1);
}

#[tokio::test]
async fn a_status_is_answered_as_told_and_carries_nothing_out() {
    let fault = json!({"kind": "status", "code": 503, "body": "busy", "retry_after": "7"});
    let rules = json!([{"on": "submit", "fault": fault, "skip": 1, "times": 1}]);
    let stage = Stage::faulty(fast(), rules).await;
    let job = accepted(stage.one_user()).await;
    stage.ended(id_of(&job)).await;
    let response = stage.one_user().send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "7");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(response.text().await.unwrap(), "busy");
    assert_eq!(stage.simulator.snapshot().jobs.len(), 1);
}

#[tokio::test]
async fn garbage_is_a_200_that_is_not_json() {
    let rules = json!([{"on": "any", "fault": {"kind": "garbage"}}]);
    let stage = Stage::faulty(slow(), rules).await;
    let response = stage.one_user().send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(stage.simulator.snapshot().jobs, []);
}

#[tokio::test]
async fn a_redirect_happens_only_when_told() {
    let fault = json!({"kind": "redirect", "location": "http://127.0.0.1:1/elsewhere"});
    let stage = Stage::faulty(slow(), json!([{"on": "jobs", "fault": fault}])).await;
    let response = stage.get("/v1/background_jobs").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], "http://127.0.0.1:1/elsewhere");
}

#[tokio::test]
async fn a_delay_waits_and_then_carries_out() {
    let rules = json!([{"on": "submit", "fault": {"kind": "delay", "ms": 150}}]);
    let stage = Stage::faulty(slow(), rules).await;
    let asked = now();
    accepted(stage.one_user()).await;
    assert!(asked.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_job_can_fail_after_some_rows_and_can_leave_some_out() {
    let rules = json!([
        {"on": "submit", "fault": {"kind": "fail_job", "rows": 1}, "times": 1},
        {"on": "submit", "fault": {"kind": "partial_job", "skip_rows": 2}, "skip": 1},
    ]);
    let stage = Stage::faulty(fast(), rules).await;
    let three = json!({"users": [{"user_id": "a"}, {"user_id": "b"}, {"user_id": "c"}]});
    for expected in ["failed", "completed"] {
        let job = accepted(stage.users(&three)).await;
        let job = stage.ended(id_of(&job)).await;
        assert_eq!((&job["status"], &job["completed_rows"]), (&json!(expected), &json!(1)));
        assert_eq!(job["total_rows"], 3);
    }
}

#[tokio::test]
async fn a_forgotten_job_is_a_404_and_absent_from_the_list() {
    let rules = json!([{"on": "job", "fault": {"kind": "forget_job"}, "skip": 1, "times": 1}]);
    let stage = Stage::faulty(slow(), rules).await;
    let job = accepted(stage.one_user()).await;
    assert_eq!(stage.job(id_of(&job)).await.status(), StatusCode::OK);
    assert_eq!(stage.listed().await.len(), 1);
    assert_eq!(stage.job(id_of(&job)).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(stage.job(id_of(&job)).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(stage.listed().await, Vec::<Value>::new());
    assert!(stage.simulator.snapshot().jobs[0].forgotten);
}

#[tokio::test]
async fn faults_are_armed_shown_and_cleared_over_http() {
    let stage = Stage::start(slow()).await;
    let faults = |method| stage.bare(method, "/_simulator/faults");
    let rule = json!({"on": "jobs", "fault": {"kind": "status", "code": 500}});
    faults(Method::POST).json(&json!([rule])).send().await.unwrap();
    let failed = stage.get("/v1/background_jobs").send().await.unwrap();
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);

    let shown = json_of(faults(Method::GET).send().await.unwrap()).await;
    assert_eq!((&shown[0]["on"], &shown[0]["struck"]), (&json!("jobs"), &json!(1)));
    let cleared = faults(Method::DELETE).send().await.unwrap();
    assert_eq!(cleared.status(), StatusCode::NO_CONTENT);
    assert_eq!(stage.listed().await, Vec::<Value>::new());

    let senseless = json!([{"on": "track", "fault": {"kind": "fail_job"}}]);
    let refused = faults(Method::POST).json(&senseless).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn poison_over_http_rejects_a_submission_in_words_that_name_no_row() {
    let stage = Stage::start(fast()).await;
    let poison = |method| stage.bare(method, "/_simulator/poison");
    let bad = json!({"user_ids": ["ada"], "mode": "reject_batch"});
    poison(Method::POST).json(&bad).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(refused(stage.one_user(), 422).await, "invalid record");
    poison(Method::DELETE).send().await.unwrap().error_for_status().unwrap();
    let job = accepted(stage.one_user()).await;
    stage.ended(id_of(&job)).await;

    stage.simulator.poison(vec!["ada".to_owned()], PoisonMode::SkipRow);
    let job = accepted(stage.one_user()).await;
    let job = stage.ended(id_of(&job)).await;
    assert_eq!((&job["status"], &job["completed_rows"]), (&json!("completed"), &json!(0)));
}

#[tokio::test]
async fn somebody_elses_job_holds_the_slot_and_is_listed() {
    let stage = Stage::start(slow()).await;
    let foreign = json!({"rows": 5_000, "filename": "theirs.csv"});
    let start = || stage.bare(Method::POST, "/_simulator/foreign_job").json(&foreign).send();
    let started = json_of(start().await.unwrap()).await;
    assert_eq!(start().await.unwrap().status(), StatusCode::CONFLICT);
    refused(stage.one_user(), 409).await;
    let listed = stage.listed().await;
    assert_eq!(listed[0]["job_id"], started["job_id"]);
    assert_eq!(listed[0]["filename"], "theirs.csv");
    let snapshot = stage.simulator.snapshot();
    assert!(snapshot.jobs[0].foreign && snapshot.conflicts == 1);
    assert_eq!(snapshot.violations, []);
}

#[tokio::test]
async fn a_stopped_simulator_closes_hung_connections_and_frees_its_address() {
    let stage = Stage::start(slow()).await;
    let hang = FaultRule::always(FaultPoint::Jobs, Fault::Hang { carried_out: false });
    stage.simulator.arm_faults(vec![hang]).unwrap();
    let hung = stage.get("/v1/background_jobs").timeout(DEADLINE).send();
    let listen = stage.simulator.address();
    let Stage { simulator, .. } = stage;
    let stopped = async {
        let started = now();
        while simulator.faults()[0].struck == 0 {
            assert!(started.elapsed() < DEADLINE, "the request does not come");
            tokio::task::yield_now().await;
        }
        simulator.stop().await;
    };
    let (answer, ()) = tokio::join!(hung, stopped);
    assert!(!answer.unwrap_err().is_timeout());
    let again = Simulator::start(SimulatorConfig { listen, ..fast() }).await.unwrap();
    let taken = Simulator::start(SimulatorConfig { listen, ..fast() }).await;
    assert!(matches!(taken.err(), Some(StartError::Listen { .. })));
    drop(again);
}

#[tokio::test]
async fn the_command_reads_its_faults_and_ends_when_told() {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: simulate_userpilot::Args,
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.json");
    let run = |faults: &'static str| {
        std::fs::write(&file, faults).unwrap();
        let words = ["simulate", "--listen", "127.0.0.1:0", "--faults", file.to_str().unwrap()];
        let Command { args } = clap::Parser::parse_from(words);
        simulate_userpilot::run(args, async {})
    };
    run(r#"[{"on": "any", "fault": {"kind": "reset"}}]"#).await.unwrap();
    assert!(run(r#"[{"on": "any"}]"#).await.is_err());
    assert!(run(r#"[{"on": "jobs", "fault": {"kind": "fail_job"}}]"#).await.is_err());
}

#[tokio::test]
async fn a_request_whose_client_gave_up_during_a_delay_is_not_carried_out() {
    let rules = json!([
        {"on": "submit", "fault": {"kind": "delay", "ms": 400}},
        {"on": "jobs", "fault": {"kind": "delay", "ms": 500}},
    ]);
    let stage = Stage::faulty(slow(), rules).await;
    let impatient = stage.one_user().timeout(Duration::from_millis(100));
    assert!(impatient.send().await.unwrap_err().is_timeout());
    // The list is answered after the submission's delay is over.
    assert_eq!(stage.listed().await, Vec::<Value>::new());
    assert_eq!(stage.simulator.snapshot().submissions, 0);
}

#[tokio::test]
async fn a_page_of_the_list_shows_the_newest_jobs_or_the_oldest() {
    let page = |oldest_first| json!({"kind": "page", "jobs": 1, "oldest_first": oldest_first});
    let rules = [false, true].map(|it| json!({"on": "jobs", "fault": page(it), "times": 1}));
    let stage = Stage::faulty(fast(), json!(rules)).await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let job = accepted(stage.one_user()).await;
        stage.ended(id_of(&job)).await;
        jobs.push(id_of(&job).to_owned());
    }
    for expected in [&jobs[1..], &jobs[..1], &[jobs[1].clone(), jobs[0].clone()]] {
        let listed = stage.listed().await;
        let ids: Vec<&str> = listed.iter().map(id_of).collect();
        assert_eq!(ids, expected);
    }
}
