//! Accepting: updates become, or are merged into, pending records.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::{
    AppState, Counted, Engine, Head, Queue, StoreError, Stored, Transaction,
    clients::{Clients, Entries},
    decode, decode_or_set_aside, keys,
    pages::PageBuilder,
};
use crate::{
    domain::{
        admission::{self, QueueLimits, QueueRefusal},
        merge::Record,
        time::Timestamp,
        update::{AppId, Lane, Sequence, Subject, Update},
    },
    store::records::InFlight,
};

/// A clock that goes back by more is worth a word.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// An update that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the order of all updates.
    pub sequence: Sequence,
    /// What accepting did with it.
    pub disposition: Disposition,
}

/// What accepting did with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It made a new pending record.
    Queued,
    /// It was merged into one that was waiting.
    Coalesced,
}

impl<E: Engine> Queue<E> {
    /// Accepts a group of updates in one durable commit, in their order. Each is accepted or
    /// refused by itself.
    pub async fn accept(
        &mut self,
        updates: Vec<Update>,
        now: Timestamp,
    ) -> Result<Vec<Result<Accepted, QueueRefusal>>, StoreError> {
        let stamped_at = self.stamp_time(now);
        let mut transaction = self.engine.begin().await?;
        let mut group = Group::new(self, updates.len());
        let mut outcomes = Vec::with_capacity(updates.len());
        for update in updates {
            let slot = group.slot(&mut transaction, update.app, &update.subject).await?;
            let (size, sequence) = (update.size(), group.next_sequence());
            let mut arrived = Record::new(update, sequence, stamped_at);
            // Ages are told by the clock as it is.
            arrived.first_accepted_at = now;
            outcomes.push(group.merge(slot, arrived, size, stamped_at));
        }
        let (head, apps, placed) = group.write(&mut transaction);
        transaction.commit().await?;
        self.head = head;
        self.apps = apps;
        self.clients.come(placed);
        Ok(outcomes)
    }

    /// The time of updates that do not say when they occurred. Among values that can meet,
    /// sequence order must be time order, whatever the clock does; once nothing waits, is in flight
    /// or can be replayed there are none, and a clock that was ahead is forgotten.
    fn stamp_time(&mut self, now: Timestamp) -> Timestamp {
        let last = self.head.last_accepted_at;
        if last <= now || self.apps.values().all(AppState::is_empty) {
            self.warned_of_clock = false;
            return now;
        }
        let ahead = last.since(now);
        if ahead > CLOCK_AHEAD_MAX && !self.warned_of_clock {
            self.warned_of_clock = true;
            let ahead_seconds = ahead.as_secs();
            tracing::warn!(
                ahead_seconds,
                "the clock has gone back: until all that waits is delivered, and no dead letter is \
                 left, updates without occurred_at count as later than they are"
            );
        }
        last
    }
}

/// A group that is being accepted: everything that its commit will change.
pub(super) struct Group<'a> {
    limits: &'a QueueLimits,
    clients: &'a Clients,
    held: &'a BTreeSet<AppId>,
    /// New records of the group, by client.
    new: Entries,
    head: Head,
    apps: BTreeMap<AppId, AppState>,
    slots: Vec<Slot>,
    /// Keys of pending records → positions in `slots`.
    index: HashMap<Vec<u8>, usize>,
    /// Apps whose state has changed.
    touched: BTreeSet<AppId>,
}

/// One subject's pending record, as it was and as it becomes.
struct Slot {
    app: AppId,
    key: Vec<u8>,
    record: Option<Record>,
    /// The subject's record in flight: should its batch come back, they become one.
    in_flight: Option<Record>,
    /// The lane in whose pages the record stands.
    placed: Option<Lane>,
    /// What the app's depth counts of the record.
    counted: Counted,
    changed: bool,
}

impl Slot {
    /// Whether the record that `arrived` becomes part of keeps to the limits of one, and
    /// would do so together with what is in flight, too: that may have to come back.
    fn admit(
        &self,
        arrived: &Record,
        arrived_bytes: usize,
        limits: &QueueLimits,
    ) -> Result<(), QueueRefusal> {
        let others = || self.in_flight.iter().chain(&self.record);
        if others().next().is_none() {
            // Alone it was measured at the door.
            return Ok(());
        }
        let bytes = others().map(Record::size).sum::<usize>() + arrived_bytes;
        let properties = others().map(|other| other.properties.len()).sum::<usize>();
        let properties = properties + arrived.properties.len();
        if admission::admit_merged(bytes, properties, limits).is_ok() {
            return Ok(());
        }
        // Too large if nothing overlaps; mostly something does.
        let merged = others().cloned().fold(arrived.clone(), Record::merge);
        admission::admit_merged(merged.size(), merged.properties.len(), limits)
    }
}

impl<'a> Group<'a> {
    /// A group of about `updates` updates.
    pub(super) fn new<E>(queue: &'a Queue<E>, updates: usize) -> Self {
        Self {
            limits: &queue.limits,
            clients: &queue.clients,
            held: &queue.held,
            new: Entries::new(),
            head: queue.head,
            apps: queue.apps.clone(),
            slots: Vec::with_capacity(updates),
            index: HashMap::with_capacity(updates),
            touched: BTreeSet::new(),
        }
    }

    /// The sequence of the next update that is taken.
    pub(super) fn next_sequence(&self) -> Sequence {
        self.head.last_sequence + 1
    }

    /// The last stamp that was given to an update that did not say when it occurred.
    pub(super) fn last_stamp(&self) -> Timestamp {
        self.head.last_accepted_at
    }

    /// The position of a subject in `slots`; reads its record the first time.
    pub(super) async fn slot(
        &mut self,
        transaction: &mut impl Transaction,
        app: AppId,
        subject: &Subject,
    ) -> Result<usize, StoreError> {
        let key = keys::pending(app, subject);
        if let Some(slot) = self.index.get(&key) {
            return Ok(*slot);
        }
        let mut record: Option<Record> = None;
        let mut counted = (subject.kind, Lane::default(), 0);
        if let Some(bytes) = transaction.get(&key).await? {
            let bytes = bytes.as_ref();
            record = decode_or_set_aside(transaction, &mut self.head, &key, bytes)?;
            let stored_bytes = key.len() + bytes.len();
            if let Some(record) = &record {
                counted = (subject.kind, record.lane, stored_bytes);
            } else {
                let state = self.apps.entry(app).or_default();
                state.count_out_damaged(subject.kind, stored_bytes);
                self.touched.insert(app);
            }
        }
        let placed = record.as_ref().map(|record| record.lane);
        let in_flight = self.in_flight(transaction, app, subject).await?;
        self.index.insert(key.clone(), self.slots.len());
        self.slots.push(Slot { app, key, record, in_flight, placed, counted, changed: false });
        Ok(self.slots.len() - 1)
    }

    /// The subject's record that is in flight. Costs a read, and only while the
    /// app has a batch.
    async fn in_flight(
        &self,
        transaction: &mut impl Transaction,
        app: AppId,
        subject: &Subject,
    ) -> Result<Option<Record>, StoreError> {
        if self.apps.get(&app).is_none_or(|state| state.unsettled.is_none()) {
            return Ok(None);
        }
        let bytes = transaction.get(&keys::in_flight(app, subject)).await?;
        // One that is damaged is set aside when its batch is settled.
        let Some(bytes) = bytes else { return Ok(None) };
        let row: Option<InFlight> = decode(bytes.as_ref())?;
        Ok(row.filter(|row| !row.forgotten).map(|row| row.record))
    }

    /// Merges what has arrived with the next sequence, and takes `size` bytes. `stamped_at` is
    /// the last stamp that was given by then.
    pub(super) fn merge(
        &mut self,
        slot: usize,
        arrived: Record,
        size: usize,
        stamped_at: Timestamp,
    ) -> Result<Accepted, QueueRefusal> {
        let sequence = self.next_sequence();
        let slot = &mut self.slots[slot];
        if self.held.contains(&slot.app) {
            return Err(QueueRefusal::AppHeld);
        }
        let state = self.apps.entry(slot.app).or_default();
        slot.admit(&arrived, size, self.limits)?;

        let disposition = if let Some(waiting) = slot.record.take() {
            slot.record = Some(waiting.merge(arrived));
            Disposition::Coalesced
        } else {
            admission::admit_new(state.depth.into(), self.limits)?;
            let new = self.new.entry(arrived.client).or_default();
            let (waiting, max) = self.clients.standing(arrived.client);
            admission::admit_of_client(waiting + *new, max)?;
            *new += 1;
            // An estimate, until the group is written and the stored bytes are known.
            slot.counted = (slot.counted.0, arrived.lane, size);
            state.count_in(slot.counted);
            slot.record = Some(arrived);
            Disposition::Queued
        };
        slot.changed = true;
        self.head.last_sequence = sequence;
        self.head.last_accepted_at = stamped_at;
        Ok(Accepted { sequence, disposition })
    }

    /// Puts everything that changed. Returns what memory holds once that is committed.
    pub(super) fn write(
        self,
        transaction: &mut impl Transaction,
    ) -> (Head, BTreeMap<AppId, AppState>, Entries) {
        let Self { head, mut apps, slots, mut touched, .. } = self;
        let mut pages = PageBuilder::default();
        for slot in &slots {
            let (true, Some(record)) = (slot.changed, &slot.record) else { continue };
            let bytes = record.encode();
            let state = apps.entry(slot.app).or_default();
            state.count_out(slot.counted);
            state.count_in((slot.counted.0, record.lane, slot.key.len() + bytes.len()));
            touched.insert(slot.app);
            if slot.placed != Some(record.lane) {
                pages.add(slot.app, record, &slot.key[keys::SUBJECT_AT..]);
            }
            transaction.put(&slot.key, bytes);
        }
        let placed = pages.write(transaction);
        for app in touched {
            transaction.put(&keys::app(app), apps.entry(app).or_default().encode());
        }
        transaction.put(keys::HEAD, head.encode());
        (head, apps, placed)
    }
}
