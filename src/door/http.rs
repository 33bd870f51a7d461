//! The HTTP door: liveness, readiness and metrics.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::sync::watch;

/// What the HTTP door needs.
#[derive(Clone)]
pub struct HttpDoor {
    /// Why the gateway takes no updates, where it does not.
    pub not_ready: watch::Receiver<Option<&'static str>>,
    /// Makes the metrics page.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The pages.
pub fn router(door: HttpDoor) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(door)
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
