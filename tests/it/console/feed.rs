//! Server-sent events.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Browser, OPERATOR, stage};
use crate::rig::{Change, Stage, within};

/// The events that a page listens to.
pub(super) struct Events {
    answer: Response,
    read: String,
}

impl Events {
    pub(super) async fn of(browser: &Browser) -> Self {
        let answer = browser.get("/console/api/events").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, read: String::new() }
    }

    /// The next event, by its name; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let named = field("event: ").zip(field("data: "));
                self.read = rest.to_owned();
                // One without a name keeps the connection alive.
                let Some((name, data)) = named else { continue };
                return Some((name, serde_json::from_str(&data).unwrap()));
            }
            let chunk = within("an event", self.answer.chunk()).await.unwrap()?;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event of this name.
    pub(super) async fn next_of(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.next().await.unwrap();
            if event == name {
                return data;
            }
        }
    }

    /// Waits for the end.
    pub(super) async fn end(&mut self) {
        while self.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_page_hears_of_the_state_and_of_samples_until_it_logs_out() {
    let stage = stage().await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    let mut events = Events::of(&ada).await;
    let status = events.next_of("status").await;
    assert_eq!((&status["ready"], &status["apps"][0]["app"]), (&true.into(), &"production".into()));
    ada.ask("Pause", json!({})).await;
    while events.next_of("status").await["apps"][0]["paused"] != true {}
    let sample = events.next_of("sample").await;
    assert_eq!(sample["app"], "production");
    for column in ["time", "accepted", "delivered", "pending_records", "freshness_p99_seconds"] {
        assert_eq!(sample[column].as_array().unwrap().len(), 1, "{column}: {sample}");
    }
    assert!(sample["time"][0].as_f64().unwrap() > 1e9);
    assert_eq!(ada.post("/console/api/logout").send().await.unwrap().status().as_u16(), 204);
    events.end().await;
}

#[tokio::test]
async fn a_stop_of_the_gateway_ends_what_pages_listen_to() {
    let mut stage = Stage::start(100).await;
    stage.sent(&[Change::new("ada", json!({"plan": "pro"}))]).await;
    let anyone = Browser::visit(&stage.gateway).await;
    let mut events = Events::of(&anyone).await;
    events.next_of("status").await;
    stage.gateway.terminate();
    events.end().await;
    assert!(stage.gateway.end().await.status.success());
}
