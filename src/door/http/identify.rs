//! The real-time endpoints: answered once the update is durable.

use axum::{extract::Request, http::StatusCode};

use super::{
    error::ApiError,
    request::{self, Target},
};
use crate::{
    domain::update::{SubjectKind, Update},
    door::{refusal::Refusal, wire::json::Place},
    intake::Intake,
};

/// `POST /v1/identify`
pub(super) async fn user(target: Target, request: Request) -> Result<StatusCode, ApiError> {
    let body = request::json(request, target.api.limits.body_bytes_max).await?;
    let sender = target.sender(target.caller.client().lane);
    let updates = target.api.wire.identify(body, sender)?;
    accept(&target.api.intake, updates).await
}

/// `POST /v1/companies/identify`
pub(super) async fn company(target: Target, request: Request) -> Result<StatusCode, ApiError> {
    let body = request::json(request, target.api.limits.body_bytes_max).await?;
    let sender = target.sender(target.caller.client().lane);
    let update = target.api.wire.row(body, SubjectKind::Company, sender, Place::Body)?;
    accept(&target.api.intake, vec![update]).await
}

/// Accepts updates in one commit.
async fn accept(intake: &Intake, updates: Vec<Update>) -> Result<StatusCode, ApiError> {
    let handed_over = intake.hand_over(updates).map_err(Refusal::from)?;
    for outcome in handed_over.answer().await.map_err(Refusal::from)? {
        outcome.map_err(Refusal::from)?;
    }
    Ok(StatusCode::ACCEPTED)
}
