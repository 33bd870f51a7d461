//! The bulk endpoints: answered with a job once all rows and the job are durable.

use std::net::SocketAddr;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, Limited};

use super::{
    error::{ApiError, busy, too_slow},
    file,
    jobs::{self, Shown},
    request::{Target, expect_json, is_too_long, media_type, no_such_app},
    room::{Held, NoRoom, half},
    rows,
    watched::{is_too_slow, watched},
};
use crate::{
    audit::Door,
    clock,
    domain::{
        admission::QueueRefusal,
        update::{Lane, Subject, SubjectKind, Update},
    },
    door::{
        auth::address,
        gate,
        refusal::Refusal,
        wire::json::{Place, Sender},
    },
    store::{Accepted, Job, JobPlace, JobRow},
};

/// Updates that are handed to the writer together: about as many as it commits at once.
const CHUNK_UPDATES_MAX: usize = 256;

/// `POST /v1/users/bulk_identify`
pub(super) async fn users(target: Target, request: Request) -> Result<Response, ApiError> {
    submit(target, SubjectKind::User, request).await
}

/// `POST /v1/companies/bulk_identify`
pub(super) async fn companies(target: Target, request: Request) -> Result<Response, ApiError> {
    submit(target, SubjectKind::Company, request).await
}

async fn submit(target: Target, kind: SubjectKind, request: Request) -> Result<Response, ApiError> {
    target.served()?;
    let form = is_form(request.headers())?;
    // Before the first row is taken, so that a refusal takes none.
    let (store, jobs_max) = (&target.api.store, target.api.limits.jobs_max);
    let client = target.caller.client();
    let of_client_max = if client.is_configured { half(jobs_max) } else { jobs_max };
    let place = store.reserve_job(target.app, (client.id, of_client_max), jobs_max).await;
    let place = place.map_err(|_| ApiError::store())?.map_err(|_| jobs::too_many())?;
    let job = Job { companies: kind == SubjectKind::Company, ..Job::default() };
    let peer = address(request.extensions());
    let mut taking = Taking { target, peer, kind, job, chunk: Vec::new(), rows: Vec::new() };
    match taking.all(request, form).await {
        Ok(()) => taking.finish(place).await,
        Err(error) => Err(error.after(taking.rows.len())),
    }
}

/// Whether the body is a form with a file; if not, it is JSON.
fn is_form(headers: &HeaderMap) -> Result<bool, ApiError> {
    match media_type(headers).as_deref() {
        Some("multipart/form-data") => Ok(true),
        Some(_) | None => expect_json(headers).map(|()| false),
    }
}

/// The rows of one request, on their way into the queue.
pub(super) struct Taking {
    pub(super) target: Target,
    /// Where the request comes from.
    peer: Option<SocketAddr>,
    kind: SubjectKind,
    pub(super) job: Job,
    chunk: Vec<(u32, Update)>,
    /// The rows that are durable.
    rows: Vec<JobRow>,
}

impl Taking {
    async fn all(&mut self, request: Request, form: bool) -> Result<(), ApiError> {
        let pace = self.target.api.limits.pace;
        let request = request.map(|body| watched(body, pace));
        match form {
            true => {
                file::read(request, self).await?;
                self.hand_over().await
            }
            false => self.json(request.into_body()).await,
        }
    }

    /// Reads a row.
    pub(super) fn read(&self, row: serde_json::Value, place: Place) -> Result<Update, Refusal> {
        let sender = self.target.sender(Lane::Bulk);
        self.on_record(self.target.api.wire.row(row, self.kind, sender, place))
    }

    /// A row that was read. One that is refused is counted.
    pub(super) fn on_record(&self, read: Result<Update, Refusal>) -> Result<Update, Refusal> {
        gate::on_record(self.target.caller.client(), read)
    }

    /// Takes the next row; `number` counts from 1.
    pub(super) async fn take(&mut self, number: u32, update: Update) -> Result<(), ApiError> {
        self.chunk.push((number, update));
        if self.chunk.len() < CHUNK_UPDATES_MAX {
            return Ok(());
        }
        self.hand_over().await
    }

    /// Notes a row that is not taken.
    pub(super) fn refuse(&mut self, number: u32, refusal: &Refusal) {
        self.job.refused_rows += 1;
        self.job.note_error(number, &refusal.message());
    }

    /// A JSON body is taken as a whole or not at all.
    async fn json(&mut self, body: Body) -> Result<(), ApiError> {
        let limits = &self.target.api.limits;
        let (bytes_max, rows_max) = (limits.bulk_bytes_max, limits.bulk_rows_max);
        let mut held = self.target.api.buffers.held_by(self.target.caller.client());
        let body = buffered(body, bytes_max, &mut held).await?;
        let (api, caller) = (self.target.api.clone(), self.target.caller.clone());
        let (kind, app) = (self.kind, self.target.app);
        // Fifty megabytes take their time.
        let read = tokio::task::spawn_blocking(move || {
            let client = caller.client();
            let sender = Sender { client, app, lane: Lane::Bulk };
            let read = |index, row| {
                let read = api.wire.row(row, kind, sender, Place::Element(kind, index));
                gate::on_record(client, read)
            };
            rows::read(&body, kind, rows_max, read)
        });
        let updates = read.await.map_err(|_| ApiError::store())??;
        // Updates take as much memory as the body did, until they are stored.
        let of_row = held.bytes() / updates.len().max(1);
        for (number, update) in (1..).zip(updates) {
            self.take(number, update).await?;
            if self.chunk.is_empty() {
                held.give_back(of_row * CHUNK_UPDATES_MAX);
            }
        }
        self.hand_over().await
    }

    /// Whoever sends for long may be taken out meanwhile, or loses the app.
    async fn renew(&mut self) -> Result<(), Refusal> {
        let Target { api, caller, app, .. } = &mut self.target;
        let from = (Door::Http, self.peer);
        *caller = api.callers.renew(caller, clock::now().wall, from).await?;
        let client = caller.client();
        match client.apps.values().any(|own| own == app) {
            true => Ok(()),
            false => gate::on_record(client, Err(no_such_app())),
        }
    }

    async fn hand_over(&mut self) -> Result<(), ApiError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.renew().await?;
        let Target { api, caller, .. } = &self.target;
        gate::in_turn(caller.client(), self.chunk.len(), &api.stop).await?;
        let (numbers, updates): (Vec<u32>, Vec<Update>) = self.chunk.drain(..).unzip();
        let subjects: Vec<Subject> = updates.iter().map(|update| update.subject.clone()).collect();
        let handed_over = api.intake.hand_over_in_turn(updates).await;
        let outcomes = handed_over.map_err(Refusal::from)?.answer().await.map_err(Refusal::from)?;
        let mut failed = None;
        for ((number, subject), outcome) in numbers.into_iter().zip(subjects).zip(outcomes) {
            let outcome = outcome.map_err(Refusal::from);
            self.target.caller.client().tally.count(&outcome);
            match outcome {
                Ok(Accepted { sequence, .. }) => {
                    self.rows.push(JobRow::new(number, &subject, sequence));
                }
                Err(refusal @ Refusal::Queue(QueueRefusal::RecordTooLarge)) => {
                    self.refuse(number, &refusal);
                }
                // The caller sends all of it again, which changes nothing for what was taken.
                Err(refusal) => failed = failed.or(Some(refusal)),
            }
        }
        failed.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// All rows are there: makes the job.
    async fn finish(self, place: JobPlace) -> Result<Response, ApiError> {
        let Self { target, mut job, rows, .. } = self;
        let api = &target.api;
        let taken = rows.len();
        job.rows = taken as u64 + job.refused_rows;
        job.submitted_at = clock::now().wall;
        let of = (place, target.caller.client().id);
        let added = api.store.add_job(of, job.clone(), rows).await;
        let id = added.map_err(|_| ApiError::store().after(taken))?;
        job.ended_at = (job.final_rows() >= job.rows).then_some(job.submitted_at);
        let shown = Shown { store: api.store.id(), prefix: &target.prefix, id, job: &job };
        Ok((StatusCode::ACCEPTED, Json(shown.accepted())).into_response())
    }
}

/// All of a body, in memory of which all requests share so much.
async fn buffered(body: Body, bytes_max: usize, held: &mut Held) -> Result<Bytes, ApiError> {
    let mut body = Limited::new(body, bytes_max);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match (is_too_long(&*error), is_too_slow(&*error)) {
            (true, _) => ApiError::too_large(format!("the body has more than {bytes_max} bytes")),
            (false, true) => too_slow(),
            (false, false) => ApiError::malformed("the body cannot be read"),
        })?;
        let Ok(bytes) = frame.into_data() else { continue };
        held.take(bytes.len()).map_err(|NoRoom| busy())?;
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.into())
}
