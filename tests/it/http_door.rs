//! Userpilot's own API, served by the gateway.

mod bulk;
mod callers;
mod envelopes;
mod granted;
mod refusals;
mod shares;
mod uploads;
mod userpilot;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::rig::{Change, Gateway, Stage, at_speed, http, until};

/// The gateway's address for this path.
fn url(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.addresses.http)
}

/// Sends JSON, as Userpilot's own callers do.
async fn post(client: &Client, gateway: &Gateway, path: &str, body: &Value) -> Response {
    let request = client.post(url(gateway, path)).header("authorization", "Token anything");
    request.json(body).send().await.unwrap()
}

/// A job, by its id.
async fn job(gateway: &Gateway, id: &str) -> Value {
    let answer = http().get(url(gateway, &format!("/v1/background_jobs/{id}"))).send().await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The job, once it is over.
async fn over(gateway: &Gateway, id: &str) -> Value {
    until("a job that is over", async || {
        let job = job(gateway, id).await;
        let over = ["completed", "failed"].contains(&job["status"].as_str().unwrap());
        over.then_some(job)
    })
    .await
}

/// HTTP/1.1 and HTTP/2, without TLS.
fn clients() -> [Client; 2] {
    let both = [Client::builder(), Client::builder().http2_prior_knowledge()];
    drop(http());
    both.map(|builder| builder.build().unwrap())
}

#[tokio::test]
async fn a_user_is_identified_over_both_versions_of_http() {
    let stage = Stage::start(100).await;
    let mut changes = Vec::new();
    for (nth, client) in clients().iter().enumerate() {
        let (first, second) = (json!({"plan": "pro", "seats": nth}), json!({"plan": null}));
        let body = json!({"user_id": "ada", "metadata": first, "company": {"id": "acme"}});
        let answer = post(client, &stage.gateway, "/v1/identify", &body).await;
        let version = [reqwest::Version::HTTP_11, reqwest::Version::HTTP_2][nth];
        assert_eq!((answer.status().as_u16(), answer.version()), (202, version));
        assert!(answer.headers().contains_key("x-request-id"));
        let body = json!({"user_id": "ada", "metadata": second});
        let path = "/apps/production/v1/identify";
        assert_eq!(post(client, &stage.gateway, path, &body).await.status(), 202);
        changes.push(Change::new("ada", first).of_company("acme"));
        changes.push(Change::new("ada", second));
    }
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn what_was_answered_with_202_outlives_a_kill() {
    let mut stage = Stage::of(at_speed(100), |site| site.with("app.linger_ms", 600)).await;
    let body = json!({"user_id": "ada", "metadata": {"plan": "pro"}});
    let answer = post(&http(), &stage.gateway, "/v1/identify", &body).await;
    assert_eq!(answer.status(), 202);
    stage.restart().await;
    stage.delivers(&[Change::new("ada", json!({"plan": "pro"}))]).await;
}

#[tokio::test]
async fn an_event_is_passed_through_with_the_key_and_within_the_budget() {
    let allow = toml::Value::Array(vec!["POST /v1/track".into()]);
    let settings = |site: crate::rig::Site| {
        site.with("app.pass_through", allow).with("app.pass_through_per_minute", 30)
    };
    let stage = Stage::of(at_speed(1), settings).await;
    let event = json!({"user_id": "ada", "event_name": "signed up", "metadata": {"plan": "pro"}});
    let answer = post(&http(), &stage.gateway, "/v1/track", &event).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(stage.simulator.snapshot().tracked, 1);
    // Its id of the answer is what its support asks for; the gateway has one of its own.
    let [own, userpilots] =
        ["x-request-id", "userpilot-request-id"].map(|name| answer.headers()[name].clone());
    assert!(!userpilots.is_empty() && own != userpilots, "{own:?} {userpilots:?}");
    // The caller's version goes along.
    let request =
        http().post(url(&stage.gateway, "/v1/track")).header("x-api-version", "2019-01-01");
    let answer = request.json(&event).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("X-API-Version"));
    // Userpilot's own refusal comes back as it is.
    let answer = post(&http(), &stage.gateway, "/v1/track", &json!({"user_id": "ada"})).await;
    assert_eq!(answer.status(), 422);
    let refusal: Value = answer.json().await.unwrap();
    let message = refusal["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("event_name"), "{message}");
    let answer = post(&http(), &stage.gateway, "/v1/track", &event).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    // The caller's token went nowhere, or Userpilot would have complained of it.
    stage.is_blameless();
}

#[tokio::test]
async fn userpilots_deletion_api_is_passed_through_where_it_is_allowed() {
    let allow = ["DELETE /v1/users", "DELETE /v1/companies"].map(toml::Value::from);
    let settings = |site: crate::rig::Site| site.with("app.pass_through", allow.to_vec());
    let stage = Stage::of(at_speed(1), settings).await;
    for path in ["/v1/users", "/v1/companies"] {
        let request = http().delete(url(&stage.gateway, path));
        let answer = request.json(&json!({"users": ["ada"]})).send().await.unwrap();
        // The simulator does not know the address: it is its answer all the same.
        assert!(answer.headers().contains_key("userpilot-request-id"), "{path}: {answer:?}");
    }
    let answer = http().delete(url(&stage.gateway, "/v1/goals")).send().await.unwrap();
    assert!(!answer.headers().contains_key("userpilot-request-id"));
}

#[tokio::test]
async fn an_event_that_nobody_allowed_stays_here() {
    let stage = Stage::start(1).await;
    let event = json!({"user_id": "ada", "event_name": "signed up"});
    let answer = post(&http(), &stage.gateway, "/v1/track", &event).await;
    assert_eq!(answer.status(), 403);
    let answer = post(&http(), &stage.gateway, "/v1/anything", &event).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(stage.simulator.snapshot().tracked, 0);
}
