//! What one client holds of what there is for all.

use reqwest::Response;
use serde_json::{Value, json};
use userpilot_gateway::{door::token::Hash, proto::PauseRequest};

use super::{
    uploads::{Uploading, refusal},
    url,
};
use crate::rig::{Gateway, Site, Stage, at_speed, http, until};

/// Two clients: crm, which uploads, with more lines; and billing.
fn clients(lines: &str) -> String {
    let client = |name: &str, lines: &str| {
        let hash = Hash::of(&format!("upg_{name}"));
        let apps = "apps = [\"production\"]";
        format!("[[clients]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n{apps}\n{lines}\n")
    };
    client("crm", lines) + &client("billing", "")
}

async fn paused(settings: impl FnOnce(Site) -> Site) -> Stage {
    let stage = Stage::of(at_speed(100), settings).await;
    stage.gateway.admin().await.pause(PauseRequest { app: String::new() }).await.unwrap();
    stage
}

async fn bulk(gateway: &Gateway, client: &str, user: &Value) -> Response {
    let request = http().post(url(gateway, "/v1/users/bulk_identify"));
    let request = request.bearer_auth(format!("upg_{client}"));
    request.json(&json!({ "users": [user] })).send().await.unwrap()
}

#[tokio::test]
async fn a_client_has_half_of_the_places_for_jobs() {
    let stage = paused(|site| site.with("http.jobs_max", 2).and(&clients(""))).await;
    let ada = json!({"user_id": "ada"});
    assert_eq!(bulk(&stage.gateway, "crm", &ada).await.status(), 202);
    let answer = bulk(&stage.gateway, "crm", &ada).await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, error) = refusal(answer).await;
    assert_eq!(status, 429);
    assert!(error["message"].as_str().unwrap().contains("of this client"), "{error}");
    // What cannot be read asks for no place.
    let request = http().post(url(&stage.gateway, "/v1/users/bulk_identify")).body("<a/>");
    let request = request.bearer_auth("upg_crm").header("content-type", "application/xml");
    assert_eq!(request.send().await.unwrap().status(), 415);
    assert_eq!(bulk(&stage.gateway, "billing", &ada).await.status(), 202);
    assert_eq!(bulk(&stage.gateway, "billing", &ada).await.status(), 429);
}

#[tokio::test]
async fn a_client_that_is_slow_leaves_memory_for_the_others() {
    let settings = |site: Site| {
        let site = site.with("http.bulk_bytes_max", 1_200).with("http.buffered_bytes_max", 2_400);
        site.and(&clients(""))
    };
    let stage = paused(settings).await;
    let large = json!({"user_id": "a", "metadata": {"text": "x".repeat(800)}});
    // Of its first one only a part comes.
    let first = until("memory that is taken", async || {
        let first = Uploading::json(&stage.gateway);
        first.send(format!("{{\"users\": [{large}")).await;
        (bulk(&stage.gateway, "crm", &large).await.status() == 429).then_some(first)
    })
    .await;
    assert_eq!(bulk(&stage.gateway, "billing", &large).await.status(), 202);
    first.send("]}").await;
    assert_eq!(first.answer().await.status(), 202);
    assert_eq!(bulk(&stage.gateway, "crm", &large).await.status(), 202);
}

#[tokio::test]
async fn files_that_are_checked_take_no_more_of_the_disk_than_they_may() {
    const MAX: usize = 300_000;
    let settings = |site: Site| {
        let site =
            site.with("http.bad_rows", "reject_file").with("http.bulk_bytes_max", MAX as i64);
        site.with("http.spooled_bytes_max", MAX as i64)
    };
    let stage = paused(settings).await;
    let row = |text: &str| format!("{}\n", json!({"user_id": "a", "metadata": {"text": text}}));
    let file = row(&"x".repeat(4_000)).repeat(50);
    // Whichever comes second finds the disk taken: let it not be the first.
    let (first, answer) = until("a disk that is taken", async || {
        let first = Uploading::start(&stage.gateway);
        first.send(file.clone()).await;
        let second = Uploading::start(&stage.gateway);
        second.send(file.clone()).await;
        let answer = second.answer().await;
        (answer.status() != 202).then_some((first, answer))
    })
    .await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, error) = refusal(answer).await;
    assert_eq!(status, 429);
    assert!(error["message"].as_str().unwrap().contains("http.spooled_bytes_max"), "{error}");
    assert_eq!(first.answer().await.status(), 202);
    let after = Uploading::start(&stage.gateway);
    after.send(file).await;
    assert_eq!(after.answer().await.status(), 202, "it is free again");
}
