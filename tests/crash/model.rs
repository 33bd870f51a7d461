//! A queue in memory that goes through what a store has acknowledged.

use std::collections::BTreeMap;

use userpilot_gateway::store::engine::MemoryEngine;

use crate::workload::{self, Workload};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A loss of the last of so many ops is told from others.
const LATE_OPS: u64 = 4;

/// What a store must hold.
pub(crate) struct Model {
    pub(crate) seed: u64,
    workload: Workload<MemoryEngine>,
    /// The ops that the model has gone through, and the store with it. The first opens it.
    pub(crate) done: u64,
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, workload: Workload::open(MemoryEngine::default(), seed), done: 0 }
    }

    /// What is found must be what was acknowledged; the op that the cut came into may be there
    /// too, whole.
    pub(crate) fn compare(&mut self, found: &Entries, acknowledged: u64) -> Result<(), String> {
        if self.done + acknowledged == 0 {
            return self.compare_new(found);
        }
        let end = self.done + acknowledged;
        let mut before = None;
        for number in self.done..end {
            if *found == self.workload.entries() && number + LATE_OPS > end {
                before = Some(number);
            }
            self.advance(number);
        }
        let expected = self.workload.entries();
        if *found == expected {
            return Ok(());
        }
        self.advance(self.done);
        if *found == self.workload.entries() {
            return Ok(());
        }
        if let Some(before) = before {
            return Err(format!("after {} ops, it is as it was after {before}", self.done - 1));
        }
        let missing = expected.keys().filter(|key| !found.contains_key(*key)).count();
        let added = found.keys().filter(|key| !expected.contains_key(*key)).count();
        let same = expected.iter().filter(|(key, value)| found.get(*key) == Some(value)).count();
        let other = expected.len() - missing - same;
        Err(format!(
            "after {} ops, of {} entries {missing} are missing and {other} are not as \
             acknowledged, and {added} should not be there",
            self.done - 1,
            expected.len()
        ))
    }

    /// Opening a new queue commits twice: nothing, the one or both may be there.
    fn compare_new(&mut self, found: &Entries) -> Result<(), String> {
        let half_open = workload::open_queue(MemoryEngine::default());
        if found.is_empty() || *found == workload::entries(half_open.engine()) {
            return Ok(());
        }
        self.done = 1;
        match *found == self.workload.entries() {
            true => Ok(()),
            false => Err(format!("a new queue holds {} entries", found.len())),
        }
    }

    fn advance(&mut self, number: u64) {
        // The model is open from the start.
        if number > 0 {
            self.workload.step(number);
        }
        self.done = number + 1;
    }
}
