//! What is refused, in Userpilot's own shape.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{clients, post, url};
use crate::rig::{Change, Site, Stage, at_speed, http, within};

/// The status and the words of a refusal, whose shape is right.
async fn refused(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert!(answer.headers().contains_key("x-request-id"));
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = answer.json().await.unwrap();
    let [error] = body["errors"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert!(error["error"].is_string() && error["error_code"].is_string(), "{body}");
    assert!(error.as_object().unwrap().contains_key("details"), "{body}");
    (status, error["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_refusal_has_userpilots_shape_and_status() {
    let settings =
        |site: Site| site.with("http.bulk_rows_max", 2).with("http.bulk_bytes_max", 2_000);
    let stage = Stage::of(at_speed(100), settings).await;
    let (users, identify) = ("/v1/users/bulk_identify", "/v1/identify");
    let many = json!({"users": [{"user_id": "a"}, {"user_id": "b"}, {"user_id": "c"}]});
    let large = json!({"users": [{"user_id": "a", "metadata": {"a": "x".repeat(3_000)}}]});
    let nested = json!({"users": [{"user_id": "a"}, {"user_id": "b", "metadata": {"plan": {}}}]});
    for (path, body, status, part) in [
        (identify, json!({"metadata": {}}), 422, "user_id: is required"),
        (identify, json!({"user_id": "ada", "plan": "pro"}), 422, "plan: is not a field here"),
        (identify, json!([1]), 422, "body: is not a JSON object"),
        (users, many, 413, "http.bulk_rows_max"),
        (users, large, 413, "more than 2000 bytes"),
        (users, nested, 422, "users[1].metadata[\"plan\"]: is a nested structure"),
        (users, json!({"users": []}), 422, "users: is empty"),
        (users, json!({"people": []}), 400, "one array, users"),
        ("/apps/nobody/v1/identify", json!({"user_id": "a"}), 404, "no such app"),
        ("/v1/nothing", json!({}), 404, "no such address"),
        ("/nothing", json!({}), 404, "no such address"),
        ("/v1/background_jobs", json!({}), 405, "does not know this method"),
    ] {
        let (found, message) = refused(post(&http(), &stage.gateway, path, &body).await).await;
        assert_eq!(found, status, "{path}: {message}");
        assert!(message.contains(part), "{path}: {message}");
    }
    let answer = http().get(url(&stage.gateway, "/v1/background_jobs/nothing")).send().await;
    assert_eq!(refused(answer.unwrap()).await, (404, "there is no such job".to_owned()));
    let text = http().post(url(&stage.gateway, identify)).body("{oh");
    let answer = text.header("content-type", "application/json").send().await.unwrap();
    let expected = "the body is not JSON (line 1, column 2)";
    assert_eq!(refused(answer).await, (400, expected.to_owned()));
    let text = http().post(url(&stage.gateway, identify)).body("<a/>");
    let answer = text.header("content-type", "application/xml").send().await.unwrap();
    assert_eq!(refused(answer).await.0, 415);
    for (name, content, status) in [
        ("file", "", 422),
        ("file", "x\n".repeat(3).as_str(), 413),
        ("file", "x".repeat(3_000).as_str(), 413),
        ("other", "{}", 400),
    ] {
        let form = Form::new().part(name.to_owned(), Part::text(content.to_owned()));
        let answer = http().post(url(&stage.gateway, users)).multipart(form).send().await;
        assert_eq!(refused(answer.unwrap()).await.0, status, "{name}: {content}");
    }
    assert_eq!(stage.gateway.app().await.pending_records, 0);
}

#[tokio::test]
async fn a_packed_body_is_unpacked_within_the_limit() {
    let stage = Stage::of(at_speed(100), |site| site.with("http.bulk_bytes_max", 100_000)).await;
    let packed = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let send = |encoding: &'static str, body: Vec<u8>| {
        let request = http().post(url(&stage.gateway, "/v1/users/bulk_identify"));
        let request = request.header("content-type", "application/json");
        request.header("content-encoding", encoding).body(body).send()
    };
    let body = packed(r#"{"users": [{"user_id": "ada", "metadata": {"plan": "pro"}}]}"#);
    assert_eq!(send("gzip", body.clone()).await.unwrap().status(), 202);
    let bomb = packed(&format!("{{\"users\": [\"{}\"]}}", "x".repeat(10_000_000)));
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    assert_eq!(refused(send("gzip", bomb).await.unwrap()).await.0, 413);
    assert_eq!(refused(send("zstd", body).await.unwrap()).await.0, 415);
    stage.delivers(&[Change::new("ada", json!({"plan": "pro"}))]).await;
}

#[tokio::test]
async fn who_sends_too_slowly_is_answered_and_closed() {
    let stage = Stage::of(at_speed(100), |site| site.with("http.request_timeout_ms", 300)).await;
    let mut slow = TcpStream::connect(&stage.gateway.addresses.http).await.unwrap();
    let head = "POST /v1/identify HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer and an end", slow.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("http.request_timeout_ms"), "{answer}");
}

#[tokio::test]
async fn headers_have_a_limit_over_both_versions_of_http() {
    let stage = Stage::of(at_speed(100), |site| site.with("server.header_bytes_max", 8_192)).await;
    for (client, version) in clients().into_iter().zip(["HTTP/1.1", "HTTP/2"]) {
        for (bytes, status) in [(6_000, 200), (12_000, 431)] {
            let request = client.get(url(&stage.gateway, "/v1/background_jobs"));
            let answer = request.header("x-large", "x".repeat(bytes)).send().await.unwrap();
            assert_eq!(answer.status(), status, "{bytes} bytes over {version}");
        }
    }
}
