//! One request from the wire to its answer, with the faults in between.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::fault_rule::{Fault, FaultPoint};
use super::http::TellsOfJob;
use super::refusal::Refusal;
use super::world::World;

/// How much of a body is read, so that one above the documented limit can still be answered.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

const GARBAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head>\
                       <body><h1>Checking your browser</h1></body></html>\n";

/// Where a request can go.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) api: Router,
    pub(super) control: Router,
}

/// The connection is to be closed as it stands. Hyper does so when a service fails.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
pub(super) struct HungUp;

pub(super) async fn answer(
    world: Arc<World>,
    doors: Doors,
    request: Request<Incoming>,
) -> Result<Response, HungUp> {
    let mut response = if request.uri().path().starts_with("/_simulator") {
        match read(request, &world).await? {
            Ok(request) => call(doors.control, request).await,
            Err(refusal) => refusal.into_response(),
        }
    } else {
        answer_faultily(&world, doors.api, request).await?
    };
    let request_id = {
        let mut state = world.now().0;
        if !state.is_kept() {
            return Err(HungUp);
        }
        state.request_ids.request_id()
    };
    let request_id = HeaderValue::try_from(request_id).map_err(|_| HungUp)?;
    response.headers_mut().insert("x-request-id", request_id);
    Ok(response)
}

async fn answer_faultily(
    world: &World,
    router: Router,
    request: Request<Incoming>,
) -> Result<Response, HungUp> {
    let point = point_of(request.method(), request.uri().path());
    let strike = world.now().0.faults.strike(point);
    if strike.answer == Some(Fault::Reset) {
        return Err(HungUp);
    }
    let request = read(request, world).await?;
    if !strike.delay.is_zero() {
        tokio::time::sleep(strike.delay).await;
    }
    let carry_out = async {
        match request {
            Ok(request) => call(router, request).await,
            Err(refusal) => refuse(world, point, refusal),
        }
    };
    let late = !strike.delay.is_zero();
    match strike.answer {
        None => {
            let response = carry_out.await;
            if late {
                note_unheard(world, &response);
            }
            Ok(response)
        }
        Some(Fault::Status { code, body, retry_after }) => status(code, body, retry_after),
        Some(Fault::Garbage) => {
            Ok(([(header::CONTENT_TYPE, "text/html")], GARBAGE).into_response())
        }
        Some(Fault::Redirect { location }) => {
            Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
        }
        Some(Fault::Hang { carried_out }) => {
            if carried_out {
                note_unheard(world, &carry_out.await);
            }
            std::future::pending().await
        }
        Some(Fault::LoseAnswer) => {
            note_unheard(world, &carry_out.await);
            Err(HungUp)
        }
        Some(Fault::Truncated) => {
            let response = carry_out.await;
            note_unheard(world, &response);
            truncate(response).await
        }
        Some(
            Fault::Reset
            | Fault::Delay { .. }
            | Fault::FailJob { .. }
            | Fault::PartialJob { .. }
            | Fault::ForgetJob
            | Fault::Page { .. },
        ) => unreachable!("a fault that decides no answer, or that was carried out above"),
    }
}

fn point_of(method: &Method, path: &str) -> Option<FaultPoint> {
    match (method.as_str(), path) {
        ("POST", "/v1/users/bulk_identify" | "/v1/companies/bulk_identify") => {
            Some(FaultPoint::Submit)
        }
        ("POST", "/v1/identify" | "/v1/companies/identify") => Some(FaultPoint::Identify),
        ("POST", "/v1/track") => Some(FaultPoint::Track),
        ("GET", "/v1/background_jobs") => Some(FaultPoint::Jobs),
        ("GET", path) if path.starts_with("/v1/background_jobs/") => Some(FaultPoint::Job),
        _ => None,
    }
}

/// Reads the body whole, so that an answer never overtakes it and a fault never meets half.
async fn read(
    request: Request<Incoming>,
    world: &World,
) -> Result<Result<Request<Body>, Refusal>, HungUp> {
    let (parts, body): (Parts, Incoming) = request.into_parts();
    match Limited::new(body, READ_BYTES_MAX).collect().await {
        Ok(body) => Ok(Ok(Request::from_parts(parts, Body::from(body.to_bytes())))),
        Err(error) if error.is::<LengthLimitError>() => {
            Ok(Err(Refusal::TooLarge { bytes_max: world.limits().bytes_max }))
        }
        Err(_) => Err(HungUp),
    }
}

/// Answers a request whose body was too much to read.
fn refuse(world: &World, point: Option<FaultPoint>, refusal: Refusal) -> Response {
    if point == Some(FaultPoint::Submit) {
        let (mut state, now) = world.now();
        let refused = state.account.admit(now, Err(refusal.clone()));
        return refused.err().unwrap_or(refusal).into_response();
    }
    refusal.into_response()
}

async fn call(router: Router, request: Request<Body>) -> Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn note_unheard(world: &World, response: &Response) {
    if let Some(TellsOfJob(id)) = response.extensions().get() {
        world.now().0.account.mark_unheard(id);
    }
}

fn status(code: u16, body: String, retry_after: Option<String>) -> Result<Response, HungUp> {
    let status = StatusCode::from_u16(code).map_err(|_| HungUp)?;
    let mut response = (status, body).into_response();
    if let Some(retry_after) = retry_after {
        let value = HeaderValue::try_from(retry_after).map_err(|_| HungUp)?;
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    Ok(response)
}

/// The head promises the whole body; half of it comes, and then the connection is closed.
async fn truncate(response: Response) -> Result<Response, HungUp> {
    let (mut parts, body) = response.into_parts();
    let whole = body.collect().await.map_err(|_| HungUp)?.to_bytes();
    if whole.is_empty() {
        return Err(HungUp);
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.slice(..whole.len() / 2);
    let cut = async {
        // Hyper flushes what it has while the body has nothing to give.
        tokio::task::yield_now().await;
        Err::<Bytes, io::Error>(io::ErrorKind::ConnectionReset.into())
    };
    let body = Body::from_stream(stream::iter([Ok(half)]).chain(stream::once(cut)));
    Ok(Response::from_parts(parts, body))
}
