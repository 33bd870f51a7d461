//! Traces and metrics reach a real collector: rotel, <https://rotel.dev>.

use std::{net::TcpListener, path::PathBuf, process::Command};

use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use serde_json::json;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinSet,
};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use userpilot_gateway::proto::{Lane, UpdateUserRequest};

use crate::{
    python::python,
    rig::{Authority, Change, Issued, Process, Stage, at_speed, http, settled, until, within},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const HTTP_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-{flags}")
}

/// A collector that shows what it is sent.
struct Collector {
    process: Process,
    endpoint: String,
}

impl Collector {
    async fn start(shown: &str) -> Self {
        let agent = python().parent().unwrap().join("../lib");
        let agent = std::fs::read_dir(agent).unwrap().map(|folder| folder.unwrap().path());
        let agent: Option<PathBuf> =
            agent.map(|it| it.join("site-packages/rotel/rotel-agent")).find(|it| it.exists());
        let address = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let (grpc, http) = (address(), address());
        let mut command = Command::new(agent.unwrap());
        command.arg("start").args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]);
        command.args(["--exporter", "blackhole", "--debug-log", shown]);
        command.args(["--debug-log-verbosity", "detailed"]);
        let process = Process::start(&mut command, "");
        until("a collector", async || tokio::net::TcpStream::connect(&grpc).await.ok()).await;
        Self { process, endpoint: format!("http://{grpc}") }
    }

    /// What it has shown, as one text.
    fn shown(&self) -> String {
        self.process.printed().join("\n") + &self.process.log().join("\n")
    }

    async fn shows(&self, what: &str) {
        until(what, async || self.shown().contains(what).then_some(())).await;
    }
}

/// A span that the collector has shown, from its name to the next one's.
fn span(shown: &str, name: &str, with: &str) -> Option<String> {
    let spans = shown.split("Span #").map(str::to_owned);
    spans.filter(|span| span.contains(name) && span.contains(with)).last()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_leads_to_the_job_that_delivered_its_update() {
    let collector = Collector::start("traces").await;
    let stage = Stage::of(at_speed(100), |site| {
        site.with("otlp.endpoint", collector.endpoint.as_str())
            .with("otlp.traces_sample_share", 0.0)
            .with("otlp.metrics", false)
    })
    .await;
    let mut client = stage.gateway.ingest().await;
    let changes = [("ada", TRACE, "01"), ("bob", "6bf92f3577b34da6a3ce929d0e0e4736", "00")];
    for (user, trace, flags) in changes {
        let update = Some(Change::new(user, json!({ "secret": "hush" })).update());
        let mut request = Request::new(UpdateUserRequest { update });
        let parent = traceparent(trace, flags).parse().unwrap();
        request.metadata_mut().insert("traceparent", parent);
        client.update_user(request).await.unwrap();
    }
    let url = format!("http://{}/v1/identify", stage.gateway.addresses.http);
    let request = http().post(url).header("traceparent", traceparent(HTTP_TRACE, "01"));
    let answer = request.json(&json!({ "user_id": "cyd", "metadata": {} })).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    settled(&stage.gateway).await;

    let linked = |trace: &str| {
        let shown = collector.shown();
        shown.split("Span #").any(|span| span.contains("bulk_identify") && span.contains(trace))
    };
    until("spans", async || (linked(TRACE) && linked(HTTP_TRACE)).then_some(())).await;
    let shown = collector.shown();
    let served = span(&shown, "IngestService/UpdateUser", TRACE);
    assert!(served.is_some_and(|span| span.contains("rpc.grpc.status_code")), "{shown}");
    assert!(span(&shown, "POST /v1/identify", HTTP_TRACE).is_some(), "{shown}");
    // Its caller did not sample it.
    assert!(!shown.contains(changes[1].1), "{shown}");
    for private in ["hush", "secret", "ada"] {
        assert!(!shown.contains(private), "{private}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_leads_to_the_request_that_took_its_update_by_express() {
    let collector = Collector::start("traces").await;
    let stage = Stage::of(at_speed(100), |site| {
        site.with("otlp.endpoint", collector.endpoint.as_str())
            .with("otlp.metrics", false)
            .with("app.express", true)
    })
    .await;
    let mut update = Change::new("ada", json!({ "plan": "pro" })).update();
    update.set_lane(Lane::Express);
    let mut request = Request::new(UpdateUserRequest { update: Some(update) });
    request.metadata_mut().insert("traceparent", traceparent(TRACE, "01").parse().unwrap());
    stage.gateway.ingest().await.update_user(request).await.unwrap();
    settled(&stage.gateway).await;
    let is_it = |span: &str| {
        span.contains("identify") && !span.contains("bulk_identify") && span.contains(TRACE)
    };
    until("its span", async || collector.shown().split("Span #").any(is_it).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_reach_a_collector_too() {
    let collector = Collector::start("metrics").await;
    let stage = Stage::of(at_speed(100), |site| {
        site.with("otlp.endpoint", collector.endpoint.as_str())
            .with("otlp.metrics_interval_ms", 1000)
            .with("otlp.traces", false)
    })
    .await;
    stage.sent(&[Change::new("ada", json!({ "plan": "pro" }))]).await;
    settled(&stage.gateway).await;
    for name in [
        "userpilot_gateway_jobs",
        "userpilot_gateway_freshness",
        "userpilot_gateway_request_duration_seconds",
        "userpilot_gateway_build_info",
        "process_resident_memory_bytes",
        "userpilot-gateway",
    ] {
        collector.shows(name).await;
    }
}

/// A collector over TLS that says what it is sent.
#[derive(Clone)]
struct Told(Sender<&'static str>);

#[tonic::async_trait]
impl TraceService for Told {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send("traces").await.ok();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Told {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.send("metrics").await.ok();
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Its URL, and what it is sent, until the set is dropped.
async fn secured_collector(issued: &Issued) -> (String, Receiver<&'static str>, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (told, sent) = channel(64);
    let identity = Identity::from_pem(&issued.cert, &issued.key);
    let mut server =
        Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let router = server
        .add_service(TraceServiceServer::new(Told(told.clone())))
        .add_service(MetricsServiceServer::new(Told(told)));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        router.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
    (url, sent, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_and_metrics_reach_a_collector_over_tls() {
    let authority = Authority::new("the collector's");
    let (url, mut sent, _serving) = secured_collector(&authority.gateway()).await;
    let stage =
        Stage::of(at_speed(100), |site| {
            site.with("otlp.endpoint", url.as_str())
                .with("otlp.metrics_interval_ms", 1000)
                .with_file("SSL_CERT_FILE", "collectors.pem", &authority.pem())
        })
        .await;
    stage.sent(&[Change::new("ada", json!({ "plan": "pro" }))]).await;
    settled(&stage.gateway).await;
    for what in ["traces", "metrics"] {
        within(what, async { while sent.recv().await != Some(what) {} }).await;
    }
}
