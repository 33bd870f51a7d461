//! The HTTP door: liveness, readiness and metrics; and Userpilot's own API, so that who called
//! Userpilot directly changes a base URL and a token, and nothing else.

mod bulk;
mod envelope;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identify;
mod jobs;
mod lines;
mod pass_through;
mod request;
mod room;
mod rows;
mod spool;
mod traced;
mod watched;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
    response::IntoResponse,
    routing::{any, get, post},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{decompression::RequestDecompressionLayer, map_request_body::MapRequestBodyLayer};

pub use self::{
    pass_through::{PassThrough, PassThroughs},
    room::Room,
    watched::Pace,
};
use super::{auth::Callers, wire::Wire};
use crate::{intake::Intake, store::Store, trace::Traces};

/// What the HTTP door needs.
#[derive(Clone)]
pub struct HttpDoor {
    /// Why the gateway takes no updates, where it does not.
    pub not_ready: watch::Receiver<Option<&'static str>>,
    /// Makes the metrics page.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// For how long one small request may take, its body and its answer included.
    pub request_timeout: Duration,
    /// Where the spans of requests go.
    pub traces: Traces,
    /// Userpilot's API, once the store is open.
    pub api: Arc<OnceLock<Arc<Api>>>,
}

/// What Userpilot's API needs.
pub struct Api {
    /// Reads what callers send.
    pub wire: Wire,
    /// Takes it.
    pub intake: Intake,
    /// Keeps jobs.
    pub store: Store,
    /// Those who may call.
    pub callers: Callers,
    /// How much one request may bring.
    pub limits: HttpLimits,
    /// What is passed through to Userpilot.
    pub pass_through: PassThroughs,
    /// The bytes of bodies that are held in memory at once.
    pub buffers: Room,
    /// The bytes of files that are kept on disk at once while they are checked.
    pub spools: Room,
    /// When it is cancelled, requests are refused.
    pub stop: CancellationToken,
}

/// How much one request may bring.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Bytes of the body of a small request, unpacked.
    pub body_bytes_max: usize,
    /// Bytes of a bulk request, unpacked.
    pub bulk_bytes_max: usize,
    /// Its rows.
    pub bulk_rows_max: usize,
    /// How slowly it may come.
    pub pace: Pace,
    /// What becomes of a file with bad rows.
    pub bad_rows: BadRows,
    /// Where a file is kept while it is checked.
    pub spool: PathBuf,
    /// Jobs that are kept, per app.
    pub jobs_max: usize,
    /// Jobs that the list shows.
    pub listed_jobs_max: usize,
}

/// What becomes of a file with bad rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRows {
    /// The others are taken, and the job names the bad ones.
    SkipRows,
    /// It is refused, and nothing of it is taken.
    RejectFile,
}

/// The pages, and the API.
pub fn router(door: HttpDoor) -> Router {
    let api = api(&door);
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(door)
        .merge(api)
}

fn api(door: &HttpDoor) -> Router {
    let unpack = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .layer(MapRequestBodyLayer::new(Body::new));
    let bulk = Router::new()
        .route("/v1/users/bulk_identify", post(bulk::users))
        .route("/v1/companies/bulk_identify", post(bulk::companies));
    let endpoints = Router::new()
        .route("/v1/identify", post(identify::user))
        .route("/v1/companies/identify", post(identify::company))
        .route("/v1/background_jobs", get(jobs::list))
        .route("/v1/background_jobs/{job_id}", get(jobs::one))
        .route("/v1/{*rest}", any(pass_through::pass))
        .layer(from_fn_with_state(door.request_timeout, request::in_time))
        .merge(bulk)
        // Each handler has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(unpack)
        .layer(from_fn_with_state(door.traces.clone(), traced::serve))
        .layer(from_fn_with_state(door.api.clone(), request::admit));
    Router::new()
        .merge(endpoints.clone())
        .nest("/apps/{app}", endpoints)
        .route("/openapi.json", get(openapi))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(from_fn(request::envelop))
}

/// The API's description.
const OPENAPI: &str = include_str!("openapi.json");

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn readiness(State(door): State<HttpDoor>) -> impl IntoResponse {
    match *door.not_ready.borrow() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(door): State<HttpDoor>) -> impl IntoResponse {
    let page = (door.metrics)();
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let source = include_str!("mod.rs");
        let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let mut routes: BTreeSet<&str> = routes.filter(|path| path.starts_with("/v1/")).collect();
        assert!(routes.remove("/v1/{*rest}"));
        routes.insert("/v1/track");
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described = document["paths"].as_object().unwrap().keys().map(String::as_str);
        assert_eq!(described.collect::<BTreeSet<_>>(), routes);
    }
}
