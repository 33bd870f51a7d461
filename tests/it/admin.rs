//! What operators see and steer, and what machines watch.

use std::collections::BTreeSet;

use futures_util::stream;
use serde_json::json;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use userpilot_gateway::proto::{
    AppState, FlushNowRequest, GetJobRequest, ListJobsRequest, PauseRequest, ResumeRequest,
    UpdateState, WatchStatusRequest,
};

use crate::rig::{Change, Stage, at_speed, channel, settled, until};

#[tokio::test]
async fn a_pause_holds_delivery_survives_a_restart_and_ends_when_told() {
    let mut stage = Stage::start(100).await;
    let of_all = PauseRequest { app: String::new() };
    stage.gateway.admin().await.pause(of_all).await.unwrap();
    let change = Change::new("ada", json!({"plan": "pro"}));
    let [receipt] = stage.sent(std::slice::from_ref(&change)).await.try_into().unwrap();
    stage.restart().await;
    let paused = stage.gateway.app().await;
    assert_eq!(
        (paused.paused, paused.state(), paused.pending_records),
        (true, AppState::Paused, 1)
    );
    assert!(!paused.summary.is_empty() && paused.oldest_pending_age.is_some());
    assert_eq!(stage.gateway.update(&receipt).await.state(), UpdateState::Pending);
    assert_eq!(stage.simulator.snapshot().submissions, 0);

    let request = ResumeRequest { app: "production".into() };
    stage.gateway.admin().await.resume(request).await.unwrap();
    stage.delivers([&change]).await;
    let resumed = stage.gateway.app().await;
    assert_eq!((resumed.paused, resumed.totals.unwrap().completed_jobs), (false, 1));
}

#[tokio::test]
async fn a_flush_ends_a_linger() {
    let stage = Stage::of(at_speed(100), |site| site.with("app.linger_ms", 3_600_000)).await;
    let change = Change::new("ada", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&change)).await;
    assert_eq!(stage.gateway.app().await.state(), AppState::Lingering);
    let request = FlushNowRequest { app: String::new() };
    stage.gateway.admin().await.flush_now(request).await.unwrap();
    stage.delivers([&change]).await;
}

#[tokio::test]
async fn an_app_at_rest_is_idle_once_its_last_jobs_occupancy_has_passed() {
    // A job ends after some 20 ms, and occupies the budget for 200.
    let stage = Stage::of(at_speed(100), |site| site.with("app.users_per_minute", 300)).await;
    stage.sent(&[Change::new("ada", json!({"plan": "pro"}))]).await;
    settled(&stage.gateway).await;
    let app = until("an idle app", async || {
        let app = stage.gateway.app().await;
        (app.state() == AppState::Idle).then_some(app)
    })
    .await;
    assert_eq!(app.occupancy_remaining, Some(prost_types::Duration::default()));
}

#[tokio::test]
async fn a_watch_shows_each_state_until_the_gateway_stops() {
    let mut stage = Stage::start(100).await;
    let interval = prost_types::Duration { seconds: 0, nanos: 1 };
    let request = WatchStatusRequest { interval: Some(interval) };
    let mut admin = stage.gateway.admin().await;
    let mut statuses = admin.watch_status(request).await.unwrap().into_inner();
    let change = Change::new("ada", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&change)).await;
    until("a job in the watch", async || {
        let status = statuses.message().await.unwrap().unwrap().status.unwrap();
        assert!(status.ready && status.not_ready_reason.is_empty());
        let totals = status.apps[0].totals.unwrap();
        (totals.completed_jobs == 1).then_some(())
    })
    .await;
    stage.gateway.terminate();
    until("the end of the watch", async || {
        statuses.message().await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(stage.gateway.end().await.status.success());
}

#[tokio::test]
async fn questions_about_what_is_not_there_are_answered_so() {
    let stage = Stage::start(100).await;
    let mut admin = stage.gateway.admin().await;
    let job = |app: &str, id: &str| GetJobRequest { app: app.into(), id: id.into() };
    for request in [job("", "none"), job("", "0-0-1"), job("staging", "none")] {
        let refusal = admin.get_job(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::NotFound, "{refusal:?}");
    }
    let page = |app: &str, page_size, token: &str| ListJobsRequest {
        app: app.into(),
        page_size,
        page_token: token.into(),
    };
    for (request, code) in [
        (page("", -1, ""), Code::InvalidArgument),
        (page("", 1, "next"), Code::InvalidArgument),
        (page("staging", 1, ""), Code::NotFound),
    ] {
        assert_eq!(admin.list_jobs(request).await.unwrap_err().code(), code);
    }
    let jobs = admin.list_jobs(page("", 0, "")).await.unwrap().into_inner();
    assert!(jobs.jobs.is_empty() && jobs.next_page_token.is_empty());
    let refusal = admin.pause(PauseRequest { app: "staging".into() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
}

/// The services that a listener tells of.
async fn services(address: &str) -> Result<BTreeSet<String>, Code> {
    let mut client = ServerReflectionClient::new(channel(address).await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(stream::iter([request])).await;
    let answer = answers.map_err(|status| status.code())?.into_inner().message().await;
    match answer.map_err(|status| status.code())?.unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn reflection_lists_the_services_unless_it_is_off() {
    let mut stage = Stage::start(100).await;
    let addresses = stage.gateway.addresses.clone();
    for address in [&addresses.grpc, &addresses.admin] {
        let services = services(address).await.unwrap();
        for service in ["userpilot_gateway.v1.IngestService", "grpc.health.v1.Health"] {
            assert!(services.contains(service), "{services:?}");
        }
    }
    stage.gateway.kill();
    let site = stage.site.with("server.reflection", false);
    let gateway = site.serve().await;
    for address in [&gateway.addresses.grpc, &gateway.addresses.admin] {
        assert_eq!(services(address).await, Err(Code::Unimplemented));
    }
}

#[tokio::test]
async fn the_health_service_says_that_it_serves() {
    let stage = Stage::start(100).await;
    let mut client = HealthClient::new(channel(&stage.gateway.addresses.grpc).await);
    for service in ["", "userpilot_gateway.v1.IngestService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let request = HealthCheckRequest { service: "another.Service".into() };
    assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_http_door_tells_of_life_readiness_and_numbers() {
    let stage = Stage::start(100).await;
    stage.sent(&[Change::new("ada-lovelace", json!({"plan": "secret-plan"}))]).await;
    stage.sent(&[Change::new("ada-lovelace", json!({"seats": 3}))]).await;
    settled(&stage.gateway).await;
    assert_eq!(stage.gateway.page("/healthz").await.0, 200);
    assert_eq!(stage.gateway.page("/readyz").await.0, 200);
    assert_eq!(stage.gateway.page("/elsewhere").await.0, 404);

    let (status, content_type, page) = stage.gateway.page("/metrics").await;
    assert_eq!(status, 200);
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"));
    for private in ["ada", "lovelace", "secret", "plan", "seats", "simulated-key"] {
        assert!(!page.contains(private), "{page}");
    }
    let samples = open_metrics(&page);
    // Of all lanes together: the page has them in no order.
    let value = |name: &str| {
        let values: Vec<f64> =
            samples.iter().filter(|(sample, _)| sample == name).map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "{name} is not there");
        values.iter().sum::<f64>()
    };
    assert!((value("userpilot_gateway_accepted_updates_total") - 2.0).abs() < 1e-9);
    assert!((value("userpilot_gateway_ready") - 1.0).abs() < 1e-9);
    let delivered = "userpilot_gateway_jobs_total{app=\"production\",outcome=\"delivered\"} ";
    let delivered = page.lines().find_map(|line| line.strip_prefix(delivered)).unwrap();
    assert!(delivered.parse::<f64>().unwrap() >= 1.0);
    assert!(value("userpilot_gateway_freshness_seconds_count") >= 1.0);
    assert!(value("userpilot_gateway_users_per_minute") > 1_000.0);
    assert!(value("userpilot_gateway_oldest_pending_age_seconds") >= 0.0);
    assert!(value("userpilot_gateway_last_delivery_timestamp_seconds") > 1e9);
}

/// The samples of a page in the OpenMetrics text format, by the rules that a scraper holds it
/// to: families are declared once and before their samples, and the page has an end.
fn open_metrics(page: &str) -> Vec<(String, f64)> {
    let body = page.strip_suffix("# EOF\n").expect("the page has no end");
    let mut families = BTreeSet::new();
    let mut family = ("", "");
    let mut samples = Vec::new();
    for line in body.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            family = declared.split_once(' ').unwrap();
            assert!(families.insert(family.0), "{} is declared twice", family.0);
        } else if let Some(said) = line.strip_prefix("# ") {
            assert!(said.starts_with("HELP ") || said.starts_with("UNIT "), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family.0).unwrap_or_else(|| panic!("{line}"));
            let suffixes: &[&str] = match family.1 {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_count", "_sum", "_bucket"],
                other => panic!("{other}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(series == name || series.ends_with('}'), "{line}");
            samples.push((name.to_owned(), value.parse().unwrap()));
        }
    }
    samples
}
