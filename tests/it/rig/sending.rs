//! Sending changes, by each of the three calls.

use std::collections::BTreeSet;

use futures_util::{future::join_all, stream};
use tonic::transport::Channel;
use userpilot_gateway::proto::{
    AcceptedUpdate, StreamUserUpdatesRequest, UpdateUserRequest, UpdateUsersRequest,
    ingest_service_client::IngestServiceClient, stream_user_updates_response, update_users_result,
};

use super::Change;

/// How changes are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// `UpdateUser`, all of them at once.
    Unary,
    /// `UpdateUsers`.
    Batch,
    /// `StreamUserUpdates`.
    Stream,
}

/// Sends the changes together. `None` stands for one whose acknowledgement did not come.
/// `UpdateUser` keeps no order among calls that are under way: there, each user may come once.
pub(crate) async fn send(
    way: Way,
    client: &mut IngestServiceClient<Channel>,
    changes: &[Change],
) -> Vec<Option<AcceptedUpdate>> {
    match way {
        Way::Unary => join_all(changes.iter().map(|change| unary(client.clone(), change))).await,
        Way::Batch => batch(client, changes).await,
        Way::Stream => streamed(client, changes).await,
    }
}

/// Sends any number of changes: streams them at once, the others in windows.
pub(crate) async fn send_all(
    way: Way,
    client: &mut IngestServiceClient<Channel>,
    changes: &[Change],
) -> Vec<Option<AcceptedUpdate>> {
    let mut answers = Vec::with_capacity(changes.len());
    let mut rest = changes;
    while !rest.is_empty() {
        let window = match way {
            Way::Unary => distinct(rest).min(32),
            Way::Batch => rest.len().min(150),
            Way::Stream => rest.len(),
        };
        answers.extend(send(way, client, &rest[..window]).await);
        rest = &rest[window..];
    }
    answers
}

/// How many changes there are until a user comes again.
fn distinct(changes: &[Change]) -> usize {
    let mut seen = BTreeSet::new();
    changes.iter().take_while(|change| seen.insert(&change.user_id)).count()
}

/// All of them, of which none may be missing.
pub(crate) fn accepted(answers: Vec<Option<AcceptedUpdate>>) -> Vec<AcceptedUpdate> {
    answers.into_iter().map(|answer| answer.expect("an update was not accepted")).collect()
}

async fn unary(
    mut client: IngestServiceClient<Channel>,
    change: &Change,
) -> Option<AcceptedUpdate> {
    let request = UpdateUserRequest { update: Some(change.update()) };
    let answer = client.update_user(request).await.ok()?.into_inner();
    let (receipt, sequence, disposition) = (answer.receipt, answer.sequence, answer.disposition);
    Some(AcceptedUpdate { receipt, sequence, disposition })
}

async fn batch(
    client: &mut IngestServiceClient<Channel>,
    changes: &[Change],
) -> Vec<Option<AcceptedUpdate>> {
    let request = UpdateUsersRequest { updates: changes.iter().map(Change::update).collect() };
    let Ok(answer) = client.update_users(request).await else { return vec![None; changes.len()] };
    let results = answer.into_inner().results;
    assert_eq!(results.len(), changes.len());
    let accepted = |result| match result {
        Some(update_users_result::Result::Accepted(accepted)) => Some(accepted),
        Some(update_users_result::Result::Error(_)) | None => None,
    };
    results.into_iter().map(|result| accepted(result.result)).collect()
}

async fn streamed(
    client: &mut IngestServiceClient<Channel>,
    changes: &[Change],
) -> Vec<Option<AcceptedUpdate>> {
    let requests: Vec<_> = (0..)
        .zip(changes)
        .map(|(tag, change)| StreamUserUpdatesRequest {
            tag,
            update: Some(change.update()),
            company: None,
        })
        .collect();
    let mut accepted = vec![None; changes.len()];
    let Ok(answers) = client.stream_user_updates(stream::iter(requests)).await else {
        return accepted;
    };
    let mut answers = answers.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        if let Some(stream_user_updates_response::Result::Accepted(update)) = answer.result {
            accepted[usize::try_from(answer.tag).unwrap()] = Some(update);
        }
    }
    accepted
}
