//! What refusals say.

use super::*;

#[test]
fn a_bad_request_names_its_fields() {
    let status = Status::from(Refusal::field("update.user_id", "is empty"));
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "update.user_id: is empty");
    let details = status.get_details_bad_request().unwrap();
    assert_eq!(details.field_violations[0].field, "update.user_id");
    assert!(status.get_details_retry_info().is_none());
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    for refusal in [
        Refusal::from(QueueRefusal::TooManyRecords),
        Refusal::from(QueueRefusal::RecordTooLarge),
        Refusal::from(NotAccepted::Busy),
        Refusal::from(NotAccepted::DiskLow),
        Refusal::from(QueueRefusal::TooManyOfClient),
        Refusal::RateLimited { retry_after: SHORTLY },
    ] {
        assert_eq!(refusal.http_status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refusal.retry_after().is_some());
        let status = Status::from(refusal.clone());
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().is_some());
        let error = proto::UpdateError::from(refusal);
        assert!(error.code == 8 && error.retry_delay.is_some() && !error.may_be_stored);
    }
}

#[test]
fn a_store_that_is_away_has_stored_nothing_and_says_when_to_come_back() {
    for refusal in [Refusal::from(QueueRefusal::StoreAway), Refusal::from(NotAccepted::StoreAway)] {
        assert_eq!(refusal.http_status(), StatusCode::SERVICE_UNAVAILABLE);
        let after = refusal.retry_after().unwrap();
        assert!((1..5).contains(&after.as_secs()), "{after:?}");
        let status = Status::from(refusal.clone());
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.get_details_retry_info().is_some());
        assert!(!proto::UpdateError::from(refusal).may_be_stored);
    }
}

#[test]
fn an_app_that_is_held_is_named() {
    let refusal = Refusal::AppHeld("staging".to_owned());
    assert_eq!(refusal.http_status(), StatusCode::SERVICE_UNAVAILABLE);
    let error = proto::UpdateError::from(refusal);
    assert_eq!((error.code, error.may_be_stored), (9, false));
    assert!(error.message.starts_with("app \"staging\" is held"), "{}", error.message);
}

#[test]
fn every_reason_has_a_place_of_its_own() {
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place);
    }
}

#[test]
fn who_is_not_known_is_told_what_is_asked_for() {
    let status = Status::from(Refusal::Unauthenticated);
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.metadata().get("www-authenticate").unwrap(), CHALLENGE);
    assert_eq!(Refusal::Unauthenticated.http_status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn only_a_failed_store_leaves_it_open_whether_an_update_was_stored() {
    for (not_accepted, may_be_stored) in
        [(NotAccepted::Stopping, false), (NotAccepted::Failed, true)]
    {
        let error = proto::UpdateError::from(Refusal::from(not_accepted));
        assert_eq!((error.code, error.may_be_stored), (14, may_be_stored));
    }
}
