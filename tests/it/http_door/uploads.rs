//! Uploads that take their time, and what becomes of one that is refused on its way.

use std::fs;

use reqwest::{
    Body, RequestBuilder, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use userpilot_gateway::{
    clock,
    door::token::Hash,
    proto::{ForgetSubjectRequest, ForgottenSubject, PauseRequest, Subject, subject},
};

use super::{post, url};
use crate::rig::{Gateway, Site, Stage, at_speed, http, until, within};

/// As many rows as are handed over together.
const CHUNK: usize = 256;

fn lines(from: usize, count: usize) -> String {
    let row = |nth| format!("{{\"user_id\": \"user-{nth}\", \"metadata\": {{\"nth\": {nth}}}}}\n");
    (from..from + count).map(row).collect()
}

fn client(lines: &str) -> String {
    let hash = Hash::of("upg_crm");
    format!(
        "[[clients]]\nname = \"crm\"\ntoken_sha256 = \"{hash}\"\napps = [\"production\"]\n{lines}\n"
    )
}

/// A bulk request whose body comes when the test sends it.
pub(super) struct Uploading {
    parts: mpsc::Sender<Result<String, std::io::Error>>,
    answer: JoinSet<Response>,
}

impl Uploading {
    /// A file.
    pub(super) fn start(gateway: &Gateway) -> Self {
        Self::of(gateway, |body| {
            |request| {
                let form = Form::new().part("file", Part::stream(body).file_name("users.ndjson"));
                request.multipart(form)
            }
        })
    }

    /// JSON.
    pub(super) fn json(gateway: &Gateway) -> Self {
        Self::of(gateway, |body| {
            |request| request.header("content-type", "application/json").body(body)
        })
    }

    fn of<F: FnOnce(RequestBuilder) -> RequestBuilder>(
        gateway: &Gateway,
        with: impl FnOnce(Body) -> F,
    ) -> Self {
        let (parts, sent) = mpsc::channel(4);
        let with = with(Body::wrap_stream(ReceiverStream::new(sent)));
        let request = http().post(url(gateway, "/v1/users/bulk_identify"));
        let request = with(request.bearer_auth("upg_crm")).send();
        let mut answer = JoinSet::new();
        answer.spawn(async { request.await.unwrap() });
        Self { parts, answer }
    }

    pub(super) async fn send(&self, part: impl Into<String>) {
        self.parts.send(Ok(part.into())).await.unwrap();
    }

    /// The answer, once all of the body was sent.
    pub(super) async fn answer(self) -> Response {
        let Self { parts, mut answer } = self;
        drop(parts);
        within("an answer", answer.join_next()).await.unwrap().unwrap()
    }

    /// The answer, though not all of the body was sent.
    async fn early_answer(self) -> Response {
        let Self { parts: _kept, mut answer } = self;
        within("an answer", answer.join_next()).await.unwrap().unwrap()
    }
}

pub(super) async fn refusal(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let mut body: Value = answer.json().await.unwrap();
    (status, body["errors"][0].take())
}

async fn pending(stage: &Stage, records: u64) {
    until("so many pending records", async || {
        (stage.gateway.app().await.pending_records == records).then_some(())
    })
    .await;
}

async fn paused(config: impl FnOnce(Site) -> Site) -> Stage {
    let stage = Stage::of(at_speed(100), config).await;
    stage.gateway.admin().await.pause(PauseRequest { app: String::new() }).await.unwrap();
    stage
}

#[tokio::test]
async fn where_there_is_no_place_for_a_job_no_row_is_taken() {
    let stage = paused(|site| site.with("http.jobs_max", 1)).await;
    let body = |user: &str| json!({"users": [{"user_id": user}]});
    let path = "/v1/users/bulk_identify";
    assert_eq!(post(&http(), &stage.gateway, path, &body("ada")).await.status(), 202);
    let answer = post(&http(), &stage.gateway, path, &body("eve")).await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, error) = refusal(answer).await;
    assert_eq!((status, &error["details"]), (429, &json!(null)));
    assert!(error["message"].as_str().unwrap().contains("http.jobs_max"), "{error}");
    assert_eq!(stage.gateway.app().await.pending_records, 1);
}

#[tokio::test]
async fn the_list_of_jobs_shows_the_newest() {
    let stage = paused(|site| site.with("http.listed_jobs_max", 2)).await;
    let mut ids = Vec::new();
    for user in ["ada", "eve", "joe"] {
        let body = json!({"users": [{"user_id": user}]});
        let answer = post(&http(), &stage.gateway, "/v1/users/bulk_identify", &body).await;
        let job: Value = answer.json().await.unwrap();
        ids.push(job["job_id"].clone());
    }
    let list = http().get(url(&stage.gateway, "/v1/background_jobs")).send().await.unwrap();
    let list: Vec<Value> = list.json().await.unwrap();
    let shown: Vec<&Value> = list.iter().map(|job| &job["job_id"]).collect();
    assert_eq!(shown, [&ids[2], &ids[1]]);
}

#[tokio::test]
async fn an_upload_that_is_slowed_down_by_the_rate_is_not_cut() {
    let settings = |site: Site| {
        site.with("http.request_timeout_ms", 300).and(&client("updates_per_second_max = 40"))
    };
    let stage = Stage::of(at_speed(100), settings).await;
    let began = clock::now().instant;
    let upload = Uploading::start(&stage.gateway);
    upload.send(lines(0, 80)).await;
    assert_eq!(upload.answer().await.status(), 202);
    let took = clock::now().instant.since(began);
    assert!(took.as_millis() > 900, "80 updates at 40 a second, after a burst, in {took:?}");
}

#[tokio::test]
async fn an_upload_that_stops_coming_is_told_what_was_taken_of_it() {
    let stage = paused(|site| site.with("http.request_timeout_ms", 500)).await;
    let upload = Uploading::start(&stage.gateway);
    upload.send(lines(0, CHUNK + 9)).await;
    let (status, error) = refusal(upload.early_answer().await).await;
    assert_eq!((status, &error["details"]["accepted_rows"]), (408, &json!(CHUNK)), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("http.bulk_progress_bytes_min"), "{message}");
    assert!(message.contains("256 rows of the request were taken"), "{message}");
    assert_eq!(stage.gateway.app().await.pending_records, CHUNK as u64);
}

#[tokio::test]
async fn who_is_taken_out_during_an_upload_ends_there() {
    let stage = paused(|site| site.and(&client(""))).await;
    let upload = Uploading::start(&stage.gateway);
    upload.send(lines(0, CHUNK)).await;
    pending(&stage, CHUNK as u64).await;

    let config = stage.site.config();
    let text = fs::read_to_string(&config).unwrap();
    let other = Hash::of("upg_another").to_string();
    fs::write(&config, text.replace(&Hash::of("upg_crm").to_string(), &other)).unwrap();
    stage.gateway.hang_up();
    stage.gateway.says("\"config_reloaded\"").await;

    upload.send(lines(CHUNK, CHUNK)).await;
    let (status, error) = refusal(upload.answer().await).await;
    assert_eq!((status, &error["details"]["accepted_rows"]), (401, &json!(CHUNK)), "{error}");
    assert_eq!(stage.gateway.app().await.pending_records, CHUNK as u64);
    let said = stage.gateway.says("\"authentication_failed\"").await;
    assert!(said.contains("\"http\"") && said.contains("127.0.0.1:"), "{said}");
    let metrics = stage.gateway.page("/metrics").await.2;
    assert!(metrics.contains("userpilot_gateway_authentication_failures_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn rows_that_are_refused_are_counted_and_on_record() {
    let stage = paused(|site| site.and(&client("properties = [\"nth\"]"))).await;
    let upload = Uploading::start(&stage.gateway);
    let bad = "{\"user_id\": \"a\", \"metadata\": {\"ssn\": \"078-05-1120\"}}\n";
    upload.send(lines(0, 3) + bad + bad + "{no JSON\n").await;
    let answer = upload.answer().await;
    assert_eq!(answer.status(), 202);
    let said = stage.gateway.says("\"permission_refused\"").await;
    assert!(said.contains("\"crm\"") && said.contains("ssn"), "{said}");
    let request = http().post(url(&stage.gateway, "/apps/other/v1/users/bulk_identify"));
    let answer = request.bearer_auth("upg_crm").json(&json!({})).send().await.unwrap();
    let (status, error) = refusal(answer).await;
    assert_eq!((status, &error["details"][0]["field"]), (403, &json!("app")));
    let users = json!({"users": [{"user_id": "a"}, {"user_id": ""}]});
    let request = http().post(url(&stage.gateway, "/v1/users/bulk_identify"));
    let answer = request.bearer_auth("upg_crm").json(&users).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    let metrics = stage.gateway.page("/metrics").await.2;
    for line in [
        "client_accepted_updates_total{client=\"crm\"} 3",
        "client_refused_updates_total{client=\"crm\",reason=\"permission_denied\"} 3",
        "client_refused_updates_total{client=\"crm\",reason=\"invalid\"} 2",
    ] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
    assert!(!stage.gateway.log().join("").contains("078-05-1120"), "a value in the log");
}

#[tokio::test]
async fn who_is_forgotten_during_an_upload_does_not_come_to_stand_in_its_job() {
    let stage = paused(|site| site.and(&client(""))).await;
    let upload = Uploading::start(&stage.gateway);
    upload.send(lines(0, CHUNK)).await;
    pending(&stage, CHUNK as u64).await;
    let forget = async || {
        let id = Some(subject::Id::UserId("user-7".to_owned()));
        let request = ForgetSubjectRequest { app: String::new(), subject: Some(Subject { id }) };
        let forgotten = stage.gateway.admin().await.forget_subject(request).await.unwrap();
        let [app] = forgotten.into_inner().apps.try_into().unwrap();
        let app: ForgottenSubject = app;
        (app.pending, app.mentions)
    };
    assert_eq!(forget().await.0, 1);
    upload.send(lines(CHUNK, 9)).await;
    let answer = upload.answer().await;
    assert_eq!(answer.status(), 202);
    let accepted: Value = answer.json().await.unwrap();
    // Nothing of the job has to be erased any more.
    assert_eq!(forget().await, (0, 0));
    let request = http().get(url(&stage.gateway, accepted["links"]["self"].as_str().unwrap()));
    let job: Value = request.bearer_auth("upg_crm").send().await.unwrap().json().await.unwrap();
    let expected = json!([{"row": 8, "message": "it was erased at an operator's request"}]);
    assert_eq!((&job["failed_rows"], &job["errors"]), (&json!(1), &expected));
}

#[tokio::test]
async fn memory_that_the_rows_of_a_request_take_is_not_given_to_another() {
    let settings = |site: Site| {
        let site = site.with("http.bulk_bytes_max", 1_200).with("http.buffered_bytes_max", 1_200);
        site.and(&client("updates_per_second_max = 1"))
    };
    let stage = Stage::of(at_speed(100), settings).await;
    let is_refused = async || {
        let body = json!({"users": [{"user_id": "a", "metadata": {"text": "x".repeat(800)}}]});
        let request = http().post(url(&stage.gateway, "/v1/users/bulk_identify"));
        let answer = request.bearer_auth("upg_crm").json(&body).send().await.unwrap();
        answer.status() == 429
    };
    // Whichever comes second finds the room taken: let it not be this one.
    let first = until("memory that is taken", async || {
        let first = Uploading::json(&stage.gateway);
        let text = "x".repeat(800);
        first
            .send(format!(
                "{{\"users\": [{{\"user_id\": \"ada\", \"metadata\": {{\"text\": \"{text}\"}}}}"
            ))
            .await;
        is_refused().await.then_some(first)
    })
    .await;
    first.send(", {\"user_id\": \"eve\"}, {\"user_id\": \"joe\"}]}").await;
    // Now its rows wait for the client's rate, for two seconds.
    let refused = async {
        for nth in 0..20 {
            assert!(is_refused().await, "{nth}");
        }
    };
    let mut first = std::pin::pin!(first.answer());
    tokio::select! {
        biased;
        answer = &mut first => panic!("the first one is over: {answer:?}"),
        () = refused => {}
    }
    assert_eq!(first.await.status(), 202);
}
