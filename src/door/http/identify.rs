//! The real-time endpoints: answered once the update is durable.

use axum::{extract::Request, http::StatusCode};

use super::{
    error::ApiError,
    request::{self, Target},
};
use crate::{
    clock,
    domain::update::{SubjectKind, Update},
    door::{gate::Gate, refusal::Refusal, wire::json::Place},
};

/// `POST /v1/identify`
pub(super) async fn user(target: Target, request: Request) -> Result<StatusCode, ApiError> {
    target.served()?;
    let body = request::json(request, target.api.limits.body_bytes_max).await?;
    let sender = target.sender(target.caller.client().lane);
    let accepted = match target.api.wire.identify(body, sender) {
        Ok(updates) => accept(&target, updates.into_iter().map(Ok)).await,
        Err(refusal) => accept(&target, [Err(refusal)]).await,
    };
    answer(&target, accepted)
}

/// `POST /v1/companies/identify`
pub(super) async fn company(target: Target, request: Request) -> Result<StatusCode, ApiError> {
    target.served()?;
    let body = request::json(request, target.api.limits.body_bytes_max).await?;
    let sender = target.sender(target.caller.client().lane);
    let update = target.api.wire.row(body, SubjectKind::Company, sender, Place::Body);
    let accepted = accept(&target, [update]).await;
    answer(&target, accepted)
}

/// Accepts updates in one commit.
async fn accept(
    target: &Target,
    updates: impl IntoIterator<Item = Result<Update, Refusal>>,
) -> Result<(), Refusal> {
    let mut gate = Gate::new(&target.api.wire, &target.caller, clock::now().wall);
    let updates = gate.pass_as_one(updates)?;
    for outcome in target.api.intake.hand_over(updates)?.answer().await? {
        outcome?;
    }
    Ok(())
}

fn answer(target: &Target, accepted: Result<(), Refusal>) -> Result<StatusCode, ApiError> {
    target.caller.client().tally.count(&accepted);
    accepted?;
    Ok(StatusCode::ACCEPTED)
}
