//! What is said of an app.

use super::*;
use crate::delivery::Told;

fn status(records: u64, job_users: u64) -> AppStatus {
    let depth = QueueDepth { records, ..QueueDepth::default() };
    AppStatus {
        name: "a".into(),
        queue: QueueView { depth, ..QueueView::default() },
        view: View {
            activity: Activity::Lingering,
            job_users: ByKind { users: job_users, companies: job_users },
            last_error: "422: ssn 078-05-1120 is no number".into(),
            last_cause: "422".into(),
            ..View::default()
        },
        users_per_minute: 1_800,
        occupancy_remaining: Duration::ZERO,
        retry_in: None,
        in_doubt: None,
        drain_eta: Duration::ZERO,
        updates: (0, 0, 0),
        suppressed: 0,
        utilisation: 0.0,
        freshness: None,
        place: Place::Here,
    }
}

#[test]
fn what_another_replica_delivers_it_is_said_to() {
    let mut status = status(0, 0);
    status.view.activity = Activity::Running;
    assert_eq!((status.summary().as_str(), status.delivered_by()), ("A job runs.", ""));
    let told = Told::of("b", &View::default(), clock::now());
    status.place = Place::Elsewhere(Box::new(told));
    assert_eq!((status.summary().as_str(), status.delivered_by()), ("b: A job runs.", "b"));
    status.place = Place::Nowhere;
    assert!(status.summary().starts_with("No replica delivers"));
}

#[test]
fn what_fills_a_job_waits_for_nobody_else() {
    let check = |records, job_users, expected: &str| {
        assert_eq!(status(records, job_users).summary(), expected);
    };
    check(3, 0, "3 users wait for others to join them.");
    check(499, 500, "499 users wait for others to join them.");
    check(500, 500, "500 users wait, as many as a job takes; it begins in a moment.");
}

#[test]
fn rows_in_doubt_are_no_outage() {
    let mut status = status(0, 0);
    status.view.activity = Activity::BackingOff;
    status.view.failures_in_a_row = 31;
    assert!(status.summary().starts_with("31 failed attempts in a row (422: "));
    status.in_doubt = Some(Duration::from_millis(840_200));
    let summary = status.summary();
    let doubt = "an earlier submission was never heard of: until that is out of doubt, in 841 s";
    assert!(summary.starts_with("Userpilot refuses users (422: ") && summary.contains(doubt));
}

#[test]
fn who_may_not_see_upstreams_words_is_told_the_cause_in_every_state() {
    for activity in [Activity::BackingOff, Activity::KeyRejected, Activity::Isolating] {
        let mut status = status(0, 0);
        status.view.activity = activity;
        assert!(status.summary().contains("078"), "{activity:?}");
        let told = status.in_our_words();
        assert!(told.summary().contains("422") && !told.summary().contains("078"));
        assert_eq!(told.view.last_error, "422");
    }
}
