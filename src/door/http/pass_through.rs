//! Requests that Userpilot answers itself: passed through at once, with the key put in.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    error::ApiError,
    request::{Target, expect_json, parse, whole},
};
use crate::{
    domain::{
        update::{AppId, Lane},
        verdict::FailureKind,
    },
    door::{
        caller::Client,
        gate,
        rate::Rate,
        refusal::{Reason, Refusal, Violation},
    },
    upstream::{Answer, HttpUpstream, PassedBack, Passing},
};

/// The one that is there without anybody having asked for it, and so is told from unknown ones.
const TRACK: &str = "/v1/track";

/// Which version of the real-time API the caller speaks.
const API_VERSION: &str = "x-api-version";
/// What Userpilot calls its answer. `x-request-id` is the gateway's own.
const USERPILOT_REQUEST_ID: &str = "userpilot-request-id";

/// What of one app is passed through.
pub struct PassThrough {
    upstream: HttpUpstream,
    /// Methods and paths, such as `POST /v1/track`.
    allowed: BTreeSet<String>,
    rate: Rate,
}

/// Whether a request is passed through for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// It is.
    Granted,
    /// For others it may be.
    NotGranted,
    /// There is no such address.
    Unknown,
}

impl PassThrough {
    /// Passes `allowed` through to `upstream`, so many a minute at the most.
    pub fn new(upstream: HttpUpstream, allowed: BTreeSet<String>, per_minute: NonZeroU32) -> Self {
        Self { upstream, allowed, rate: Rate::per_minute(per_minute) }
    }
}

/// What the app allows is for those clients that are granted it; where none are configured, for
/// whoever calls.
fn grant(allowed: &BTreeSet<String>, client: &Client, request: &str, path: &str) -> Grant {
    match (allowed.contains(request), client.is_configured, path) {
        (true, false, _) => Grant::Granted,
        (true, true, _) if client.pass_through.contains(request) => Grant::Granted,
        (true, true, _) | (false, _, TRACK) => Grant::NotGranted,
        (false, _, _) => Grant::Unknown,
    }
}

/// Whatever the gateway does not answer itself.
pub(super) async fn pass(target: Target, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // Without the app's prefix.
    let path = parts.uri.path();
    let through = through(&target, &format!("{} {path}", parts.method), path)?;
    let body = whole(body, target.api.limits.body_bytes_max).await?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
    let query = parts.uri.query().map(str::to_owned);
    let (query, content_type, body) = match is_ruled(&target, path) {
        // Nothing stands in the query of an event.
        true => {
            let json = HeaderValue::from_static("application/json");
            (None, Some(json), ruled(&target, &parts.headers, &body)?)
        }
        false => (query, content_type, body),
    };
    let segments = path.split('/').skip(1).map(str::to_owned).collect();
    let api_version = parts.headers.get(API_VERSION).cloned();
    let passing =
        Passing { method: parts.method, segments, query, content_type, api_version, body };
    let passed = through.upstream.pass(passing).await;
    target.caller.client().tally.pass();
    match passed {
        Ok(passed_back) => {
            let Answer { status, request_id, .. } = &passed_back.answer;
            tracing::debug!(status, request_id, "a request was passed through");
            Ok(answer(passed_back))
        }
        Err(failure) => {
            tracing::debug!(cause = failure.cause, "a request cannot be passed through");
            Err(unreachable(failure.kind))
        }
    }
}

/// The way to Userpilot, if the request may take it now.
fn through<'a>(target: &'a Target, request: &str, path: &str) -> Result<&'a PassThrough, ApiError> {
    let client = target.caller.client();
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "there is no such address");
    let through = target.api.pass_through.get(&target.app).ok_or_else(unknown)?;
    let granted = match grant(&through.allowed, client, request, path) {
        Grant::Granted => Ok(()),
        Grant::NotGranted => {
            let description = "is not passed through for this client: see pass_through in the \
                               configuration";
            let violation =
                Violation { field: request.to_owned(), description: description.into() };
            Err(Refusal::PermissionDenied(vec![violation]))
        }
        Grant::Unknown => return Err(unknown()),
    };
    gate::on_record(client, granted.and_then(|()| gate::take(client)))?;
    through.rate.take().map_err(|wait| {
        client.tally.refuse(Reason::RateLimited);
        let message = "as many requests were passed through as pass_through_per_minute allows";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(wait)
    })?;
    Ok(through)
}

/// Whether there are rules for what the request may say. They are for events: what else a path
/// takes, and where properties stand in it, is not known here.
fn is_ruled(target: &Target, path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let is_event = ["v1", "track"]
        .into_iter()
        .all(|part| segments.next().is_some_and(|it| it.eq_ignore_ascii_case(part)));
    is_event && target.api.wire.rules_events(target.sender(Lane::Interactive))
}

/// An event with what the rules leave of it.
fn ruled(target: &Target, headers: &HeaderMap, body: &[u8]) -> Result<Bytes, ApiError> {
    expect_json(headers)?;
    let event = target.api.wire.event(parse(body)?, target.sender(Lane::Interactive));
    let event = gate::on_record(target.caller.client(), event)?;
    Ok(event.to_string().into())
}

fn unreachable(kind: FailureKind) -> ApiError {
    let (status, message) = match kind {
        FailureKind::NotSent => (StatusCode::BAD_GATEWAY, "Userpilot cannot be reached"),
        FailureKind::Unknown => (
            StatusCode::GATEWAY_TIMEOUT,
            "Userpilot did not answer; whether it took the request is not known",
        ),
        FailureKind::Throttled(_)
        | FailureKind::KeyRejected
        | FailureKind::SlotTaken
        | FailureKind::TooLarge
        | FailureKind::BadRows
        | FailureKind::NotFound
        | FailureKind::Refused => (StatusCode::BAD_GATEWAY, "Userpilot's answer cannot be read"),
    };
    ApiError::new(status, message)
}

/// Userpilot's answer as it came, save that the gateway's key is nobody else's to mend.
fn answer(passed_back: PassedBack) -> Response {
    let PassedBack { answer, content_type } = passed_back;
    let Answer { request_id, retry_after, body, .. } = answer;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let text = |text: Option<String>| HeaderValue::from_str(&text?).ok();
    let mut response = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let message = "Userpilot refuses the gateway's API key";
            ApiError::new(StatusCode::BAD_GATEWAY, message).into_response()
        }
        _ => {
            let mut response = (status, Body::from(body)).into_response();
            let headers = response.headers_mut();
            headers.remove(header::CONTENT_TYPE);
            let own =
                [(header::CONTENT_TYPE, content_type), (header::RETRY_AFTER, text(retry_after))];
            headers.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
            super::error::as_it_is(response)
        }
    };
    if let Some(request_id) = text(request_id) {
        response.headers_mut().insert(USERPILOT_REQUEST_ID, request_id);
    }
    response
}

/// What of each app is passed through.
pub type PassThroughs = BTreeMap<AppId, PassThrough>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_allows_is_for_those_clients_that_are_granted_it() {
        let set = |requests: &[&str]| requests.iter().map(|it| (*it).to_owned()).collect();
        let allowed: BTreeSet<String> = set(&["POST /v1/track", "POST /v1/goals"]);
        let of = |is_configured, requests: &[&str]| Client {
            is_configured,
            pass_through: set(requests),
            ..Client::default()
        };
        let (anyone, none) = (of(false, &[]), of(true, &[]));
        let (tracks, other) = (of(true, &["POST /v1/track"]), of(true, &["POST /v1/a"]));
        let check = |client: &Client, request: &str, expected| {
            let path = request.split(' ').nth(1).unwrap();
            assert_eq!(grant(&allowed, client, request, path), expected, "{request}");
        };
        check(&anyone, "POST /v1/track", Grant::Granted);
        check(&anyone, "DELETE /v1/track", Grant::NotGranted);
        check(&anyone, "POST /v1/other", Grant::Unknown);
        check(&none, "POST /v1/track", Grant::NotGranted);
        check(&none, "POST /v1/goals", Grant::NotGranted);
        check(&tracks, "POST /v1/track", Grant::Granted);
        check(&tracks, "POST /v1/goals", Grant::NotGranted);
        // What the app does not allow, no grant of a client's does.
        check(&other, "POST /v1/a", Grant::Unknown);
    }
}
