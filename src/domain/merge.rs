//! The merge law: how updates of one subject become one record.
//!
//! Every value carries a [`Stamp`]; of two values of one property the one with the later
//! stamp wins. Stamps are totally ordered and no two updates share one, so merging is
//! associative and commutative, and merging a list in any grouping equals applying its
//! updates one by one in stamp order. Without `occurred_at` stamp order is sequence order.

use serde::{Deserialize, Serialize};

use super::{
    time::Timestamp,
    update::{ClientId, Lane, Sequence, Update, Value, property_size},
};

/// When a value came to be true: by its time, then by the order of acceptance.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// The update's `occurred_at`, or when it was accepted.
    pub occurred_at: Timestamp,
    /// The update's sequence.
    pub sequence: Sequence,
}

/// A property's value and when it came to be true.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// The property's name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// When the value came to be true.
    pub stamp: Stamp,
}

/// The coalesced updates of one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The company, and when the user came to belong to it.
    pub company_id: Option<(String, Stamp)>,
    /// The properties, sorted by name, each name once.
    pub properties: Vec<Property>,
    /// The first sequence merged in: the record's place in the queue.
    pub first_sequence: Sequence,
    /// The last sequence merged in.
    pub last_sequence: Sequence,
    /// The sequences of its updates: of all of the subject's between these, each is in it.
    pub own: Option<Span>,
    /// The same of dead letters that were replayed, sorted. What became of the subject between
    /// them is not in it.
    pub replayed: Vec<Span>,
    /// When the first update was accepted.
    pub first_accepted_at: Timestamp,
    /// How many updates were merged in.
    pub updates: u64,
    /// The most urgent lane of the updates merged in.
    pub lane: Lane,
    /// The client whose update has waited longest: the record counts as its own.
    pub client: ClientId,
}

/// Sequences, from the first to the last.
pub type Span = (Sequence, Sequence);

/// More become one, which then also spans what lies between.
const REPLAYED_SPANS_MAX: usize = 16;

impl Record {
    /// The record that `update` alone makes.
    pub fn new(update: Update, sequence: Sequence, accepted_at: Timestamp) -> Self {
        let stamp = Stamp { occurred_at: update.occurred_at.unwrap_or(accepted_at), sequence };
        Self {
            company_id: update.company_id.map(|id| (id, stamp)),
            properties: update
                .properties
                .into_iter()
                .map(|(name, value)| Property { name, value, stamp })
                .collect(),
            first_sequence: sequence,
            last_sequence: sequence,
            own: Some((sequence, sequence)),
            replayed: Vec::new(),
            first_accepted_at: accepted_at,
            updates: 1,
            lane: update.lane,
            client: update.client,
        }
    }

    /// Merges `self` and `other`, which are about the same subject.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (older, newer) =
            if other.first_sequence < self.first_sequence { (other, self) } else { (self, other) };
        Self {
            company_id: later(older.company_id, newer.company_id),
            properties: merge_properties(older.properties, newer.properties),
            first_sequence: older.first_sequence,
            last_sequence: older.last_sequence.max(newer.last_sequence),
            own: match (older.own, newer.own) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            },
            replayed: merge_spans(older.replayed, newer.replayed),
            first_accepted_at: older.first_accepted_at,
            updates: older.updates + newer.updates,
            lane: older.lane.min(newer.lane),
            client: older.client,
        }
    }

    /// Whether it holds a value of the property with this name, or, without one, a company.
    pub fn mentions(&self, name: Option<&str>) -> bool {
        match name {
            Some(name) => {
                self.properties.binary_search_by(|property| (*property.name).cmp(name)).is_ok()
            }
            None => self.company_id.is_some(),
        }
    }

    /// Whether the subject's update with this sequence is in it.
    pub fn holds(&self, sequence: Sequence) -> bool {
        self.spans().any(|(first, last)| (first..=last).contains(&sequence))
    }

    /// The sequences of its updates.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.replayed.iter().copied().chain(self.own)
    }

    /// From now on other updates of the subject go their own way: what is merged with it later
    /// does not span what lies between.
    pub fn set_apart(&mut self) {
        let own = self.own.take().into_iter().collect();
        self.replayed = merge_spans(std::mem::take(&mut self.replayed), own);
    }

    /// Strikes what `standing` holds with a later stamp: merged with it, these values would
    /// lose; sent after it, they would overwrite what they must lose against. Returns whether
    /// there were any.
    pub fn strike_older_than(&mut self, standing: &Self) -> bool {
        let before = (self.company_id.is_some(), self.properties.len());
        self.company_id = self.company_id.take().filter(|(_, stamp)| {
            standing.company_id.as_ref().is_none_or(|(_, later)| later <= stamp)
        });
        let others = &standing.properties;
        self.properties.retain(|property| {
            let other = others.binary_search_by(|other| other.name.cmp(&property.name));
            !other.is_ok_and(|place| others[place].stamp > property.stamp)
        });
        before != (self.company_id.is_some(), self.properties.len())
    }

    /// Without the values that `rest` still has.
    #[must_use]
    pub fn without(mut self, rest: &Self) -> Self {
        self.company_id = self.company_id.take().filter(|_| rest.company_id.is_none());
        self.properties.retain(|property| !rest.mentions(Some(&property.name)));
        self
    }

    /// About how many bytes the record takes in memory and on disk, its key left out.
    pub fn size(&self) -> usize {
        let company = self.company_id.as_ref().map_or(0, |(id, _)| id.len() + 2);
        let properties: usize =
            self.properties.iter().map(|p| property_size(&p.name, &p.value)).sum();
        company + properties
    }
}

fn merge_spans(mut a: Vec<Span>, b: Vec<Span>) -> Vec<Span> {
    a.extend(b);
    a.sort_unstable();
    a.dedup();
    while a.len() > REPLAYED_SPANS_MAX {
        let (first, second) = (a.remove(0), a.remove(0));
        a.insert(0, (first.0, first.1.max(second.1)));
    }
    a
}

fn later(a: Option<(String, Stamp)>, b: Option<(String, Stamp)>) -> Option<(String, Stamp)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.1 > b.1 { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// Merges two lists that are sorted by name into one.
fn merge_properties(a: Vec<Property>, b: Vec<Property>) -> Vec<Property> {
    let mut merged = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        let order = left.name.cmp(&right.name);
        let left = order.is_le().then(|| a.next()).flatten();
        let right = order.is_ge().then(|| b.next()).flatten();
        merged.extend(match (left, right) {
            (Some(left), Some(right)) if left.stamp > right.stamp => Some(left),
            (left, right) => right.or(left),
        });
    }
    merged.extend(a);
    merged.extend(b);
    merged
}

#[cfg(test)]
mod tests {
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
            BTreeMap::from([
                ("plan".to_owned(), Value::Null),
                ("seats".to_owned(), Value::Integer(3))
            ])
        );
    }

    #[test]
    fn a_late_report_of_something_earlier_does_not_overwrite_what_came_after() {
        let mut late =
            update(&[("plan", Value::Text("free".into())), ("trial", Value::Bool(true))]);
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
        let letters = (1..=18).map(|number| Record {
            own: None,
            replayed: vec![(number * 10, number * 10 + 1)],
            ..record(number * 10)
        });
        let merged = letters.reduce(Record::merge).expect("some letters");
        assert_eq!(merged.replayed.len(), REPLAYED_SPANS_MAX);
        assert_eq!(merged.replayed[..2], [(10, 31), (40, 41)]);
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
}
