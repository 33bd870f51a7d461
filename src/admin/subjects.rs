//! All that is known of a user or a company, and all that waits, for operators.

use std::{collections::BTreeMap, pin::Pin};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::Status;

use super::{
    dead_letters::{dead_letter, unreadable},
    forget,
    grpc::Admin,
    messages::{self, metadata, timestamp},
    status::App,
};
use crate::{
    domain::{
        batch::Batch,
        update::{AppId, ClientId, Subject},
    },
    proto,
    store::queue::{DeadFilter, DeadLetter, DeliveredRecord, RecordInFlight, SubjectRecords},
};

/// Dead letters of a subject that are told of, the newest.
const DEAD_LETTERS_MAX: usize = 100;
/// Records that are read at once.
const CHUNK: usize = 16;

/// An export.
pub(super) type PendingRecords =
    Pin<Box<dyn Stream<Item = Result<proto::ExportPendingResponse, Status>> + Send>>;

impl Admin {
    pub(super) async fn find(
        &self,
        request: proto::FindSubjectRequest,
    ) -> Result<proto::FindSubjectResponse, Status> {
        let app = self.app(&request.app)?;
        let subject = forget::subject(request.subject)?;
        let records = self.observatory.store.subject(app.id, subject.clone()).await;
        let SubjectRecords { pending, in_flight, deliveries, is_remembered } =
            records.map_err(unreadable)?;
        let names = match pending {
            Some(_) => self.client_names().await?,
            None => BTreeMap::new(),
        };
        let letters = self.letters_of(app.id, subject).await?;
        let letter = |letter| dead_letter(&app.name, letter);
        Ok(proto::FindSubjectResponse {
            pending: pending.map(|it| messages::pending(name(&names, it.client), it)),
            in_flight: in_flight.map(in_flight_record),
            deliveries: deliveries.into_iter().map(delivery).collect(),
            dead_letters: letters.into_iter().rev().map(letter).collect(),
            suppressible: is_remembered,
        })
    }

    /// The newest dead letters of a subject, oldest first.
    async fn letters_of(&self, app: AppId, subject: Subject) -> Result<Vec<DeadLetter>, Status> {
        let filter = DeadFilter { subject: Some(subject), reason: None, closed_too: true };
        let (mut letters, mut after) = (Vec::new(), None);
        loop {
            let page = self.dead_page(app, &filter, after, CHUNK).await?;
            letters.extend(page.letters);
            let surplus = letters.len().saturating_sub(DEAD_LETTERS_MAX);
            letters.drain(..surplus);
            after = page.next;
            if after.is_none() {
                return Ok(letters);
            }
        }
    }

    pub(super) async fn export_pending_of(
        &self,
        request: &proto::ExportPendingRequest,
    ) -> Result<PendingRecords, Status> {
        let App { id, .. } = *self.app(&request.app)?;
        let names = self.client_names().await?;
        let begin = (self.clone(), Some(None));
        let pages = stream::try_unfold(begin, move |(admin, from)| async move {
            let Some(from) = from else { return Ok::<_, Status>(None) };
            admin.go_on()?;
            let page = admin.observatory.store.pending(id, from, CHUNK).await;
            let page = page.map_err(unreadable)?;
            let records = stream::iter(page.records.into_iter().map(Ok::<_, Status>));
            Ok(Some((records, (admin, page.next.map(Some)))))
        });
        let records = pages.try_flatten().map(move |record| {
            let (subject, record) = record?;
            Ok(proto::ExportPendingResponse {
                subject: Some(messages::subject(subject)),
                pending: Some(messages::pending(name(&names, record.client), record)),
            })
        });
        Ok(Box::pin(records))
    }

    async fn client_names(&self) -> Result<BTreeMap<ClientId, String>, Status> {
        self.observatory.store.client_names().await.map_err(unreadable)
    }
}

fn name(names: &BTreeMap<ClientId, String>, client: ClientId) -> String {
    names.get(&client).cloned().unwrap_or_default()
}

fn in_flight_record(RecordInFlight { batch, record }: RecordInFlight) -> proto::InFlightRecord {
    let express = batch.is_none();
    let (batch_id, job_id) = ids(batch);
    proto::InFlightRecord {
        batch_id,
        job_id,
        express,
        accepted_at: Some(timestamp(record.first_accepted_at)),
        first_sequence: record.first_sequence,
        last_sequence: record.last_sequence,
        updates: record.updates,
        company_id: record.company_id.map(|(id, _)| id),
        metadata: Some(metadata(record.properties)),
    }
}

fn delivery(delivered: DeliveredRecord) -> proto::Delivery {
    let DeliveredRecord { delivered_at, sequences, batch, by_express } = delivered;
    let (batch_id, job_id) = ids(batch);
    proto::Delivery {
        delivered_at: Some(timestamp(delivered_at)),
        batch_id,
        job_id,
        express: by_express,
        first_sequence: sequences.0,
        last_sequence: sequences.1,
    }
}

/// A batch's name, and upstream's for its job.
fn ids(batch: Option<Box<Batch>>) -> (String, String) {
    batch.map(|batch| (batch.id.to_string(), batch.job_id.unwrap_or_default())).unwrap_or_default()
}
