//! The documented job objects, as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::clock::iso_8601;
use super::config::JobShape;
use super::jobs::Job;
use super::profiles::Subjects;

/// The answer to a submission.
pub(super) fn accepted(job: &Job, shape: JobShape, now: Duration) -> Value {
    match shape {
        JobShape::Short => json!({
            "job_id": job.id,
            "status": job.status(now),
            "submitted_at": iso_8601(job.timeline.accepted),
        }),
        JobShape::Long => json!({
            "job_id": job.id,
            "status": job.status(now),
            "type": kind(job),
            "filename": job.filename(),
            "file_size": file_size(job),
            "total_rows": job.total_rows,
            "start_time": iso_8601(job.timeline.accepted),
            "end_time": null,
            "links": links(job),
        }),
    }
}

/// The answer to a question about one job.
pub(super) fn job(job: &Job, now: Duration) -> Value {
    let mut object = listed(job, true, now);
    object["completed_rows"] = json!(job.completed_rows);
    object
}

/// One job of the list.
pub(super) fn listed(job: &Job, with_filename: bool, now: Duration) -> Value {
    let ended = job.ended(now);
    let elapsed = ended.unwrap_or(now).saturating_sub(job.timeline.accepted);
    let mut object = json!({
        "job_id": job.id,
        "type": kind(job),
        "status": job.status(now),
        "total_rows": job.total_rows,
        "start_time": iso_8601(job.timeline.accepted),
        "end_time": ended.map(iso_8601),
        "elapsed_time": elapsed.as_secs(),
        "file_size": file_size(job),
        "links": links(job),
    });
    if with_filename {
        object["filename"] = json!(job.filename());
    }
    object
}

/// The document names no values for `type`; these are the simulator's own.
fn kind(job: &Job) -> &'static str {
    match job.subjects {
        Subjects::Users => "users_bulk_identify",
        Subjects::Companies => "companies_bulk_identify",
    }
}

fn file_size(job: &Job) -> Option<usize> {
    job.file.as_ref().map(|file| file.bytes)
}

fn links(job: &Job) -> Value {
    json!({"self": format!("/v1/background_jobs/{}", job.id.replace(':', "%3A"))})
}
