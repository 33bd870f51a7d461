//! What the queue needs of a store: an ordered map of bytes with atomic, durable commits.
//!
//! A transaction reads what was committed before it and collects writes; its own writes are
//! not visible to its reads. `commit` makes all of them visible and durable, or none. There
//! is one writer, so transactions that write never run side by side; readers may.

mod directory;
mod memory;
mod redb;
pub(super) mod redo;
mod sealed;
mod sled;
mod sync;

#[cfg(test)]
mod conformance;

use std::{future::Future, ops::RangeInclusive};

pub use memory::{Crash, MemoryEngine};
pub use redb::{RedbEngine, RedbOptions};
pub use sealed::{KeyId, Resealed, SEAL_BYTES, SealedEngine, StoreKey, StoreKeys};
pub use sled::{SledEngine, SledOptions};

/// The most bytes of a key and its value, in any engine. A record takes up to 88 KiB, by the
/// ranges of the configuration: its size, and 24 bytes a property.
pub const ENTRY_BYTES_MAX: usize = 100_000;

/// What went wrong in an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process has the store open.
    #[error("{path} is in use by another process{}", holder.map(|pid| format!(" (process id {pid})")).unwrap_or_default())]
    InUse {
        /// The store's directory.
        path: String,
        /// That process, where it is known.
        holder: Option<u32>,
    },
    /// The store cannot be opened.
    #[error("cannot open the store in {path}: {reason}")]
    Open {
        /// The store's directory.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A read or a commit failed. Whether a commit that failed is on disk is not known.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// An ordered key-value store.
pub trait Engine: Send + Sync + 'static {
    /// A transaction of this engine.
    type Transaction: Transaction;

    /// Begins a transaction.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, EngineError>> + Send;

    /// What the store takes on disk, in bytes.
    fn disk_bytes(&self) -> u64;

    /// The engine's name in the configuration.
    fn name(&self) -> &'static str;
}

/// Reads and collected writes.
pub trait Transaction: Send {
    /// Stored bytes, as the engine lends them.
    type Value: AsRef<[u8]> + Send + Sync;

    /// The value of `key`.
    fn get(
        &mut self,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Self::Value>, EngineError>> + Send;

    /// The first `limit` entries of `range`, in key order.
    fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> impl Future<Output = Result<Entries<Self::Value>, EngineError>> + Send;

    /// Sets `key` on commit. Together they have at most [`ENTRY_BYTES_MAX`] bytes: a commit
    /// with more is refused.
    fn put(&mut self, key: &[u8], value: Vec<u8>);

    /// Removes `key` on commit.
    fn delete(&mut self, key: &[u8]);

    /// Makes the writes visible and durable, all or none.
    fn commit(self) -> impl Future<Output = Result<(), EngineError>> + Send;
}

fn check_entry(bytes: usize, bytes_max: usize) -> Result<(), EngineError> {
    if bytes > bytes_max {
        let what = format!("an entry of {bytes} bytes is over {bytes_max}");
        return Err(EngineError::Failed(what));
    }
    Ok(())
}

/// Keys and values, in key order.
pub type Entries<V> = Vec<(Vec<u8>, V)>;
