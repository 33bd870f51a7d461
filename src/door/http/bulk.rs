//! The bulk endpoints: answered with a job once all rows and the job are durable.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    error::ApiError,
    file,
    jobs::{self, Shown},
    request::{Target, expect_json, is_too_long, media_type},
    rows,
};
use crate::{
    clock,
    domain::{
        admission::QueueRefusal,
        update::{Lane, Subject, SubjectKind, Update},
    },
    door::{
        refusal::Refusal,
        wire::json::{Place, Sender},
    },
    store::{Accepted, Job, JobRow},
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
    let job = Job { companies: kind == SubjectKind::Company, ..Job::default() };
    let mut taking = Taking { target, kind, job, chunk: Vec::new(), rows: Vec::new() };
    if media_type(request.headers()).as_deref() == Some("multipart/form-data") {
        file::read(request, &mut taking).await?;
    } else {
        expect_json(request.headers())?;
        taking.json(request.into_body()).await?;
    }
    taking.finish().await
}

/// The rows of one request, on their way into the queue.
pub(super) struct Taking {
    pub(super) target: Target,
    pub(super) kind: SubjectKind,
    pub(super) job: Job,
    chunk: Vec<(u32, Update)>,
    /// The rows that are durable.
    rows: Vec<JobRow>,
}

impl Taking {
    /// Reads a row.
    pub(super) fn read(&self, row: serde_json::Value, place: Place) -> Result<Update, Refusal> {
        self.target.api.wire.row(row, self.kind, self.target.sender(Lane::Bulk), place)
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
        let (body, permits) = buffered(body, bytes_max, &self.target.api.buffers).await?;
        let (api, caller) = (self.target.api.clone(), self.target.caller.clone());
        let (kind, app) = (self.kind, self.target.app);
        // Fifty megabytes take their time.
        let read = tokio::task::spawn_blocking(move || {
            let sender = Sender { client: caller.client(), app, lane: Lane::Bulk };
            let read = |index, row| api.wire.row(row, kind, sender, Place::Element(kind, index));
            rows::read(&body, kind, rows_max, read)
        });
        let updates = read.await.map_err(|_| ApiError::store())??;
        drop(permits);
        for (number, update) in (1..).zip(updates) {
            self.take(number, update).await?;
        }
        Ok(())
    }

    /// Waits until the client's rate has room for what is to be handed over.
    async fn pace(&self) {
        let Some(rate) = &self.target.caller.client().rate else { return };
        for _ in &self.chunk {
            while let Err(early) = rate.take() {
                clock::sleep_until(Some(clock::now().instant.plus(early))).await;
            }
        }
    }

    async fn hand_over(&mut self) -> Result<(), ApiError> {
        self.pace().await;
        let (numbers, updates): (Vec<u32>, Vec<Update>) = self.chunk.drain(..).unzip();
        let subjects: Vec<Subject> = updates.iter().map(|update| update.subject.clone()).collect();
        let handed_over = self.target.api.intake.hand_over_in_turn(updates).await;
        let outcomes = handed_over.map_err(Refusal::from)?.answer().await.map_err(Refusal::from)?;
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
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(())
    }

    /// All rows are there: makes the job.
    async fn finish(mut self) -> Result<Response, ApiError> {
        if !self.chunk.is_empty() {
            self.hand_over().await?;
        }
        let Self { target, mut job, rows, .. } = self;
        let api = &target.api;
        job.rows = rows.len() as u64 + job.refused_rows;
        job.submitted_at = clock::now().wall;
        let of = (target.app, target.caller.client().id);
        let added = api.store.add_job(of, job.clone(), rows, api.limits.jobs_max).await;
        let id = added.map_err(|_| ApiError::store())?.map_err(|_| jobs::too_many())?;
        job.ended_at = (job.final_rows() >= job.rows).then_some(job.submitted_at);
        let shown = Shown { store: api.store.id(), prefix: &target.prefix, id, job: &job };
        Ok((StatusCode::ACCEPTED, Json(shown.accepted())).into_response())
    }
}

/// All of a body, in memory of which all requests share so much.
async fn buffered(
    body: Body,
    bytes_max: usize,
    buffers: &Arc<Semaphore>,
) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), ApiError> {
    let mut body = Limited::new(body, bytes_max);
    let mut whole = Vec::new();
    let mut permits = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match is_too_long(&*error) {
            true => ApiError::too_large(format!("the body has more than {bytes_max} bytes")),
            false => ApiError::malformed("the body cannot be read"),
        })?;
        let Ok(bytes) = frame.into_data() else { continue };
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let permit = buffers.clone().try_acquire_many_owned(count);
        permits.push(permit.map_err(|_| super::error::busy())?);
        whole.extend_from_slice(&bytes);
    }
    Ok((whole.into(), permits))
}
