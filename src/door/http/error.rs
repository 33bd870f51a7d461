//! Refusals in Userpilot's own shape: `{"errors":[{"error","error_code","message","details"}]}`.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    door::refusal::{CHALLENGE, Refusal, Violation},
    intake::NotAccepted,
};

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    details: Value,
    retry_after: Option<Duration>,
}

/// Marks an answer whose body has the shape, or is another's.
#[derive(Clone)]
struct InShape;

impl ApiError {
    /// With this status, in these words, which hold nothing of the request's values.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), details: Value::Null, retry_after: None }
    }

    /// The same, once so much time has passed.
    #[must_use]
    pub(super) fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// The same, of a request of which so many rows are durable: who is refused is told of them.
    #[must_use]
    pub(super) fn after(self, rows: usize) -> Self {
        if rows == 0 {
            return self;
        }
        let message = format!(
            "{}; {rows} rows of the request were taken before that, and will be delivered: sent \
             again, they leave the same profiles",
            self.message
        );
        let details = match self.details.is_null() {
            true => json!({"accepted_rows": rows}),
            false => self.details,
        };
        Self { message, details, ..self }
    }

    /// The body cannot be read as what it should be.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The body, or what it holds, is too much.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// The gateway does not serve yet, or no longer.
    pub(super) fn unavailable(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(UNAVAILABLE)
    }

    /// The store cannot be read or written.
    pub(super) fn store() -> Self {
        Refusal::from(NotAccepted::Failed).into()
    }
}

const UNAVAILABLE: Duration = Duration::from_secs(2);

/// The body of a bulk request came too slowly.
pub(super) fn too_slow() -> ApiError {
    let message = "less than http.bulk_progress_bytes_min of the request came within \
                   http.request_timeout_ms";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
}

/// As much waits in memory as may.
pub(super) fn busy() -> ApiError {
    let message = "too many bodies are being read (http.buffered_bytes_max)";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(SHORTLY)
}

/// As much of files is kept on disk as may.
pub(super) fn too_much_spooled() -> ApiError {
    let message = "too many files are being checked (http.spooled_bytes_max)";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(SHORTLY)
}

const SHORTLY: Duration = Duration::from_secs(1);

/// `error_code`: the status in words.
fn code(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("error");
    let words = reason.split(|char: char| !char.is_ascii_alphanumeric());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let details = match &refusal {
            Refusal::Invalid(violations) | Refusal::PermissionDenied(violations) => {
                violations.iter().map(detail).collect()
            }
            Refusal::Unauthenticated
            | Refusal::NoKeys
            | Refusal::RateLimited { .. }
            | Refusal::AppHeld(_)
            | Refusal::Queue(_)
            | Refusal::Intake(_) => Value::Null,
        };
        let error = Self::new(refusal.http_status(), refusal.message());
        Self { details, retry_after: refusal.retry_after(), ..error }
    }
}

fn detail(violation: &Violation) -> Value {
    json!({"field": violation.field, "description": violation.description})
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{
            "error": self.status.canonical_reason(),
            "error_code": code(self.status),
            "message": self.message,
            "details": self.details,
        }]});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(after) = self.retry_after {
            // Whole seconds, and not too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // Demanded by RFC 9110, 15.5.2.
            let challenge = HeaderValue::from_static(CHALLENGE);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(InShape);
        response
    }
}

/// Marks an answer of somebody else's, which stays as it is.
pub(super) fn as_it_is(mut response: Response) -> Response {
    response.extensions_mut().insert(InShape);
    response
}

/// An answer of whoever stands between, such as 415 for an unknown encoding, in the shape.
pub(super) fn in_shape(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.extensions().get::<InShape>().is_some() {
        return response;
    }
    let message = match status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            "the body's Content-Type or Content-Encoding is not taken"
        }
        StatusCode::METHOD_NOT_ALLOWED => "the address does not know this method",
        StatusCode::NOT_FOUND => "there is no such address",
        _ => "the request cannot be answered",
    };
    let mut shaped = ApiError::new(status, message).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        shaped.headers_mut().insert(header::ALLOW, allow.clone());
    }
    shaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_has_userpilots_shape() {
        let refusal = Refusal::field("users[3].user_id", "is empty");
        let response = ApiError::from(refusal).into_response();
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({"errors": [{
            "error": "Unprocessable Entity",
            "error_code": "unprocessable_entity",
            "message": "users[3].user_id: is empty",
            "details": [{"field": "users[3].user_id", "description": "is empty"}],
        }]});
        assert_eq!(body, expected);
    }

    #[test]
    fn a_moment_to_wait_is_a_whole_second() {
        let response = ApiError::from(Refusal::from(NotAccepted::Busy)).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn what_is_in_shape_stays_and_what_is_not_gets_it() {
        let bare = StatusCode::METHOD_NOT_ALLOWED.into_response();
        let shaped = in_shape(bare);
        assert_eq!(shaped.headers()[header::CONTENT_TYPE], "application/json");
        let own = ApiError::unavailable("stopping").into_response();
        assert_eq!(in_shape(own).headers()[header::RETRY_AFTER], "2");
        assert_eq!(in_shape(StatusCode::ACCEPTED.into_response()).status(), StatusCode::ACCEPTED);
    }
}
