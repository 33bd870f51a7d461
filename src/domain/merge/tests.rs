//! The merge law, on all kinds of records.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{testing, update::AppId};

/// What upstream's upsert does: later calls replace the properties that they mention.
fn apply_in_order(records: &[Record]) -> BTreeMap<String, Value> {
    let mut writes: Vec<_> = records.iter().flat_map(|r| r.properties.clone()).collect();
    writes.sort_by_key(|p| p.stamp);
    writes.into_iter().map(|p| (p.name, p.value)).collect()
}

fn values(record: &Record) -> BTreeMap<String, Value> {
    record.properties.iter().map(|p| (p.name.clone(), p.value.clone())).collect()
}

proptest! {
    #[test]
    fn merging_is_associative(
        records in testing::records(3),
    ) {
        let [a, b, c]: [Record; 3] = records.try_into().expect("three records");
        let left = a.clone().merge(b.clone()).merge(c.clone());
        let right = a.merge(b.merge(c));
        prop_assert_eq!(left, right);
    }

    #[test]
    fn merging_is_commutative(
        records in testing::records(2),
    ) {
        let [a, b]: [Record; 2] = records.try_into().expect("two records");
        prop_assert_eq!(a.clone().merge(b.clone()), b.merge(a));
    }

    #[test]
    fn merging_a_list_equals_applying_its_updates_one_by_one(
        records in (1..12_usize).prop_flat_map(testing::records),
    ) {
        let expected = apply_in_order(&records);
        let updates = records.len();
        let merged = records.into_iter().reduce(Record::merge).expect("at least one");
        prop_assert_eq!(values(&merged), expected);
        prop_assert_eq!(merged.updates, updates as u64);
        prop_assert!(merged.properties.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_struck_record_merges_to_the_same_and_overwrites_nothing_later(
        records in testing::records(2),
    ) {
        let [standing, arrived]: [Record; 2] = records.try_into().expect("two records");
        let mut struck = arrived.clone();
        struck.strike_older_than(&standing);
        let merged = standing.clone().merge(arrived);
        prop_assert_eq!(&standing.clone().merge(struck.clone()), &merged);
        let mut sent_after = values(&standing);
        sent_after.extend(values(&struck));
        prop_assert_eq!(sent_after, values(&merged));
        let company = struck.company_id.or(standing.company_id);
        prop_assert_eq!(company, merged.company_id);
    }

    #[test]
    fn what_is_left_of_a_record_is_what_the_other_does_not_mention(
        records in testing::records(2),
    ) {
        let [whole, other]: [Record; 2] = records.try_into().expect("two records");
        let left = whole.clone().without(&other);
        let mut expected = values(&whole);
        expected.retain(|name, _| !values(&other).contains_key(name));
        prop_assert_eq!(values(&left), expected);
        let company = whole.company_id.filter(|_| other.company_id.is_none());
        prop_assert_eq!(left.company_id, company);
    }

    #[test]
    fn a_record_mentions_the_properties_that_it_holds_and_no_others(
        records in testing::records(2),
    ) {
        let [record, other]: [Record; 2] = records.try_into().expect("two records");
        prop_assert_eq!(record.mentions(None), record.company_id.is_some());
        let held = values(&record);
        for name in held.keys().chain(values(&other).keys()) {
            prop_assert_eq!(record.mentions(Some(name)), held.contains_key(name), "{}", name);
        }
    }

    #[test]
    fn without_occurred_at_the_later_sequence_wins(
        updates in prop::collection::vec(testing::update(), 1..12),
    ) {
        let mut expected = BTreeMap::new();
        let mut merged: Option<Record> = None;
        for (sequence, mut update) in (1..).zip(updates) {
            update.occurred_at = None;
            expected.extend(update.properties.iter().cloned());
            let record = Record::new(update, sequence, Timestamp::from_micros(7));
            merged = Some(match merged {
                Some(before) => before.merge(record),
                None => record,
            });
        }
        prop_assert_eq!(values(&merged.expect("at least one")), expected);
    }
}

fn update(properties: &[(&str, Value)]) -> Update {
    Update {
        app: AppId(0),
        client: ClientId(0),
        subject: crate::domain::update::Subject::user("u"),
        company_id: None,
        properties: properties.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect(),
        occurred_at: None,
        lane: Lane::Bulk,
    }
}

#[test]
fn a_null_is_a_value_and_what_is_not_mentioned_stays() {
    let first = update(&[("plan", Value::Text("free".into())), ("seats", Value::Integer(3))]);
    let second = update(&[("plan", Value::Null)]);
    let at = Timestamp::from_micros(1);
    let merged = Record::new(first, 1, at).merge(Record::new(second, 2, at));
    assert_eq!(
        values(&merged),
        BTreeMap::from([("plan".to_owned(), Value::Null), ("seats".to_owned(), Value::Integer(3))])
    );
}

#[test]
fn a_late_report_of_something_earlier_does_not_overwrite_what_came_after() {
    let mut late = update(&[("plan", Value::Text("free".into())), ("trial", Value::Bool(true))]);
    late.occurred_at = Some(Timestamp::from_micros(10));
    let now = update(&[("plan", Value::Text("pro".into()))]);
    let merged = Record::new(now, 1, Timestamp::from_micros(20)).merge(Record::new(
        late,
        2,
        Timestamp::from_micros(30),
    ));
    assert_eq!(values(&merged)["plan"], Value::Text("pro".into()));
    assert_eq!(values(&merged)["trial"], Value::Bool(true));
}

#[test]
fn a_record_keeps_the_place_of_its_first_update_and_the_more_urgent_lane() {
    let at = Timestamp::from_micros(1);
    let mut urgent = update(&[]);
    urgent.lane = Lane::Interactive;
    urgent.client = ClientId(9);
    let merged = Record::new(update(&[]), 5, at).merge(Record::new(
        urgent,
        8,
        at.plus(std::time::Duration::from_secs(1)),
    ));
    assert_eq!((merged.first_sequence, merged.last_sequence), (5, 8));
    assert_eq!(
        (merged.lane, merged.client, merged.first_accepted_at),
        (Lane::Interactive, ClientId(0), at)
    );
}

fn record(sequence: Sequence) -> Record {
    let update = update(&[("plan", Value::Text("free".into()))]);
    Record::new(update, sequence, Timestamp::from_micros(1))
}

#[test]
fn a_record_holds_its_updates_and_none_from_while_it_was_apart() {
    let mut letter = record(3).merge(record(5));
    letter.set_apart();
    let replayed = letter.merge(record(9));
    let held: Vec<Sequence> = (0..12).filter(|number| replayed.holds(*number)).collect();
    assert_eq!(held, [3, 4, 5, 9]);
}

#[test]
fn of_many_replayed_letters_the_oldest_become_one_span() {
    let letters = (1..=REPLAYED_SPANS_MAX as u64 + 2).map(|number| Record {
        own: None,
        replayed: vec![(number * 10, number * 10 + 1)],
        ..record(number * 10)
    });
    let merged = letters.reduce(Record::merge).expect("some letters");
    assert_eq!(merged.replayed.len(), REPLAYED_SPANS_MAX);
    assert_eq!(merged.replayed[..2], [(10, 31), (40, 41)]);
}

#[test]
fn a_record_is_in_as_many_pieces_as_it_was_set_apart() {
    let mut record = record(1);
    for piece in 1..PIECES_MAX as u64 {
        assert!(!record.is_in_pieces(None), "{piece}");
        assert_eq!(record.is_in_pieces(Some(&self::record(0))), piece + 1 == PIECES_MAX as u64);
        record.set_apart();
        record = record.merge(self::record(10 * piece));
    }
    assert!(record.is_in_pieces(None));
}

#[test]
fn a_record_loses_what_another_holds_later_and_says_so() {
    let mut struck = record(1);
    assert!(!struck.strike_older_than(&record(1)), "it is the same update");
    assert_eq!(struck, record(1));
    assert!(struck.strike_older_than(&record(2)));
    assert_eq!(struck.properties, []);
}

#[test]
fn a_records_size_is_that_of_its_company_and_properties() {
    let company_id = Some(("acme".to_owned(), Stamp::default()));
    assert_eq!((record(1).size(), Record { company_id, ..record(1) }.size()), (13, 19));
}

#[test]
fn a_record_goes_in_the_turns_of_few_others_and_each_once() {
    let mut owned = record(1);
    let own = owned.client;
    assert!(!owned.invite(own), "it has its place already");
    assert!(owned.invite(ClientId(9)) && owned.invite(ClientId(7)));
    assert!(!owned.invite(ClientId(9)));
    let mut other = record(2);
    assert!((20..28).all(|client| other.invite(ClientId(client))));
    assert!(!other.invite(ClientId(28)), "{:?}", other.guests);
    let merged = owned.merge(other);
    assert_eq!(merged.guests[..3], [ClientId(7), ClientId(9), ClientId(20)]);
    assert_eq!(merged.guests.len(), GUESTS_MAX);
}
