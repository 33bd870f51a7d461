//! Custody: after a busy run with every fault of upstream's, at the most talkative, no secret has
//! got out by any way.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use tonic::{Request, metadata::MetadataValue, transport::Channel};
use userpilot_gateway::{
    door::token::Hash,
    proto::{
        GetStatusRequest, Lane, ListDeadLettersRequest, ListJobsRequest, StreamUserUpdatesRequest,
        UpdateUserRequest, UpdateUsersRequest, ingest_service_client::IngestServiceClient,
    },
    simulator::{Fault, FaultPoint, FaultRule, PoisonMode, SimulatorConfig},
};

use crate::rig::{Change, Gateway, Stage, at_speed, http, run, settled, until};

const KEY: &str = "custody-key-Zq8vN2rT5wXy";
const SECOND_KEY: &str = "custody-second-Hj4kL9pM3nBv";
const TOKEN: &str = "custody-token-Rf6tG1yU7iOp";
const VALUE: &str = "custody-value-Wd5eC0xQ2aSz";

/// What else is on the machine that a redirect could lead to.
struct Elsewhere(TcpListener);

impl Elsewhere {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self) -> String {
        format!("http://{}/v1/users/bulk_identify", self.0.local_addr().unwrap())
    }

    fn was_never_visited(&self) {
        assert_eq!(self.0.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

const FAULT_POINTS: [FaultPoint; 5] = [
    FaultPoint::Submit,
    FaultPoint::Job,
    FaultPoint::Jobs,
    FaultPoint::Identify,
    FaultPoint::Track,
];

/// Each fault at each place once, some of whom quote what they were sent.
fn every_fault(elsewhere: &str) -> Vec<FaultRule> {
    let status = |code: u16| quoting(KEY, code);
    let redirect = Fault::Redirect { location: elsewhere.to_owned() };
    let anywhere = [
        Fault::Delay { ms: 1 },
        Fault::Reset,
        Fault::Garbage,
        Fault::Truncated,
        Fault::LoseAnswer,
        Fault::Hang { carried_out: true },
        Fault::Hang { carried_out: false },
        redirect,
        status(401),
        status(403),
        status(429),
        status(500),
        status(503),
    ];
    let mut rules = Vec::new();
    for point in FAULT_POINTS {
        rules.extend(anywhere.iter().map(|fault| FaultRule::once(point, fault.clone())));
    }
    let of_submissions = [
        status(400),
        status(413),
        status(422),
        Fault::FailJob { rows: 1 },
        Fault::PartialJob { skip_rows: 1 },
        Fault::ForgetJob,
    ];
    rules.extend(of_submissions.map(|fault| FaultRule::once(FaultPoint::Submit, fault)));
    rules
}

/// An answer that quotes what was sent.
fn quoting(key: &str, code: u16) -> Fault {
    let retry_after = (code == 429).then(|| "0".to_owned());
    Fault::Status { code, body: format!("no: Token {key}, with {VALUE}"), retry_after }
}

fn bearing_the_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = MetadataValue::try_from(format!("Bearer {TOKEN}")).unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

/// Sends by every call, what is taken and what is refused. What the gateway answers.
async fn send_all_ways(client: &mut IngestServiceClient<Channel>, nth: usize) -> Vec<String> {
    let change =
        |user: String| Change::new(user, json!({"note": VALUE, "nth": nth, "deep": null})).update();
    let mut wrong = change("ada".to_owned());
    let list = prost_types::ListValue { values: vec![VALUE.to_owned().into()] };
    let list = prost_types::value::Kind::ListValue(list);
    let fields = &mut wrong.metadata.as_mut().unwrap().fields;
    fields.insert("list".to_owned(), prost_types::Value { kind: Some(list) });
    let mut said = Vec::new();
    for update in [change(format!("user-{}", nth % 7)), wrong.clone()] {
        let request = bearing_the_token(UpdateUserRequest { update: Some(update) });
        said.push(format!("{:?}", client.update_user(request).await));
    }
    let mut express = change(format!("express-{}", nth % 3));
    express.set_lane(Lane::Express);
    let request = bearing_the_token(UpdateUserRequest { update: Some(express) });
    said.push(format!("{:?}", client.update_user(request).await));
    let updates = vec![change("bob".to_owned()), wrong.clone()];
    let answer = client.update_users(bearing_the_token(UpdateUsersRequest { updates })).await;
    said.push(format!("{answer:?}"));
    let requests = [change("poisoned".to_owned()), wrong];
    let requests = (0..).zip(requests).map(|(tag, update)| StreamUserUpdatesRequest {
        tag,
        update: Some(update),
        company: None,
    });
    let requests = bearing_the_token(stream::iter(requests.collect::<Vec<_>>()));
    let mut answers = client.stream_user_updates(requests).await.unwrap().into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        said.push(format!("{answer:?}"));
    }
    said
}

/// The same over HTTP, as Userpilot's own callers do. What is answered by the gateway, and what by
/// Userpilot, which may quote to a caller what it has sent.
async fn send_over_http(gateway: &Gateway, nth: usize) -> [Vec<String>; 2] {
    let row = json!({"user_id": format!("user-{}", nth % 7), "metadata": {"note": VALUE}});
    let wrong = json!({"user_id": "ada", "metadata": {"list": [VALUE]}});
    let event = json!({"user_id": "ada", "event_name": VALUE, "metadata": {"note": VALUE}});
    let client = http();
    let post = |path: &str| {
        let request = client.post(format!("http://{}/v1{path}", gateway.addresses.http));
        request.header("authorization", format!("Token {TOKEN}"))
    };
    let file = Part::text(format!("{row}\n{wrong}\n{VALUE}\n")).file_name("users.ndjson");
    let (mut said, mut passed) = (Vec::new(), Vec::new());
    for (request, is_passed) in [
        (post("/identify").json(&row), false),
        (post("/identify").json(&wrong), false),
        (post("/identify").body(format!("{{{VALUE}")), false),
        (post("/users/bulk_identify").json(&json!({"users": [row]})), false),
        (post("/users/bulk_identify").json(&json!({"users": [row, wrong]})), false),
        (post("/users/bulk_identify").multipart(Form::new().part("file", file)), false),
        (post("/track").json(&event), true),
        (post(&format!("/track?note={VALUE}")).json(&event), true),
        (post("/goals").json(&event), false),
    ] {
        let answer = request.send().await.unwrap();
        let (head, from) = (format!("{answer:?}"), if is_passed { &mut passed } else { &mut said });
        // The URL that was asked for is the test's own.
        let head = head.split_once("headers").unwrap().1.to_owned();
        from.push(head + &answer.text().await.unwrap());
    }
    [said, passed]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_gets_out_by_any_way() {
    let elsewhere = Elsewhere::listen();
    let simulator = SimulatorConfig {
        api_key: KEY.to_owned(),
        faults: every_fault(&elsewhere.url()),
        ..at_speed(200)
    };
    let mut stage = Stage::of(simulator, |site| {
        fs::write(site.path("userpilot.key"), KEY).unwrap();
        site.with("log.filter", "trace")
            .with("app.request_timeout_ms", 400)
            .with("app.connect_timeout_ms", 400)
            .with("app.held_retry_ms", 50)
            .with("app.job_users_max", 4)
            .with("app.express", true)
            .with("app.express_per_minute", 100_000)
            .with("app.pass_through", vec![toml::Value::from("POST /v1/track")])
            .with("app.pass_through_per_minute", 1_000_000)
            .and(&format!(
                "[[clients]]\nname = \"crm\"\ntoken_sha256 = \"{}\"\napps = [\"production\"]\n\
                 pass_through = [\"POST /v1/track\"]\n",
                Hash::of(TOKEN)
            ))
    })
    .await;
    let mut client = stage.gateway.ingest().await;
    let (mut said, mut passed, mut nth) = (Vec::new(), Vec::new(), 0);
    until("every fault to strike", async || {
        nth += 1;
        said.extend(send_all_ways(&mut client, nth).await);
        let [answered, quoted] = send_over_http(&stage.gateway, nth).await;
        said.extend(answered);
        passed.extend(quoted);
        has_struck(&stage)
    })
    .await;
    // Another key, half-way: neither may be seen.
    stage.simulator.change_api_key(SECOND_KEY.to_owned());
    fs::write(stage.site.path("userpilot.key"), SECOND_KEY).unwrap();
    said.extend(send_all_ways(&mut client, nth).await);
    settled(&stage.gateway).await;
    let quoting = FaultRule::once(FaultPoint::Submit, quoting(SECOND_KEY, 503));
    stage.simulator.arm_faults(vec![quoting]).unwrap();
    said.extend(send_all_ways(&mut client, nth).await);
    settled(&stage.gateway).await;
    said.extend(refused(&stage, &mut client, nth).await);

    // Whoever tracks is told what Userpilot says, and that quoted the key; but for the key.
    let told = passed.join("\n");
    assert!(told.contains("no: Token") && told.contains(VALUE), "{told}");
    let told_to_operators = asked(&stage).await;
    let pages = pages(&stage).await;
    stage.gateway.terminate();
    let ended = stage.gateway.end().await;
    assert!(ended.status.success());
    let log = ended.stdout + &ended.stderr;
    // It was talkative indeed.
    assert!(log.contains("\"level\":\"TRACE\""));
    elsewhere.was_never_visited();

    let said = said.join("\n");
    let texts = [("the log", &log), ("a page", &pages), ("an answer", &said)];
    for (place, text) in texts {
        absent(VALUE, place, text.as_bytes());
    }
    let told_to_operators = told_to_operators.join("\n");
    let quoting = [("what Userpilot answers", &told), ("what operators see", &told_to_operators)];
    for secret in [KEY, SECOND_KEY, TOKEN] {
        for (place, text) in texts.iter().chain(&quoting) {
            absent(secret, place, text.as_bytes());
        }
        absent_from_files(secret, &stage.site.path(""));
    }
}

/// Has a row refused, last of all: what is delivered of its user later would close the dead letter.
/// Before, all is settled: alone in a batch whose answer was lost once, the row would wait for a
/// quarter of an hour.
async fn refused(
    stage: &Stage,
    client: &mut IngestServiceClient<Channel>,
    nth: usize,
) -> Vec<String> {
    settled(&stage.gateway).await;
    stage.simulator.poison(vec!["poisoned".to_owned()], PoisonMode::RejectBatch);
    let said = send_all_ways(client, nth).await;
    settled(&stage.gateway).await;
    said
}

/// Whether every fault has struck. For the list of its jobs Userpilot is asked after a submission
/// alone whose outcome is not known, and the rules have fewer of those than there are faults of lists:
/// there are as many as it takes.
fn has_struck(stage: &Stage) -> Option<()> {
    let mut open = stage.simulator.faults();
    open.retain(|armed| armed.struck == 0);
    if !open.is_empty() && open.iter().all(|armed| armed.rule.on != FaultPoint::Submit) {
        let lost = FaultRule::once(FaultPoint::Submit, quoting(KEY, 503));
        stage.simulator.arm_faults(vec![lost]).unwrap();
    }
    open.is_empty().then_some(())
}

/// In no file of the gateway's but the one that is to hold it.
fn absent_from_files(secret: &str, folder: &Path) {
    for file in files(folder).iter().filter(|file| !file.ends_with("userpilot.key")) {
        absent(secret, &file.display().to_string(), &fs::read(file).unwrap());
    }
}

/// What the admin service and the commands tell.
async fn asked(stage: &Stage) -> Vec<String> {
    let mut said = Vec::new();
    let mut admin = stage.gateway.admin().await;
    said.push(format!("{:?}", admin.get_status(GetStatusRequest {}).await.unwrap()));
    let jobs = ListJobsRequest { page_size: 1_000, ..ListJobsRequest::default() };
    said.push(format!("{:?}", admin.list_jobs(jobs).await.unwrap()));
    let dead = ListDeadLettersRequest { page_size: 1_000, ..ListDeadLettersRequest::default() };
    let dead = format!("{:?}", admin.list_dead_letters(dead).await.unwrap());
    assert!(dead.contains("poisoned"), "{dead}");
    said.push(dead);
    let config = stage.site.path("gateway.toml").display().to_string();
    for arguments in
        [&["check-config", "--config", &config][..], &["check-key", "--config", &config]]
    {
        let output = run(arguments, "").await;
        assert!(output.status.success(), "{output:?}");
        said.push(output.stdout + &output.stderr);
    }
    said
}

async fn pages(stage: &Stage) -> String {
    let mut pages = String::new();
    for path in ["/metrics", "/healthz", "/readyz", "/nowhere"] {
        pages += &stage.gateway.page(path).await.2;
    }
    pages
}

/// Neither as it is nor in base64 or hex, wherever in a longer text it may begin.
fn absent(secret: &str, place: &str, content: &[u8]) {
    let mut forms = vec![secret.to_owned()];
    forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    for before in 0..3 {
        // The first and the last letters depend on what stands around it.
        let text = [&b"xxx"[..before], secret.as_bytes()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            forms.push(encoded[4..encoded.len() - 3].to_owned());
        }
    }
    let content = String::from_utf8_lossy(content);
    for form in forms {
        let around = content.find(&form).map(|at| {
            let (before, after) = content.split_at(at);
            let before: Vec<char> = before.chars().rev().take(300).collect();
            before.into_iter().rev().chain(after.chars().take(200)).collect::<String>()
        });
        assert!(around.is_none(), "{place} holds {form}: {around:?}");
    }
}

/// Every file below a folder: there are some.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() >= 3, "{files:?}");
    files
}
