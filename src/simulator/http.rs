//! The documented addresses. Each handler reads, asks the account, and shapes the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::account::Account;
use super::body;
use super::jobs::Job;
use super::profiles::{Row, Subjects};
use super::refusal::Refusal;
use super::shapes;
use super::violations::Rule;
use super::world::World;

/// How many jobs the list shows, newest first: its first page.
const LISTED_JOBS_MAX: usize = 100;
/// The one version of the real-time endpoints that the document names.
const API_VERSION: &str = "2020-09-22";

/// Marks an answer that tells of a new job, so that the loss of the answer can be noted.
#[derive(Clone)]
pub(super) struct TellsOfJob(pub(super) String);

pub(super) fn routes(world: Arc<World>) -> Router {
    Router::new()
        .route("/v1/users/bulk_identify", post(submit_users))
        .route("/v1/companies/bulk_identify", post(submit_companies))
        .route("/v1/background_jobs", get(list_jobs))
        .route("/v1/background_jobs/{job_id}", get(show_job))
        .route("/v1/identify", post(identify_user))
        .route("/v1/companies/identify", post(identify_company))
        .route("/v1/track", post(track))
        .method_not_allowed_fallback(async || Refusal::NoSuchMethod)
        .fallback(async || Refusal::NoSuchAddress)
        .layer(from_fn_with_state(Arc::clone(&world), authenticate))
        // The simulator reads every body whole before it comes here, within its own limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(world)
}

async fn authenticate(State(world): State<Arc<World>>, request: Request, next: Next) -> Response {
    let checked = {
        let (mut state, now) = world.now();
        check_key(request.headers(), &state.api_key).inspect_err(|refusal| {
            let detail = format!("{} {}: {refusal}", request.method(), request.uri().path());
            state.account.violate(Rule::BadAuth, now, detail);
        })
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check_key(headers: &HeaderMap, right_key: &str) -> Result<(), Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.strip_prefix("Token ")) {
        Some(key) if key == right_key => Ok(()),
        Some(_) => Err(Refusal::KeyWrong),
        None => Err(Refusal::KeyMissing),
    }
}

async fn submit_users(State(world): State<Arc<World>>, request: Request) -> Response {
    submit(&world, Subjects::Users, request).await.into_response()
}

async fn submit_companies(State(world): State<Arc<World>>, request: Request) -> Response {
    submit(&world, Subjects::Companies, request).await.into_response()
}

async fn submit(
    world: &World,
    subjects: Subjects,
    request: Request,
) -> Result<impl IntoResponse + use<>, Refusal> {
    let offered = body::read_submission(request, subjects, world.limits()).await;
    let (mut guard, now) = world.now();
    let state = &mut *guard;
    let submission = state.account.admit(now, offered)?;
    let fate = state.faults.fate_of_accepted_job();
    let job = state.account.start(now, submission, &fate);
    let answer = shapes::accepted(job, world.config.job_shape, now);
    let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
    response.extensions_mut().insert(TellsOfJob(job.id.clone()));
    Ok(response)
}

async fn show_job(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let (mut guard, now) = world.advanced();
    let state = &mut *guard;
    if state.account.knows(&id) && state.faults.forgets_known_job() {
        state.account.forget(&id);
    }
    let job = state.account.tell_of(&id).ok_or(Refusal::NoSuchJob)?;
    Ok(Json(shapes::job(job, now)))
}

async fn list_jobs(State(world): State<Arc<World>>) -> Json<Vec<Value>> {
    let (mut guard, now) = world.advanced();
    let state = &mut *guard;
    let (jobs, oldest_first) = state.faults.page().unwrap_or((LISTED_JOBS_MAX, false));
    let mut known: Vec<&Job> = state.account.jobs.iter().filter(|job| !job.forgotten).collect();
    if !oldest_first {
        known.reverse();
    }
    let with_filename = world.config.list_filenames;
    let page = known.into_iter().take(jobs.min(LISTED_JOBS_MAX));
    Json(page.map(|job| shapes::listed(job, with_filename, now)).collect())
}

async fn identify_user(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    identify(&world, &headers, || body::parse_identify(&body))
}

async fn identify_company(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    identify(&world, &headers, || body::parse_company_identify(&body))
}

fn identify(
    world: &World,
    headers: &HeaderMap,
    parse: impl FnOnce() -> Result<Vec<(Subjects, Row)>, Refusal>,
) -> Result<StatusCode, Refusal> {
    let (mut state, now) = world.now();
    state.account.take_identify(now)?;
    check_realtime_headers(headers, &mut state.account, now)?;
    let rows = parse()?;
    state.account.identify(now, rows);
    Ok(StatusCode::ACCEPTED)
}

async fn track(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let (mut state, now) = world.now();
    state.account.take_track(now)?;
    check_realtime_headers(&headers, &mut state.account, now)?;
    body::parse_track(&body)?;
    state.account.track();
    Ok(StatusCode::ACCEPTED)
}

/// A request without the version is carried out, since no document says what becomes of it, and
/// noted, since the guide calls it required.
fn check_realtime_headers(
    headers: &HeaderMap,
    account: &mut Account,
    now: Duration,
) -> Result<(), Refusal> {
    body::expect_json(headers)?;
    match headers.get("x-api-version") {
        Some(version) if version != API_VERSION => {
            Err(Refusal::Malformed(format!("X-API-Version must be {API_VERSION}")))
        }
        Some(_) => Ok(()),
        None => {
            account.violate(
                Rule::NoApiVersion,
                now,
                format!("X-API-Version: {API_VERSION} is missing"),
            );
            Ok(())
        }
    }
}
