//! The console, as a browser meets it: over real sockets, with a cookie.

mod browser;
mod calls;
mod feed;
mod guests;

use std::fs;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use userpilot_gateway::door::token::Hash;

use crate::rig::{Gateway, Site, Stage, at_speed, http, until};

const READER: &str = "upg_reader";
const OPERATOR: &str = "upg_operator";

/// A gateway with a reader and an operator.
async fn stage() -> Stage {
    stage_of(|site| site).await
}

async fn stage_of(settings: impl FnOnce(Site) -> Site) -> Stage {
    let tables = admin("grafana", READER, "reader") + &admin("ada", OPERATOR, "operator");
    Stage::of(at_speed(100), |site| {
        let audit = site.path("audit.jsonl").display().to_string();
        settings(site.and(&tables).with("log.audit", audit))
    })
    .await
}

fn admin(name: &str, token: &str, role: &str) -> String {
    let hash = Hash::of(token);
    format!("[[admins]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\nrole = \"{role}\"\n")
}

/// A browser that has been to the console.
struct Browser {
    base: String,
    cookie: String,
    csrf: String,
}

impl Browser {
    /// One that has logged in.
    async fn log_in(gateway: &Gateway, token: &str) -> Self {
        let answer = log_in(gateway, token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        Self::of(gateway, answer).await
    }

    /// One that need not.
    async fn visit(gateway: &Gateway) -> Self {
        let answer = http().get(url(gateway, "/console/api/session")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Self::of(gateway, answer).await
    }

    async fn of(gateway: &Gateway, answer: Response) -> Self {
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let session: Value = answer.json().await.unwrap();
        let csrf = session["csrf"].as_str().unwrap().to_owned();
        Self { base: url(gateway, ""), cookie, csrf }
    }

    /// A request with its cookie alone.
    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        http().request(method, url).header("cookie", &self.cookie)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.bare(Method::GET, path)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.bare(Method::POST, path).header("x-csrf-token", &self.csrf)
    }

    /// Calls a method: the status, and what it answers.
    async fn rpc(&self, method: &str, request: Value) -> (StatusCode, Value) {
        let path = format!("/console/api/rpc/{method}");
        let answer = self.post(&path).json(&request).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// The same, of one that must do.
    async fn ask(&self, method: &str, request: Value) -> Value {
        let (status, answer) = self.rpc(method, request).await;
        assert_eq!(status, StatusCode::OK, "{method}: {answer}");
        answer
    }

    async fn session(&self) -> StatusCode {
        self.get("/console/api/session").send().await.unwrap().status()
    }
}

fn url(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.addresses.admin)
}

/// Of what name its cookie is, which is sent to every port of this machine.
fn cookie_name(gateway: &Gateway) -> String {
    let port = gateway.addresses.admin.rsplit(':').next().unwrap();
    format!("userpilot_gateway_session_{port}")
}

async fn log_in(gateway: &Gateway, token: &str) -> Response {
    let login = http().post(url(gateway, "/console/api/login"));
    login.json(&json!({"token": token})).send().await.unwrap()
}

async fn audited(stage: &Stage, what: &[&str]) {
    until(what[0], async || {
        let log = fs::read_to_string(stage.site.path("audit.jsonl")).ok()?;
        let found = log.lines().any(|line| what.iter().all(|part| line.contains(part)));
        found.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_operator_logs_in_steers_and_logs_out() {
    let stage = stage().await;
    let answer = log_in(&stage.gateway, OPERATOR).await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    let name = cookie_name(&stage.gateway);
    assert!(cookie.starts_with(&format!("{name}=")), "{cookie}");
    assert!(cookie.ends_with("; Path=/console; HttpOnly; SameSite=Strict"), "{cookie}");
    let ada = Browser::of(&stage.gateway, answer).await;
    let session = ada.get("/console/api/session").send().await.unwrap();
    let session: Value = session.json().await.unwrap();
    let expected =
        json!({"name": "ada", "role": "operator", "csrf": ada.csrf, "login_required": true});
    assert_eq!(session, expected);

    ada.ask("Pause", json!({"app": "production"})).await;
    let status = ada.ask("GetStatus", json!({})).await;
    assert_eq!(status["status"]["apps"][0]["paused"], true);
    audited(&stage, &["console_entered", "\"ada\"", "127.0.0.1:"]).await;
    audited(&stage, &["admin_action", "\"admin\":\"ada\"", "\"pause\"", "127.0.0.1:"]).await;

    let answer = ada.post("/console/api/logout").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(answer.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(ada.session().await, StatusCode::UNAUTHORIZED);
    assert_eq!(ada.rpc("GetStatus", json!({})).await.0, StatusCode::UNAUTHORIZED);
    audited(&stage, &["console_left", "\"ada\""]).await;
    let audit = fs::read_to_string(stage.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains("upg_"), "{audit}");
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_so_are_too_many() {
    let stage = stage().await;
    let answer = log_in(&stage.gateway, "upg_wrong").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers().get("set-cookie").is_none());
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error, json!({"error": "no operator has this token"}));
    audited(&stage, &["authentication_failed", "\"admin\"", "127.0.0.1:"]).await;
    until("a refusal to try", async || {
        let answer = log_in(&stage.gateway, "upg_wrong").await;
        (answer.status() == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
    // Not even the right one, or guessing would go on.
    let answer = log_in(&stage.gateway, OPERATOR).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn what_is_no_login_is_refused_without_a_word_of_it() {
    let stage = stage().await;
    let login = || http().post(url(&stage.gateway, "/console/api/login"));
    let form = login().header("content-type", "text/plain").body("{\"token\": \"upg_operator\"}");
    assert_eq!(form.send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for body in ["", "{", "{\"token\": 7}", "{\"tokken\": \"upg_operator\"}", &"x".repeat(5_000)] {
        let request = login().header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("upg_"), "{text}");
    }
}

#[tokio::test]
async fn a_reader_sees_the_state_and_neither_values_nor_levers() {
    let stage = stage().await;
    let reader = Browser::log_in(&stage.gateway, READER).await;
    for method in ["GetStatus", "ListJobs", "ListDeadLetters", "ListClients", "GetHistory"] {
        reader.ask(method, json!({})).await;
    }
    reader.ask("GetConfig", json!({})).await;
    let subject = json!({"subject": {"user_id": "ada"}});
    for (method, request) in [
        ("Pause", json!({})),
        ("FindSubject", subject.clone()),
        ("ForgetSubject", subject),
        ("ExportPending", json!({})),
        ("ExportDeadLetters", json!({})),
    ] {
        let (status, answer) = reader.rpc(method, request).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method}");
        assert_eq!(answer["code"], "PERMISSION_DENIED", "{answer}");
    }
    let export = reader.get("/console/api/export/dead-letters").send().await.unwrap();
    assert_eq!(export.status(), StatusCode::FORBIDDEN);
    audited(&stage, &["admin_refused", "grafana", "Pause"]).await;
    let status = reader.ask("GetStatus", json!({})).await;
    assert_eq!(status["status"]["apps"][0]["paused"], false);
}

#[tokio::test]
async fn without_the_sessions_own_token_nothing_is_done() {
    let stage = stage().await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    let other = Browser::log_in(&stage.gateway, OPERATOR).await;
    let pause = "/console/api/rpc/Pause";
    for request in [
        ada.bare(Method::POST, pause),
        ada.bare(Method::POST, pause).header("x-csrf-token", ""),
        ada.bare(Method::POST, pause).header("x-csrf-token", &other.csrf),
        ada.bare(Method::POST, "/console/api/logout"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(ada.session().await, StatusCode::OK);
    assert!(!stage.gateway_is_paused(&ada).await);
    // A cookie that nobody was given is no session.
    let cookie = format!("{}=guessed", cookie_name(&stage.gateway));
    let stranger = Browser { cookie, ..ada };
    assert_eq!(stranger.rpc("GetStatus", json!({})).await.0, StatusCode::UNAUTHORIZED);
}

impl Stage {
    async fn gateway_is_paused(&self, browser: &Browser) -> bool {
        let status = browser.ask("GetStatus", json!({})).await;
        status["status"]["apps"][0]["paused"] == true
    }
}

#[tokio::test]
async fn a_session_ends_when_its_admin_is_taken_out() {
    let stage = stage().await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    let reader = Browser::log_in(&stage.gateway, READER).await;
    let mut events = feed::Events::of(&ada).await;
    let path = stage.site.path("gateway.toml");
    let mut config: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let admins = config["admins"].as_array_mut().unwrap();
    admins.retain(|admin| admin["name"].as_str() != Some("ada"));
    fs::write(&path, config.to_string()).unwrap();
    stage.gateway.hang_up();
    until("the end of the session", async || {
        (ada.session().await == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    events.end().await;
    assert_eq!(reader.session().await, StatusCode::OK);
}

#[tokio::test]
async fn a_session_ends_when_nothing_is_asked_for() {
    let stage = stage_of(|site| site.with("console.session_idle_ms", 1_000)).await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    // A page that only listens asks for nothing.
    feed::Events::of(&ada).await.end().await;
    assert_eq!(ada.session().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_a_page_asks_by_itself_keeps_no_session() {
    let stage = stage_of(|site| site.with("console.session_idle_ms", 2_000)).await;
    let ada = Browser::log_in(&stage.gateway, OPERATOR).await;
    until("the end of the session", async || {
        let jobs = ada.post("/console/api/rpc/ListJobs").header("x-background", "1");
        let session = ada.get("/console/api/session").header("x-background", "1");
        // Whoever listens anew does not use it either.
        let events = ada.get("/console/api/events").send().await.unwrap();
        drop(events);
        let jobs = jobs.json(&json!({})).send().await.unwrap().status();
        let session = session.send().await.unwrap().status();
        (jobs == StatusCode::UNAUTHORIZED && session == jobs).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_browser_logs_in_to_two_gateways_of_one_machine() {
    let stages = [stage().await, stage().await];
    let mut jar = std::collections::BTreeMap::new();
    let mut tabs = Vec::new();
    for stage in &stages {
        let tab = Browser::log_in(&stage.gateway, OPERATOR).await;
        let (name, value) = tab.cookie.split_once('=').unwrap();
        jar.insert(name.to_owned(), value.to_owned());
        tabs.push(tab);
    }
    let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for tab in &mut tabs {
        tab.cookie = cookies.join("; ");
        tab.ask("GetStatus", json!({})).await;
    }
}
