//! What is passed through, and for whom.

use reqwest::Response;
use serde_json::{Value, json};
use userpilot_gateway::door::token::Hash;

use super::url;
use crate::rig::{Site, Stage, at_speed, http};

fn client(name: &str, lines: &str) -> String {
    let hash = Hash::of(&format!("upg_{name}"));
    format!(
        "[[clients]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\napps = [\"production\"]\n{lines}\n"
    )
}

fn passing(site: Site) -> Site {
    site.with("app.pass_through", toml::Value::Array(vec!["POST /v1/track".into()]))
}

async fn track(stage: &Stage, client: &str, metadata: &Value) -> Response {
    let event = json!({"user_id": "ada", "event_name": "signed up", "metadata": metadata});
    let request = http().post(url(&stage.gateway, "/v1/track")).json(&event);
    request.bearer_auth(format!("upg_{client}")).send().await.unwrap()
}

async fn refusal(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let mut body: Value = answer.json().await.unwrap();
    (status, body["errors"][0].take())
}

#[tokio::test]
async fn events_are_passed_through_for_clients_that_are_granted_it() {
    let track_only = "pass_through = [\"POST /v1/track\"]\n";
    let tables = client("tracker", track_only)
        + &client("slow", &(track_only.to_owned() + "updates_per_second_max = 1"))
        + &client("billing", "");
    let stage = Stage::of(at_speed(1), |site| passing(site).and(&tables)).await;
    let plan = json!({"plan": "pro"});
    assert_eq!(track(&stage, "tracker", &plan).await.status(), 202);
    assert_eq!(stage.simulator.snapshot().tracked, 1);

    let (status, error) = refusal(track(&stage, "billing", &plan).await).await;
    assert_eq!((status, &error["details"][0]["field"]), (403, &json!("POST /v1/track")));
    let said = stage.gateway.says("\"permission_refused\"").await;
    assert!(said.contains("\"billing\"") && said.contains("POST /v1/track"), "{said}");

    // A request is one of the client's rate, whether it is an update or passed through.
    assert_eq!(track(&stage, "slow", &plan).await.status(), 202);
    let answer = track(&stage, "slow", &plan).await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, error) = refusal(answer).await;
    assert_eq!(status, 429);
    assert!(error["message"].as_str().unwrap().contains("updates_per_second_max"), "{error}");

    assert_eq!(stage.simulator.snapshot().tracked, 2);
    let metrics = stage.gateway.page("/metrics").await.2;
    for line in [
        "client_passed_requests_total{client=\"tracker\"} 1",
        "client_passed_requests_total{client=\"slow\"} 1",
        "client_passed_requests_total{client=\"billing\"} 0",
        "client_refused_updates_total{client=\"slow\",reason=\"rate_limited\"} 1",
        "client_refused_updates_total{client=\"billing\",reason=\"permission_denied\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
    stage.is_blameless();
}

#[tokio::test]
async fn what_an_event_tells_keeps_to_the_rules_for_properties() {
    let grant = "pass_through = [\"POST /v1/track\"]\n";
    let narrow = grant.to_owned() + "properties = [\"plan\"]";
    let tables = client("tracker", grant) + &client("narrow", &narrow);
    let rules: toml::Table = "deny = [\"ssn\"]".parse().unwrap();
    let settings = |site| passing(site).with("app.properties", rules).and(&tables);
    let stage = Stage::of(at_speed(1), settings).await;
    let secret = "078-05-1120";
    let (status, error) = refusal(track(&stage, "tracker", &json!({"Ssn": secret})).await).await;
    assert_eq!((status, &error["details"][0]["field"]), (422, &json!("metadata[\"Ssn\"]")));
    let (status, error) = refusal(track(&stage, "narrow", &json!({"mrr": secret})).await).await;
    assert_eq!((status, &error["details"][0]["field"]), (403, &json!("metadata[\"mrr\"]")));
    let (status, _) = refusal(track(&stage, "tracker", &json!({"a": [secret]})).await).await;
    assert_eq!(status, 422);
    let text = http().post(url(&stage.gateway, "/v1/track")).body("not JSON");
    assert_eq!(text.bearer_auth("upg_tracker").send().await.unwrap().status(), 400);
    assert_eq!(stage.simulator.snapshot().tracked, 0);
    assert_eq!(track(&stage, "narrow", &json!({"plan": "pro"})).await.status(), 202);
    assert_eq!(stage.simulator.snapshot().tracked, 1);
    assert!(!stage.gateway.log().join("").contains(secret), "a value in the log");
    stage.is_blameless();
}
