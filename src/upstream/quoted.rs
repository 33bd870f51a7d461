//! Answers that quote the key: it is not shown, and what is decided by is left as it is.

use super::{
    answer::{Answer, job, jobs, submission},
    key::ApiKey,
};
use crate::domain::{
    batch::BatchId,
    time::Timestamp,
    update::AppId,
    verdict::{FailureKind, JobPhase},
};

fn answer(status: u16, body: impl Into<Vec<u8>>, key: &str) -> Answer {
    let key = ApiKey::new(key.into()).unwrap();
    Answer { status, body: body.into(), key: Some(key), ..Answer::default() }
}

#[test]
fn a_key_that_looks_like_a_part_of_the_answer_takes_no_part_of_it_away() {
    let filename = BatchId { opening: 7, number: 1, app: AppId(0) }.filename();
    let body = format!(
        r#"[{{"job_id":"bulk:jobs:NX-1:c6","status":"completed","filename":"{filename}"}}]"#
    );
    for key in ["\"job_id\"", "completed", "userpilot-gateway", "00000007", "filename\":\"user"] {
        let list = jobs(&answer(200, &*body, key), Timestamp::default()).unwrap();
        assert_eq!(list[0].phase, JobPhase::Completed, "{key}");
        assert_eq!(list[0].status, "completed", "{key}");
        assert_eq!(list[0].filename.as_deref(), Some(&*filename), "{key}");
        assert_eq!(list[0].job_id, "bulk:jobs:NX-1:c6", "{key}");
    }
}

#[test]
fn a_job_id_that_holds_the_key_is_shown_without_it_and_asked_for_in_full() {
    let body = r#"{"job_id":"bulk:jobs:NX-1:c6","status":"queued"}"#;
    let answer = answer(202, body, "bulk:jobs");
    let accepted = submission(&answer, Timestamp::default()).unwrap();
    assert_eq!(accepted.job_id, "<redacted>:NX-1:c6");
    assert_eq!(answer.key.as_ref().unwrap().in_full(&accepted.job_id), "bulk:jobs:NX-1:c6");
    let polled = job(&Answer { status: 200, ..answer }, &accepted.job_id, Timestamp::default());
    assert_eq!(polled.unwrap().job_id, accepted.job_id, "one job has one name");
}

#[test]
fn what_is_shown_of_an_answer_does_not_quote_the_key() {
    for (body, shown) in [
        ("no: Token hush-4711!", "422: no: Token <redacted>!"),
        // As JSON may write it, too.
        (
            r#"{"errors":[{"message":"hush\u002d4711","error_code":"hush-4711"}]}"#,
            "422: <redacted> (\"<redacted>\")",
        ),
        ("hush-hush-47114711", "422: hush-<redacted>4711"),
    ] {
        let failure = submission(&answer(422, body, "hush-4711"), Timestamp::default());
        let failure = failure.unwrap_err();
        assert_eq!((failure.kind, &*failure.detail), (FailureKind::BadRows, shown));
    }
    // Not a part of it either, where what is shown breaks off.
    let long = "x".repeat(195) + "hush-4711";
    let failure = submission(&answer(422, long, "hush-4711"), Timestamp::default()).unwrap_err();
    assert!(!failure.detail.contains("hush"), "{}", failure.detail);
    let odd = r#"{"status":"hush-4711","filename":"userpilot-gateway-hush-4711.ndjson"}"#;
    let report = job(&answer(200, odd, "hush-4711"), "j", Timestamp::default()).unwrap();
    assert_eq!(report.status, "<redacted>");
    assert_eq!(report.filename.as_deref(), Some("userpilot-gateway-<redacted>.ndjson"));
}
