//! The order of keys, and what they are made of.

use proptest::prelude::*;

use super::*;
use crate::domain::testing;

proptest! {
    #[test]
    fn a_subject_reads_back_from_its_keys(app: u16, subject in testing::subject()) {
        let app = AppId(app);
        prop_assert_eq!(subject_of(&pending(app, &subject)), Some(subject.clone()));
        prop_assert_eq!(kind_of(&pending(app, &subject)[SUBJECT_AT..]), subject.kind);
        prop_assert_eq!(subject_of(&in_flight(app, &subject)), Some(subject.clone()));
        prop_assert!(all_in_flight(app, None).contains(&in_flight(app, &subject)));
    }

    #[test]
    fn no_subjects_deliveries_stand_among_anothers(
        a in testing::subject(),
        b in testing::subject(),
        sequence: u64,
    ) {
        let range = deliveries(AppId(0), &a, 0);
        prop_assert!(range.contains(&delivery(AppId(0), &a, sequence)));
        prop_assert_eq!(range.contains(&delivery(AppId(0), &b, sequence)), a == b);
    }

    #[test]
    fn pages_are_in_the_order_of_their_first_sequences(a: u64, b: u64, lane in testing::lane()) {
        let users = (SubjectKind::User, lane);
        let key = |first| page(AppId(3), users, ClientId(1), first);
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        prop_assert!(pages(AppId(3), users, None).contains(&key(a)));
        prop_assert!(!pages(AppId(4), users, None).contains(&key(a)));
        prop_assert!(!pages(AppId(3), (SubjectKind::Company, lane), None).contains(&key(a)));
        prop_assert_eq!(client_of_page(&key(a)), Some(ClientId(1)));
    }

    #[test]
    fn dead_letters_are_in_the_order_of_their_deaths(
        a: (i64, u64),
        b: (i64, u64),
        subject in testing::subject(),
    ) {
        let key = |(at, last)| dead(AppId(3), Timestamp::from_micros(at), last);
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        prop_assert_eq!(dead_at(&key(a)), Some((Timestamp::from_micros(a.0), a.1)));
        prop_assert!(all_dead(AppId(3), None).contains(&key(a)));
        let subject_key = &pending(AppId(3), &subject)[SUBJECT_AT..];
        let of = dead_of(AppId(3), subject_key, Timestamp::from_micros(a.0), a.1);
        prop_assert!(all_dead_of(AppId(3), subject_key).contains(&of));
        prop_assert_eq!(dead_at(&of), Some((Timestamp::from_micros(a.0), a.1)));
    }

    #[test]
    fn later_batches_come_first(a: u64, b: u64) {
        let key = |number| batch(AppId(3), number);
        prop_assert_eq!(key(a).cmp(&key(b)), b.cmp(&a));
        prop_assert_eq!(batches(AppId(3), a).contains(&key(b)), b <= a);
    }
}

#[test]
fn the_longest_and_last_id_stands_among_its_apps_keys() {
    let subject = Subject::user("\u{10ffff}".repeat(512 / 4));
    let app = AppId(u16::MAX);
    assert!(all_pending(app, None).contains(&pending(app, &subject)));
    assert!(all_in_flight(app, None).contains(&in_flight(app, &subject)));
    assert!(all_deliveries(None).contains(&delivery(app, &subject, Sequence::MAX)));
}

#[test]
fn an_id_that_contains_any_character_makes_a_key_of_its_own() {
    let subject = |id: &str| Subject::user(id);
    for (a, b) in [("a", "a\0"), ("", "\0"), ("a", "ab"), ("\u{10ffff}", "\u{10fffe}")] {
        assert_ne!(pending(AppId(1), &subject(a)), pending(AppId(1), &subject(b)));
    }
}

proptest! {
    #[test]
    fn a_course_tells_its_stripe_and_every_subject_has_one(
        app in 0..9_u16,
        stripe: u16,
        stripes in 1..64_u16,
        subject in testing::subject(),
    ) {
        let app = AppId(app);
        let key = course::course(app, stripe);
        prop_assert!(course::courses(app).contains(&key));
        prop_assert!(!course::courses(AppId(app.0 + 1)).contains(&key));
        let subject_key = &pending(app, &subject)[SUBJECT_AT..];
        prop_assert!(course::stripe_of(app, subject_key, stripes) < stripes);
        prop_assert_eq!(course::stripe_of(app, subject_key, 1), 0);
    }
}
