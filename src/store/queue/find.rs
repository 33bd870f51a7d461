//! Reading: where an update is, what a batch holds, which batches there were. Reads go past
//! the writer and never write.

use std::collections::BTreeMap;

use super::{
    AppState, Batch, Engine, EngineError, Sharing, StoreError, Stored, Transaction,
    dead::{DeadLetter, find_dead, is_dead_damaged},
    decode, keys,
    pages::first_of,
};
use crate::{
    domain::{
        batch::{BatchState, Settlement},
        merge::Record,
        row::write_row,
        time::Timestamp,
        update::{AppId, Lane, Sequence, Subject, SubjectKind},
    },
    store::mention::{self, Traces},
    store::records::{Course, Delivery, EXPRESS, Head, InFlight, PageEntry, Tombstone},
};

/// The most records that are counted to tell a record's place.
const PLACE_MAX: u64 = 100_000;
const CHUNK: usize = 256;
/// Later deliveries of one subject that are looked through for one that goes further back.
const DELIVERIES_MAX: usize = 64;

/// Where an update is.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It waits.
    Pending {
        /// Records of its kind that go before its record.
        place: u64,
        /// Whether there may be more than `place` of them.
        place_is_lower_bound: bool,
        /// When the first update of its record was accepted.
        first_accepted_at: Timestamp,
        /// The last sequence in its record.
        last_sequence: Sequence,
    },
    /// It is in this batch.
    InFlight(Box<Batch>),
    /// It is in a request of its own to the real-time endpoint.
    InExpress,
    /// It was delivered.
    Delivered {
        /// When.
        delivered_at: Timestamp,
        /// The last sequence that was delivered with it.
        last_sequence: Sequence,
        /// In which batch, where that is still remembered.
        batch: Option<Box<Batch>>,
        /// Whether it went by express, and so in no batch.
        by_express: bool,
    },
    /// Upstream will not take it.
    Dead(Box<DeadLetter>),
    /// It was delivered, and more is not remembered.
    DeliveredLongAgo,
    /// It was delivered, or was in a dead letter that was dropped; which is not remembered. Or all
    /// that was known of its subject was erased.
    Forgotten,
    /// A record of its subject was damaged and set aside, and no delivery of it is remembered.
    Damaged,
    /// No update has this sequence.
    Unknown,
}

/// Of each lane, when the first update of the record that waits longest was accepted.
pub type OldestOfLanes = [(Lane, Option<Timestamp>); Lane::ALL.len()];

/// The reading side of a queue.
#[derive(Clone, Debug)]
pub struct Reads<E> {
    pub(super) engine: E,
}

impl<E: Engine> Reads<E> {
    /// Reads from `engine`.
    pub fn new(engine: E) -> Self {
        Self { engine }
    }

    /// Where the update with this sequence is. Reads follow the way that records go, so one
    /// that moves on meanwhile is met again; one that goes back into the queue is looked for
    /// once more.
    pub async fn find(
        &self,
        app: AppId,
        subject: &Subject,
        sequence: Sequence,
    ) -> Result<Found, StoreError> {
        for _ in 0..2 {
            let mut transaction = self.engine.begin().await?;
            if let Some(found) = find_pending(&mut transaction, app, subject, sequence).await? {
                return Ok(found);
            }
            if let Some(found) = find_in_flight(&mut transaction, app, subject, sequence).await? {
                return Ok(found);
            }
            if let Some(found) = find_delivered(&mut transaction, app, subject, sequence).await? {
                return Ok(found);
            }
            if let Some(letter) = find_dead(&mut transaction, app, subject, sequence).await? {
                return Ok(Found::Dead(Box::new(letter)));
            }
        }
        let mut transaction = self.engine.begin().await?;
        let head = transaction.get(keys::HEAD).await?;
        let head = head.and_then(|bytes| Head::decode(bytes.as_ref()).ok());
        let Some(head) = head else { return Ok(Found::Unknown) };
        let pending = keys::pending(app, subject);
        let last = match self.engine.sharing() {
            Sharing::Alone => head.last_sequence,
            Sharing::Shared { stripes } => {
                let subject_key = &pending[keys::SUBJECT_AT..];
                let own = keys::course::stripe_of(app, subject_key, stripes);
                let own = transaction.get(&keys::course::course(app, own)).await?;
                let own = own.and_then(|bytes| Course::decode(bytes.as_ref()).ok());
                own.map_or(0, |course| course.last_sequence)
            }
        };
        if !(1..=last).contains(&sequence) {
            return Ok(Found::Unknown);
        }
        let grave = keys::forgotten(app, head.store, &pending[keys::SUBJECT_AT..]);
        let grave = transaction.get(&grave).await?;
        let grave = grave.and_then(|bytes| Tombstone::decode(bytes.as_ref()).ok());
        Ok(if grave.is_some_and(|grave| sequence <= grave.up_to) {
            Found::Forgotten
        } else if is_damaged(&mut transaction, app, subject, sequence).await? {
            Found::Damaged
        } else if may_be_dropped(&mut transaction, app, sequence).await? {
            Found::Forgotten
        } else {
            Found::DeliveredLongAgo
        })
    }

    /// The upload of a batch: its rows in order, one JSON object a line.
    pub async fn upload(&self, batch: &Batch) -> Result<Vec<u8>, StoreError> {
        let mut rows = BTreeMap::new();
        let mut from = None;
        loop {
            let mut transaction = self.engine.begin().await?;
            let range = keys::all_in_flight(batch.id.app, from);
            let entries = transaction.scan(range, CHUNK).await?;
            let Some((last, _)) = entries.last() else { break };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &entries {
                // A damaged row is set aside when the batch is settled.
                let row: Option<InFlight> = decode(bytes.as_ref())?;
                let row = row.filter(|row| batch.part.holds(row.batch, row.position));
                if let (Some(row), Some(subject)) = (row, keys::subject_of(key)) {
                    rows.insert(row.position, (subject, row.record));
                }
            }
        }
        let bytes = usize::try_from(batch.bytes).unwrap_or(0);
        let mut upload = Vec::with_capacity(bytes);
        for (subject, record) in rows.values() {
            write_row(subject, record, batch.values, &mut upload);
            upload.push(b'\n');
        }
        Ok(upload)
    }

    /// The batches of an app with a number of at most `newest`, newest first.
    pub async fn batches(
        &self,
        app: AppId,
        newest: u64,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let entries = transaction.scan(keys::batches(app, newest), limit).await?;
        Ok(entries.iter().filter_map(|(_, bytes)| Batch::decode(bytes.as_ref()).ok()).collect())
    }

    /// When the first update of the record that waits longest was accepted.
    pub async fn oldest(&self, app: AppId) -> Result<Option<Timestamp>, StoreError> {
        let of_lanes = self.oldest_of_lanes(app).await?;
        Ok(of_lanes.into_iter().filter_map(|(_, oldest)| oldest).min())
    }

    /// The same of each lane.
    pub async fn oldest_of_lanes(&self, app: AppId) -> Result<OldestOfLanes, StoreError> {
        let mut of_lanes = Lane::ALL.map(|lane| (lane, None));
        for kind in SubjectKind::ALL {
            for (lane, oldest) in &mut of_lanes {
                let mut transaction = self.engine.begin().await?;
                let first = first_of(&mut transaction, app, (kind, *lane)).await?;
                let first = first.map(|record| record.first_accepted_at);
                *oldest = first.into_iter().chain(*oldest).min();
            }
        }
        Ok(of_lanes)
    }

    /// Reads all of the store, and counts what names the subject by updates up to `up_to`.
    pub async fn traces(
        &self,
        app: AppId,
        subject: &Subject,
        up_to: Sequence,
    ) -> Result<Traces, StoreError> {
        mention::scan(&self.engine, app, subject, up_to).await
    }

    /// The store's own time, where it has a clock.
    pub async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.engine.time().await?)
    }

    /// What the store takes on disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    /// The engine's name in the configuration.
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }
}

async fn find_pending(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
    sequence: Sequence,
) -> Result<Option<Found>, StoreError> {
    let bytes = transaction.get(&keys::pending(app, subject)).await?;
    let record = bytes.and_then(|bytes| Record::decode(bytes.as_ref()).ok());
    let record = record.filter(|record| record.holds(sequence));
    let Some(record) = record else { return Ok(None) };
    let place = place(transaction, app, (subject.kind, &record)).await?;
    Ok(Some(Found::Pending {
        place: place.min(PLACE_MAX),
        place_is_lower_bound: place > PLACE_MAX,
        first_accepted_at: record.first_accepted_at,
        last_sequence: record.last_sequence,
    }))
}

/// How many records of its kind go before `record`: all of the lanes above, and those of its lane
/// that have waited longer. Counting stops a little past [`PLACE_MAX`].
async fn place(
    transaction: &mut impl Transaction,
    app: AppId,
    (kind, record): (SubjectKind, &Record),
) -> Result<u64, EngineError> {
    let mut place = 0;
    for lane in Lane::ALL.into_iter().filter(|lane| *lane <= record.lane) {
        let mut from = None;
        while place <= PLACE_MAX {
            let pages = transaction.scan(keys::pages(app, (kind, lane), from), CHUNK).await?;
            let Some((last, _)) = pages.last() else { break };
            from = Some(keys::after(last.clone()));
            for (_, bytes) in &pages {
                let entries = Vec::<PageEntry>::decode(bytes.as_ref()).unwrap_or_default();
                let before = entries
                    .iter()
                    .filter(|e| lane < record.lane || e.first_sequence < record.first_sequence);
                place += before.count() as u64;
            }
        }
    }
    Ok(place)
}

async fn find_in_flight(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
    sequence: Sequence,
) -> Result<Option<Found>, StoreError> {
    let bytes = transaction.get(&keys::in_flight(app, subject)).await?;
    let row = bytes.and_then(|bytes| InFlight::decode(bytes.as_ref()).ok());
    let row = row.filter(|row| !row.forgotten && row.record.holds(sequence));
    let Some(row) = row else { return Ok(None) };
    if row.is_express() {
        return Ok(Some(Found::InExpress));
    }
    let Some(batch) = find_part(transaction, app, &row).await? else { return Ok(None) };
    Ok(Some(match batch.state {
        // The rest of its batch is being moved out; upstream holds it.
        BatchState::Settling(Settlement::Delivered) => Found::Delivered {
            delivered_at: batch.settled_at.unwrap_or(batch.claimed_at),
            last_sequence: row.record.last_sequence,
            batch: Some(batch),
            by_express: false,
        },
        BatchState::Claiming
        | BatchState::Claimed
        | BatchState::Submitting
        | BatchState::Running
        | BatchState::Settling(Settlement::Requeued | Settlement::Split(_) | Settlement::Dead(_))
        | BatchState::Settled(_) => Found::InFlight(batch),
    }))
}

/// The batch that a row is in. The one that it was claimed into may have been split, and
/// forgotten since.
pub(super) async fn find_part(
    transaction: &mut impl Transaction,
    app: AppId,
    row: &InFlight,
) -> Result<Option<Box<Batch>>, StoreError> {
    let state = transaction.get(&keys::app(app)).await?;
    let state = state.and_then(|bytes| AppState::decode(bytes.as_ref()).ok());
    let mut next = state.and_then(|state| state.unsettled);
    while let Some(number) = next {
        let Some(batch) = find_batch(transaction, app, number).await? else { break };
        if batch.part.holds(row.batch, row.position) {
            return Ok(Some(batch));
        }
        next = batch.then;
    }
    Ok(find_batch(transaction, app, row.batch).await?)
}

async fn find_delivered(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
    sequence: Sequence,
) -> Result<Option<Found>, StoreError> {
    let range = keys::deliveries(app, subject, sequence);
    let deliveries = transaction.scan(range, DELIVERIES_MAX).await?;
    let holds = |(key, bytes): &(Vec<u8>, _)| {
        let last = Sequence::from_be_bytes(*key.last_chunk()?);
        let delivery = Delivery::decode(AsRef::<[u8]>::as_ref(bytes)).ok()?;
        (delivery.first_sequence..=last).contains(&sequence).then_some(delivery)
    };
    let Some(delivery) = deliveries.iter().find_map(holds) else { return Ok(None) };
    Ok(Some(Found::Delivered {
        delivered_at: delivery.delivered_at,
        last_sequence: delivery.last_sequence,
        batch: find_batch(transaction, app, delivery.batch).await?,
        by_express: delivery.batch == EXPRESS,
    }))
}

/// Whether a record that may hold the update is damaged: set aside, or not met yet.
async fn is_damaged(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
    sequence: Sequence,
) -> Result<bool, StoreError> {
    let (pending, in_flight) = (keys::pending(app, subject), keys::in_flight(app, subject));
    for key in [&pending, &in_flight] {
        if !transaction.scan(keys::quarantines(key, sequence), 1).await?.is_empty() {
            return Ok(true);
        }
    }
    if is_dead_damaged(transaction, app, &pending[keys::SUBJECT_AT..], sequence).await? {
        return Ok(true);
    }
    let waiting = transaction.get(&pending).await?;
    let row = transaction.get(&in_flight).await?;
    if let Some(bytes) = waiting
        && decode::<Record>(bytes.as_ref())?.is_none()
    {
        return Ok(true);
    }
    let Some(bytes) = row else { return Ok(false) };
    // It was looked for before: a row that is there all the same has a batch that is damaged.
    let row: Option<InFlight> = decode(bytes.as_ref())?;
    Ok(row.is_none_or(|row| !row.forgotten && row.record.holds(sequence)))
}

/// Whether the update may have been in a dead letter that was dropped.
async fn may_be_dropped(
    transaction: &mut impl Transaction,
    app: AppId,
    sequence: Sequence,
) -> Result<bool, StoreError> {
    let Some(bytes) = transaction.get(&keys::app(app)).await? else { return Ok(false) };
    // Where the state is damaged, that it was not dropped is not known.
    let Some(state) = decode::<AppState>(bytes.as_ref())? else { return Ok(true) };
    Ok(state.dropped.is_some_and(|(first, last)| (first..=last).contains(&sequence)))
}

pub(super) async fn find_batch(
    transaction: &mut impl Transaction,
    app: AppId,
    number: u64,
) -> Result<Option<Box<Batch>>, EngineError> {
    let bytes = transaction.get(&keys::batch(app, number)).await?;
    Ok(bytes.and_then(|bytes| Batch::decode(bytes.as_ref()).ok()).map(Box::new))
}
