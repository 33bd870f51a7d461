//! The gRPC door.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, future, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    receipt::{self, Receipt},
    refusal::Refusal,
    wire::Wire,
};
use crate::{
    clock,
    domain::{
        batch::Batch,
        update::{AppId, ClientId, Subject, Update},
    },
    intake::{Intake, NotAccepted},
    proto::{self, ingest_service_server::IngestService},
    store::{Accepted, Disposition, Outcomes, Store, queue::Found},
};

/// Updates that are handed to the writer together: about as many as it commits at once.
const CHUNK_UPDATES_MAX: usize = 256;
/// Chunks of one stream that wait for the writer. While they do, the sender is held back.
const STREAM_CHUNKS_MAX: usize = 8;

/// Where services send updates.
#[derive(Clone)]
pub struct Ingest(Arc<Parts>);

struct Parts {
    wire: Wire,
    intake: Intake,
    store: Store,
    updates_per_request_max: usize,
    stop: CancellationToken,
}

impl Ingest {
    /// The service. When `stop` is cancelled, streams end.
    pub fn new(
        wire: Wire,
        intake: Intake,
        store: Store,
        updates_per_request_max: usize,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Parts { wire, intake, store, updates_per_request_max, stop }))
    }
}

/// What is remembered of an update to answer it.
struct Sender {
    app: AppId,
    subject: Subject,
}

impl Parts {
    fn receipt(&self, sender: &Sender, accepted: Accepted) -> proto::AcceptedUpdate {
        let Sender { app, subject } = sender;
        proto::AcceptedUpdate {
            receipt: receipt::encode(self.store.id(), *app, accepted.sequence, subject),
            sequence: accepted.sequence,
            disposition: disposition(accepted.disposition).into(),
        }
    }

    /// Has the good ones of `updates` accepted by `accept`, and answers all in order.
    async fn answer<F: Future<Output = Result<Outcomes, NotAccepted>>>(
        &self,
        updates: Vec<Result<Update, Refusal>>,
        accept: impl FnOnce(Vec<Update>) -> F,
    ) -> Vec<Result<proto::AcceptedUpdate, Refusal>> {
        let mut good = Vec::with_capacity(updates.len());
        let senders: Vec<Result<Sender, Refusal>> = updates
            .into_iter()
            .map(|update| {
                let update = update?;
                let sender = Sender { app: update.app, subject: update.subject.clone() };
                good.push(update);
                Ok(sender)
            })
            .collect();
        let (mut outcomes, failed) = match accept(good).await {
            Ok(outcomes) => (outcomes.into_iter(), None),
            Err(not_accepted) => (Vec::new().into_iter(), Some(not_accepted)),
        };
        let answer = |sender: Result<Sender, Refusal>| {
            let sender = sender?;
            match (outcomes.next(), failed) {
                (Some(outcome), _) => Ok(self.receipt(&sender, outcome?)),
                (None, failed) => Err(failed.unwrap_or(NotAccepted::Failed).into()),
            }
        };
        senders.into_iter().map(answer).collect()
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn update_user(
        &self,
        request: Request<proto::UpdateUserRequest>,
    ) -> Result<Response<proto::UpdateUserResponse>, Status> {
        let Parts { wire, intake, store, .. } = &*self.0;
        let update = request.into_inner().update;
        let update =
            wire.update(update, ClientId::default(), clock::now().wall, || "update".into())?;
        let (app, subject) = (update.app, update.subject.clone());
        let outcomes = intake.accept(vec![update]).await.map_err(Refusal::from)?;
        let outcome = outcomes.into_iter().next();
        let outcome = outcome.ok_or(Refusal::from(NotAccepted::Failed))?;
        let accepted = outcome.map_err(Refusal::from)?;
        Ok(Response::new(proto::UpdateUserResponse {
            receipt: receipt::encode(store.id(), app, accepted.sequence, &subject),
            sequence: accepted.sequence,
            disposition: disposition(accepted.disposition).into(),
        }))
    }

    async fn update_users(
        &self,
        request: Request<proto::UpdateUsersRequest>,
    ) -> Result<Response<proto::UpdateUsersResponse>, Status> {
        let parts = &*self.0;
        let updates = request.into_inner().updates;
        let (count, max) = (updates.len(), parts.updates_per_request_max);
        if count > max {
            let description =
                format!("has {count} updates, more than limits.updates_per_request_max ({max})");
            return Err(Refusal::field("updates", description).into());
        }
        let now = clock::now().wall;
        let read = |(index, update)| {
            let path = || format!("updates[{index}]");
            parts.wire.update(Some(update), ClientId::default(), now, path)
        };
        let mut updates = updates.into_iter().enumerate().map(read);
        let mut chunks = Vec::new();
        loop {
            let chunk: Vec<_> = updates.by_ref().take(CHUNK_UPDATES_MAX).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(parts.answer(chunk, |good| parts.intake.accept(good)));
        }
        // Handed over in this order, and so accepted in it.
        let answers = future::join_all(chunks).await;
        let result = |answer: Result<_, Refusal>| proto::UpdateUsersResult {
            result: Some(match answer {
                Ok(accepted) => proto::update_users_result::Result::Accepted(accepted),
                Err(refusal) => proto::update_users_result::Result::Error(refusal.into()),
            }),
        };
        let results = answers.into_iter().flatten().map(result).collect();
        Ok(Response::new(proto::UpdateUsersResponse { results }))
    }

    type StreamUserUpdatesStream =
        Pin<Box<dyn Stream<Item = Result<proto::StreamUserUpdatesResponse, Status>> + Send>>;

    async fn stream_user_updates(
        &self,
        request: Request<Streaming<proto::StreamUserUpdatesRequest>>,
    ) -> Result<Response<Self::StreamUserUpdatesStream>, Status> {
        let parts = self.0.clone();
        let stop = parts.stop.clone();
        let answers = request
            .into_inner()
            .take_until(stop.cancelled_owned())
            .ready_chunks(CHUNK_UPDATES_MAX)
            .map(move |chunk| answer_chunk(parts.clone(), chunk))
            .buffered(STREAM_CHUNKS_MAX)
            .flat_map(stream::iter);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_update(
        &self,
        request: Request<proto::GetUpdateRequest>,
    ) -> Result<Response<proto::GetUpdateResponse>, Status> {
        let store = &self.0.store;
        let text = request.into_inner().receipt;
        let Some(Receipt { store: of, app, sequence, subject }) = receipt::decode(&text) else {
            return Err(Refusal::field("receipt", "is not a receipt").into());
        };
        if of != store.id() {
            return Err(Status::not_found("the receipt is of another gateway's store"));
        }
        let found = store.find(app, subject, sequence).await;
        let found = found.map_err(|_| Status::unavailable("the store cannot be read"))?;
        let (state, detail) = update_state(found, sequence)
            .ok_or_else(|| Status::not_found("no update has the receipt's sequence"))?;
        Ok(Response::new(proto::GetUpdateResponse { state: state.into(), sequence, detail }))
    }
}

/// Answers a chunk of a stream: tags go back with what they came with.
async fn answer_chunk(
    parts: Arc<Parts>,
    chunk: Vec<Result<proto::StreamUserUpdatesRequest, Status>>,
) -> Vec<Result<proto::StreamUserUpdatesResponse, Status>> {
    let now = clock::now().wall;
    let mut broken = None;
    let mut tags = Vec::with_capacity(chunk.len());
    let mut updates = Vec::with_capacity(chunk.len());
    for message in chunk {
        match message {
            Ok(message) => {
                tags.push(message.tag);
                let client = ClientId::default();
                updates.push(parts.wire.update(message.update, client, now, || "update".into()));
            }
            Err(status) => broken = Some(status),
        }
    }
    let answers = parts.answer(updates, |good| parts.intake.accept_in_turn(good)).await;
    let result = |(tag, answer): (u64, Result<_, Refusal>)| {
        Ok(proto::StreamUserUpdatesResponse {
            tag,
            result: Some(match answer {
                Ok(accepted) => proto::stream_user_updates_response::Result::Accepted(accepted),
                Err(refusal) => proto::stream_user_updates_response::Result::Error(refusal.into()),
            }),
        })
    };
    tags.into_iter().zip(answers).map(result).chain(broken.map(Err)).collect()
}

fn disposition(disposition: Disposition) -> proto::Disposition {
    match disposition {
        Disposition::Queued => proto::Disposition::Queued,
        Disposition::Coalesced => proto::Disposition::Coalesced,
    }
}

type State = (proto::UpdateState, Option<proto::get_update_response::Detail>);

fn update_state(found: Found, sequence: u64) -> Option<State> {
    use proto::{UpdateState, get_update_response::Detail};
    Some(match found {
        Found::Pending { place, place_is_lower_bound, first_accepted_at, last_sequence } => {
            let age = clock::now().wall.since(first_accepted_at);
            let detail = proto::PendingDetail {
                place,
                place_is_lower_bound,
                age: age.try_into().ok(),
                last_sequence,
            };
            (UpdateState::Pending, Some(Detail::Pending(detail)))
        }
        Found::InFlight(batch) => {
            let detail = proto::InFlightDetail {
                batch_id: batch.id.to_string(),
                job_id: batch.job_id.clone().unwrap_or_default(),
                completed_rows: batch.completed_rows,
                total_rows: batch.rows,
            };
            (UpdateState::InFlight, Some(Detail::InFlight(detail)))
        }
        Found::Delivered { delivered_at, last_sequence, batch } => {
            let of =
                |field: fn(Batch) -> String| batch.clone().map(|b| field(*b)).unwrap_or_default();
            let detail = proto::DeliveredDetail {
                delivered_at: Some(proto::timestamp(delivered_at.as_micros())),
                batch_id: of(|batch| batch.id.to_string()),
                job_id: of(|batch| batch.job_id.unwrap_or_default()),
                absorbed_by_sequence: (last_sequence != sequence).then_some(last_sequence),
            };
            (UpdateState::Delivered, Some(Detail::Delivered(detail)))
        }
        Found::DeliveredLongAgo => (UpdateState::Delivered, None),
        Found::Unknown => return None,
    })
}
