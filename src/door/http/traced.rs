//! The span of a request, where traces are exported.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use opentelemetry::{KeyValue, trace::Status};

use crate::trace::Traces;

/// Serves a request as part of its caller's trace. The names are those of OpenTelemetry's
/// conventions. <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>
pub(super) async fn serve(State(traces): State<Traces>, request: Request, next: Next) -> Response {
    // The route and not the path, which may hold anything.
    let route = request.extensions().get().map_or("", |route: &MatchedPath| route.as_str());
    let method = request.method();
    let name = || format!("{method} {route}").into();
    let attributes = || {
        vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("http.route", route.to_owned()),
        ]
    };
    match traces.begin(name, request.headers(), attributes) {
        None => next.run(request).await,
        Some(span) => span.around(next.run(request), told).await,
    }
}

fn told(response: &Response) -> (Vec<KeyValue>, Status) {
    let status = response.status();
    let told = if status.is_server_error() { Status::error("") } else { Status::Unset };
    let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
    (vec![code], told)
}
