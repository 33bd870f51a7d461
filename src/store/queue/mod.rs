//! The durable queue, written once over an engine.
//!
//! `accept` merges updates into pending records; `claim` moves pending records into a batch;
//! `advance` notes where the batch is; `settle` moves its rows to where they belong. All of
//! these are called by the one writer. What moves many rows does so in chunks, each a
//! transaction that leaves the store as good as whole, so that accepting goes on in between.

mod accept;
mod claim;
mod clients;
mod dead;
mod depth;
mod error;
mod express;
mod find;
mod forget;
mod import;
pub mod jobs;
mod lane;
pub mod lease;
mod naming;
mod pages;
mod prune;
mod recovery;
mod remember;
mod rescue;
mod settle;
mod shared;
mod stamps;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use accept::{Accepted, Disposition};
pub use claim::Claim;
pub use clients::ClientTerms;
pub use dead::{DeadFilter, DeadId, DeadLetter, DeadPage, Replay};
pub use depth::QueueDepth;
pub use error::StoreError;
pub use express::TakenExpress;
pub use find::{Found, OldestOfLanes, Reads};
pub use forget::{Forgotten, Swept};
pub use import::Arrival;
pub use prune::{PruneCursor, Retention};
pub use settle::{SettledRow, Settling};
pub(super) use shared::state_of;
pub use subject::{DeliveredRecord, PendingPage, RecordInFlight, SubjectRecords};

use self::{
    clients::Clients,
    jobs::JobIndex,
    rescue::put_rescue,
    shared::{After, Fleet, Scope, agree},
};
use super::{
    engine::{Engine, EngineError, Sharing, Transaction},
    keys,
    records::{AppState, Damage, Head, Stored},
};
use crate::domain::{
    admission::QueueLimits,
    batch::{Batch, BatchState},
    delivered::Suppression,
    lifecycle::Rescue,
    memory::Memory,
    time::Timestamp,
    update::AppId,
};

/// The layout of keys that this program writes and reads.
pub(super) const FORMAT: u32 = 7;

/// The queue of all apps of one store.
#[derive(Debug)]
pub struct Queue<E> {
    engine: E,
    /// Drawn at every opening. Batches are named after it, so that a store that was copied
    /// back does not give a name twice.
    opening: u64,
    limits: QueueLimits,
    clients: Clients,
    head: Head,
    apps: BTreeMap<AppId, AppState>,
    /// What they are called.
    names: BTreeMap<AppId, String>,
    /// Updates more urgent than bulk that were accepted since the queue was opened.
    urgent: BTreeMap<AppId, u64>,
    /// Of the apps that remember what they delivered, for how long that counts.
    suppression: BTreeMap<AppId, Suppression>,
    /// Updates of the express lane that were accepted since the queue was opened.
    express: BTreeMap<AppId, u64>,
    /// How many rows the batches may have that are being claimed, where a bulk lane goes before
    /// what is more urgent of the other kind.
    rows_out_of_turn: BTreeMap<AppId, u64>,
    /// Apps of which something was damaged and made anew.
    rescued: BTreeMap<AppId, Rescue>,
    /// Apps of which too much is damaged.
    held: BTreeSet<AppId>,
    /// Since the clock was last right.
    warned_of_clock: bool,
    /// Dead letters that were dropped since the queue was opened.
    dead_lost: u64,
    jobs: JobIndex,
    /// Where others write to the store, too.
    fleet: Option<Fleet>,
}

impl<E: Engine> Queue<E> {
    /// Opens the queue, or makes a new one. `random` names the batches of this opening, and a
    /// new store for ever.
    pub async fn open(engine: E, limits: QueueLimits, random: u64) -> Result<Self, StoreError> {
        agree(&engine).await?;
        let head = Head {
            format: FORMAT,
            store: random,
            last_sequence: 0,
            last_accepted_at: Timestamp::default(),
            quarantined: 0,
        };
        let head = engine.put_if_absent(keys::HEAD, head.encode()).await?;
        let head = Head::decode(&head).map_err(|damage| {
            StoreError::unreadable("its head (key h), which all else depends on", damage)
        })?;
        if head.format != FORMAT {
            return Err(StoreError::Format { found: head.format });
        }
        let fleet = Fleet::of(engine.sharing());
        Ok(Self {
            engine,
            opening: random,
            limits,
            clients: Clients::default(),
            head,
            apps: BTreeMap::new(),
            names: BTreeMap::new(),
            urgent: BTreeMap::new(),
            suppression: BTreeMap::new(),
            express: BTreeMap::new(),
            rows_out_of_turn: BTreeMap::new(),
            rescued: BTreeMap::new(),
            held: BTreeSet::new(),
            warned_of_clock: false,
            dead_lost: 0,
            jobs: JobIndex::default(),
            fleet,
        })
    }

    /// Makes the batch's new state and the memory durable.
    pub async fn advance(&mut self, batch: &Batch, memory: Memory) -> Result<(), StoreError> {
        let app = batch.id.app;
        let mut transaction = self.begin_fenced(app).await?;
        let state = AppState { memory, ..self.state(app) };
        transaction.put(&keys::batch(app, batch.id.number), batch.encode());
        // Where upstream has taken a job, no other runs. That one was not seen is no proof.
        let taken = batch.state == BatchState::Running;
        let known = |rescue: Rescue| Rescue { job_unknown: rescue.job_unknown && !taken, ..rescue };
        let rescue = self.rescued(app).map(known);
        put_rescue(&mut transaction, app, rescue);
        let after = After { state: Some(state), ..After::default() };
        self.conclude(transaction, app, after).await?;
        self.keep_rescue(app, rescue);
        Ok(())
    }

    /// Pauses or resumes an app.
    pub async fn pause(&mut self, app: AppId, paused: bool) -> Result<(), StoreError> {
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        let state = AppState { paused, ..self.state(app) };
        let rescue = self.rescued(app);
        let rescue = rescue.map(|rescue| Rescue { paused: rescue.paused && paused, ..rescue });
        put_rescue(&mut transaction, app, rescue);
        let after = After { state: Some(state), ..After::default() };
        self.conclude(transaction, app, after).await?;
        self.keep_rescue(app, rescue);
        Ok(())
    }

    /// The store's own number, which its receipts bear.
    pub fn store(&self) -> u64 {
        self.head.store
    }

    /// The last sequence that was given, and the entries that were set aside.
    pub fn head(&self) -> (u64, u64) {
        match &self.fleet {
            Some(fleet) => fleet.head(),
            None => (self.head.last_sequence, self.head.quarantined),
        }
    }

    /// Dead letters that were dropped since the queue was opened.
    pub fn dead_lost(&self) -> u64 {
        self.dead_lost
    }

    /// The queue's engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    fn state(&self, app: AppId) -> AppState {
        self.apps.get(&app).copied().unwrap_or_default()
    }

    async fn batch(
        &self,
        transaction: &mut E::Transaction,
        (app, number): (AppId, u64),
        asked: &'static str,
    ) -> Result<Batch, StoreError> {
        let bytes = transaction.get(&keys::batch(app, number)).await?;
        let bytes = bytes.ok_or(StoreError::NoSuchBatch { number, asked })?;
        Batch::decode(bytes.as_ref()).map_err(|damage| match damage {
            Damage::Version(version) => StoreError::Version { version },
            Damage::Short | Damage::Checksum | Damage::Content => {
                let app = self.names.get(&app).cloned().unwrap_or_default();
                StoreError::DamagedBatch { app, number, damage }
            }
        })
    }
}

/// Decodes an entry; `None` if it is damaged. One that another version wrote is whole: that
/// ends everything, rather than the entry.
fn decode<T: Stored>(bytes: &[u8]) -> Result<Option<T>, StoreError> {
    match T::decode(bytes) {
        Ok(value) => Ok(Some(value)),
        Err(Damage::Version(version)) => Err(StoreError::Version { version }),
        Err(Damage::Short | Damage::Checksum | Damage::Content) => Ok(None),
    }
}

/// Decodes an entry, or sets it aside and says that there is none.
fn decode_or_set_aside<T: Stored>(
    transaction: &mut impl Transaction,
    head: &mut Head,
    key: &[u8],
    bytes: &[u8],
) -> Result<Option<T>, StoreError> {
    match T::decode(bytes) {
        Ok(value) => Ok(Some(value)),
        Err(Damage::Version(version)) => Err(StoreError::Version { version }),
        Err(damage @ (Damage::Short | Damage::Checksum | Damage::Content)) => {
            // The key may hold a user's id: what kind of entry it is says enough.
            let kind = key.first().map(|kind| char::from(*kind));
            tracing::error!(?kind, %damage, "a stored entry is damaged and is set aside");
            transaction.put(&keys::quarantine(key, head.last_sequence), bytes.to_vec());
            transaction.delete(key);
            // What was in it may be upstream, or not.
            if let Some(held) = keys::held_beside(key) {
                transaction.delete(&held);
            }
            head.quarantined += 1;
            Ok(None)
        }
    }
}
