//! What upstream holds of a subject, as far as the gateway delivered it: what need not be sent
//! again, and what comes too late.
//!
//! Remembered is a fingerprint of every property's last delivered value, with its stamp and when
//! it was delivered. Only what was delivered for certain feeds it; whatever may have been written
//! or not erases what it carried.

use std::{hash::Hasher, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{
    merge::{Record, Stamp},
    time::Timestamp,
    update::{Sequence, Value},
};

/// Under what values are hashed: a store's own.
#[derive(Clone, Copy, Debug)]
pub struct FingerprintKey(pub u64);

/// For how long it is believed that upstream still holds what was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// What was delivered longer ago is sent again: somebody may have changed it upstream.
    pub refresh_after: Duration,
    /// The properties of one subject that are remembered.
    pub properties_max: usize,
}

/// What upstream holds of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// When what was delivered had come to be true, and when it was delivered.
    times: Vec<(Stamp, Timestamp)>,
    /// The properties, by the hash of their names.
    held: Vec<Held>,
    /// Whether it was changed since it was read.
    #[serde(skip)]
    is_news: bool,
}

/// A property that upstream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    /// A hash of the name: two names of one subject that share it are as though the one had taken
    /// the place of the other, since the value's hash holds the name, too.
    name: [u8; 4],
    value: [u8; 8],
    /// The position in `times`.
    time: u16,
}

/// The name that stands for the company of a user: no property has it.
const COMPANY: &str = "";

/// What is to be done with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// All of it is to be sent, or what is left of it.
    Changed,
    /// Upstream holds all of it, or later values.
    Unchanged,
}

impl Delivered {
    /// Strikes from `arrived`, which holds one update, the values that upstream holds, and, where
    /// it says when it occurred (`is_timed`), those that are older than what upstream holds. What
    /// also waits or is in flight (`is_under_way`) stays, whatever upstream holds by now.
    pub fn strike(
        &mut self,
        arrived: &mut Record,
        (is_timed, is_under_way): (bool, impl Fn(Option<&str>) -> bool),
        (key, suppression): (FingerprintKey, &Suppression),
        now: Timestamp,
    ) -> Judgement {
        if self.held.is_empty() {
            return Judgement::Changed;
        }
        let mut needs = |name: &str, value: &dyn Fn() -> [u8; 8], stamp: Stamp| {
            let name_or_company = Some(name).filter(|name| *name != COMPANY);
            let Some(place) = self.place(name, key).ok().filter(|_| !is_under_way(name_or_company))
            else {
                return true;
            };
            let Some((held_stamp, delivered_at)) = self.time(place) else { return true };
            if is_timed && stamp < held_stamp {
                return false;
            }
            // One of a clock that was ahead would be believed for as long as that.
            let fresh = delivered_at <= now && now.since(delivered_at) <= suppression.refresh_after;
            if !fresh || self.held[place].value != value() {
                return true;
            }
            // It is true as of later now: what occurred in between comes too late.
            if stamp > held_stamp {
                self.held[place].time = self.note((stamp, delivered_at));
                self.is_news = true;
            }
            false
        };
        if let Some((id, stamp)) = &arrived.company_id
            && !needs(COMPANY, &|| text_print(key, COMPANY, id), *stamp)
        {
            arrived.company_id = None;
        }
        arrived.properties.retain(|property| {
            let value = || fingerprint(key, &property.name, &property.value);
            needs(&property.name, &value, property.stamp)
        });
        self.tidy();
        match arrived.company_id.is_none() && arrived.properties.is_empty() {
            true => Judgement::Unchanged,
            false => Judgement::Changed,
        }
    }

    /// Upstream holds the values of `record` now.
    pub fn feed(
        &mut self,
        record: &Record,
        (key, suppression): (FingerprintKey, &Suppression),
        now: Timestamp,
    ) {
        if let Some((id, stamp)) = &record.company_id {
            self.hold(COMPANY, text_print(key, COMPANY, id), (*stamp, now), key);
        }
        for property in &record.properties {
            let value = fingerprint(key, &property.name, &property.value);
            self.hold(&property.name, value, (property.stamp, now), key);
        }
        while self.held.len() > suppression.properties_max {
            let oldest = (0..self.held.len()).min_by_key(|place| self.time(*place).map(|t| t.1));
            self.held.remove(oldest.unwrap_or(0));
        }
        self.tidy();
    }

    /// Upstream may hold the values of `record`, or what it held before.
    pub fn erase(&mut self, record: &Record, key: FingerprintKey) {
        let names = record.properties.iter().map(|property| &*property.name);
        for name in names.chain(record.company_id.is_some().then_some(COMPANY)) {
            if let Ok(place) = self.place(name, key) {
                self.held.remove(place);
            }
        }
        self.tidy();
    }

    /// Whether every property has a time, and there is room for one more.
    pub fn is_sound(&self) -> bool {
        let times = self.times.len();
        times < usize::from(u16::MAX) && self.held.iter().all(|held| usize::from(held.time) < times)
    }

    /// Whether it was changed since it was read.
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The last sequence of what is remembered.
    pub fn last_sequence(&self) -> Option<Sequence> {
        self.times.iter().map(|(stamp, _)| stamp.sequence).max()
    }

    /// When the last of it was delivered.
    pub fn delivered_at(&self) -> Option<Timestamp> {
        self.times.iter().map(|(_, delivered_at)| *delivered_at).max()
    }

    fn hold(&mut self, name: &str, value: [u8; 8], time: (Stamp, Timestamp), key: FingerprintKey) {
        let held = Held { name: name_print(key, name), value, time: self.note(time) };
        match self.place(name, key) {
            Ok(place) => self.held[place] = held,
            Err(place) => self.held.insert(place, held),
        }
    }

    fn place(&self, name: &str, key: FingerprintKey) -> Result<usize, usize> {
        let name = name_print(key, name);
        self.held.binary_search_by(|held| held.name.cmp(&name))
    }

    fn time(&self, place: usize) -> Option<(Stamp, Timestamp)> {
        self.times.get(usize::from(self.held.get(place)?.time)).copied()
    }

    /// The position of a time. There are as many as there are properties, at the most, and one.
    fn note(&mut self, time: (Stamp, Timestamp)) -> u16 {
        let known = self.times.iter().rposition(|known| *known == time);
        let place = known.unwrap_or_else(|| {
            self.times.push(time);
            self.times.len() - 1
        });
        u16::try_from(place).expect("a subject has fewer properties")
    }

    /// Leaves no time that no property has.
    fn tidy(&mut self) {
        let mut moved = vec![None; self.times.len()];
        let mut times = Vec::new();
        for held in &mut self.held {
            let from = usize::from(held.time);
            let to = *moved[from].get_or_insert_with(|| {
                times.push(self.times[from]);
                times.len() - 1
            });
            held.time = u16::try_from(to).expect("it was one before");
        }
        self.times = times;
    }
}

fn hasher(key: FingerprintKey, name: &str) -> SipHasher13 {
    let mut hasher = SipHasher13::new_with_keys(key.0, 0);
    hasher.write(name.as_bytes());
    // No name ends with it.
    hasher.write_u8(0xff);
    hasher
}

fn name_print(key: FingerprintKey, name: &str) -> [u8; 4] {
    let [a, b, c, d, ..] = hasher(key, name).finish().to_le_bytes();
    [a, b, c, d]
}

fn text_print(key: FingerprintKey, name: &str, text: &str) -> [u8; 8] {
    let mut hasher = hasher(key, name);
    hasher.write_u8(4);
    hasher.write(text.as_bytes());
    hasher.finish().to_le_bytes()
}

/// A hash of a value and its property's name.
fn fingerprint(key: FingerprintKey, name: &str, value: &Value) -> [u8; 8] {
    let mut hasher = hasher(key, name);
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(value) => hasher.write(&[1, u8::from(*value)]),
        Value::Integer(value) => {
            hasher.write_u8(2);
            hasher.write(&value.to_le_bytes());
        }
        Value::Float(value) => {
            hasher.write_u8(3);
            hasher.write(&value.to_bits().to_le_bytes());
        }
        Value::Text(text) => return text_print(key, name, text),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::testing;

    const KEY: FingerprintKey = FingerprintKey(7);
    const ALL: Suppression = Suppression { refresh_after: Duration::MAX, properties_max: 100 };

    fn values(record: &Record) -> BTreeMap<String, Value> {
        record.properties.iter().map(|p| (p.name.clone(), p.value.clone())).collect()
    }

    proptest! {
        /// The law: whatever was delivered before, applying what is left of an update gives what
        /// applying all of it gives.
        #[test]
        fn what_is_left_has_the_effect_of_the_whole(
            records in (1..8_usize).prop_flat_map(testing::records),
        ) {
            let now = Timestamp::from_micros(1_000_000);
            let (mut delivered, mut by_all, mut by_rest) =
                (Delivered::default(), BTreeMap::new(), BTreeMap::new());
            let mut companies = (None, None);
            for record in records {
                by_all.extend(values(&record));
                let company = record.company_id.as_ref().map(|(id, _)| id.clone());
                companies.0 = company.or(companies.0);
                let mut rest = record;
                let judged = delivered.strike(&mut rest, (false, |_| false), (KEY, &ALL), now);
                let empty = rest.properties.is_empty() && rest.company_id.is_none();
                prop_assert!(judged == Judgement::Changed || empty);
                by_rest.extend(values(&rest));
                companies.1 = rest.company_id.as_ref().map(|(id, _)| id.clone()).or(companies.1);
                delivered.feed(&rest, (KEY, &ALL), now);
                prop_assert_eq!(&by_rest, &by_all);
                prop_assert_eq!(&companies.0, &companies.1);
                // And all of it once more is nothing new.
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
            let judged = delivered.strike(&mut again, (false, |_| false), (KEY, &ALL), now);
            let nothing = second.properties.is_empty() && second.company_id.is_none();
            prop_assert!(judged == Judgement::Unchanged || nothing);
            delivered.erase(&second, KEY);
            let mut again = second.clone();
            let judged = delivered.strike(&mut again, (false, |_| false), (KEY, &ALL), now);
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
}
