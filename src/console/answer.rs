//! What pages are answered, and how a refusal looks.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refusal that is none of the admin service's.
pub(super) fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// A refusal of the admin service's.
pub(super) fn of_status(status: &Status) -> Response {
    let (http, _) = meaning(status.code());
    (http, Json(as_json(status))).into_response()
}

/// The same, as JSON alone.
pub(super) fn as_json(status: &Status) -> Value {
    let (_, code) = meaning(status.code());
    let fields = status.get_error_details().bad_request().map(|it| it.field_violations.clone());
    let fields: Vec<Value> = fields
        .unwrap_or_default()
        .into_iter()
        .map(|it| json!({ "field": it.field, "description": it.description }))
        .collect();
    json!({ "code": code, "message": status.message(), "fields": fields })
}

/// A code over HTTP, and its name.
fn meaning(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok => (StatusCode::OK, "OK"),
        Code::Cancelled => (StatusCode::INTERNAL_SERVER_ERROR, "CANCELLED"),
        Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        Code::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "ALREADY_EXISTS"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "FAILED_PRECONDITION"),
        Code::Aborted => (StatusCode::CONFLICT, "ABORTED"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "OUT_OF_RANGE"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "DATA_LOSS"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::refusal::Refusal;

    #[test]
    fn a_refusal_names_its_code_and_its_fields() {
        let status = Status::from(Refusal::field("subject", "is missing"));
        let expected = json!({
            "code": "INVALID_ARGUMENT",
            "message": "subject: is missing",
            "fields": [{ "field": "subject", "description": "is missing" }],
        });
        assert_eq!(as_json(&status), expected);
        assert_eq!(of_status(&status).status(), StatusCode::BAD_REQUEST);
        assert_eq!(as_json(&Status::not_found("no"))["fields"], json!([]));
    }
}
