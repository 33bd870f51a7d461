//! What pages are answered, and how a refusal looks.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::proto::code_name;

/// A refusal that is none of the admin service's.
pub(super) fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// A refusal of the admin service's.
pub(super) fn of_status(status: &Status) -> Response {
    (over_http(status.code()), Json(as_json(status))).into_response()
}

/// The same, as JSON alone.
pub(super) fn as_json(status: &Status) -> Value {
    let code = code_name(status.code());
    let fields = status.get_error_details().bad_request().map(|it| it.field_violations.clone());
    let fields: Vec<Value> = fields
        .unwrap_or_default()
        .into_iter()
        .map(|it| json!({ "field": it.field, "description": it.description }))
        .collect();
    json!({ "code": code, "message": status.message(), "fields": fields })
}

/// A code over HTTP.
fn over_http(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
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
