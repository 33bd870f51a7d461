//! What upstream's answers mean: from status, headers and body, by pure functions.
//!
//! The facts are Userpilot's public documents'; where they contradict each other every
//! documented shape is read, and any subset of it.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::key::ApiKey;
use crate::domain::{
    batch::BatchId,
    time::Timestamp,
    verdict::{
        AcceptedJob, Failure, FailureKind, Identified, JobPhase, JobReport, Jobs, Poll, Submission,
        is_known_status,
    },
};

/// An answer, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `x-request-id`.
    pub request_id: Option<String>,
    /// `retry-after`.
    pub retry_after: Option<String>,
    /// `location`: where a redirect leads, which is not followed.
    pub location: Option<String>,
    /// The body, as it came. Whoever answers may quote the request.
    pub body: Vec<u8>,
    /// The key that is not to be shown of it.
    pub key: Option<ApiKey>,
}

impl Answer {
    /// A text of the body without the key. It is read first and redacted then: neither does a key that
    /// is written otherwise in JSON get through, nor does one that looks like a part of the answer
    /// take that part away.
    fn shown(&self, text: String) -> String {
        match &self.key {
            Some(key) => key.redact_text(text),
            None => text,
        }
    }
}

/// A job object: `{"job_id","status","submitted_at"}` or the long form, or any part of them.
/// Of what has another type than documented, as much is read as can be.
#[derive(Default)]
struct JobBody {
    job_id: Option<String>,
    status: Option<String>,
    filename: Option<String>,
    total_rows: Option<u64>,
    completed_rows: Option<u64>,
}

/// Longer ones are not Userpilot's: theirs have about 70 bytes.
const JOB_ID_BYTES_MAX: usize = 512;

impl JobBody {
    fn read(json: &Value) -> Self {
        let text = |key: &str| match json.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let count = |key: &str| match json.get(key)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let job_id = text("job_id").filter(|id| !id.is_empty() && id.len() <= JOB_ID_BYTES_MAX);
        Self {
            job_id,
            status: text("status"),
            filename: text("filename"),
            total_rows: count("total_rows"),
            completed_rows: count("completed_rows"),
        }
    }
}

/// What the answer to a submission means.
pub fn submission(answer: &Answer, now: Timestamp) -> Submission {
    if !(200..300).contains(&answer.status) {
        return Err(failure(answer, now));
    }
    let job = serde_json::from_slice(&answer.body).ok();
    match job.and_then(|job| JobBody::read(&job).job_id) {
        Some(job_id) => {
            let job_id = answer.shown(job_id);
            Ok(AcceptedJob { job_id, request_id: answer.request_id.clone() })
        }
        // It was taken, and what it is called was not to be read: look for it.
        None => Err(unreadable(answer)),
    }
}

/// What the answer to a question about one job means.
pub fn job(answer: &Answer, job_id: &str, now: Timestamp) -> Poll {
    if answer.status != 200 {
        return Err(failure(answer, now));
    }
    let job = serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
    let job = JobBody::read(&job);
    if job.status.is_none() {
        return Err(unreadable(answer));
    }
    Ok(report(answer, job, Some(job_id)))
}

/// What the list of jobs means: an array, alone or wrapped in an object. A list that cannot be
/// read is none: that is a refusal, and not an outage that will pass.
pub fn jobs(answer: &Answer, now: Timestamp) -> Jobs {
    if answer.status != 200 {
        return Err(failure(answer, now));
    }
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let wrapped = ["jobs", "data", "background_jobs"].iter().find_map(|key| json.get(key));
    let jobs = json.as_array().or(wrapped.and_then(Value::as_array));
    match jobs {
        Some(jobs) => Ok(jobs.iter().map(|job| report(answer, JobBody::read(job), None)).collect()),
        None => Err(Failure { kind: FailureKind::Refused, ..unreadable(answer) }),
    }
}

/// What the answer to a request to the real-time endpoint means. A success says nothing but its
/// status; a page is a proxy's, and no success.
pub fn identified(answer: &Answer, now: Timestamp) -> Identified {
    match answer.status {
        200..300 if answer.body.trim_ascii_start().first() == Some(&b'<') => {
            Err(unreadable(answer))
        }
        200..300 => Ok(()),
        _ => Err(failure(answer, now)),
    }
}

/// What is decided by is left as it is: a status that is documented, and the file name of a batch.
fn report(answer: &Answer, job: JobBody, asked_for: Option<&str>) -> JobReport {
    let status = job.status.unwrap_or_default();
    let phase = match &*status {
        "completed" => JobPhase::Completed,
        "failed" => JobPhase::Failed,
        // queued, validating, processing, pending_refresh, and any word not known yet.
        _ => JobPhase::Unfinished,
    };
    let status = if is_known_status(&status) { status } else { answer.shown(status) };
    let filename = job.filename.map(|name| match BatchId::of_filename(&name) {
        Some(_) => name,
        None => answer.shown(name),
    });
    let job_id = job.job_id.map(|id| answer.shown(id));
    JobReport {
        job_id: job_id.or(asked_for.map(str::to_owned)).unwrap_or_default(),
        filename,
        phase,
        status: shorten(&status, 64),
        total_rows: job.total_rows,
        completed_rows: job.completed_rows,
    }
}

/// What an answer that is not a success means.
fn failure(answer: &Answer, now: Timestamp) -> Failure {
    let kind = match answer.status {
        400 | 422 => FailureKind::BadRows,
        401 | 403 => FailureKind::KeyRejected,
        404 | 410 => FailureKind::NotFound,
        409 => FailureKind::SlotTaken,
        413 => FailureKind::TooLarge,
        429 => {
            FailureKind::Throttled(answer.retry_after.as_deref().and_then(|v| retry_after(v, now)))
        }
        // A proxy's 5xx may hide that the request was carried out; so may a time-out of its.
        408 | 500.. => FailureKind::Unknown,
        _ => FailureKind::Refused,
    };
    let (cause, detail) = match answer.status {
        300..400 => redirect(answer),
        _ => (answer.status.to_string(), detail(answer)),
    };
    Failure { kind, cause, detail, request_id: answer.request_id.clone() }
}

/// Who follows a redirect takes the API key along. Of where it leads the host says enough.
fn redirect(answer: &Answer) -> (String, String) {
    let cause = format!("{}: a redirect, which is not followed", answer.status);
    let location = answer.location.as_deref().and_then(|location| Url::parse(location).ok());
    let host = location.as_ref().and_then(|location| Some((location.scheme(), location.host()?)));
    let detail = match host {
        Some((scheme, host)) => shorten(&format!("{cause}, to {scheme}://{host}"), 200),
        None => cause.clone(),
    };
    (cause, detail)
}

fn unreadable(answer: &Answer) -> Failure {
    let what = match answer.body.trim_ascii_start().first() {
        None => "the answer is empty",
        Some(b'<') => "the answer is a page, and not JSON: of a proxy or of another server",
        Some(_) => "the answer cannot be read",
    };
    let cause = format!("{}: {what}", answer.status);
    let detail = cause.clone();
    Failure { kind: FailureKind::Unknown, cause, detail, request_id: answer.request_id.clone() }
}

/// Seconds or an HTTP date (RFC 9110, section 10.2.3), as a time from now.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::default().plus(date).since(now))
}

/// Upstream's own words, shortened: `{"errors":[{"error","error_code","message","details"}]}`,
/// plain text, nothing, or a proxy's page.
fn detail(answer: &Answer) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Error {
        error: Option<String>,
        error_code: Option<Value>,
        message: Option<String>,
    }
    let errors: Errors = serde_json::from_slice(&answer.body).unwrap_or_default();
    let words = match errors.errors.into_iter().next() {
        Some(first) => {
            let code = first.error_code.map(|code| format!(" ({code})")).unwrap_or_default();
            first.message.or(first.error).unwrap_or_default() + &code
        }
        None => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let words = shorten(answer.shown(words).trim(), 200);
    if words.is_empty() { answer.status.to_string() } else { format!("{}: {words}", answer.status) }
}

/// At most `max` characters, in one line.
fn shorten(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), ..Answer::default() }
    }

    #[test]
    fn both_documented_shapes_of_a_job_are_read() {
        let short = r#"{"job_id":"a","status":"queued","submitted_at":"2026-01-01T00:00:00Z"}"#;
        let long = r#"{"job_id":"bulk:jobs:NX-1:c6","status":"queued","type":"bulk_identify",
            "filename":"f","file_size":9,"total_rows":2,"start_time":"x","end_time":null,
            "links":{},"news":[1]}"#;
        for (status, body, id) in [(202, short, "a"), (200, long, "bulk:jobs:NX-1:c6")] {
            let accepted = submission(&answer(status, body), Timestamp::default()).unwrap();
            assert_eq!(accepted.job_id, id);
        }
    }

    #[test]
    fn every_status_has_its_meaning() {
        for (status, kind) in [
            (400, FailureKind::BadRows),
            (401, FailureKind::KeyRejected),
            (403, FailureKind::KeyRejected),
            (404, FailureKind::NotFound),
            (410, FailureKind::NotFound),
            (408, FailureKind::Unknown),
            (409, FailureKind::SlotTaken),
            (413, FailureKind::TooLarge),
            (422, FailureKind::BadRows),
            (429, FailureKind::Throttled(None)),
            (500, FailureKind::Unknown),
            (502, FailureKind::Unknown),
            (503, FailureKind::Unknown),
            (302, FailureKind::Refused),
            (418, FailureKind::Refused),
        ] {
            let failure = submission(&answer(status, ""), Timestamp::default()).unwrap_err();
            assert_eq!(failure.kind, kind, "{status}");
            assert!(failure.detail.starts_with(&status.to_string()), "{failure:?}");
        }
    }

    #[test]
    fn a_redirect_is_told_as_one_and_where_it_leads() {
        for (location, detail) in [
            (Some("https://other.example/v1?token=x"), ", to https://other.example"),
            (Some("/elsewhere"), ""),
            (None, ""),
        ] {
            let redirect = Answer { location: location.map(str::to_owned), ..answer(307, "moved") };
            let failure = submission(&redirect, Timestamp::default()).unwrap_err();
            assert_eq!(failure.cause, "307: a redirect, which is not followed");
            assert_eq!(failure.detail, format!("{}{detail}", failure.cause));
        }
    }

    #[test]
    fn a_success_that_cannot_be_read_is_an_unknown_outcome() {
        let endless = format!(r#"{{"job_id":"{}"}}"#, "x".repeat(513));
        for body in ["", "<html>", "{}", r#"{"job_id":""}"#, "[1]", &endless] {
            let failure = submission(&answer(202, body), Timestamp::default()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Unknown, "{body}");
            assert_eq!(failure.detail.contains("a page"), body.starts_with('<'), "{failure:?}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Timestamp::from_micros(784_111_777_000_000);
        for (value, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let throttled = Answer { retry_after: Some(value.into()), ..answer(429, "") };
            let failure = job(&throttled, "j", now).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Throttled(seconds.map(Duration::from_secs)));
        }
    }

    #[test]
    fn a_status_that_is_not_known_means_unfinished() {
        for (status, phase) in [
            ("queued", JobPhase::Unfinished),
            ("pending_refresh", JobPhase::Unfinished),
            ("hibernating", JobPhase::Unfinished),
            ("completed", JobPhase::Completed),
            ("failed", JobPhase::Failed),
        ] {
            let body = format!(r#"{{"status":"{status}","completed_rows":3}}"#);
            let report = job(&answer(200, &body), "j", Timestamp::default()).unwrap();
            assert_eq!(
                (report.phase, report.completed_rows, &*report.job_id),
                (phase, Some(3), "j")
            );
        }
        assert!(job(&answer(200, "{}"), "j", Timestamp::default()).is_err());
    }

    #[test]
    fn lists_are_read_bare_and_wrapped() {
        let bare = r#"[{"job_id":"a","status":"processing","filename":"f"}]"#;
        let wrapped = format!(r#"{{"jobs":{bare}}}"#);
        for body in [bare, &wrapped, &wrapped.replace("jobs", "data")] {
            let list = jobs(&answer(200, body), Timestamp::default()).unwrap();
            assert_eq!(list[0].filename.as_deref(), Some("f"), "{body}");
        }
        for body in ["<html>", "{}", "7"] {
            let failure = jobs(&answer(200, body), Timestamp::default()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Refused, "waiting does not mend it");
        }
    }

    #[test]
    fn one_odd_job_does_not_hide_the_others() {
        let body = r#"[{"job_id":7,"status":"completed","completed_rows":"3"},{"status":[]},
            null,{"job_id":"ours","filename":"f"}]"#;
        let list = jobs(&answer(200, body), Timestamp::default()).unwrap();
        assert_eq!((&*list[0].job_id, list[0].completed_rows), ("7", Some(3)));
        assert_eq!((list.len(), &*list[3].job_id), (4, "ours"));
    }

    #[test]
    fn upstreams_words_are_kept_short_and_in_one_line() {
        let body =
            r#"{"errors":[{"error":"e","error_code":17,"message":"bad\nrow","details":{}}]}"#;
        let failure = submission(&answer(422, body), Timestamp::default()).unwrap_err();
        assert_eq!(failure.detail, "422: bad row (17)");
        let page = "<html>".repeat(1_000);
        let failure = submission(&answer(502, &page), Timestamp::default()).unwrap_err();
        assert!(failure.detail.len() < 220);
    }
}
