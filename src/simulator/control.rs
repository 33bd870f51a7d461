//! The pages under `/_simulator`: reading the state, arming faults, playing somebody else.
//! They need no key and meet no fault.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::{PoisonMode, SlotTaken};
use super::fault_rule::{FaultRule, InvalidRule};
use super::faults::ArmedRule;
use super::profiles::{Profile, Properties};
use super::snapshot::Snapshot;
use super::world::World;

/// How many rows somebody else's job may hold.
const FOREIGN_ROWS_MAX: u32 = 10_000_000;

pub(super) fn routes(world: Arc<World>) -> Router {
    Router::new()
        .route("/_simulator/state", get(show_state))
        .route("/_simulator/profiles", get(show_profiles))
        .route("/_simulator/profiles/{user_id}", get(show_profile))
        .route("/_simulator/companies", get(show_companies))
        .route("/_simulator/faults", get(show_faults).post(arm_faults).delete(clear_faults))
        .route("/_simulator/poison", get(show_poison).post(add_poison).delete(clear_poison))
        .route("/_simulator/foreign_job", post(start_foreign_job))
        .route("/_simulator/api_key", put(change_api_key))
        .with_state(world)
}

/// Somebody else's job that is to start.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignJob {
    rows: u32,
    #[serde(default)]
    filename: Option<String>,
}

#[derive(Serialize)]
struct StartedJob {
    job_id: String,
}

/// Users whose rows are bad, and what comes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poison {
    user_ids: Vec<String>,
    mode: PoisonMode,
}

/// The key that is right from now on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiKey {
    api_key: String,
}

impl IntoResponse for InvalidRule {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"message": self.to_string()}))).into_response()
    }
}

impl IntoResponse for SlotTaken {
    fn into_response(self) -> Response {
        (StatusCode::CONFLICT, Json(json!({"message": self.to_string()}))).into_response()
    }
}

async fn show_state(State(world): State<Arc<World>>) -> Json<Snapshot> {
    Json(world.snapshot())
}

async fn show_profiles(State(world): State<Arc<World>>) -> Json<BTreeMap<String, Profile>> {
    Json(world.profiles())
}

async fn show_profile(
    State(world): State<Arc<World>>,
    Path(user_id): Path<String>,
) -> Result<Json<Profile>, (StatusCode, Json<Value>)> {
    let missing = || (StatusCode::NOT_FOUND, Json(json!({"message": "there is no such profile"})));
    world.profile(&user_id).map(Json).ok_or_else(missing)
}

async fn show_companies(State(world): State<Arc<World>>) -> Json<BTreeMap<String, Properties>> {
    Json(world.companies())
}

async fn show_faults(State(world): State<Arc<World>>) -> Json<Vec<ArmedRule>> {
    Json(world.now().0.faults.armed())
}

async fn arm_faults(
    State(world): State<Arc<World>>,
    Json(rules): Json<Vec<FaultRule>>,
) -> Result<Json<Vec<ArmedRule>>, InvalidRule> {
    let mut state = world.now().0;
    state.faults.arm(rules)?;
    Ok(Json(state.faults.armed()))
}

async fn clear_faults(State(world): State<Arc<World>>) -> StatusCode {
    world.now().0.faults.clear();
    StatusCode::NO_CONTENT
}

async fn show_poison(State(world): State<Arc<World>>) -> Json<BTreeMap<String, PoisonMode>> {
    Json(world.now().0.account.poison.clone())
}

async fn add_poison(State(world): State<Arc<World>>, Json(poison): Json<Poison>) -> StatusCode {
    world.poison(poison.user_ids, poison.mode);
    StatusCode::NO_CONTENT
}

async fn clear_poison(State(world): State<Arc<World>>) -> StatusCode {
    world.now().0.account.poison.clear();
    StatusCode::NO_CONTENT
}

async fn start_foreign_job(
    State(world): State<Arc<World>>,
    Json(job): Json<ForeignJob>,
) -> Result<Json<StartedJob>, SlotTaken> {
    let job_id = world.start_foreign_job(job.rows, job.filename)?;
    Ok(Json(StartedJob { job_id }))
}

async fn change_api_key(State(world): State<Arc<World>>, Json(key): Json<ApiKey>) -> StatusCode {
    world.now().0.api_key = key.api_key;
    StatusCode::NO_CONTENT
}

/// What the pages and the library both offer.
impl World {
    pub(super) fn snapshot(&self) -> Snapshot {
        let (state, now) = self.advanced();
        Snapshot::of(&state.account, now)
    }

    pub(super) fn profiles(&self) -> BTreeMap<String, Profile> {
        self.advanced().0.account.profiles.users.clone()
    }

    pub(super) fn profile(&self, user_id: &str) -> Option<Profile> {
        self.advanced().0.account.profiles.users.get(user_id).cloned()
    }

    pub(super) fn companies(&self) -> BTreeMap<String, Properties> {
        self.advanced().0.account.profiles.companies.clone()
    }

    pub(super) fn poison(&self, user_ids: Vec<String>, mode: PoisonMode) {
        self.now().0.account.poison.extend(user_ids.into_iter().map(|user_id| (user_id, mode)));
    }

    pub(super) fn start_foreign_job(
        &self,
        rows: u32,
        filename: Option<String>,
    ) -> Result<String, SlotTaken> {
        let rows = usize::try_from(rows.min(FOREIGN_ROWS_MAX)).unwrap_or_default();
        let (mut state, now) = self.now();
        let job = state.account.start_foreign(now, rows, filename)?;
        Ok(job.id.clone())
    }
}
