//! What a check finds of one app, and whether it fits together.

use std::collections::{BTreeMap, HashSet};

use crate::{
    domain::{
        batch::{Batch, BatchState},
        update::{ClientId, Lane, Sequence},
    },
    store::{
        records::{AppState, Course, Tally},
        walk::Kind,
    },
};

/// A place in the queue that a page tells of: a subject, by its key, and its first sequence.
pub(super) type Place = (Lane, Sequence, Vec<u8>);

/// What is found of one app.
#[derive(Default)]
pub(super) struct AppFacts {
    pub(super) state: Option<AppState>,
    /// Batches that are not settled, by number, and the rows that were found of each.
    pub(super) unsettled: BTreeMap<u64, (Batch, u64)>,
    pub(super) batches_damaged: bool,
    pub(super) rows_damaged: bool,
    pub(super) dead_letters: u64,
    /// The keys by which the dead letters are to be found.
    pub(super) dead_keys: HashSet<Vec<u8>>,
    pub(super) pages_to_be_remade: bool,
    pub(super) places: HashSet<Place>,
    /// Pending records, as the app's state counts them.
    pub(super) counted: AppState,
    pub(super) records_damaged: bool,
    /// Of a store that several write to: the numbers of the app's stripes.
    pub(super) courses: Vec<Course>,
    /// Entries of pages, by client.
    pub(super) entries: BTreeMap<ClientId, i64>,
    /// Of its records, letters and rows.
    pub(super) last_sequence: Sequence,
}

impl AppFacts {
    /// What is known only at the end.
    pub(super) fn conclude(self) -> Vec<(Kind, &'static str)> {
        let mut problems = Vec::new();
        if !self.dead_keys.is_empty() {
            problems.push((Kind::Dead, "is not found by its subject"));
        }
        self.conclude_courses(&mut problems);
        let Some(state) = self.state.map(|state| state.with(Tally::of(&self.courses))) else {
            if self.counted.depth.records > 0 || !self.unsettled.is_empty() {
                problems.push((Kind::App, "of an app with records is missing or damaged"));
            }
            return problems;
        };
        // A rebuild of the pages counts anew.
        if !self.pages_to_be_remade {
            if state.depth != self.counted.depth {
                problems.push((Kind::App, "counts other than what waits"));
            }
            if state.company_records != self.counted.company_records {
                problems.push((Kind::App, "counts other than the companies that wait"));
            }
            if state.bulk_records != self.counted.bulk_records && !self.records_damaged {
                problems.push((Kind::App, "counts other than what waits in the bulk lane"));
            }
        }
        if state.express_records != self.counted.express_records
            && !self.records_damaged
            && !self.pages_to_be_remade
        {
            problems.push((Kind::App, "counts other than what waits in the express lane"));
        }
        if state.express_in_flight != self.counted.express_in_flight && !self.rows_damaged {
            problems.push((Kind::App, "counts other than what is in flight by express"));
        }
        if state.dead_letters != self.dead_letters {
            problems.push((Kind::App, "counts other than the dead letters that are open"));
        }
        self.conclude_batches(state.unsettled, &mut problems);
        problems
    }

    /// Of a store that several write to: what an app's stripes count and number.
    fn conclude_courses(&self, problems: &mut Vec<(Kind, &'static str)>) {
        let Some(last) = self.courses.iter().map(|course| course.last_sequence).max() else {
            return;
        };
        if last < self.last_sequence {
            problems.push((Kind::Course, "is older than records of the app"));
        }
        let mut clients = BTreeMap::<ClientId, i64>::new();
        for (client, count) in self.courses.iter().flat_map(|course| &course.clients) {
            *clients.entry(*client).or_default() += count;
        }
        clients.retain(|_, count| *count != 0);
        let mut entries = self.entries.clone();
        entries.retain(|_, count| *count != 0);
        if clients != entries && !self.pages_to_be_remade {
            problems.push((Kind::Course, "counts other than the places of clients"));
        }
    }

    /// One batch that is not settled follows the other.
    fn conclude_batches(mut self, first: Option<u64>, problems: &mut Vec<(Kind, &'static str)>) {
        let mut next = first;
        while let Some(number) = next {
            let Some((batch, rows)) = self.unsettled.remove(&number) else {
                return problems.push((Kind::Batch, "that is not settled is missing or damaged"));
            };
            let rows_go = matches!(batch.state, BatchState::Settling(_));
            let fewer = rows < batch.rows && !rows_go && !self.rows_damaged;
            if rows > batch.rows || fewer {
                problems.push((Kind::Batch, "has other than the rows that are in flight for it"));
            }
            next = batch.then;
        }
        if !self.unsettled.is_empty() {
            problems.push((Kind::Batch, "is not settled, and does not follow on another"));
        }
    }
}
