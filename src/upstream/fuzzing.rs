//! Whatever upstream answers: reading it does not panic, means only what its status allows, and
//! lets no text through that is too long to keep or to show.

use std::time::Duration;

use super::{
    answer::{Answer, job, jobs, submission},
    key::ApiKey,
};
use crate::domain::{
    time::Timestamp,
    verdict::{Failure, FailureKind, JobReport},
};

/// In no word of ours.
const KEY: &str = "hush-4711";
const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

/// What was asked (a byte), the status (two), a line with the request's id and one with
/// `retry-after` (each left out where it is empty), and the body.
pub(crate) fn answer(input: &[u8]) -> bool {
    let Some((answer, asked)) = read(input) else { return false };
    let success = (200..300).contains(&answer.status);
    match asked % 3 {
        0 => match submission(&answer, NOW) {
            Ok(job) => {
                assert!(success && (1..=1_024).contains(&job.job_id.len()), "{job:?}");
                assert!(!job.job_id.contains(KEY), "{job:?}");
                assert_eq!(job.request_id, answer.request_id);
                true
            }
            Err(failure) => {
                // What is taken may run: it must be looked for, never just sent again.
                assert!(!success || failure.kind == FailureKind::Unknown, "{failure:?}");
                check_failure(&failure, &answer)
            }
        },
        1 => match job(&answer, "asked for", NOW) {
            Ok(report) => {
                assert!(answer.status == 200 && !report.job_id.is_empty(), "{report:?}");
                check_report(&report)
            }
            Err(failure) => check_failure(&failure, &answer),
        },
        _ => match jobs(&answer, NOW) {
            Ok(reports) => {
                assert_eq!(answer.status, 200);
                reports.iter().all(check_report)
            }
            Err(failure) => check_failure(&failure, &answer),
        },
    }
}

fn read(input: &[u8]) -> Option<(Answer, u8)> {
    let (&asked, rest) = input.split_first()?;
    let (&status, rest) = rest.split_first_chunk()?;
    let mut parts = rest.splitn(3, |byte| *byte == b'\n');
    let mut header = || {
        let text = String::from_utf8_lossy(parts.next()?).into_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let (request_id, retry_after) = (header(), header());
    let body = parts.next().unwrap_or_default().to_vec();
    let (status, location) = (u16::from_be_bytes(status), retry_after.clone());
    let key = ApiKey::new(KEY.into()).ok();
    // What stands in headers is redacted as they are read.
    let location = location.filter(|location| !location.contains(KEY));
    Some((Answer { status, request_id, retry_after, location, body, key }, asked))
}

fn check_failure(failure: &Failure, answer: &Answer) -> bool {
    let status = answer.status.to_string();
    assert!(failure.cause.starts_with(&status) && failure.detail.starts_with(&status));
    // The longest of ours is that of a page in place of JSON.
    assert!(failure.cause.len() < 80, "the cause is for logs: it quotes nothing");
    assert!(failure.detail.chars().count() < 220, "{failure:?}");
    assert!(!failure.detail.contains(char::is_control), "{failure:?}");
    assert!(!failure.detail.contains(KEY), "{failure:?}");
    assert_eq!(failure.request_id, answer.request_id);
    if let FailureKind::Throttled(wait) = failure.kind {
        assert_eq!(answer.status, 429);
        assert!(NOW.plus(wait.unwrap_or(Duration::ZERO)) >= NOW);
    }
    false
}

fn check_report(report: &JobReport) -> bool {
    let shown = [Some(&report.job_id), Some(&report.status), report.filename.as_ref()];
    assert!(!shown.into_iter().flatten().any(|text| text.contains(KEY)), "{report:?}");
    assert!(report.job_id.len() <= 1_024 && report.status.chars().count() <= 64, "{report:?}");
    assert!(!report.status.contains(char::is_control), "{report:?}");
    true
}

/// Answers as they are documented, that tell of success.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let short = r#"{"job_id":"a","status":"queued","submitted_at":"2026-01-01T00:00:00Z"}"#;
    let long = r#"{"job_id":"bulk:jobs:NX-1:c6","status":"processing","type":"bulk_identify",
        "filename":"f.ndjson","file_size":9,"total_rows":"2","completed_rows":1,
        "start_time":"x","end_time":null,"links":{},"news":[1]}"#;
    let seed = |asked: u8, status: u16, body: &str| {
        [&[asked][..], &status.to_be_bytes(), b"GEDd\n120\n", body.as_bytes()].concat()
    };
    vec![
        seed(0, 202, short),
        seed(0, 200, long),
        seed(1, 200, short),
        seed(1, 200, long),
        seed(2, 200, &format!("[{short},{long},null]")),
        seed(2, 200, &format!(r#"{{"jobs":[{long}]}}"#)),
        seed(2, 200, r#"{"data":[]}"#),
        seed(1, 200, r#"{"job_id":"x-hush-4711","status":"hush\u002d4711"}"#),
    ]
}
