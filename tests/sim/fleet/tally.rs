//! What happened in a run, in numbers.

use std::collections::BTreeMap;

/// What happened in a run, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) updates: u64,
    pub(crate) jobs: u64,
    pub(crate) virtual_seconds: u64,
    pub(crate) turns: u64,
    pub(crate) stops: u64,
    pub(crate) deaths: u64,
    pub(crate) cuts: u64,
    /// How often a holder found that it had lost its lease, by what told it.
    pub(crate) fenced: u64,
    pub(crate) held_back: u64,
    /// How often a transaction was ended by the store, or committed behind its owner's back.
    pub(crate) ended_idle: u64,
    pub(crate) committed_late: u64,
    /// Apps that were taken over from another replica, by what the last holder was about.
    pub(crate) taken_over: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, run: &Self) {
        self.updates += run.updates;
        self.jobs += run.jobs;
        self.virtual_seconds += run.virtual_seconds;
        self.turns += run.turns;
        self.stops += run.stops;
        self.deaths += run.deaths;
        self.cuts += run.cuts;
        self.fenced += run.fenced;
        self.held_back += run.held_back;
        self.ended_idle += run.ended_idle;
        self.committed_late += run.committed_late;
        for (step, count) in &run.taken_over {
            *self.taken_over.entry(step).or_default() += count;
        }
    }
}
