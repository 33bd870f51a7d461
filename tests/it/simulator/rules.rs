//! What the document says, request by request.

use userpilot_gateway::simulator::{JobShape, JobStatus, Rule, Subjects};

use super::*;

fn lines(count: usize) -> String {
    (0..count).map(|nth| format!("{{\"user_id\":\"user-{nth}\"}}\n")).collect()
}

#[tokio::test]
async fn a_json_submission_becomes_a_job_that_completes() {
    let stage = Stage::start(fast()).await;
    let job = accepted(stage.one_user()).await;
    assert!(id_of(&job).starts_with("bulk:jobs:NX-ac54070e:"));
    let expected = ("queued", 1, Value::Null, Value::Null);
    let told = (&job["status"], &job["total_rows"], &job["filename"], &job["end_time"]);
    assert_eq!(told, (&json!(expected.0), &json!(expected.1), &expected.2, &expected.3));

    let job = stage.ended(id_of(&job)).await;
    assert_eq!(job["status"], "completed");
    assert_eq!(job["completed_rows"], 1);
    assert!(job["end_time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(stage.simulator.profile("ada").unwrap().metadata["plan"], "paid");
}

#[tokio::test]
async fn an_uploaded_file_is_found_by_its_name() {
    let stage = Stage::start(fast()).await;
    let name = "userpilot-gateway-7.ndjson";
    let job = accepted(stage.file(name, lines(3))).await;
    assert_eq!((&job["filename"], &job["file_size"]), (&json!(name), &json!(lines(3).len())));
    assert_eq!(job["total_rows"], 3);

    let listed = stage.listed().await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["job_id"], &listed[0]["filename"]), (&job["job_id"], &json!(name)));
    assert_eq!(listed[0].get("completed_rows"), None);
    assert_eq!(stage.ended(id_of(&job)).await["completed_rows"], 3);
}

#[tokio::test]
async fn the_list_can_keep_file_names_to_itself() {
    let stage = Stage::start(SimulatorConfig { list_filenames: false, ..slow() }).await;
    let job = accepted(stage.file("ours.ndjson", lines(1))).await;
    assert_eq!(stage.listed().await[0].get("filename"), None);
    assert_eq!(json_of(stage.job(id_of(&job)).await).await["filename"], "ours.ndjson");
}

#[tokio::test]
async fn the_short_shape_holds_three_fields() {
    let stage = Stage::start(SimulatorConfig { job_shape: JobShape::Short, ..slow() }).await;
    let job = accepted(stage.one_user()).await;
    let keys: Vec<&String> = job.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["job_id", "status", "submitted_at"]);
}

#[tokio::test]
async fn the_list_is_newest_first() {
    let stage = Stage::start(fast()).await;
    let first = accepted(stage.one_user()).await;
    stage.ended(id_of(&first)).await;
    let second = accepted(stage.one_user()).await;
    let ids: Vec<Value> = stage.listed().await.iter().map(|job| job["job_id"].clone()).collect();
    assert_eq!(ids, [second["job_id"].clone(), first["job_id"].clone()]);
}

#[tokio::test]
async fn completed_rows_rise_while_a_job_is_processed() {
    // 10,000 rows take two seconds.
    let stage = Stage::start(SimulatorConfig { users_per_minute: 300, ..fast() }).await;
    let job = accepted(stage.file("big.ndjson", lines(10_000))).await;
    let under_way = stage.seen(id_of(&job), |job| job["completed_rows"] != 0).await;
    assert_eq!(under_way["status"], "processing");
    let completed = usize::try_from(under_way["completed_rows"].as_u64().unwrap()).unwrap();
    let profiles = stage.simulator.profiles().len();
    assert!(completed < 10_000 && completed <= profiles, "{completed} rows, {profiles} profiles");
    assert_eq!(stage.ended(id_of(&job)).await["completed_rows"], 10_000);
    let job = &stage.simulator.snapshot().jobs[0];
    let took_ms = job.finished_at_ms.unwrap() - job.submitted_at_ms;
    assert!((2_019..=2_022).contains(&took_ms), "{took_ms} ms");
}

#[tokio::test]
async fn a_second_submission_is_answered_409() {
    let stage = Stage::start(slow()).await;
    let first = accepted(stage.one_user()).await;
    refused(stage.one_user(), 409).await;
    let companies = json!({"companies": [{"company_id": "acme"}]});
    refused(stage.post("/v1/companies/bulk_identify").json(&companies), 409).await;

    let snapshot = stage.simulator.snapshot();
    assert_eq!((snapshot.conflicts, snapshot.submissions), (2, 3));
    assert_eq!(snapshot.running.as_deref(), Some(id_of(&first)));
    assert_eq!(snapshot.violations_by_kind, [(Rule::Overlap, 2)].into());
}

#[tokio::test]
async fn a_company_submission_becomes_a_companys_properties() {
    let stage = Stage::start(fast()).await;
    let body = json!({"companies": [{"company_id": "acme", "metadata": {"size": 3}}]});
    let job = accepted(stage.post("/v1/companies/bulk_identify").json(&body)).await;
    stage.ended(id_of(&job)).await;
    assert_eq!(stage.simulator.companies()["acme"]["size"], 3);
    assert_eq!(stage.simulator.snapshot().jobs[0].subjects, Subjects::Companies);
}

#[tokio::test]
async fn ten_thousand_rows_are_taken_and_one_more_is_not() {
    let stage = Stage::start(slow()).await;
    refused(stage.file("more.ndjson", lines(10_001)), 413).await;
    accepted(stage.file("full.ndjson", lines(10_000))).await;
    let kinds = stage.simulator.snapshot().violations_by_kind;
    assert_eq!(kinds, [(Rule::TooManyRows, 1)].into());
}

#[tokio::test]
async fn a_file_above_fifty_megabytes_is_answered_413() {
    let stage = Stage::start(slow()).await;
    let padding = "x".repeat(4_999_960);
    let line = format!("{{\"user_id\":\"a\",\"metadata\":{{\"p\":\"{padding}\"}}}}\n");
    refused(stage.file("large.ndjson", line.repeat(12)), 413).await;
    let kinds = stage.simulator.snapshot().violations_by_kind;
    assert_eq!(kinds, [(Rule::TooLarge, 1)].into());
}

#[tokio::test]
async fn a_bad_record_is_answered_422_with_its_line() {
    let stage = Stage::start(fast()).await;
    let message = refused(stage.file("bad.ndjson", "{\"user_id\":\"a\"}\n{}\n"), 422).await;
    assert_eq!(message, "line 2: user_id must be a non-empty string");
    let nested = json!({"users": [{"user_id": "a", "metadata": {"tags": []}}]});
    let message = refused(stage.users(&nested), 422).await;
    assert!(message.starts_with("line 1: metadata.tags"), "{message}");
    assert_eq!(stage.simulator.snapshot().jobs, []);
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_is_answered_400() {
    let stage = Stage::start(fast()).await;
    let submission = || stage.post("/v1/users/bulk_identify");
    refused(submission().body("{}"), 400).await;
    refused(submission().header("Content-Type", "application/json").body("{"), 400).await;
    let misnamed = Form::new().part("upload", Part::text(lines(1)));
    refused(submission().multipart(misnamed), 400).await;
}

#[tokio::test]
async fn a_wrong_key_is_answered_403_and_a_missing_one_401() {
    let stage = Stage::start(fast()).await;
    let bare = || stage.bare(Method::GET, "/v1/background_jobs");
    refused(bare(), 401).await;
    refused(bare().header("Authorization", "Bearer simulated-key"), 401).await;
    refused(bare().header("Authorization", "Token another-key"), 403).await;
    let snapshot = stage.simulator.snapshot();
    assert_eq!(snapshot.violations_by_kind, [(Rule::BadAuth, 3)].into());
    assert!(!format!("{snapshot:?}").contains("another-key"));
}

#[tokio::test]
async fn a_changed_key_revokes_the_one_before() {
    let stage = Stage::start(slow()).await;
    accepted(stage.one_user()).await;
    let change = stage.bare(Method::PUT, "/_simulator/api_key").json(&json!({"api_key": "new"}));
    assert_eq!(change.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    refused(stage.one_user(), 403).await;
    let jobs = stage.bare(Method::GET, "/v1/background_jobs").header("Authorization", "Token new");
    assert_eq!(jobs.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_next_job_may_start_when_the_last_one_has_ended_and_not_before_its_occupancy() {
    let rules = json!([{"on": "submit", "fault": {"kind": "fail_job"}, "times": 1}]);
    // 1,800 rows occupy the budget for a minute, and fail long before.
    let config = SimulatorConfig { speed: 1.0, fixed_cost: Duration::from_millis(4), ..fast() };
    let stage = Stage::faulty(config, rules).await;
    let failing = accepted(stage.file("failing.ndjson", lines(1_800))).await;
    stage.ended(id_of(&failing)).await;
    accepted(stage.one_user()).await;
    let kinds = stage.simulator.snapshot().violations_by_kind;
    assert_eq!(kinds, [(Rule::Pacing, 1)].into());

    let stage = Stage::start(fast()).await;
    for _ in 0..3 {
        let job = accepted(stage.file("ours.ndjson", lines(100))).await;
        stage.ended(id_of(&job)).await;
    }
    assert_eq!(stage.simulator.snapshot().violations, []);
}

#[tokio::test]
async fn what_is_not_there_is_answered_404_and_never_redirected() {
    let stage = Stage::start(fast()).await;
    assert_eq!(stage.job("bulk:jobs:none").await.status(), StatusCode::NOT_FOUND);
    refused(stage.get("/v1/background_jobs/"), 404).await;
    refused(stage.get("/v1/background_jobs/a/b"), 404).await;
    refused(stage.post("/v2/identify"), 404).await;
    refused(stage.get("/v1/identify"), 405).await;
}

#[tokio::test]
async fn identify_and_track_are_carried_out_at_once() {
    let stage = Stage::start(slow()).await;
    let user = json!({
        "user_id": "ada",
        "metadata": {"plan": "free"},
        "company": {"id": "acme", "company_id": "acme", "size": 3},
    });
    let realtime = |path: &str, body: &Value| stage.post(path).json(body).send();
    let status = realtime("/v1/identify", &user).await.unwrap().status();
    assert_eq!(status, StatusCode::ACCEPTED);
    let profile = stage.simulator.profile("ada").unwrap();
    assert_eq!(profile.company_id.as_deref(), Some("acme"));
    assert_eq!(profile.metadata["plan"], "free");

    let company = json!({"company_id": "acme", "metadata": {"tier": "gold"}});
    realtime("/v1/companies/identify", &company).await.unwrap().error_for_status().unwrap();
    let acme = &stage.simulator.companies()["acme"];
    assert_eq!((&acme["size"], &acme["tier"]), (&json!(3), &json!("gold")));

    let event = json!({"user_id": "ada", "event_name": "opened", "metadata": {}});
    realtime("/v1/track", &event).await.unwrap().error_for_status().unwrap();
    let snapshot = stage.simulator.snapshot();
    assert_eq!((snapshot.identified, snapshot.tracked), (2, 1));
}

#[tokio::test]
async fn the_real_time_version_is_the_documented_one() {
    let stage = Stage::start(fast()).await;
    let track = |version| {
        let body = json!({"user_id": "ada", "event_name": "opened"});
        stage.post("/v1/track").header("X-API-Version", version).json(&body)
    };
    assert_eq!(track("2020-09-22").send().await.unwrap().status(), StatusCode::ACCEPTED);
    refused(track("2019-01-01"), 400).await;
    assert_eq!(stage.simulator.snapshot().violations, []);
    // Without one it is carried out, and noted.
    let body = json!({"user_id": "ada", "event_name": "opened"});
    for path in ["/v1/track", "/v1/identify"] {
        stage.post(path).json(&body).send().await.unwrap();
    }
    let kinds = stage.simulator.snapshot().violations_by_kind;
    assert_eq!(kinds, [(Rule::NoApiVersion, 2)].into());
}

#[tokio::test]
async fn too_many_requests_are_answered_429_with_a_time_to_wait() {
    let stage = Stage::start(SimulatorConfig { realtime_per_minute: 2, ..slow() }).await;
    let identify = || {
        let request = stage.post("/v1/identify").header("X-API-Version", "2020-09-22");
        request.json(&json!({"user_id": "ada"}))
    };
    for _ in 0..2 {
        assert_eq!(identify().send().await.unwrap().status(), StatusCode::ACCEPTED);
    }
    let response = identify().send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait_s: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait_s), "{wait_s} s");
    assert_eq!(stage.simulator.snapshot().violations[0].kind, Rule::Rate);
}

#[tokio::test]
async fn the_state_is_the_same_over_http_and_needs_no_key() {
    let stage = Stage::start(slow()).await;
    let identify = stage.post("/v1/identify").header("X-API-Version", "2020-09-22");
    identify.json(&json!({"user_id": "a/b:c"})).send().await.unwrap();
    accepted(stage.file("ours.ndjson", lines(2))).await;
    let page = |path: &str| stage.bare(Method::GET, path).send();

    let state = json_of(page("/_simulator/state").await.unwrap()).await;
    let job = &state["jobs"][0];
    assert_eq!((&job["filename"], &job["rows"]), (&json!("ours.ndjson"), &json!(2)));
    assert_eq!((&state["profiles"], &state["violations"]), (&json!(1), &json!([])));
    let typed: userpilot_gateway::simulator::Snapshot = serde_json::from_value(state).unwrap();
    assert_eq!(typed.jobs[0].status, JobStatus::Queued);

    let empty = json!({"company_id": null, "metadata": {}});
    let profiles = json_of(page("/_simulator/profiles").await.unwrap()).await;
    assert_eq!(profiles, json!({"a/b:c": empty}));
    let profile = page("/_simulator/profiles/a%2Fb%3Ac").await.unwrap();
    assert_eq!(json_of(profile).await, empty);
    let missing = page("/_simulator/profiles/nobody").await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(page("/_simulator/none").await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(stage.simulator.snapshot().violations_total, 0);
}
