//! Virtual jobs, as their callers see them: as many at once as they like, each as if it had
//! Userpilot for itself.

use axum::{Json, extract::RawPathParams, http::StatusCode};
use serde_json::{Value, json};

use super::{error::ApiError, request::Target};
use crate::{
    clock,
    domain::time::Timestamp,
    store::{Job, JobId, RowError},
};

/// `GET /v1/background_jobs/{job_id}`
pub(super) async fn one(target: Target, params: RawPathParams) -> Result<Json<Value>, ApiError> {
    target.served()?;
    let store = &target.api.store;
    let text = params.iter().find(|(name, _)| *name == "job_id").map_or("", |(_, text)| text);
    let none = || ApiError::new(StatusCode::NOT_FOUND, "there is no such job");
    let number = decode(text, store.id()).ok_or_else(none)?;
    // Whose it is, the key says: another client's cannot even be named.
    let id = JobId { app: target.app, client: target.caller.client().id, number };
    let job = store.follow_job(id).await.map_err(|_| ApiError::store())?.ok_or_else(none)?;
    let shown = Shown { store: store.id(), prefix: &target.prefix, id, job: &job };
    Ok(Json(shown.whole(clock::now().wall)))
}

/// `GET /v1/background_jobs`: the newest first. Userpilot calls its list paginated, and documents no
/// parameters for that: so there are no further pages here.
pub(super) async fn list(target: Target) -> Result<Json<Vec<Value>>, ApiError> {
    target.served()?;
    let store = &target.api.store;
    let client = target.caller.client().id;
    let jobs = store.jobs(target.app, client, target.api.limits.listed_jobs_max).await;
    let now = clock::now().wall;
    let show = |(id, job): &(JobId, Job)| {
        Shown { store: store.id(), prefix: &target.prefix, id: *id, job }.listed(now)
    };
    Ok(Json(jobs.map_err(|_| ApiError::store())?.iter().map(show).collect()))
}

/// As many jobs as may be are under way.
pub(super) fn too_many() -> ApiError {
    let message = "as many jobs of this app as http.jobs_max, or of this client as half of that, are \
                   not over yet, or being sent";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(ONCE_ONE_IS_OVER)
}

const ONCE_ONE_IS_OVER: std::time::Duration = std::time::Duration::from_secs(60);

/// A job that is shown.
pub(super) struct Shown<'a> {
    pub(super) store: u64,
    pub(super) prefix: &'a str,
    pub(super) id: JobId,
    pub(super) job: &'a Job,
}

impl Shown<'_> {
    /// As the answer to its request: both shapes that Userpilot documents, in one.
    pub(super) fn accepted(&self) -> Value {
        let mut object = self.listed(self.job.submitted_at);
        object["submitted_at"] = object["start_time"].clone();
        object
    }

    fn whole(&self, now: Timestamp) -> Value {
        let job = self.job;
        let mut object = self.listed(now);
        object["completed_rows"] = json!(job.delivered_rows);
        object["failed_rows"] = json!(job.refused_rows + job.dead_rows);
        let error = |it: &RowError| json!({"row": it.row, "message": it.reason});
        object["errors"] = job.errors.iter().map(error).collect();
        object
    }

    fn listed(&self, now: Timestamp) -> Value {
        let job = self.job;
        let id = encode(self.id.number, self.store);
        let elapsed = job.ended_at.unwrap_or(now).since(job.submitted_at);
        json!({
            "job_id": id,
            "type": if job.companies { "companies_bulk_identify" } else { "users_bulk_identify" },
            "status": status(job),
            "total_rows": job.rows,
            "start_time": iso_8601(job.submitted_at),
            "end_time": job.ended_at.map(iso_8601),
            "elapsed_time": elapsed.as_secs(),
            "filename": job.filename,
            "file_size": job.file_bytes,
            "links": {"self": format!("{}/v1/background_jobs/{id}", self.prefix)},
        })
    }
}

/// In Userpilot's words. A job of which a part was taken is `completed`, with fewer
/// `completed_rows` than `total_rows`.
fn status(job: &Job) -> &'static str {
    match (job.ended_at, job.started_at) {
        (Some(_), _) if job.delivered_rows == 0 => "failed",
        (Some(_), _) => "completed",
        (None, Some(_)) => "processing",
        (None, None) => "queued",
    }
}

fn iso_8601(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or_default();
    at.to_string()
}

/// The version and the variant of a UUID of the gateway's own making (RFC 9562, version 8).
const VERSION: u128 = 0x8 << 76;
const VARIANT: u128 = 0x2 << 62;
const NUMBER_BITS: u32 = 60;
const STORE: u64 = (1 << 62) - 1;

/// A job's id looks like Userpilot's, since a caller may insist on that. It holds the job's
/// number and the store's.
fn encode(number: u64, store: u64) -> String {
    let number = u128::from(number);
    let bits = ((number >> 12) << 80) | VERSION | ((number & 0xfff) << 64) | VARIANT;
    let hex = format!("{:032x}", bits | u128::from(store & STORE));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// The number of a job of this store.
fn decode(text: &str, store: u64) -> Option<u64> {
    let dashes = [8, 13, 18, 23];
    let hex: String = text.chars().filter(|char| *char != '-').collect();
    let bits = u128::from_str_radix(&hex, 16).ok()?;
    let number = (((bits >> 80) & ((1 << 48) - 1)) << 12) | ((bits >> 64) & 0xfff);
    let number = u64::try_from(number).ok().filter(|number| *number < 1 << NUMBER_BITS)?;
    // One spelling each, but for capitals.
    let is_ours = encode(number, store).eq_ignore_ascii_case(text);
    (is_ours && dashes.iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'))).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_in_its_own_store_alone(number in 0..1_u64 << 60, store: u64) {
            let id = encode(number, store);
            prop_assert_eq!(id.len(), 36);
            prop_assert_eq!(&id[14..15], "8");
            prop_assert_eq!(decode(&id, store), Some(number));
            prop_assert_eq!(decode(&id.to_ascii_uppercase(), store), Some(number));
            prop_assert_eq!(decode(&id, store ^ 1), None);
            prop_assert_eq!(decode(&id.replace('-', ""), store), None);
        }

        #[test]
        fn whatever_is_asked_for_does_not_panic(text in ".{0,40}") {
            prop_assert_eq!(decode(&text, 7), None);
        }
    }

    #[test]
    fn a_job_is_told_of_in_userpilots_words() {
        let at = Timestamp::from_micros(1_790_000_000_000_000);
        let check = |job: Job, expected: &str| assert_eq!(status(&job), expected, "{job:?}");
        let job = Job { rows: 2, submitted_at: at, ..Job::default() };
        check(job.clone(), "queued");
        let job = Job { started_at: Some(at), ..job };
        check(job.clone(), "processing");
        check(Job { dead_rows: 2, ended_at: Some(at), ..job.clone() }, "failed");
        let partial = Job { delivered_rows: 1, dead_rows: 1, ended_at: Some(at), ..job };
        check(partial.clone(), "completed");
        let id = JobId { app: Default::default(), client: Default::default(), number: 5 };
        let shown = Shown { store: 7, prefix: "/apps/eu", id, job: &partial }.whole(at);
        assert_eq!((&shown["completed_rows"], &shown["failed_rows"]), (&json!(1), &json!(1)));
        assert_eq!(shown["start_time"], "2026-09-21T14:13:20Z");
        let link = shown["links"]["self"].as_str().unwrap();
        assert!(link.starts_with("/apps/eu/v1/background_jobs/"), "{link}");
    }
}
