//! Every method, as JSON.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use reqwest::StatusCode;
use serde_json::{Value, json};
use userpilot_gateway::{
    proto::DESCRIPTORS,
    simulator::{Fault, FaultPoint, FaultRule, PoisonMode},
};

use super::{Browser, OPERATOR, READER, feed::Events, stage};
use crate::rig::{Change, Stage, settled, until};

const SERVICE: &str = "userpilot_gateway.v1.AdminService";

/// What a message of this name always has in JSON, by the contract.
fn contract(name: &str) -> BTreeSet<String> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let message = pool.get_message_by_name(&format!("userpilot_gateway.v1.{name}")).unwrap();
    let fields = message.fields().filter(|field| !field.supports_presence());
    fields.map(|field| field.name().to_owned()).collect()
}

fn check_shape(name: &str, message: &Value) {
    let found: BTreeSet<String> = message.as_object().unwrap().keys().cloned().collect();
    let expected = contract(name);
    assert!(expected.is_subset(&found), "{name}: {found:?} is without some of {expected:?}");
}

/// A gateway with one user delivered, one dead, and one that waits.
async fn lived() -> (Stage, Browser) {
    let stage = Stage::start(100).await;
    stage.simulator.poison(vec!["mallory".into()], PoisonMode::RejectBatch);
    for user in ["grace", "mallory"] {
        stage.sent(&[Change::new(user, json!({"plan": "pro"}))]).await;
        settled(&stage.gateway).await;
    }
    let anyone = Browser::visit(&stage.gateway).await;
    anyone.ask("Pause", json!({})).await;
    let waiting = Change::new("linus", json!({"plan": "free", "seats": 3, "vip": true}));
    stage.sent(&[waiting.clone().of_company("acme"), waiting]).await;
    (stage, anyone)
}

fn user(id: &str) -> Value {
    json!({"subject": {"user_id": id}})
}

#[tokio::test]
async fn the_state_jobs_and_clients_are_told_in_json() {
    let (_stage, anyone) = lived().await;
    let status = anyone.ask("GetStatus", json!({})).await["status"].take();
    check_shape("GatewayStatus", &status);
    let app = &status["apps"][0];
    check_shape("AppStatus", app);
    assert_eq!((&app["state"], &app["pending_records"]), (&"APP_STATE_PAUSED".into(), &1.into()));
    assert!(app["freshness_p50"].as_str().unwrap().ends_with('s'), "{app}");
    assert!(app["job_users_target"].as_u64().unwrap() > 0 && app["in_flight_records"] == 0);

    let jobs = anyone.ask("ListJobs", json!({"page_size": 10})).await["jobs"].take();
    let jobs = jobs.as_array().unwrap();
    let words = |job: &Value| -> Vec<String> {
        check_shape("Job", job);
        let events = job["events"].as_array().unwrap().iter();
        events.map(|event| event["what"].as_str().unwrap().to_owned()).collect()
    };
    let [died, delivered] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!(words(delivered), ["claimed", "submitted", "accepted", "completed"]);
    assert_eq!(words(died), ["claimed", "submitted", "refused", "dead"]);
    assert!(died["last_error"].as_str().unwrap().starts_with("422: "), "{died}");
    assert_eq!(died["events"][2]["detail"], "422");
    assert!(delivered["occupancy"].as_str().unwrap().ends_with('s'));
    let one = anyone.ask("GetJob", json!({"id": delivered["batch_id"]})).await;
    assert_eq!(one["job"], *delivered);

    let clients = anyone.ask("ListClients", json!({})).await["clients"].take();
    let [client] = clients.as_array().unwrap().as_slice() else { panic!("{clients}") };
    check_shape("ClientStatus", client);
    let numbers = ["accepted_updates", "coalesced_updates", "delivered_rows", "pending_records"];
    assert_eq!(numbers.map(|name| client[name].as_u64().unwrap()), [4, 1, 1, 1], "{client}");
    assert_eq!((&client["name"], &client["lane"]), (&"anyone".into(), &"LANE_INTERACTIVE".into()));
    for set in ["oldest_pending_age", "freshness_p99", "last_update_at"] {
        assert!(client[set].is_string(), "{set}: {client}");
    }

    let history = until("a sample", async || {
        let history = anyone.ask("GetHistory", json!({"resolution": 1})).await;
        (!history["time"].as_array().unwrap().is_empty()).then_some(history)
    })
    .await;
    check_shape("GetHistoryResponse", &history);
    assert_eq!((&history["interval"], &history["pending_records"][0]), (&"5s".into(), &1.into()));
}

#[tokio::test]
async fn a_subject_is_found_wherever_it_is() {
    let (_stage, anyone) = lived().await;
    let linus = anyone.ask("FindSubject", user("linus")).await;
    check_shape("FindSubjectResponse", &linus);
    let pending = &linus["pending"];
    check_shape("PendingRecord", pending);
    assert_eq!((&pending["client"], &pending["company_id"]), (&"anyone".into(), &"acme".into()));
    assert_eq!(pending["metadata"], json!({"plan": "free", "seats": 3, "vip": true}));
    assert_eq!((&pending["updates"], linus["in_flight"].is_null()), (&2.into(), true));

    let grace = anyone.ask("FindSubject", user("grace")).await;
    let [delivery] = grace["deliveries"].as_array().unwrap().as_slice() else { panic!("{grace}") };
    check_shape("Delivery", delivery);
    let job = anyone.ask("GetJob", json!({"id": delivery["batch_id"]})).await;
    assert_eq!(
        (&job["job"]["state"], &job["job"]["job_id"]),
        (&"JOB_STATE_DELIVERED".into(), &delivery["job_id"],)
    );
    assert!(grace["pending"].is_null() && grace["dead_letters"] == json!([]));

    let mallory = anyone.ask("FindSubject", user("mallory")).await;
    let letters = mallory["dead_letters"].as_array().unwrap();
    assert_eq!(letters[0]["reason"], "DEAD_LETTER_REASON_BAD_ROW");
    assert_eq!(mallory["deliveries"], json!([]));
    let nobody = anyone.ask("FindSubject", user("nobody")).await;
    assert_eq!(nobody["suppressible"], false);
    let (status, answer) = anyone.rpc("FindSubject", json!({})).await;
    assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &"INVALID_ARGUMENT".into()));
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_discarded() {
    let (stage, anyone) = lived().await;
    let listed = anyone.ask("ListDeadLetters", json!({})).await;
    let letter = &listed["dead_letters"][0];
    check_shape("DeadLetter", letter);
    let mut one = anyone.ask("GetDeadLetter", json!({"id": letter["id"]})).await;
    let values = one["dead_letter"].as_object_mut().unwrap().remove("metadata");
    assert_eq!(values, Some(json!({"plan": "pro"})), "which is not for lists");
    assert_eq!(one["dead_letter"], *letter);
    let ids = json!({"selection": {"ids": {"ids": [letter["id"]]}}});
    let replayed = anyone.ask("ReplayDeadLetters", ids.clone()).await;
    assert_eq!(replayed, json!({"replayed": 1, "no_room": 0, "not_there": 0}));
    let discarded = anyone.ask("DiscardDeadLetters", ids).await;
    assert_eq!(discarded, json!({"discarded": 0, "not_there": 1}));
    let done = json!({"held_apps": []});
    assert_eq!(anyone.ask("Resume", json!({"app": "production"})).await, done);
    assert_eq!(anyone.ask("FlushNow", json!({})).await, done);
    settled(&stage.gateway).await;
    let forgotten = anyone.ask("ForgetSubject", user("grace")).await;
    check_shape("ForgottenSubject", &forgotten["apps"][0]);
    assert_eq!(forgotten["apps"][0]["deliveries"], 1);
}

#[tokio::test]
async fn exports_are_lines_of_json_to_be_kept() {
    let (_stage, anyone) = lived().await;
    let lines = async |request: reqwest::RequestBuilder| -> (String, Vec<Value>) {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let kept = answer.headers().get("content-disposition");
        let kept = kept.map_or("", |kept| kept.to_str().unwrap()).to_owned();
        let text = answer.text().await.unwrap();
        (kept, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    let path = "/console/api/export/dead-letters?app=production&reason=DEAD_LETTER_REASON_BAD_ROW";
    let (kept, letters) = lines(anyone.get(path)).await;
    assert_eq!(kept, "attachment; filename=\"dead-letters-production.ndjson\"");
    assert_eq!(letters[0]["subject"]["user_id"], "mallory");
    let (_, other) = lines(anyone.get(&path.replace("BAD_ROW", "TOO_LARGE"))).await;
    assert_eq!((letters.len(), other.len()), (1, 0));
    let (kept, pending) = lines(anyone.get("/console/api/export/pending")).await;
    assert_eq!(kept, "attachment; filename=\"pending.ndjson\"");
    let [linus] = pending.as_slice() else { panic!("{pending:?}") };
    assert_eq!(
        (&linus["subject"]["user_id"], &linus["pending"]["client"]),
        (&"linus".into(), &"anyone".into(),)
    );
    let call = anyone.post("/console/api/rpc/ExportPending").json(&json!({}));
    assert_eq!(lines(call).await.1, pending);
    for (path, status) in [
        ("/console/api/export/dead-letters?app=none", StatusCode::NOT_FOUND),
        ("/console/api/export/dead-letters?reason=none", StatusCode::BAD_REQUEST),
        ("/console/api/export/else", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(anyone.get(path).send().await.unwrap().status(), status, "{path}");
    }
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let stage = stage().await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    let shown = ada.ask("GetConfig", json!({})).await;
    check_shape("GetConfigResponse", &shown);
    let toml = shown["toml"].as_str().unwrap();
    let key = std::fs::read_to_string(stage.site.path("userpilot.key")).unwrap();
    let hash = userpilot_gateway::door::token::Hash::of(OPERATOR).to_string();
    for secret in [&*key, &*hash, OPERATOR] {
        assert!(!shown.to_string().contains(secret), "{shown}");
    }
    let parsed: toml::Table = toml.parse().unwrap();
    assert_eq!(parsed["admins"][1]["token_sha256"].as_str(), Some("[redacted]"));
    assert_eq!(parsed["apps"][0]["linger_ms"].as_integer(), Some(20));
    assert!(shown["file"].as_str().unwrap().ends_with("gateway.toml"), "{shown}");
    assert!(shown["loaded_at"].is_string() && shown["problem"] == "");
}

#[tokio::test]
async fn what_is_no_call_is_refused_in_json() {
    let (_stage, anyone) = lived().await;
    for (method, request, status, code) in [
        ("Nothing", json!({}), 501, "UNIMPLEMENTED"),
        ("GetJob", json!({"id": "none"}), 404, "NOT_FOUND"),
        ("GetJob", json!({"idd": "none"}), 400, "INVALID_ARGUMENT"),
        ("GetJob", json!([]), 400, "INVALID_ARGUMENT"),
        ("ListJobs", json!({"page_size": -1}), 400, "INVALID_ARGUMENT"),
        ("ListJobs", json!({"app": "x".repeat(2 << 20)}), 400, "INVALID_ARGUMENT"),
    ] {
        let (found, answer) = anyone.rpc(method, request).await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &code.into()), "{method}");
        check_keys(&answer);
    }
}

fn check_keys(answer: &Value) {
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["code", "fields", "message"]);
}

/// What the tests above call, and what readers are shown not to be let call.
#[test]
fn every_method_is_called_by_a_test() {
    let tests = [include_str!("calls.rs"), include_str!("feed.rs"), include_str!("../console.rs")];
    let tests = tests.concat() + include_str!("../../../src/console/events.rs");
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    for method in pool.get_service_by_name(SERVICE).unwrap().methods() {
        assert!(tests.contains(&format!("\"{}\"", method.name())), "{}", method.name());
    }
}

#[tokio::test]
async fn a_reader_is_told_the_cause_and_not_what_userpilot_said() {
    const VALUE: &str = "078-05-1120";
    let stage = stage().await;
    let body = format!("ssn {VALUE} is no number");
    let refusal = Fault::Status { code: 422, body, retry_after: None };
    stage.simulator.arm_faults(vec![FaultRule::always(FaultPoint::Submit, refusal)]).unwrap();
    stage.sent(&[Change::new("eve", json!({"ssn": VALUE}))]).await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    let job = until("a job that died", async || {
        let jobs = ada.ask("ListJobs", json!({})).await;
        Some(jobs["jobs"][0].clone()).filter(|job| job["state"] == "JOB_STATE_DEAD")
    })
    .await;
    assert!(job["last_error"].as_str().unwrap().contains(VALUE), "{job}");
    let heard = Events::of(&ada).await.next_of("status").await;
    assert!(heard["apps"][0]["last_error"].as_str().unwrap().contains(VALUE), "{heard}");

    let reader = Browser::log_in(&stage.gateway, READER).await;
    let seen = [
        reader.ask("GetStatus", json!({})).await["status"]["apps"][0].take(),
        Events::of(&reader).await.next_of("status").await["apps"][0].take(),
        reader.ask("ListJobs", json!({})).await["jobs"][0].take(),
        reader.ask("GetJob", json!({"id": job["batch_id"]})).await["job"].take(),
    ];
    for part in seen {
        assert_eq!(part["last_error"], "422", "{part}");
        assert!(!part.to_string().contains("ssn"), "{part}");
    }
}
