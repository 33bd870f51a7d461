//! What operators are told, as messages of the contract.

use std::time::Duration;

use prost_types::{Struct, value::Kind};

use super::{
    draining::is_draining,
    status::{App, AppStatus},
};
use crate::{
    clock,
    domain::{
        batch::{Batch, BatchState, JobEvent, Settlement},
        budget,
        merge::{Property, Record},
        time::Timestamp,
        update::{Lane, Subject, SubjectKind, Value},
    },
    proto::{self, subject::Id as SubjectId},
};

/// The state of an app.
pub(super) fn app_status(
    app: &App,
    status: AppStatus,
    oldest: Option<Timestamp>,
) -> proto::AppStatus {
    let (state, summary) = (status.state(), status.summary());
    let (draining, delivered_by) = (is_draining(&status), status.delivered_by().to_owned());
    let AppStatus { name, queue, view, updates, suppressed, freshness, .. } = status;
    let now = clock::now();
    let batch = view.batch.as_ref();
    let kind = batch.map_or(SubjectKind::User, |batch| batch.kind);
    let in_flight_records = batch.map_or(0, |batch| batch.rows) + queue.depth.express_in_flight;
    let totals = proto::AppTotals {
        accepted_updates: updates.0,
        coalesced_updates: updates.1,
        suppressed_updates: suppressed,
        refused_updates: updates.2,
        delivered_rows: view.delivered_rows,
        completed_jobs: view.completed_jobs,
        failed_attempts: view.failed_attempts,
        conflicts: view.conflicts,
        dead_rows: view.dead_rows,
    };
    proto::AppStatus {
        state: state.into(),
        summary,
        paused: view.paused,
        pending_records: queue.depth.records,
        pending_bulk_records: queue.depth.bulk_records,
        pending_express_records: queue.depth.express_records,
        express_in_flight_records: queue.depth.express_in_flight,
        pending_companies: queue.depth.company_records,
        halted_kinds: SubjectKind::ALL
            .into_iter()
            .filter(|kind| *view.halted.of(*kind))
            .map(|kind| subject_kind(kind).into())
            .collect(),
        pending_bytes: queue.depth.bytes,
        oldest_pending_age: oldest.and_then(|at| duration(now.wall.since(at))),
        drain_eta: duration(status.drain_eta),
        draining,
        users_per_minute: status.users_per_minute,
        occupancy_remaining: duration(status.occupancy_remaining),
        failed_attempts: view.failures_in_a_row,
        retry_at: status.retry_in.map(|left| timestamp(now.wall.plus(left))),
        last_error: view.last_error,
        failing_since: view.failing_since.map(timestamp),
        dead_letters: queue.depth.dead_letters,
        slot_holder: view.slot_holder.map(|holder| proto::SlotHolder {
            job_id: holder.job_id,
            filename: holder.filename,
            is_gateway: holder.is_gateway,
        }),
        totals: Some(totals),
        utilisation: status.utilisation,
        freshness_p50: freshness.and_then(|it| duration(it.p50)),
        freshness_p99: freshness.and_then(|it| duration(it.p99)),
        job_users_target: *view.job_users.of(kind),
        fixed_cost: duration(*view.fixed_cost.of(kind)),
        in_flight_records,
        held_reason: view.held.unwrap_or_default(),
        delivered_by,
        current_job: view.batch.map(|batch| job(app, batch)),
        app: name,
    }
}

/// A batch and its job, for an operator or for who may not see upstream's words.
pub(super) fn told_job(app: &App, batch: Batch, is_operator: bool) -> proto::Job {
    job(app, if is_operator { batch } else { batch.in_our_words() })
}

fn job(app: &App, batch: Batch) -> proto::Job {
    let state = match batch.state {
        BatchState::Claiming | BatchState::Claimed => proto::JobState::Claimed,
        BatchState::Submitting => proto::JobState::Submitting,
        BatchState::Running | BatchState::Settling(_) => proto::JobState::Running,
        BatchState::Settled(Settlement::Delivered) => proto::JobState::Delivered,
        BatchState::Settled(Settlement::Requeued) => proto::JobState::Requeued,
        BatchState::Settled(Settlement::Split(_)) => proto::JobState::Split,
        BatchState::Settled(Settlement::Dead(_)) => proto::JobState::Dead,
    };
    proto::Job {
        app: app.name.clone(),
        batch_id: batch.id.to_string(),
        kind: subject_kind(batch.kind).into(),
        job_id: batch.job_id.unwrap_or_default(),
        state: state.into(),
        upstream_status: batch.upstream_status,
        rows: batch.rows,
        completed_rows: batch.completed_rows,
        updates: batch.updates,
        bytes: batch.bytes,
        claimed_at: Some(timestamp(batch.claimed_at)),
        submitted_at: batch.submitted_at.map(timestamp),
        settled_at: batch.settled_at.map(timestamp),
        submissions: batch.submissions,
        request_id: batch.request_id.unwrap_or_default(),
        last_error: batch.last_error,
        parent_batch_id: batch.parent.map(|id| id.to_string()).unwrap_or_default(),
        occupancy: batch
            .submitted_at
            .and_then(|_| duration(budget::occupancy(batch.rows, app.users_per_minute))),
        events: batch.events.into_iter().map(job_event).collect(),
    }
}

fn job_event(event: JobEvent) -> proto::JobEvent {
    proto::JobEvent {
        at: Some(timestamp(event.at)),
        what: event.what.to_string(),
        request_id: event.request_id.unwrap_or_default(),
        detail: event.detail,
    }
}

/// A pending record, whose client is called `client`.
pub(super) fn pending(client: String, record: Record) -> proto::PendingRecord {
    proto::PendingRecord {
        client,
        lane: lane(record.lane).into(),
        accepted_at: Some(timestamp(record.first_accepted_at)),
        first_sequence: record.first_sequence,
        last_sequence: record.last_sequence,
        updates: record.updates,
        bytes: record.size() as u64,
        company_id: record.company_id.map(|(id, _)| id),
        metadata: Some(metadata(record.properties)),
    }
}

/// A subject.
pub(super) fn subject(subject: Subject) -> proto::Subject {
    let id = match subject.kind {
        SubjectKind::User => SubjectId::UserId(subject.id),
        SubjectKind::Company => SubjectId::CompanyId(subject.id),
    };
    proto::Subject { id: Some(id) }
}

/// Properties, without their stamps.
pub(super) fn metadata(properties: Vec<Property>) -> Struct {
    Struct { fields: properties.into_iter().map(|it| (it.name, value(it.value))).collect() }
}

fn value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        // Whole numbers came as such doubles, too.
        #[expect(clippy::cast_precision_loss, reason = "it is exact up to 2^53, as it came")]
        Value::Integer(value) => Kind::NumberValue(value as f64),
        Value::Float(value) => Kind::NumberValue(value),
        Value::Text(value) => Kind::StringValue(value),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A lane.
pub(super) fn lane(lane: Lane) -> proto::Lane {
    match lane {
        Lane::Express => proto::Lane::Express,
        Lane::Interactive => proto::Lane::Interactive,
        Lane::Bulk => proto::Lane::Bulk,
    }
}

fn subject_kind(kind: SubjectKind) -> proto::SubjectKind {
    match kind {
        SubjectKind::User => proto::SubjectKind::User,
        SubjectKind::Company => proto::SubjectKind::Company,
    }
}

/// A moment.
pub(super) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    proto::timestamp(at.as_micros())
}

/// A duration; `None` where it is longer than protobuf can write.
pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}
