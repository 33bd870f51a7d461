//! Who may send what, and who may steer: credentials, permissions and limits, over real sockets.

mod certificates;
mod issuer;
mod over_http;
mod reloads;
mod signing;
mod steering;
mod tokens;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::stream;
use serde_json::json;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use tonic_types::StatusExt as _;
use userpilot_gateway::{
    clock,
    door::token::Hash,
    proto::{
        GetUpdateRequest, Lane, StreamUserUpdatesRequest, UpdateUserRequest, UpdateUserResponse,
        UpdateUsersRequest, UserUpdate, stream_user_updates_response, update_users_result,
    },
};

use self::issuer::{AUDIENCE, ISSUER, Issuer, claims};
use crate::rig::{Change, Gateway, Site, Stage, at_speed, http, until};

/// Where updates come in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Grpc,
    Http,
}

/// A request with what `authorization` says, if anything.
fn request<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        let value: MetadataValue<_> = value.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn bearer(token: &str) -> Option<String> {
    Some(format!("Bearer {token}"))
}

fn ada(app: &str) -> UserUpdate {
    let update = Change::new("ada", json!({"plan": "pro"})).update();
    UserUpdate { app: app.to_owned(), ..update }
}

async fn send_update(
    gateway: &Gateway,
    authorization: Option<&str>,
    update: UserUpdate,
) -> Result<UpdateUserResponse, Status> {
    let message = UpdateUserRequest { update: Some(update) };
    let answer = gateway.ingest().await.update_user(request(message, authorization)).await;
    answer.map(tonic::Response::into_inner)
}

/// What a door answers to one good update of Ada.
async fn knock(door: Door, gateway: &Gateway, authorization: Option<&str>, app: &str) -> Code {
    match door {
        Door::Grpc => match send_update(gateway, authorization, ada(app)).await {
            Ok(_) => Code::Ok,
            Err(status) => {
                if status.code() == Code::Unauthenticated {
                    assert_eq!(status.message(), "no valid credential", "says nothing more");
                    assert!(status.metadata().contains_key("www-authenticate"));
                }
                status.code()
            }
        },
        Door::Http => {
            let url = format!("http://{}/apps/{app}/v1/identify", gateway.addresses.http);
            let mut request = http().post(url).json(&json!({"user_id": "ada"}));
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = request.send().await.unwrap();
            match answer.status().as_u16() {
                202 => Code::Ok,
                401 => {
                    assert!(answer.headers().contains_key("www-authenticate"));
                    let body: serde_json::Value = answer.json().await.unwrap();
                    assert_eq!(body["errors"][0]["message"], "no valid credential");
                    Code::Unauthenticated
                }
                403 => Code::PermissionDenied,
                other => panic!("{other}"),
            }
        }
    }
}

/// A client with a token, and more lines.
fn client(name: &str, token: &str, lines: &str) -> String {
    let hash = Hash::of(token);
    let apps = if lines.contains("apps =") { "" } else { "apps = [\"production\"]" };
    format!("[[clients]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n{apps}\n{lines}\n")
}

const TOKEN: &str = "upg_of-billing-4711";

#[tokio::test]
async fn nobody_gets_in_with_a_bad_credential() {
    let issuer = Issuer::new("key-1");
    let hash = Hash::of("upg_old");
    let stage = Stage::of(at_speed(100), |site: Site| {
        std::fs::write(site.path("jwks.json"), issuer.key_set().to_string()).unwrap();
        let auth = format!(
            "[auth]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks_file = \"jwks.json\"\n\
             leeway_ms = 0\n"
        );
        let crm = format!("[[clients]]\nname = \"crm\"\njwt_subject = [\"svc-crm\"]\ntoken_sha256 = [\"{hash}\", \"{}\"]\napps = [\"staging\"]\n", Hash::of("upg_new"));
        let upstream = "http://127.0.0.1:9";
        site.and_app("staging", upstream).and(&(auth + &client("billing", TOKEN, "") + &crm))
    })
    .await;
    let good = issuer.token(&json!({}), &claims(json!({})));
    let cases: Vec<(&str, Option<String>, &str, Code)> = vec![
        ("its token", bearer(TOKEN), "production", Code::Ok),
        ("one of two tokens", bearer("upg_old"), "staging", Code::Ok),
        ("the other", bearer("upg_new"), "staging", Code::Ok),
        ("a good JWT", bearer(&good), "staging", Code::Ok),
        ("none", None, "production", Code::Unauthenticated),
        ("a wrong one", bearer("upg_of-billing-4712"), "production", Code::Unauthenticated),
        ("its beginning", bearer("upg_of-billing"), "production", Code::Unauthenticated),
        ("its hash", bearer(&Hash::of(TOKEN).to_string()), "production", Code::Unauthenticated),
        ("no scheme", Some(TOKEN.into()), "production", Code::Unauthenticated),
        ("another scheme", Some(format!("Basic {TOKEN}")), "production", Code::Unauthenticated),
        ("an empty one", Some("Bearer ".into()), "production", Code::Unauthenticated),
        ("two words", bearer(&format!("{TOKEN} x")), "production", Code::Unauthenticated),
        ("other app's", bearer(TOKEN), "staging", Code::PermissionDenied),
        ("an unknown app", bearer(TOKEN), "nowhere", Code::PermissionDenied),
        ("a JWT for another app", bearer(&good), "production", Code::PermissionDenied),
    ];
    for door in [Door::Grpc, Door::Http] {
        for (what, authorization, app, expected) in &cases {
            let found = knock(door, &stage.gateway, authorization.as_deref(), app).await;
            assert_eq!(found, *expected, "{door:?}: {what}");
        }
    }
    let log = stage.gateway.log().join("\n");
    for (_, authorization, _, _) in &cases {
        let token = authorization.as_deref().unwrap_or_default().rsplit(' ').next().unwrap();
        assert!(token.len() < 4 || !log.contains(token), "the log shows a credential");
    }
}

#[tokio::test]
async fn the_scheme_of_userpilots_own_clients_is_taken_over_http_alone() {
    let stage = Stage::of(at_speed(100), |site| site.and(&client("crm", TOKEN, ""))).await;
    let token = format!("Token {TOKEN}");
    for (door, expected) in [(Door::Http, Code::Ok), (Door::Grpc, Code::Unauthenticated)] {
        let found = knock(door, &stage.gateway, Some(&token), "production").await;
        assert_eq!(found, expected, "{door:?}");
    }
}

#[tokio::test]
async fn a_client_keeps_to_what_it_may() {
    let lines = "lane = \"bulk\"\nproperties = [\"plan\"]\nrecord_bytes_max = 200";
    let stage = Stage::of(at_speed(100), |site| site.and(&client("crm", TOKEN, lines))).await;
    let authorization = bearer(TOKEN);
    let send = async |update| send_update(&stage.gateway, authorization.as_deref(), update).await;
    let accepted = send(ada("production")).await.unwrap();
    let denied = |status: &Status, field: &str| {
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, field);
        assert!(status.get_details_retry_info().is_none());
    };
    let urgent = UserUpdate { lane: Lane::Interactive.into(), ..ada("") };
    denied(&send(urgent).await.unwrap_err(), "update.lane");
    let ssn = Change::new("ada", json!({"plan": "x", "ssn": "078-05-1120"})).update();
    denied(&send(ssn).await.unwrap_err(), "update.metadata[\"ssn\"]");
    let large = Change::new("ada", json!({"plan": "x".repeat(200)})).update();
    let refusal = send(large).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("record_bytes_max (200)"), "{refusal:?}");

    let message = GetUpdateRequest { receipt: accepted.receipt };
    let mut client = stage.gateway.ingest().await;
    let asked = client.get_update(request(message.clone(), authorization.as_deref())).await;
    assert!(asked.is_ok());
    // A receipt that nobody gave names a subject that whoever made it has no business with.
    let mut forged = URL_SAFE_NO_PAD.decode(&message.receipt).unwrap();
    let at = forged.windows(3).position(|part| part == b"ada").unwrap();
    forged[at..at + 3].copy_from_slice(b"eve");
    let forged = GetUpdateRequest { receipt: URL_SAFE_NO_PAD.encode(forged) };
    let asked = client.get_update(request(forged, authorization.as_deref())).await.unwrap_err();
    assert_eq!(
        (asked.code(), asked.message()),
        (Code::InvalidArgument, "receipt: is not a receipt")
    );
    let asked = client.get_update(request(message, None)).await.unwrap_err();
    assert_eq!(asked.code(), Code::Unauthenticated);

    let log = until("the audit log", async || {
        let log = stage.gateway.log();
        let events = log.iter().filter(|line| line.contains("\"permission_refused\"")).count();
        (events >= 2).then_some(log)
    })
    .await;
    assert!(!log.join("").contains("078-05-1120"), "a value in the log");
    let metrics = stage.gateway.page("/metrics").await.2;
    let label = "{client=\"crm\"";
    for line in [
        format!("client_accepted_updates_total{label}}} 1"),
        format!("client_refused_updates_total{label},reason=\"permission_denied\"}} 2"),
        format!("client_refused_updates_total{label},reason=\"invalid\"}} 1"),
        "userpilot_gateway_authentication_failures_total 1".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}:\n{metrics}");
    }
}

#[tokio::test]
async fn updates_beyond_the_rate_are_told_when_to_come_back() {
    let lines = "updates_per_second_max = 3";
    let stage = Stage::of(at_speed(100), |site| site.and(&client("crm", TOKEN, lines))).await;
    let authorization = bearer(TOKEN);
    let mut client = stage.gateway.ingest().await;
    // As many at once as a second allows: the others, though of the same request, wait.
    let message = UpdateUsersRequest { updates: vec![ada(""); 50] };
    let answer = client.update_users(request(message, authorization.as_deref())).await.unwrap();
    let results = answer.into_inner().results.into_iter().map(|it| it.result.unwrap());
    let taken: Vec<bool> = results
        .map(|result| match result {
            update_users_result::Result::Accepted(_) => true,
            update_users_result::Result::Error(error) => {
                assert_eq!(error.code, i32::from(Code::ResourceExhausted));
                assert!(error.retry_delay.is_some() && !error.may_be_stored);
                false
            }
        })
        .collect();
    let count = taken.iter().filter(|taken| **taken).count();
    assert!((3..10).contains(&count), "{count} taken");
    assert!(taken.is_sorted_by(|a, b| a >= b), "none overtakes: {taken:?}");

    let refusal = loop {
        match send_update(&stage.gateway, authorization.as_deref(), ada("")).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    let delay = refusal.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(!delay.is_zero() && delay.as_millis() <= 334, "{delay:?}");

    let requests =
        (0..20).map(|tag| StreamUserUpdatesRequest { tag, update: Some(ada("")), company: None });
    let requests = stream::iter(requests.collect::<Vec<_>>());
    let answers = client.stream_user_updates(request(requests, authorization.as_deref())).await;
    let mut answers = answers.unwrap().into_inner();
    let mut refused = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.result.unwrap() {
            stream_user_updates_response::Result::Accepted(_) => {}
            stream_user_updates_response::Result::Error(error) => {
                assert!(error.retry_delay.is_some());
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_client_fills_its_own_share_of_the_queue_and_no_more() {
    let tables = client("crm", TOKEN, "pending_records_max = 2") + &client("billing", "upg_b", "");
    let paused = |site: Site| site.with("app.linger_ms", 600_000).and(&tables);
    let mut stage = Stage::of(at_speed(100), paused).await;
    let send = async |gateway: &Gateway, token: &str, user: &str| {
        let update = Change::new(user, json!({"plan": "pro"})).update();
        send_update(gateway, bearer(token).as_deref(), update).await.map(drop)
    };
    for user in ["a", "b", "a"] {
        send(&stage.gateway, TOKEN, user).await.unwrap();
    }
    for restarted in [false, true] {
        let refusal = send(&stage.gateway, TOKEN, "c").await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted, "restarted: {restarted}");
        assert!(refusal.message().contains("pending_records_max"), "{refusal:?}");
        assert!(refusal.get_details_retry_info().is_some());
        send(&stage.gateway, TOKEN, "a").await.unwrap();
        send(&stage.gateway, "upg_b", "d").await.unwrap();
        stage.restart().await;
    }
}

#[tokio::test]
async fn a_user_and_its_company_count_as_one_update() {
    let lines = "updates_per_second_max = 1";
    let stage = Stage::of(at_speed(100), |site| site.and(&client("crm", TOKEN, lines))).await;
    let identify = async || {
        let url = format!("http://{}/v1/identify", stage.gateway.addresses.http);
        let body = json!({"user_id": "ada", "company": {"id": "acme", "seats": 3}});
        http().post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap().status()
    };
    assert_eq!(
        (identify().await, identify().await),
        (202.try_into().unwrap(), 429.try_into().unwrap())
    );
    assert_eq!(stage.simulator.snapshot().violations, []);
}

#[tokio::test]
async fn over_http_the_rate_refuses_single_updates_and_slows_bulk_requests_down() {
    let lines = "updates_per_second_max = 20";
    let stage = Stage::of(at_speed(100), |site| site.and(&client("crm", TOKEN, lines))).await;
    let url = |path: &str| format!("http://{}/v1{path}", stage.gateway.addresses.http);
    let post = async |path: &str, body: serde_json::Value| {
        let request = http().post(url(path)).bearer_auth(TOKEN).json(&body);
        request.send().await.unwrap()
    };
    let refused = loop {
        let answer = post("/identify", json!({"user_id": "ada"})).await;
        if answer.status() != 202 {
            break answer;
        }
    };
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");

    let users: Vec<_> = (0..40).map(|nth| json!({"user_id": format!("user-{nth}")})).collect();
    let began = clock::now().instant;
    let answer = post("/users/bulk_identify", json!({ "users": users })).await;
    assert_eq!(answer.status(), 202);
    let took = clock::now().instant.since(began);
    assert!(took.as_millis() > 900, "40 updates at 20 a second, after a burst, in {took:?}");
}
