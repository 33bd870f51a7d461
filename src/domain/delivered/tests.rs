//! What is left of an update beside what was delivered, and what is remembered of that.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    testing,
    update::{AppId, ClientId, Lane, Subject, Update},
};

const KEY: FingerprintKey = FingerprintKey(7);
const ALL: Suppression =
    Suppression { refresh_after: Duration::MAX, properties_max: 100, account: 0 };

fn values(record: &Record) -> BTreeMap<String, Value> {
    record.properties.iter().map(|p| (p.name.clone(), p.value.clone())).collect()
}

proptest! {
    /// The law: whatever was delivered before, applying what is left of an update as it comes
    /// gives what applying all of it by the merge law gives.
    #[test]
    fn what_is_left_has_the_effect_of_the_whole(
        records in (1..8_usize).prop_flat_map(testing::records),
    ) {
        let now = Timestamp::from_micros(1_000_000);
        let (mut delivered, mut by_rest, mut company) =
            (Delivered::default(), BTreeMap::new(), None);
        let mut all: Option<Record> = None;
        for record in records {
            all = Some(all.map_or(record.clone(), |all| all.merge(record.clone())));
            let mut rest = record;
            let judged = delivered.strike(&mut rest, |_| false, (KEY, &ALL), now);
            prop_assert!(judged == Judgement::Changed || !rest.has_values());
            by_rest.extend(values(&rest));
            company = rest.company_id.as_ref().map(|(id, _)| id.clone()).or(company);
            delivered.feed(&rest, (KEY, &ALL), now);
            let all = all.as_ref().expect("there is one");
            prop_assert_eq!(&by_rest, &values(all));
            prop_assert_eq!(company.as_ref(), all.company_id.as_ref().map(|(id, _)| id));
        }
    }

    /// What is fed is unchanged then, whatever is fed besides; and what is erased is not.
    #[test]
    fn what_was_delivered_is_unchanged_until_it_is_erased(
        records in testing::records(2),
    ) {
        let now = Timestamp::from_micros(9);
        let [first, second]: [Record; 2] = records.try_into().expect("two records");
        let mut delivered = Delivered::default();
        delivered.feed(&first, (KEY, &ALL), now);
        delivered.feed(&second, (KEY, &ALL), now);
        let mut again = second.clone();
        let judged = delivered.strike(&mut again, |_| false, (KEY, &ALL), now);
        let nothing = second.properties.is_empty() && second.company_id.is_none();
        prop_assert!(judged == Judgement::Unchanged || nothing);
        delivered.erase(&second, KEY);
        let mut again = second.clone();
        let judged = delivered.strike(&mut again, |_| false, (KEY, &ALL), now);
        prop_assert_eq!(&again.properties, &second.properties);
        prop_assert!(judged == Judgement::Changed || second.properties.is_empty());
    }
}

#[test]
fn no_two_values_are_the_same() {
    let values = [
        Value::Null,
        Value::Bool(false),
        Value::Bool(true),
        Value::Integer(0),
        Value::Integer(1),
        Value::Float(0.0),
        Value::Float(1.0),
        Value::Text(String::new()),
        Value::Text("1".into()),
    ];
    let prints: std::collections::BTreeSet<[u8; 8]> =
        values.iter().map(|value| fingerprint(KEY, "p", value)).collect();
    assert_eq!(prints.len(), values.len());
    assert_ne!(fingerprint(KEY, "p", &values[4]), fingerprint(KEY, "q", &values[4]));
    let other = FingerprintKey(8);
    assert_ne!(fingerprint(KEY, "p", &values[4]), fingerprint(other, "p", &values[4]));
}

/// A record of one property, that is the update with this sequence.
fn record(value: i64, sequence: Sequence) -> Record {
    let update = Update {
        app: AppId(0),
        client: ClientId(0),
        subject: Subject::user("u"),
        company_id: None,
        properties: vec![("a".to_owned(), Value::Integer(value))],
        occurred_at: None,
        lane: Lane::Bulk,
    };
    let at = i64::try_from(sequence).expect("few");
    Record::new(update, sequence, Timestamp::from_micros(at))
}

#[test]
fn where_values_go_and_as_what_tells_accounts_apart() {
    let prints = ["https://a", "https://b"].map(|base_url| {
        [RowValues::Primitive, RowValues::Text].map(|values| account_print(base_url, values))
    });
    let different: std::collections::BTreeSet<u32> = prints.into_iter().flatten().collect();
    assert_eq!(different.len(), 4);
}

#[test]
fn the_last_sequence_is_that_of_the_newest_value() {
    let mut delivered = Delivered::default();
    assert_eq!(delivered.last_sequence(), None);
    delivered.feed(&record(1, 4), (KEY, &ALL), Timestamp::from_micros(9));
    assert_eq!(delivered.last_sequence(), Some(4));
    delivered.feed(&record(2, 7), (KEY, &ALL), Timestamp::from_micros(9));
    assert_eq!(delivered.last_sequence(), Some(7));
}

#[test]
fn a_value_without_a_time_is_not_sound() {
    let mut delivered = Delivered::default();
    assert!(delivered.is_sound());
    delivered.feed(&record(1, 4), (KEY, &ALL), Timestamp::from_micros(9));
    assert!(delivered.is_sound());
    delivered.held[0].time = 1;
    assert!(!delivered.is_sound());
    delivered.held[0].time = 2;
    assert!(!delivered.is_sound());
}

#[test]
fn while_a_request_may_come_late_what_is_delivered_is_not_known() {
    let now = Timestamp::from_micros(1_000_000);
    let is_sent_again = |delivered: &Delivered| {
        let mut arrived = record(1, 5);
        let by = (KEY, &ALL);
        delivered.clone().strike(&mut arrived, |_| false, by, now) == Judgement::Changed
    };
    for (late, sent_again) in [
        (Duration::from_secs(1), true),
        (LATE_MAX, true),
        // By a clock that was ahead.
        (LATE_MAX + Duration::from_micros(1), false),
        (Duration::ZERO, false),
    ] {
        let mut delivered = Delivered::default();
        delivered.doubt(now.plus(late));
        delivered.feed(&record(1, 4), (KEY, &ALL), now);
        assert_eq!(is_sent_again(&delivered), sent_again, "{late:?}");
    }
}
