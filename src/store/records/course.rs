//! What a store that several write to keeps in the places of the head's and the app's counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AppState;
use crate::domain::{
    time::Timestamp,
    update::{AppId, ClientId, Sequence},
};

/// By how much an app's counters differ from what its state says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) records: i64,
    pub(crate) bytes: i64,
    pub(crate) bulk: i64,
    pub(crate) express: i64,
    pub(crate) company: i64,
    pub(crate) express_in_flight: i64,
    pub(crate) dead_letters: i64,
}

/// The numbers of one stripe of an app. Its row is the stripe's lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Course {
    /// The last sequence that was given to a subject of the stripe.
    pub(crate) last_sequence: Sequence,
    /// The last stamp of an update of the stripe that did not say when it occurred.
    pub(crate) last_accepted_at: Timestamp,
    /// Entries that were set aside under this lock.
    pub(crate) quarantined: u64,
    /// What was counted under this lock since all of the app was locked last.
    pub(crate) tally: Tally,
    /// Entries of pages that came, less those that went. Of all stripes together, how many there
    /// are.
    pub(crate) clients: BTreeMap<ClientId, i64>,
    /// Updates more urgent than bulk that were accepted.
    pub(crate) urgent: u64,
    /// Updates of the express lane that were accepted.
    pub(crate) express: u64,
}

/// A replica that takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Present {
    /// When it last said so, by the store's clock.
    pub(crate) seen_at: Timestamp,
    /// The apps that it is set up to deliver.
    pub(crate) apps: Vec<AppId>,
}

impl Tally {
    /// What one state counts more than another.
    pub(crate) fn between(before: &AppState, after: &AppState) -> Self {
        let more = |before: u64, after: u64| after.wrapping_sub(before).cast_signed();
        Self {
            records: more(before.depth.records, after.depth.records),
            bytes: more(before.depth.bytes, after.depth.bytes),
            bulk: more(before.bulk_records, after.bulk_records),
            express: more(before.express_records, after.express_records),
            company: more(before.company_records, after.company_records),
            express_in_flight: more(before.express_in_flight, after.express_in_flight),
            dead_letters: more(before.dead_letters, after.dead_letters),
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
            bulk: self.bulk.saturating_add(other.bulk),
            express: self.express.saturating_add(other.express),
            company: self.company.saturating_add(other.company),
            express_in_flight: self.express_in_flight.saturating_add(other.express_in_flight),
            dead_letters: self.dead_letters.saturating_add(other.dead_letters),
        }
    }

    /// Of several courses together.
    pub(crate) fn of<'a>(courses: impl IntoIterator<Item = &'a Course>) -> Self {
        courses.into_iter().fold(Self::default(), |sum, course| sum.plus(course.tally))
    }
}

impl AppState {
    /// The state with what was counted since.
    pub(crate) fn with(mut self, tally: Tally) -> Self {
        let add = |count: &mut u64, more| *count = count.saturating_add_signed(more);
        add(&mut self.depth.records, tally.records);
        add(&mut self.depth.bytes, tally.bytes);
        add(&mut self.bulk_records, tally.bulk);
        add(&mut self.express_records, tally.express);
        add(&mut self.company_records, tally.company);
        add(&mut self.express_in_flight, tally.express_in_flight);
        add(&mut self.dead_letters, tally.dead_letters);
        self
    }
}
