//! What is refused, over the wire, and that it costs nobody else.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::stream;
use prost_types::{Struct, Timestamp};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use userpilot_gateway::proto::{
    AcceptedUpdate, Disposition, GetUpdateRequest, PauseRequest, ResumeRequest,
    StreamUserUpdatesRequest, UpdateError, UpdateUserRequest, UpdateUsersRequest, UserUpdate,
    stream_user_updates_response, update_users_result,
};

use crate::rig::{Change, Stage, at_speed};

fn of_ada(metadata: Value) -> UserUpdate {
    Change::new("ada", metadata).update()
}

/// A metadata that JSON cannot express.
fn number(value: f64) -> UserUpdate {
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(value)) };
    let metadata = Struct { fields: [("score".to_owned(), value)].into() };
    UserUpdate { metadata: Some(metadata), ..of_ada(json!({})) }
}

/// Every update that is refused for a field, and the field.
fn bad_updates() -> Vec<(&'static str, UserUpdate)> {
    let good = || of_ada(json!({}));
    let many: serde_json::Map<_, _> = (0..1_001).map(|nth| (nth.to_string(), json!(1))).collect();
    let long = |bytes| "x".repeat(bytes);
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let valueless = Struct { fields: [("plan".to_owned(), prost_types::Value::default())].into() };
    vec![
        ("user_id", UserUpdate { user_id: String::new(), ..good() }),
        ("user_id", UserUpdate { user_id: long(513), ..good() }),
        ("company_id", UserUpdate { company_id: Some(String::new()), ..good() }),
        ("company_id", UserUpdate { company_id: Some(long(513)), ..good() }),
        ("app", UserUpdate { app: "staging".into(), ..good() }),
        ("lane", UserUpdate { lane: 7, ..good() }),
        ("occurred_at", UserUpdate { occurred_at: at(0, -1), ..good() }),
        ("occurred_at", UserUpdate { occurred_at: at(253_402_300_799, 0), ..good() }),
        ("metadata", of_ada(json!({"": 1}))),
        ("metadata", of_ada(many.into())),
        ("metadata[\"tags\"]", of_ada(json!({"tags": ["a"]}))),
        ("metadata[\"address\"]", of_ada(json!({"address": {"city": "Graz"}}))),
        ("metadata[\"score\"]", number(f64::NAN)),
        ("metadata[\"score\"]", number(f64::INFINITY)),
        ("metadata[\"score\"]", number(f64::NEG_INFINITY)),
        ("metadata[\"plan\"]", UserUpdate { metadata: Some(valueless), ..good() }),
        ("", of_ada(json!({"text": long(65_536)}))),
    ]
}

/// The path of a field of the update at `root`.
fn path(root: &str, field: &str) -> String {
    if field.is_empty() { root.to_owned() } else { format!("{root}.{field}") }
}

fn check_bad_request(status: &Status, field: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap();
    let fields: Vec<_> = details.field_violations.iter().map(|it| &*it.field).collect();
    assert_eq!(fields, [field], "{status:?}");
    assert!(!details.field_violations[0].description.is_empty());
    assert!(status.get_details_retry_info().is_none());
}

fn check_error(error: &UpdateError, field: &str) {
    assert_eq!(error.code, i32::from(Code::InvalidArgument), "{error:?}");
    let fields: Vec<_> = error.violations.iter().map(|it| &*it.field).collect();
    assert_eq!(fields, [field]);
    assert!(error.message.contains(field) && error.retry_delay.is_none() && !error.may_be_stored);
}

#[tokio::test]
async fn a_bad_update_is_refused_with_its_field_named() {
    let stage = Stage::start(100).await;
    let mut client = stage.gateway.ingest().await;
    for (field, update) in bad_updates() {
        let request = UpdateUserRequest { update: Some(update) };
        let refusal = client.update_user(request).await.unwrap_err();
        check_bad_request(&refusal, &path("update", field));
    }
    let refusal = client.update_user(UpdateUserRequest { update: None }).await.unwrap_err();
    check_bad_request(&refusal, "update");
    assert_eq!(stage.gateway.status().await.store.unwrap().last_sequence, 0);
}

#[tokio::test]
async fn one_bad_update_of_many_does_not_refuse_the_others() {
    let stage = Stage::start(100).await;
    let mut good = Vec::new();
    let mut updates = Vec::new();
    let mut fields = Vec::new();
    for (nth, (field, bad)) in bad_updates().into_iter().enumerate() {
        good.push(Change::new("ada", json!({"nth": nth, (nth.to_string()): true})));
        updates.extend([good[nth].update(), bad]);
        fields.extend([None, Some(field)]);
    }
    let request = UpdateUsersRequest { updates };
    let answer = stage.gateway.ingest().await.update_users(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), fields.len());
    let mut sequences = 1..;
    for (index, (result, field)) in answer.results.into_iter().zip(fields).enumerate() {
        match (result.result.unwrap(), field) {
            (update_users_result::Result::Accepted(accepted), None) => {
                assert_eq!(Some(accepted.sequence), sequences.next());
            }
            (update_users_result::Result::Error(error), Some(field)) => {
                check_error(&error, &path(&format!("updates[{index}]"), field));
            }
            (result, field) => panic!("{field:?}: {result:?}"),
        }
    }
    stage.delivers(&good).await;
}

#[tokio::test]
async fn a_stream_answers_each_tag_and_goes_on_after_a_bad_update() {
    let stage = Stage::start(100).await;
    let good = Change::new("bob", json!({"plan": "pro"}));
    let mut expected = Vec::new();
    let mut requests = Vec::new();
    for (nth, (field, bad)) in (1_000..).step_by(7).zip(bad_updates()) {
        expected.extend([(nth, Some(path("update", field))), (nth + 1, None)]);
        for (tag, update) in [(nth, bad), (nth + 1, good.update())] {
            requests.push(StreamUserUpdatesRequest { tag, update: Some(update), company: None });
        }
    }
    requests.push(StreamUserUpdatesRequest { tag: 0, update: None, company: None });
    expected.push((0, Some("update".to_owned())));
    let mut client = stage.gateway.ingest().await;
    let answers = client.stream_user_updates(stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    for (tag, field) in expected {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.tag, tag);
        match (answer.result.unwrap(), field) {
            (stream_user_updates_response::Result::Accepted(_), None) => {}
            (stream_user_updates_response::Result::Error(error), Some(field)) => {
                check_error(&error, &field);
            }
            (result, field) => panic!("{field:?}: {result:?}"),
        }
    }
    assert!(answers.message().await.unwrap().is_none());
    stage.delivers([&good]).await;
}

#[tokio::test]
async fn a_request_of_too_many_updates_is_refused_whole() {
    let stage = Stage::start(100).await;
    let mut client = stage.gateway.ingest().await;
    let request = |count| UpdateUsersRequest { updates: vec![of_ada(json!({"a": 1})); count] };
    let refusal = client.update_users(request(1_001)).await.unwrap_err();
    check_bad_request(&refusal, "updates");
    assert_eq!(stage.gateway.status().await.store.unwrap().last_sequence, 0);
    let answer = client.update_users(request(1_000)).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 1_000);
    assert!(client.update_users(request(0)).await.unwrap().into_inner().results.is_empty());
}

#[tokio::test]
async fn a_receipt_that_was_made_up_is_invalid_and_one_of_elsewhere_is_not_found() {
    let stage = Stage::start(100).await;
    let [receipt] = stage.sent(&[Change::new("ada", json!({}))]).await.try_into().unwrap();
    let mut client = stage.gateway.ingest().await;
    let mut ask = async |receipt: &str| {
        let request = GetUpdateRequest { receipt: receipt.to_owned() };
        client.get_update(request).await.map(tonic::Response::into_inner)
    };
    assert!(ask(&receipt).await.is_ok());
    for garbage in ["", "garbage", "ÄÖÜ", &receipt[..receipt.len() / 2], &"A".repeat(2_000)] {
        check_bad_request(&ask(garbage).await.unwrap_err(), "receipt");
    }
    // They are signed: the app, the sequence and the subject in them cannot be changed. The store's
    // id stands before, in the second byte and after.
    let bytes = URL_SAFE_NO_PAD.decode(&receipt).unwrap();
    for position in 10..bytes.len() {
        let mut other = bytes.clone();
        other[position] ^= 0x40;
        check_bad_request(&ask(&URL_SAFE_NO_PAD.encode(other)).await.unwrap_err(), "receipt");
    }
    let elsewhere = Stage::start(100).await;
    let [receipt] = elsewhere.sent(&[Change::new("ada", json!({}))]).await.try_into().unwrap();
    let refusal = ask(&receipt).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound, "{refusal:?}");
}

#[tokio::test]
async fn a_full_queue_says_when_to_retry_and_still_takes_what_coalesces() {
    let full = |site: crate::rig::Site| site.with("store.pending_records_max", 2);
    let stage = Stage::of(at_speed(100), full).await;
    let mut admin = stage.gateway.admin().await;
    admin.pause(PauseRequest { app: String::new() }).await.unwrap();
    let [ada, bob] = ["ada", "bob"].map(|user| Change::new(user, json!({"plan": "free"})));
    stage.sent(&[ada.clone(), bob.clone()]).await;

    let eve = Change::new("eve", json!({"plan": "free"}));
    let mut client = stage.gateway.ingest().await;
    let mut one = async |change: &Change| {
        client.update_user(UpdateUserRequest { update: Some(change.update()) }).await
    };
    let refusal = one(&eve).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    let retry = refusal.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(!retry.is_zero() && refusal.message().contains("store.pending_records_max"));

    let more = Change::new("ada", json!({"plan": "pro"}));
    let answer = one(&more).await.unwrap().into_inner();
    assert_eq!(answer.disposition(), Disposition::Coalesced);
    let (queued, refused) = batch_of(&stage, [&bob, &eve]).await;
    assert_eq!((queued.disposition(), refused.code), (Disposition::Coalesced, 8));
    assert!(refused.retry_delay.is_some() && refused.violations.is_empty());
    assert_eq!(stage.gateway.app().await.totals.unwrap().refused_updates, 2);

    admin.resume(ResumeRequest { app: String::new() }).await.unwrap();
    stage.delivers([&ada, &bob, &more]).await;
    assert!(one(&eve).await.is_ok());
}

/// Sends two of which the first is taken and the second is not.
async fn batch_of(stage: &Stage, changes: [&Change; 2]) -> (AcceptedUpdate, UpdateError) {
    let request = UpdateUsersRequest { updates: changes.map(Change::update).into() };
    let answer = stage.gateway.ingest().await.update_users(request).await.unwrap().into_inner();
    let results = answer.results.into_iter().map(|result| result.result.unwrap());
    let results: [_; 2] = results.collect::<Vec<_>>().try_into().unwrap();
    match results {
        [
            update_users_result::Result::Accepted(first),
            update_users_result::Result::Error(second),
        ] => (first, second),
        results => panic!("{results:?}"),
    }
}
