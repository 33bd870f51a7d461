//! What the queue needs of a store: an ordered map of bytes with atomic, durable commits.
//!
//! A transaction reads what was committed before it and collects writes; its own writes are
//! not visible to its reads. `commit` makes all of them visible and durable, or none.
//!
//! Over an engine that one process has to itself there is one writer, so transactions that write
//! never run side by side; readers may. What engines need that several share has a default here
//! which does nothing: a transaction that begins with locks, reads that are told of in advance,
//! and the store's own clock.

mod directory;
mod guard;
mod memory;
mod postgres;
mod redb;
pub(super) mod redo;
mod sealed;
mod sled;
mod sync;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(super) use postgres::tests::Database;

use std::{
    future::{Future, pending, ready},
    ops::RangeInclusive,
};

use crate::domain::time::Timestamp;

pub use memory::{Crash, MemoryEngine};
pub use postgres::{
    Age, Host, PostgresEngine, PostgresOptions, PostgresTransaction, Schema, script,
};
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
    /// Nothing was stored, and it may be tried again: there is no way to the store now, or it did
    /// not answer in time.
    #[error("the store is away: {0}")]
    Away(String),
    /// The store was asked to commit, and its answer never came.
    #[error("whether the store has it is not known: {0}")]
    Unknown(String),
}

/// Whether an engine's store is this process's alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else has it open.
    #[default]
    Alone,
    /// Others write to it too. Each app's subjects are dealt out to so many stripes.
    Shared {
        /// How many.
        stripes: u16,
    },
}

/// An ordered key-value store.
pub trait Engine: Send + Sync + 'static {
    /// A transaction of this engine.
    type Transaction: Transaction;

    /// Begins a transaction.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, EngineError>> + Send;

    /// Whether the store is this process's alone.
    fn sharing(&self) -> Sharing {
        Sharing::Alone
    }

    /// Begins a transaction that locks these entries, which must be there, in the order of their
    /// keys until it ends. Then it reads `reads` ahead. One that has the store alone locks nothing.
    fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        reads: &[Vec<u8>],
    ) -> impl Future<Output = Result<Self::Transaction, EngineError>> + Send {
        let _ = (locks, reads);
        self.begin()
    }

    /// Puts an entry unless it is there. Returns what is there then.
    fn put_if_absent(
        &self,
        key: &[u8],
        value: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, EngineError>> + Send {
        async move {
            let mut transaction = self.begin().await?;
            if let Some(found) = transaction.get(key).await? {
                return Ok(found.as_ref().to_vec());
            }
            transaction.put(key, value.clone());
            transaction.commit().await?;
            Ok(value)
        }
    }

    /// The store's own time, where it has a clock.
    fn time(&self) -> impl Future<Output = Result<Option<Timestamp>, EngineError>> + Send {
        ready(Ok(None))
    }

    /// Ends, with the reason, once this process may not write to the store any more. What is only
    /// closed by its own process never does.
    fn lost(&self) -> impl Future<Output = EngineError> + Send {
        pending()
    }

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

    /// Reads these together, where reading one by one would cost a way to the store each: a later
    /// `get` of one of them costs nothing.
    fn prefetch(
        &mut self,
        keys: &[Vec<u8>],
    ) -> impl Future<Output = Result<(), EngineError>> + Send {
        let _ = keys;
        ready(Ok(()))
    }

    /// The store's own time after the transaction had its locks, where it has a clock.
    fn time(&self) -> Option<Timestamp> {
        None
    }

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
