//! What upstream holds of a subject, as far as the gateway delivered it: what need not be sent
//! again, and what comes too late.
//!
//! Remembered is a fingerprint of every property's last delivered value, with its stamp and when
//! it was delivered. Only what was delivered for certain feeds it; whatever may have been written
//! or not erases what it carried.

#[cfg(test)]
mod tests;

use std::{hash::Hasher, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{
    merge::{Record, Stamp},
    row::RowValues,
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
    /// Where values go, and as what: see [`account_print`]. What was delivered under another says
    /// nothing.
    pub account: u32,
}

/// A hash of where values go, and as what.
pub fn account_print(base_url: &str, values: RowValues) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(base_url.as_bytes());
    hasher.write_u8(match values {
        RowValues::Primitive => 0,
        RowValues::Text => 1,
    });
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// What upstream holds of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// When what was delivered had come to be true, and when it was delivered.
    times: Vec<(Stamp, Timestamp)>,
    /// The properties, by the hash of their names.
    held: Vec<Held>,
    /// Until when nothing is learned: a request that was given up may be carried out late.
    doubtful_until: Timestamp,
    /// Whether it was changed since it was read.
    #[serde(skip)]
    is_news: bool,
}

/// For how long a request that was given up may still be carried out, over what was sent since.
pub const LATE_MAX: Duration = Duration::from_secs(5 * 60);

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

/// In the place of the hash of a value, where it is not known which one upstream holds.
const NOT_KNOWN: [u8; 8] = [0; 8];

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
    /// Strikes from `arrived` what came to be true before what upstream holds, and the values that
    /// upstream holds, but for those of which another is under way (`is_under_way`): that may be
    /// what upstream holds by then.
    pub fn strike(
        &mut self,
        arrived: &mut Record,
        is_under_way: impl Fn(Option<&str>) -> bool,
        (key, suppression): (FingerprintKey, &Suppression),
        now: Timestamp,
    ) -> Judgement {
        if self.held.is_empty() {
            return Judgement::Changed;
        }
        let mut needs = |name: &str, value: &dyn Fn() -> [u8; 8], stamp: Stamp| {
            let Ok(place) = self.place(name, key) else { return true };
            let Some((held_stamp, delivered_at)) = self.time(place) else { return true };
            // Whatever is under way, upstream holds this already, or later still.
            if stamp < held_stamp {
                return false;
            }
            if is_under_way(Some(name).filter(|name| *name != COMPANY)) {
                return true;
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
        match arrived.has_values() {
            true => Judgement::Changed,
            false => Judgement::Unchanged,
        }
    }

    /// Strikes from `record` what came to be true before what upstream holds.
    pub fn strike_older(&self, record: &mut Record, key: FingerprintKey) {
        let is_later = |name: &str, stamp: Stamp| {
            let held = self.place(name, key).ok().and_then(|place| self.time(place));
            held.is_none_or(|(held_stamp, _)| held_stamp <= stamp)
        };
        record.company_id.take_if(|(_, stamp)| !is_later(COMPANY, *stamp));
        record.properties.retain(|property| is_later(&property.name, property.stamp));
    }

    /// Upstream holds the values of `record` now; or one that was sent before, which may be carried
    /// out late: then their values are not known, as after [`Self::erase`].
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
        let late = self.doubtful_until;
        // By a clock that was ahead it would be doubtful for as long as that.
        if late > now && late.since(now) <= LATE_MAX {
            self.erase(record, key);
        } else {
            self.doubtful_until = Timestamp::default();
        }
        while self.held.len() > suppression.properties_max {
            let oldest = (0..self.held.len()).min_by_key(|place| self.time(*place).map(|t| t.1));
            self.held.remove(oldest.unwrap_or(0));
        }
        self.tidy();
    }

    /// Upstream may hold the values of `record`, or what it held before. That what is older still
    /// comes too late remains true.
    pub fn erase(&mut self, record: &Record, key: FingerprintKey) {
        let names = record.properties.iter().map(|property| &*property.name);
        for name in names.chain(record.company_id.is_some().then_some(COMPANY)) {
            if let Ok(place) = self.place(name, key) {
                self.held[place].value = NOT_KNOWN;
            }
        }
    }

    /// What is delivered until then may be overwritten by what was sent before.
    pub fn doubt(&mut self, until: Timestamp) {
        self.doubtful_until = until;
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
        self.held.is_empty() && self.doubtful_until == Timestamp::default()
    }

    /// The last sequence of what is remembered.
    pub fn last_sequence(&self) -> Option<Sequence> {
        self.times.iter().map(|(stamp, _)| stamp.sequence).max()
    }

    /// When the last of it was delivered, or may be.
    pub fn delivered_at(&self) -> Option<Timestamp> {
        let times = self.times.iter().map(|(_, delivered_at)| *delivered_at);
        times.chain(Some(self.doubtful_until)).max()
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
