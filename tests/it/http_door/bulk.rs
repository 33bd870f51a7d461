//! Bulk requests, and the jobs that callers see.

use std::fmt::Write as _;

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::{clients, job, over, post, url};
use userpilot_gateway::proto::PauseRequest;

use crate::rig::{Change, Gateway, Stage, at_speed, http, until};

fn changes(prefix: &str, count: usize) -> Vec<Change> {
    (0..count).map(|nth| Change::new(format!("{prefix}-{nth}"), json!({"nth": nth}))).collect()
}

fn row(change: &Change) -> Value {
    json!({"user_id": change.user_id, "metadata": change.metadata})
}

fn ndjson(changes: &[Change]) -> String {
    changes.iter().fold(String::new(), |mut file, change| {
        writeln!(file, "{}", row(change)).unwrap();
        file
    })
}

async fn upload(gateway: &Gateway, file: String) -> reqwest::Response {
    let form = Form::new().part("file", Part::text(file).file_name("users.ndjson"));
    let request = http().post(url(gateway, "/v1/users/bulk_identify")).multipart(form);
    request.send().await.unwrap()
}

async fn id_of(answer: reqwest::Response) -> String {
    let status = answer.status();
    let job: Value = answer.json().await.unwrap();
    assert_eq!(status, 202, "{job}");
    job["job_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_bulk_request_becomes_a_job_that_completes_as_its_rows_are_delivered() {
    let stage = Stage::start(100).await;
    let changes = changes("user", 700);
    let body = json!({"users": changes.iter().map(row).collect::<Vec<_>>()});
    let [_, http2] = clients();
    let answer = post(&http2, &stage.gateway, "/v1/users/bulk_identify", &body).await;
    let accepted: Value = {
        assert_eq!(answer.status(), 202);
        answer.json().await.unwrap()
    };
    assert_eq!((&accepted["status"], &accepted["total_rows"]), (&json!("queued"), &json!(700)));
    assert_eq!((&accepted["end_time"], &accepted["filename"]), (&json!(null), &json!(null)));
    let id = accepted["job_id"].as_str().unwrap();
    let link = accepted["links"]["self"].as_str().unwrap();
    assert_eq!(link, format!("/v1/background_jobs/{id}"));
    let done = over(&stage.gateway, id).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!((&done["completed_rows"], &done["failed_rows"]), (&json!(700), &json!(0)));
    assert!(done["end_time"].is_string() && done["elapsed_time"].is_u64(), "{done}");
    stage.delivers(&changes).await;
    let list = http().get(url(&stage.gateway, "/v1/background_jobs")).send().await.unwrap();
    let list: Vec<Value> = list.json().await.unwrap();
    assert_eq!((list.len(), &list[0]["job_id"]), (1, &json!(id)));
    assert_eq!(list[0]["status"], "completed");
}

#[tokio::test]
async fn completed_rows_rise_batch_by_batch() {
    let settings = |site: crate::rig::Site| site.with("app.job_users_max", 100);
    let stage = Stage::of(at_speed(20), settings).await;
    let changes = changes("user", 500);
    let id = id_of(upload(&stage.gateway, ndjson(&changes)).await).await;
    let mut seen = Vec::new();
    let done = until("a job that is over", async || {
        let job = job(&stage.gateway, &id).await;
        let completed = job["completed_rows"].as_u64().unwrap();
        if seen.last() != Some(&completed) {
            seen.push(completed);
        }
        (job["status"] == "completed").then_some(job)
    });
    assert_eq!(done.await["completed_rows"], 500);
    assert!(seen.is_sorted() && seen.len() > 3, "{seen:?}");
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn a_bad_line_is_named_and_the_others_are_taken() {
    let stage = Stage::start(100).await;
    let changes = changes("user", 300);
    let mut lines: Vec<String> = changes.iter().map(|change| row(change).to_string()).collect();
    lines.insert(16, r#"{"user_id": "eve", "metadata": {"plan": ["secret"]}}"#.to_owned());
    lines.insert(17, "{not JSON: secret".to_owned());
    lines.insert(18, String::new());
    let answer = upload(&stage.gateway, lines.join("\r\n")).await;
    let id = id_of(answer).await;
    let done = over(&stage.gateway, &id).await;
    assert_eq!((&done["status"], &done["filename"]), (&json!("completed"), &json!("users.ndjson")));
    assert_eq!(done["file_size"], lines.join("\r\n").len());
    assert_eq!((&done["total_rows"], &done["completed_rows"]), (&json!(302), &json!(300)));
    assert_eq!(done["failed_rows"], 2);
    let expected = [
        json!({"row": 17, "message": "line 17: metadata[\"plan\"]: is a list; only string, number, boolean and null are taken"}),
        json!({"row": 18, "message": "line 18: is not JSON"}),
    ];
    assert_eq!(done["errors"], json!(expected));
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn a_file_with_a_bad_line_can_be_refused_as_a_whole() {
    let settings = |site: crate::rig::Site| site.with("http.bad_rows", "reject_file");
    let stage = Stage::of(at_speed(100), settings).await;
    let good = changes("user", 300);
    let bad = ndjson(&good) + "{\"user_id\": 7}\n";
    let answer = upload(&stage.gateway, bad).await;
    assert_eq!(answer.status(), 422);
    let refusal: Value = answer.json().await.unwrap();
    assert_eq!(refusal["errors"][0]["message"], "line 301: user_id: is not a string");
    assert_eq!(stage.gateway.app().await.pending_records, 0);
    let id = id_of(upload(&stage.gateway, ndjson(&good)).await).await;
    assert_eq!(over(&stage.gateway, &id).await["completed_rows"], 300);
    stage.delivers(&good).await;
}

#[tokio::test]
async fn a_row_that_userpilot_will_not_take_is_told_of_in_its_words() {
    use userpilot_gateway::simulator::PoisonMode;
    let stage = Stage::start(100).await;
    stage.simulator.poison(vec!["user-3".to_owned()], PoisonMode::RejectBatch);
    let changes = changes("user", 9);
    let id = id_of(upload(&stage.gateway, ndjson(&changes)).await).await;
    let done = over(&stage.gateway, &id).await;
    assert_eq!((&done["status"], &done["completed_rows"]), (&json!("completed"), &json!(8)));
    assert_eq!((&done["failed_rows"], &done["errors"][0]["row"]), (&json!(1), &json!(4)));
    assert!(!done["errors"][0]["message"].as_str().unwrap().is_empty());
    stage.simulator.poison(vec!["eve-0".to_owned()], PoisonMode::RejectBatch);
    let id = id_of(upload(&stage.gateway, ndjson(&self::changes("eve", 1))).await).await;
    let done = over(&stage.gateway, &id).await;
    assert_eq!((&done["status"], &done["failed_rows"]), (&json!("failed"), &json!(1)));
}

#[tokio::test]
async fn two_callers_jobs_go_on_over_a_kill_and_both_complete() {
    let settings = |site: crate::rig::Site| site.with("app.job_users_max", 400);
    let mut stage = Stage::of(at_speed(50), settings).await;
    let [one, other] = ["one", "other"].map(|prefix| changes(prefix, 1_500));
    let body = json!({"users": other.iter().map(row).collect::<Vec<_>>()});
    let client = http();
    let (first, second) = tokio::join!(
        upload(&stage.gateway, ndjson(&one)),
        post(&client, &stage.gateway, "/v1/users/bulk_identify", &body),
    );
    let ids = [id_of(first).await, id_of(second).await];
    until("the first rows delivered", async || {
        let mut delivered = 0;
        for id in &ids {
            delivered += job(&stage.gateway, id).await["completed_rows"].as_u64().unwrap();
        }
        (delivered > 0).then_some(())
    })
    .await;
    stage.restart().await;
    for id in &ids {
        let done = over(&stage.gateway, id).await;
        assert_eq!(
            (&done["status"], &done["completed_rows"]),
            (&json!("completed"), &json!(1_500))
        );
    }
    stage.delivers(one.iter().chain(&other)).await;
}

#[tokio::test]
async fn fifty_megabytes_are_taken_as_they_come() {
    let settings = |site: crate::rig::Site| site.with("store.cache_bytes_max", 16 << 20);
    let stage = Stage::of(at_speed(100), settings).await;
    // An upload to Userpilot holds a whole batch in memory: it is not what is measured here.
    let pause = PauseRequest { app: String::new() };
    stage.gateway.admin().await.pause(pause).await.unwrap();
    let before = resident_peak(&stage.gateway);
    let text = "x".repeat(4_800);
    let row = move |nth: usize| json!({"user_id": format!("u{nth}"), "metadata": {"text": text}});
    let lines = (0..10_000).map(move |nth| Ok::<_, std::io::Error>(format!("{}\n", row(nth))));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(lines));
    let form = Form::new().part("file", Part::stream(body).file_name("large.ndjson"));
    let request = http().post(url(&stage.gateway, "/v1/users/bulk_identify")).multipart(form);
    let answer = request.send().await.unwrap();
    let id = id_of(answer).await;
    let grown = resident_peak(&stage.gateway).saturating_sub(before);
    let job = job(&stage.gateway, &id).await;
    assert!(job["file_size"].as_u64().unwrap() > 48_000_000, "{job}");
    assert_eq!(job["total_rows"], 10_000);
    // The file is 48 MB; the engine's cache and its segments have their part in what is left.
    assert!(grown < 150_000, "{grown} KiB more");
}

/// The most memory that the process has had, in KiB.
fn resident_peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
