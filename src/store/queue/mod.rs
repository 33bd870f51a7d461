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
mod express;
mod find;
mod forget;
mod import;
pub mod jobs;
mod lane;
mod pages;
mod prune;
mod recovery;
mod remember;
mod rescue;
mod settle;
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
pub use express::TakenExpress;
pub use find::{Found, OldestOfLanes, Reads};
pub use forget::{Forgotten, Swept};
pub use import::Arrival;
pub use prune::{PruneCursor, Retention};
pub use settle::{SettledRow, Settling};
pub use subject::{DeliveredRecord, PendingPage, RecordInFlight, SubjectRecords};

use self::{
    clients::Clients,
    jobs::JobIndex,
    rescue::{put_rescue, set_aside},
};
use super::{
    engine::{Engine, EngineError, Transaction},
    keys::{self, NameSpace},
    names::{Name, names},
    records::{AppState, Damage, Head, Stored},
};
use crate::domain::{
    admission::QueueLimits,
    batch::{Batch, BatchState},
    delivered::Suppression,
    lifecycle::Rescue,
    memory::Memory,
    time::Timestamp,
    update::{AppId, ClientId},
};

/// The layout of keys that this program writes and reads.
pub(super) const FORMAT: u32 = 7;

/// What went wrong in the queue. After any of these nothing that was in memory is trusted:
/// the process ends, and the next one serves what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An entry that everything depends on does not decode.
    #[error(
        "damaged in the store: {what} ({damage}). `store check` tells how much is, and `store \
         export` saves what can be read, to be imported into a new directory; or restore a copy \
         of the directory"
    )]
    Damaged {
        /// Which entry, or entries.
        what: String,
        /// How.
        damage: Damage,
    },
    /// A batch was damaged while it was under way. A start rescues its rows.
    #[error(
        "damaged in the store: batch {number} of app {app:?} ({damage}). Start again: its rows go \
         back into the queue then; and see to the disk"
    )]
    DamagedBatch {
        /// The app's name.
        app: String,
        /// The batch's number.
        number: u64,
        /// How.
        damage: Damage,
    },
    /// Another version of this program wrote the store.
    #[error(
        "the store has format {found}, this program reads format {FORMAT}: go back to the version \
         that wrote it, and let what waits be delivered; or take it over: `store export` of the \
         version that wrote it, and `store import` of this one into a new directory"
    )]
    Format {
        /// The format that was found.
        found: u32,
    },
    /// Another version of this program wrote an entry.
    #[error(
        "the store has entries of another version of this program (value version {version}): \
         go back to that version"
    )]
    Version {
        /// The entry's version.
        version: u8,
    },
    /// The driver asked for something that its batch is not ready for.
    #[error("batch {number} is not there to be {asked}")]
    NoSuchBatch {
        /// The batch's number.
        number: u64,
        /// What was asked.
        asked: &'static str,
    },
}

impl StoreError {
    fn unreadable(what: impl Into<String>, damage: Damage) -> Self {
        let what = what.into();
        match damage {
            Damage::Version(version) => Self::Version { version },
            Damage::Short | Damage::Checksum | Damage::Content => Self::Damaged { what, damage },
        }
    }
}

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
}

impl<E: Engine> Queue<E> {
    /// Opens the queue, or makes a new one. `random` names the batches of this opening, and a
    /// new store for ever.
    pub async fn open(engine: E, limits: QueueLimits, random: u64) -> Result<Self, StoreError> {
        let mut transaction = engine.begin().await?;
        let head = match transaction.get(keys::HEAD).await? {
            Some(bytes) => Head::decode(bytes.as_ref()).map_err(|damage| {
                StoreError::unreadable("its head (key h), which all else depends on", damage)
            })?,
            None => {
                let head = Head {
                    format: FORMAT,
                    store: random,
                    last_sequence: 0,
                    last_accepted_at: Timestamp::default(),
                    quarantined: 0,
                };
                transaction.put(keys::HEAD, head.encode());
                transaction.commit().await?;
                head
            }
        };
        if head.format != FORMAT {
            return Err(StoreError::Format { found: head.format });
        }
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
        })
    }

    /// The app called `name`: its number, which it keeps. An app whose state is damaged is an
    /// error here: [`Self::serve`] makes it anew.
    pub async fn app(&mut self, name: &str) -> Result<AppId, StoreError> {
        let app = self.named(name).await?;
        let mut transaction = self.engine.begin().await?;
        let state = match transaction.get(&keys::app(app)).await? {
            Some(bytes) => AppState::decode(bytes.as_ref()).map_err(|damage| {
                StoreError::unreadable(format!("the state of app {name:?} (keys a)"), damage)
            })?,
            None => AppState::default(),
        };
        self.apps.insert(app, state);
        Ok(app)
    }

    /// The number of the app called `name`.
    async fn named(&mut self, name: &str) -> Result<AppId, StoreError> {
        let app = AppId(self.number(NameSpace::App, name).await?);
        self.names.insert(app, name.to_owned());
        Ok(app)
    }

    /// The number of the client called `name`, which it keeps.
    pub async fn client(&mut self, name: &str) -> Result<ClientId, StoreError> {
        self.number(NameSpace::Client, name).await.map(ClientId)
    }

    async fn number(&mut self, space: NameSpace, name: &str) -> Result<u16, StoreError> {
        let key = keys::name(space, name);
        let known_names = names(&self.engine, space).await?;
        let mut transaction = self.engine.begin().await?;
        if let Some(known) = known_names.iter().find(|known| known.key == key) {
            let Some(damage) = known.damage else { return Ok(known.number.unwrap_or(u16::MAX)) };
            let unreadable = StoreError::unreadable(lost(space, &known_names), damage);
            let (StoreError::Damaged { .. }, Some(number)) = (&unreadable, known.number) else {
                return Err(unreadable);
            };
            let mut head = self.head;
            set_aside::<u16>(&mut transaction, &mut head, &key).await?;
            transaction.put(&key, number.encode());
            transaction.put(keys::HEAD, head.encode());
            transaction.commit().await?;
            self.head = head;
            return Ok(number);
        }
        let number = u16::try_from(known_names.len()).unwrap_or(u16::MAX);
        transaction.put(&key, number.encode());
        transaction.commit().await?;
        Ok(number)
    }

    /// Makes the batch's new state and the memory durable.
    pub async fn advance(&mut self, batch: &Batch, memory: Memory) -> Result<(), StoreError> {
        let app = batch.id.app;
        let state = AppState { memory, ..self.state(app) };
        let mut transaction = self.engine.begin().await?;
        transaction.put(&keys::batch(app, batch.id.number), batch.encode());
        transaction.put(&keys::app(app), state.encode());
        // Where upstream has taken a job, no other runs. That one was not seen is no proof.
        let taken = batch.state == BatchState::Running;
        let known = |rescue: Rescue| Rescue { job_unknown: rescue.job_unknown && !taken, ..rescue };
        let rescue = self.rescued(app).map(known);
        put_rescue(&mut transaction, app, rescue);
        transaction.commit().await?;
        self.apps.insert(app, state);
        self.keep_rescue(app, rescue);
        Ok(())
    }

    /// Pauses or resumes an app.
    pub async fn pause(&mut self, app: AppId, paused: bool) -> Result<(), StoreError> {
        let state = AppState { paused, ..self.state(app) };
        let mut transaction = self.engine.begin().await?;
        transaction.put(&keys::app(app), state.encode());
        let rescue = self.rescued(app);
        let rescue = rescue.map(|rescue| Rescue { paused: rescue.paused && paused, ..rescue });
        put_rescue(&mut transaction, app, rescue);
        transaction.commit().await?;
        self.apps.insert(app, state);
        self.keep_rescue(app, rescue);
        Ok(())
    }

    /// The store's own number, which its receipts bear.
    pub fn store(&self) -> u64 {
        self.head.store
    }

    /// The last sequence that was given, and the entries that were set aside.
    pub fn head(&self) -> (u64, u64) {
        (self.head.last_sequence, self.head.quarantined)
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
        app: AppId,
        number: u64,
        asked: &'static str,
    ) -> Result<Batch, StoreError> {
        let mut transaction = self.engine.begin().await?;
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

/// The names whose numbers cannot be told.
fn lost(space: NameSpace, names: &[Name]) -> String {
    let of = match space {
        NameSpace::App => "apps",
        NameSpace::Client => "clients",
    };
    let names = names.iter().filter(|name| name.number.is_none()).map(|name| &name.text);
    let names: Vec<&String> = names.collect();
    format!("the numbers of the {of} {names:?} (keys n), of which one alone could be told")
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
