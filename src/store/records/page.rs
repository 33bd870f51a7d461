//! An entry of a page.

use serde::{Deserialize, Serialize};

use crate::domain::{
    merge::Record,
    update::{Lane, Sequence},
};

/// A subject's place in a page of the queue. The entry is stale where the subject's pending
/// record is gone, is in another lane, or does not span the entry's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageEntry {
    /// The record's first, or that of another client's update that has joined it.
    pub(crate) first_sequence: Sequence,
    /// The end of the pending record's key, from the subject on.
    pub(crate) subject_key: Vec<u8>,
}

impl PageEntry {
    /// Whether it leads to its subject's pending record, from a page of this lane.
    pub(crate) fn leads_to(&self, record: &Record, lane: Lane) -> bool {
        let spans = record.first_sequence..=record.last_sequence;
        record.lane == lane && spans.contains(&self.first_sequence)
    }
}
