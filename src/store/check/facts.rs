//! What a check finds of one app, and whether it fits together.

use std::collections::{BTreeMap, HashSet};

use crate::{
    domain::{
        batch::{Batch, BatchState},
        update::{Lane, Sequence},
    },
    store::{records::AppState, walk::Kind},
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
}

impl AppFacts {
    /// What is known only at the end.
    pub(super) fn conclude(self) -> Vec<(Kind, &'static str)> {
        let mut problems = Vec::new();
        if !self.dead_keys.is_empty() {
            problems.push((Kind::Dead, "is not found by its subject"));
        }
        let Some(state) = self.state else {
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
