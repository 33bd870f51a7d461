//! Requests that Userpilot answers itself: passed through at once, with the key put in.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};

use super::{
    error::ApiError,
    request::{Target, whole},
};
use crate::{
    domain::{update::AppId, verdict::FailureKind},
    door::caller::Client,
    upstream::{HttpUpstream, PassedBack, Passing},
};

const MINUTE: Duration = Duration::from_secs(60);
/// One of the minute's requests in so many may come at once. The rest of the minute's budget comes
/// back drop by drop, so that no minute has more than all of it.
const BURST_PART: u32 = 10;
/// The one that is there without anybody having asked for it, and so is told from unknown ones.
const TRACK: &str = "/v1/track";

/// What of one app is passed through.
pub struct PassThrough {
    upstream: HttpUpstream,
    /// Methods and paths, such as `POST /v1/track`.
    allowed: BTreeSet<String>,
    limiter: DefaultDirectRateLimiter,
}

impl PassThrough {
    /// Passes `allowed` through to `upstream`, so many a minute at the most.
    pub fn new(upstream: HttpUpstream, allowed: BTreeSet<String>, per_minute: NonZeroU32) -> Self {
        Self { upstream, allowed, limiter: RateLimiter::direct(quota(per_minute)) }
    }

    /// Whether `client` may have this passed through: what the app allows, it allows to all of its
    /// clients. A client's own grants belong here.
    fn is_granted(&self, _client: &Client, request: &str) -> bool {
        self.allowed.contains(request)
    }

    fn take_turn(&self) -> Result<(), ApiError> {
        let Err(early) = self.limiter.check() else { return Ok(()) };
        let wait = early.wait_time_from(self.limiter.clock().now());
        let message = "as many requests were passed through as pass_through_per_minute allows";
        Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(wait))
    }
}

fn quota(per_minute: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(per_minute.get() / BURST_PART).unwrap_or(NonZeroU32::MIN);
    let steady = (per_minute.get() - burst.get()).max(1);
    Quota::with_period(MINUTE / steady).unwrap_or(Quota::per_minute(per_minute)).allow_burst(burst)
}

/// Whatever the gateway does not answer itself.
pub(super) async fn pass(target: Target, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // Without the app's prefix.
    let path = parts.uri.path();
    let name = format!("{} {path}", parts.method);
    let granted = |it: &&PassThrough| it.is_granted(target.caller.client(), &name);
    let through = target.api.pass_through.get(&target.app);
    let Some(through) = through.filter(granted) else { return Err(refused(path)) };
    through.take_turn()?;
    let passing = Passing {
        method: parts.method,
        segments: path.split('/').skip(1).map(str::to_owned).collect(),
        query: parts.uri.query().map(str::to_owned),
        content_type: parts.headers.get(header::CONTENT_TYPE).cloned(),
        body: whole(body, target.api.limits.body_bytes_max).await?,
    };
    match through.upstream.pass(passing).await {
        Ok(passed_back) => Ok(answer(passed_back)),
        Err(failure) => {
            tracing::debug!(cause = failure.cause, "a request cannot be passed through");
            Err(unreachable(failure.kind))
        }
    }
}

fn refused(path: &str) -> ApiError {
    match path {
        TRACK => {
            let message = "POST /v1/track is not granted: see pass_through in the configuration";
            ApiError::new(StatusCode::FORBIDDEN, message)
        }
        _ => ApiError::new(StatusCode::NOT_FOUND, "there is no such address"),
    }
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
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let message = "Userpilot refuses the gateway's API key";
        return ApiError::new(StatusCode::BAD_GATEWAY, message).into_response();
    }
    let mut response = (status, Body::from(answer.body)).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    let retry_after = answer.retry_after.and_then(|text| HeaderValue::from_str(&text).ok());
    if let Some(retry_after) = retry_after {
        headers.insert(header::RETRY_AFTER, retry_after);
    }
    super::error::as_it_is(response)
}

/// What of each app is passed through.
pub type PassThroughs = BTreeMap<AppId, PassThrough>;

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn no_minute_has_more_than_its_budget() {
        for per_minute in [1, 7, 60, 600] {
            let clock = FakeRelativeClock::default();
            let quota = quota(NonZeroU32::new(per_minute).unwrap());
            let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
            let mut taken = Vec::new();
            for step in 0..3_600_u32 {
                while limiter.check().is_ok() {
                    taken.push(step);
                }
                clock.advance(Duration::from_millis(50));
            }
            let within =
                |from| taken.iter().filter(|at| (from..from + 1_199).contains(*at)).count();
            let most = (0..3_600).map(within).max().unwrap();
            assert!(most <= per_minute as usize, "{most} of {per_minute}");
            assert!(taken.len() >= per_minute as usize * 2, "{} of {per_minute}", taken.len());
        }
    }
}
