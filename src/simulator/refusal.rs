//! Every way in which the API says no: one table of status, code and words.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    KeyMissing,
    KeyWrong,
    NoSuchJob,
    NoSuchAddress,
    NoSuchMethod,
    /// The request as a whole cannot be read.
    Malformed(String),
    /// A record cannot be taken; the words name its line, unless poison hides it.
    Invalid(String),
    TooManyRows {
        rows: usize,
        rows_max: usize,
    },
    TooLarge {
        bytes_max: usize,
    },
    SlotTaken,
    TooManyRequests {
        retry_after_s: u64,
    },
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing => StatusCode::UNAUTHORIZED,
            Self::KeyWrong => StatusCode::FORBIDDEN,
            Self::NoSuchJob | Self::NoSuchAddress => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRows { .. } | Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlotTaken => StatusCode::CONFLICT,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing => "unauthorized",
            Self::KeyWrong => "forbidden",
            Self::NoSuchJob | Self::NoSuchAddress => "not_found",
            Self::NoSuchMethod => "method_not_allowed",
            Self::Malformed(_) => "bad_request",
            Self::Invalid(_) => "unprocessable_entity",
            Self::TooManyRows { .. } | Self::TooLarge { .. } => "payload_too_large",
            Self::SlotTaken => "conflict",
            Self::TooManyRequests { .. } => "too_many_requests",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::KeyMissing => "an API key is required: Authorization: Token <key>".to_owned(),
            Self::KeyWrong => "the API key is not valid".to_owned(),
            Self::NoSuchJob => "there is no such job".to_owned(),
            Self::NoSuchAddress => "there is no such address".to_owned(),
            Self::NoSuchMethod => "the address does not know this method".to_owned(),
            Self::Malformed(message) | Self::Invalid(message) => message.clone(),
            Self::TooManyRows { rows, rows_max } => {
                format!("{rows} records are too many: at most {rows_max} are allowed")
            }
            Self::TooLarge { bytes_max } => {
                format!("the body is too large: at most {bytes_max} bytes are allowed")
            }
            Self::SlotTaken => "another bulk job is in progress".to_owned(),
            Self::TooManyRequests { retry_after_s } => {
                format!("too many requests: try again in {retry_after_s} s")
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({"errors": [{
            "error": status.canonical_reason(),
            "error_code": self.code(),
            "message": self.message(),
            "details": null,
        }]});
        let mut response = (status, Json(body)).into_response();
        if let Self::TooManyRequests { retry_after_s } = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        response
    }
}
