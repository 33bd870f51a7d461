//! The merge law: how updates of one subject become one record.
//!
//! Every value carries a [`Stamp`]; of two values of one property the one with the later
//! stamp wins. Stamps are totally ordered and no two updates share one, so merging is
//! associative and commutative, and merging a list in any grouping equals applying its
//! updates one by one in stamp order. Without `occurred_at` stamp order is sequence order.

#[cfg(test)]
mod tests;

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
    /// Other clients in whose turns it may go, too, sorted: an update of each has joined it.
    pub guests: Vec<ClientId>,
}

/// Sequences, from the first to the last.
pub type Span = (Sequence, Sequence);

/// In the turns of so many other clients a record may go: one whose turn comes soon is enough.
const GUESTS_MAX: usize = 8;
/// More become one, which then also spans what lies between.
const REPLAYED_SPANS_MAX: usize = 64;
/// In so many pieces a record may be with what is in flight of its subject, since other updates go
/// their own way. What comes then joins it: so it does not come to span what went another way.
const PIECES_MAX: usize = 16;

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
            guests: Vec::new(),
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
            guests: merge_guests(older.guests, newer.guests),
        }
    }

    /// Whether it holds anything that upstream is to be told.
    pub fn has_values(&self) -> bool {
        self.company_id.is_some() || !self.properties.is_empty()
    }

    /// A client's update has joined the record. Whether that may also go in the client's turns now.
    pub fn invite(&mut self, client: ClientId) -> bool {
        let place = self.guests.binary_search(&client);
        let Err(place) = place else { return false };
        if client == self.client || self.guests.len() >= GUESTS_MAX {
            return false;
        }
        self.guests.insert(place, client);
        true
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

    /// Whether it is in as many pieces as may be, together with `other`, should they become one.
    pub fn is_in_pieces(&self, other: Option<&Self>) -> bool {
        let pieces = |record: &Self| record.spans().count();
        pieces(self) + other.map_or(0, pieces) >= PIECES_MAX
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

    /// What it holds that `other` does not mention.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.company_id.take_if(|_| other.mentions(None));
        self.properties.retain(|property| !other.mentions(Some(&property.name)));
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

fn merge_guests(mut a: Vec<ClientId>, b: Vec<ClientId>) -> Vec<ClientId> {
    a.extend(b);
    a.sort_unstable();
    a.dedup();
    a.truncate(GUESTS_MAX);
    a
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
