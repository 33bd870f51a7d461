//! A dead letter, as it is stored.

use serde::{Deserialize, Serialize};

use crate::domain::{
    batch::{BatchId, DeadReason},
    merge::Record,
    time::Timestamp,
};

/// A record that upstream will not take.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dead {
    /// The end of the pending record's key, from the subject on.
    pub(crate) subject_key: Vec<u8>,
    pub(crate) death: Death,
    /// Why nobody needs it any more, and since when.
    pub(crate) closed: Option<(Closing, Timestamp)>,
    pub(crate) record: Record,
}

/// How a record came to be a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Why.
    pub reason: DeadReason,
    /// In upstream's words, shortened.
    pub detail: String,
    /// Its last batch.
    pub batch: BatchId,
    /// Upstream's name for that batch's job, where it had one.
    pub job_id: Option<String>,
    /// Upstream's request id of the refusal, where it gave one.
    pub request_id: Option<String>,
}

/// Why a dead letter is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closing {
    /// Later values of all its properties were delivered.
    Superseded,
    /// An operator discarded it.
    Discarded,
}
