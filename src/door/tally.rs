//! What is counted of each client.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::refusal::{Reason, Refusal};

/// A client's updates since the start.
#[derive(Debug, Default)]
pub struct Tally {
    accepted: AtomicU64,
    passed: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
}

impl Tally {
    /// Counts what became of an update.
    pub fn count<T>(&self, outcome: &Result<T, Refusal>) {
        match outcome {
            Ok(_) => {
                self.accepted.fetch_add(1, Relaxed);
            }
            Err(refusal) => self.refuse(refusal.reason()),
        }
    }

    /// Counts what is refused for `reason`.
    pub fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts a request that was passed through.
    pub fn pass(&self) {
        self.passed.fetch_add(1, Relaxed);
    }

    /// The updates that were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// The requests that were passed through.
    pub fn passed(&self) -> u64 {
        self.passed.load(Relaxed)
    }

    /// The updates, and the requests to be passed through, that were refused for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Relaxed)
    }
}
