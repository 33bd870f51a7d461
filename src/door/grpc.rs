//! The gRPC door.

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    auth::{Callers, address},
    caller::Caller,
    found::{disposition, update_state},
    gate::Gate,
    receipt::{NoReceipt, Receipt, Receipts},
    refusal::{Refusal, Violation},
    senders::{Sender, Senders, split},
    sent::Sent,
    wire::Wire,
};
use crate::{
    audit::{self, Door},
    clock,
    delivery::Operator,
    domain::update::{AppId, Update},
    intake::{HandedOver, Intake, NotAccepted},
    proto::{self, ingest_service_server::IngestService},
    store::{Accepted, Store, queue::Found},
    trace,
};

/// Updates that are handed to the writer together: about as many as it commits at once.
const CHUNK_UPDATES_MAX: usize = 256;
/// Chunks of one stream that wait for the writer. While they do, the sender is held back.
const STREAM_CHUNKS_MAX: usize = 8;

/// Where services send updates.
#[derive(Clone)]
pub struct Ingest(Arc<Parts>);

struct Parts {
    callers: Callers,
    wire: Wire,
    intake: Intake,
    store: Store,
    receipts: Receipts,
    operators: BTreeMap<AppId, Operator>,
    updates_per_request_max: usize,
    stop: CancellationToken,
}

impl Ingest {
    /// The service. When `stop` is cancelled, streams end.
    pub fn new(
        callers: Callers,
        wire: Wire,
        intake: Intake,
        (store, receipts): (Store, Receipts),
        operators: BTreeMap<AppId, Operator>,
        updates_per_request_max: usize,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Parts {
            callers,
            wire,
            intake,
            store,
            receipts,
            operators,
            updates_per_request_max,
            stop,
        }))
    }
}

impl Parts {
    fn receipt(&self, sender: &Sender, accepted: Accepted) -> proto::AcceptedUpdate {
        let Sender { app, subject } = sender;
        proto::AcceptedUpdate {
            receipt: self.receipts.encode(*app, accepted.sequence, subject),
            sequence: accepted.sequence,
            disposition: disposition(accepted.disposition).into(),
        }
    }

    /// Refuses a receipt that may be of one of these apps that is held: its number is not known.
    fn may_be_held(&self, app: AppId, apps: &BTreeMap<String, AppId>) -> Result<(), Status> {
        let held = apps.iter().filter(|(_, own)| self.wire.held.contains_key(own));
        let held: Vec<&String> = held.map(|(name, _)| name).collect();
        if held.is_empty() || self.operators.contains_key(&app) {
            return Ok(());
        }
        let message = format!(
            "the receipt may be of an app that is held ({held:?}): what the gateway's store holds \
             of it is damaged, and its operator has to see to that (`store check`)"
        );
        Err(Status::failed_precondition(message))
    }

    /// Takes one update, and answers once it is durable.
    async fn accept(
        &self,
        update: Option<impl Into<Sent>>,
        caller: &Caller,
    ) -> Result<proto::AcceptedUpdate, Refusal> {
        let accepted = self.take(update, caller).await;
        caller.client().tally.count(&accepted);
        accepted
    }

    async fn take(
        &self,
        update: Option<impl Into<Sent>>,
        caller: &Caller,
    ) -> Result<proto::AcceptedUpdate, Refusal> {
        let mut gate = Gate::new(&self.wire, caller, clock::now().wall);
        let update = gate.read(update, || "update".into())?;
        let sender = Sender { app: update.app, subject: update.subject.clone() };
        let outcome = self.intake.hand_over(vec![update])?.answer().await?.pop();
        Ok(self.receipt(&sender, outcome.ok_or(NotAccepted::Failed)??))
    }

    /// Accepts those of one request that are good, and answers all of them, in order.
    async fn accept_all(
        &self,
        updates: Vec<impl Into<Sent>>,
        caller: &Caller,
    ) -> Result<Vec<Result<proto::AcceptedUpdate, Refusal>>, Refusal> {
        let (count, max) = (updates.len(), self.updates_per_request_max);
        if count > max {
            let description =
                format!("has {count} updates, more than limits.updates_per_request_max ({max})");
            return Err(Refusal::field("updates", description));
        }
        let mut gate = Gate::new(&self.wire, caller, clock::now().wall);
        let read = |(index, update)| gate.read(Some(update), || format!("updates[{index}]"));
        let mut updates = updates.into_iter().enumerate().map(read);
        let mut chunks = Vec::new();
        loop {
            let (good, senders) = split(updates.by_ref().take(CHUNK_UPDATES_MAX));
            if senders.is_empty() {
                break;
            }
            // One chunk after the other: they are accepted in the order of handing over.
            chunks.push((senders, self.intake.hand_over(good)));
        }
        let mut answers = Vec::with_capacity(count);
        for (senders, handed_over) in chunks {
            answers.extend(self.answer(caller, senders, handed_over).await);
        }
        Ok(answers)
    }

    /// The answers to `senders`, in order, once the good ones of them have been answered.
    async fn answer(
        &self,
        caller: &Caller,
        senders: Senders,
        handed_over: Result<HandedOver, NotAccepted>,
    ) -> Vec<Result<proto::AcceptedUpdate, Refusal>> {
        let outcomes = match handed_over {
            Ok(handed_over) => handed_over.answer().await,
            Err(not_accepted) => Err(not_accepted),
        };
        let (mut outcomes, failed) = match outcomes {
            Ok(outcomes) => (outcomes.into_iter(), None),
            Err(not_accepted) => (Vec::new().into_iter(), Some(not_accepted)),
        };
        let mut answer = |sender: Result<Sender, Refusal>| {
            let sender = sender?;
            match (outcomes.next(), failed) {
                (Some(outcome), _) => Ok(self.receipt(&sender, outcome?)),
                (None, failed) => Err(failed.unwrap_or(NotAccepted::Failed).into()),
            }
        };
        let tally = &caller.client().tally;
        let counted = |answer: Result<_, Refusal>| {
            tally.count(&answer);
            answer
        };
        senders.into_iter().map(|sender| counted(answer(sender))).collect()
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn update_user(
        &self,
        request: Request<proto::UpdateUserRequest>,
    ) -> Result<Response<proto::UpdateUserResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let accepted = self.0.accept(request.into_inner().update, &caller).await?;
        let proto::AcceptedUpdate { receipt, sequence, disposition } = accepted;
        Ok(Response::new(proto::UpdateUserResponse { receipt, sequence, disposition }))
    }

    async fn update_company(
        &self,
        request: Request<proto::UpdateCompanyRequest>,
    ) -> Result<Response<proto::UpdateCompanyResponse>, Status> {
        let caller = Caller::of(request.extensions())?;
        let accepted = self.0.accept(request.into_inner().update, &caller).await?;
        let proto::AcceptedUpdate { receipt, sequence, disposition } = accepted;
        Ok(Response::new(proto::UpdateCompanyResponse { receipt, sequence, disposition }))
    }

    async fn update_users(
        &self,
        request: Request<proto::UpdateUsersRequest>,
    ) -> Result<Response<proto::UpdateUsersResponse>, Status> {
        let parts = &*self.0;
        let caller = Caller::of(request.extensions())?;
        let answers = parts.accept_all(request.into_inner().updates, &caller).await?;
        let result = |answer: Result<_, Refusal>| proto::UpdateUsersResult {
            result: Some(match answer {
                Ok(accepted) => proto::update_users_result::Result::Accepted(accepted),
                Err(refusal) => proto::update_users_result::Result::Error(refusal.into()),
            }),
        };
        let results = answers.into_iter().map(result).collect();
        Ok(Response::new(proto::UpdateUsersResponse { results }))
    }

    async fn update_companies(
        &self,
        request: Request<proto::UpdateCompaniesRequest>,
    ) -> Result<Response<proto::UpdateCompaniesResponse>, Status> {
        let parts = &*self.0;
        let caller = Caller::of(request.extensions())?;
        let answers = parts.accept_all(request.into_inner().updates, &caller).await?;
        let result = |answer: Result<_, Refusal>| proto::UpdateCompaniesResult {
            result: Some(match answer {
                Ok(accepted) => proto::update_companies_result::Result::Accepted(accepted),
                Err(refusal) => proto::update_companies_result::Result::Error(refusal.into()),
            }),
        };
        let results = answers.into_iter().map(result).collect();
        Ok(Response::new(proto::UpdateCompaniesResponse { results }))
    }

    type StreamUserUpdatesStream =
        Pin<Box<dyn Stream<Item = Result<proto::StreamUserUpdatesResponse, Status>> + Send>>;

    async fn stream_user_updates(
        &self,
        request: Request<Streaming<proto::StreamUserUpdatesRequest>>,
    ) -> Result<Response<Self::StreamUserUpdatesStream>, Status> {
        let parts = self.0.clone();
        let caller = Caller::of(request.extensions())?;
        let peer = address(request.extensions());
        let stop = parts.stop.clone();
        let span = trace::served();
        let answers = request
            .into_inner()
            .take_until(stop.cancelled_owned())
            .ready_chunks(CHUNK_UPDATES_MAX)
            // One chunk after the other, so that they are accepted in this order. Only the
            // answers are waited for side by side.
            .then(move |chunk| {
                let handing_over = hand_over_chunk(parts.clone(), (caller.clone(), peer), chunk);
                trace::serving(span.clone(), handing_over)
            })
            .map(Chunk::answer)
            .buffered(STREAM_CHUNKS_MAX)
            .flat_map(stream::iter);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_update(
        &self,
        request: Request<proto::GetUpdateRequest>,
    ) -> Result<Response<proto::GetUpdateResponse>, Status> {
        let store = &self.0.store;
        let caller = Caller::of(request.extensions())?;
        let text = request.into_inner().receipt;
        let Receipt { app, sequence, subject } = match self.0.receipts.decode(&text) {
            Ok(receipt) => receipt,
            Err(NoReceipt::Unreadable) => {
                return Err(Refusal::field("receipt", "is not a receipt").into());
            }
            Err(NoReceipt::AnotherStores) => {
                return Err(Status::not_found("the receipt is of another gateway's store"));
            }
        };
        let own = &caller.client().apps;
        if !own.values().any(|own| *own == app) {
            self.0.may_be_held(app, own)?;
            let description = "is of an app that this client may not use".into();
            let violation = Violation { field: "receipt".to_owned(), description };
            audit::permission_refused(&caller.client().name, &violation.field);
            return Err(Refusal::PermissionDenied(vec![violation]).into());
        }
        let found = store.find(app, subject, sequence).await;
        let mut found = found.map_err(|_| Status::unavailable("the store cannot be read"))?;
        // How far a job is, its driver knows: only the steps of a batch's life are stored.
        if let Found::InFlight(batch) = &mut found
            && let Some(operator) = self.0.operators.get(&app)
            && let Some(current) = operator.view().batch.filter(|it| it.id == batch.id)
        {
            **batch = current;
        }
        let (state, detail) = update_state(found, sequence)
            .ok_or_else(|| Status::not_found("no update has the receipt's sequence"))?;
        Ok(Response::new(proto::GetUpdateResponse { state: state.into(), sequence, detail }))
    }
}

/// A chunk of a stream that was handed to the writer. Tags go back with what they came with.
struct Chunk {
    parts: Arc<Parts>,
    caller: Caller,
    tags: Vec<u64>,
    senders: Senders,
    handed_over: Result<HandedOver, NotAccepted>,
    /// The stream broke after these.
    broken: Option<Status>,
}

async fn hand_over_chunk(
    parts: Arc<Parts>,
    (caller, peer): (Caller, Option<SocketAddr>),
    messages: Vec<Result<proto::StreamUserUpdatesRequest, Status>>,
) -> Chunk {
    let now = clock::now().wall;
    let mut broken = None;
    let mut tags = Vec::with_capacity(messages.len());
    let mut updates = Vec::with_capacity(messages.len());
    // A stream may last longer than what its sender was let in with.
    let caller = match parts.callers.renew(&caller, now, (Door::Grpc, peer)).await {
        Ok(renewed) => renewed,
        Err(refusal) => {
            let (senders, handed_over) = (Vec::new(), Ok(HandedOver::nothing()));
            return Chunk {
                parts,
                caller,
                tags,
                senders,
                handed_over,
                broken: Some(refusal.into()),
            };
        }
    };
    let mut gate = Gate::new(&parts.wire, &caller, now);
    for message in messages {
        match message {
            Ok(message) => {
                tags.push(message.tag);
                updates.push(read_streamed(&mut gate, message));
            }
            Err(status) => broken = Some(status),
        }
    }
    let (good, senders) = split(updates.into_iter());
    let handed_over = parts.intake.hand_over_in_turn(good).await;
    Chunk { parts, caller, tags, senders, handed_over, broken }
}

fn read_streamed(
    gate: &mut Gate<'_>,
    message: proto::StreamUserUpdatesRequest,
) -> Result<Update, Refusal> {
    match (message.update, message.company) {
        (update, None) => gate.read(update, || "update".into()),
        (None, company) => gate.read(company, || "company".into()),
        (Some(_), Some(_)) => Err(Refusal::field("company", "is sent together with an update")),
    }
}

impl Chunk {
    async fn answer(self) -> Vec<Result<proto::StreamUserUpdatesResponse, Status>> {
        use proto::stream_user_updates_response::Result as Answer;
        let answers = self.parts.answer(&self.caller, self.senders, self.handed_over).await;
        let response = |(tag, answer)| {
            let result = match answer {
                Ok(accepted) => Answer::Accepted(accepted),
                Err(refusal) => Answer::Error(proto::UpdateError::from(refusal)),
            };
            Ok(proto::StreamUserUpdatesResponse { tag, result: Some(result) })
        };
        let responses = self.tags.into_iter().zip(answers).map(response);
        responses.chain(self.broken.map(Err)).collect()
    }
}
