//! What is counted of each client.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::refusal::{Reason, Refusal};

/// A client's updates since the start.
#[derive(Debug, Default)]
pub struct Tally {
    accepted: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

impl Tally {
    /// Counts what became of an update.
    pub fn count<T>(&self, outcome: &Result<T, Refusal>) {
        match outcome {
            Ok(_) => &self.accepted,
            Err(refusal) => &self.refused[refusal.reason() as usize],
        }
        .fetch_add(1, Relaxed);
    }

    /// The updates that were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// The updates that were refused for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Relaxed)
    }
}
