//! Accepting: updates become, or are merged into, pending records.

mod slot;
mod unchanged;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::slot::Slot;
use super::{
    AppState, Engine, Queue, StoreError, Stored, Transaction,
    clients::{Clients, Entries},
    decode, decode_or_set_aside, keys,
    pages::PageBuilder,
    remember::Memory,
    shared::{Begun, Numbers, Wakes, Written},
};
use crate::{
    domain::{
        admission::{self, QueueLimits, QueueRefusal},
        delivered::Judgement,
        merge::Record,
        time::Timestamp,
        update::{AppId, Lane, Sequence, Subject, Update},
    },
    store::records::InFlight,
};

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
    /// Upstream holds its values already, or later ones: it waits for nothing.
    Unchanged,
}

impl<E: Engine> Queue<E> {
    /// Accepts a group of updates in one durable commit, in their order. Each is accepted or
    /// refused by itself.
    pub async fn accept(
        &mut self,
        updates: Vec<Update>,
        now: Timestamp,
    ) -> Result<Vec<Result<Accepted, QueueRefusal>>, StoreError> {
        let subjects = updates.iter().map(|update| (update.app, &update.subject));
        let subjects = self.subject_keys(subjects);
        let Begun { mut transaction, stripes, stamps } = self.begin_group(subjects, now).await?;
        let mut group = Group::new(self, &stripes, updates.len());
        let mut outcomes = Vec::with_capacity(updates.len());
        let mut wakes = Wakes::default();
        for update in updates {
            let (app, lane) = (update.app, update.lane);
            let slot = group.slot(&mut transaction, update.app, &update.subject).await?;
            let (size, sequence) = (update.size(), group.next_sequence(slot));
            let stamped_at = stamps.of(app, group.slots[slot].stripe, now);
            let mut arrived = Record::new(update, sequence, stamped_at);
            // Ages are told by the clock as it is.
            arrived.first_accepted_at = now;
            if let Some(memory) = self.memory(app, &self.head) {
                group.recall(&mut transaction, slot, memory).await?;
            }
            let before = group.slots[slot].held.clone();
            let (judgement, unchanged) = group.strike(slot, &mut arrived, now);
            let outcome = match judgement {
                Judgement::Unchanged => Ok(group.pass_over(slot, stamped_at)),
                Judgement::Changed => group.merge(slot, arrived, size, stamped_at),
            };
            match outcome {
                Ok(_) => group.slots[slot].leave_out(unchanged),
                Err(_) => group.slots[slot].held = before,
            }
            // What is unchanged waits for nothing.
            let waits = matches!(&outcome, Ok(it) if it.disposition != Disposition::Unchanged);
            if waits && lane < Lane::Bulk {
                *wakes.urgent.entry(app).or_default() += 1;
            }
            if waits && lane == Lane::Express {
                *wakes.express.entry(app).or_default() += 1;
            }
            outcomes.push(outcome);
        }
        group.strike_letters(&mut transaction, now).await?;
        let written = group.write(&mut transaction).await?;
        self.conclude_group(transaction, written, wakes).await?;
        Ok(outcomes)
    }
}

/// A group that is being accepted: everything that its commit will change.
pub(super) struct Group<'a> {
    limits: &'a QueueLimits,
    clients: &'a Clients,
    held: &'a BTreeSet<AppId>,
    /// New entries of the group, by client.
    new: Entries,
    numbers: Numbers,
    apps: BTreeMap<AppId, AppState>,
    slots: Vec<Slot>,
    /// Keys of pending records → positions in `slots`.
    index: HashMap<Vec<u8>, usize>,
    /// Apps whose state has changed.
    touched: BTreeSet<AppId>,
}

impl<'a> Group<'a> {
    /// A group of about `updates` updates.
    pub(super) fn new<E>(
        queue: &'a Queue<E>,
        stripes: &BTreeSet<(AppId, u16)>,
        updates: usize,
    ) -> Self {
        Self {
            limits: &queue.limits,
            clients: &queue.clients,
            held: &queue.held,
            new: Entries::new(),
            numbers: Numbers::new(queue, stripes),
            apps: queue.apps.clone(),
            slots: Vec::with_capacity(updates),
            index: HashMap::with_capacity(updates),
            touched: BTreeSet::new(),
        }
    }

    /// The sequence of the next update of a subject that is taken.
    pub(super) fn next_sequence(&self, slot: usize) -> Sequence {
        let Slot { app, stripe, .. } = self.slots[slot];
        self.numbers.next(app, stripe)
    }

    /// The last stamp that was given to an update that did not say when it occurred, and that may
    /// meet those of a subject.
    pub(super) fn last_stamp(&self, slot: usize) -> Timestamp {
        let Slot { app, stripe, .. } = self.slots[slot];
        self.numbers.last_stamp(app, stripe)
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
        let mut is_blind = false;
        if let Some(bytes) = transaction.get(&key).await? {
            let bytes = bytes.as_ref();
            record = decode_or_set_aside(transaction, self.numbers.head(app), &key, bytes)?;
            let stored_bytes = key.len() + bytes.len();
            if let Some(record) = &record {
                counted = (subject.kind, record.lane, stored_bytes);
            } else {
                is_blind = true;
                let state = self.apps.entry(app).or_default();
                state.count_out_damaged(subject.kind, stored_bytes);
                self.touched.insert(app);
            }
        }
        let placed = record.as_ref().map(|record| record.lane);
        let in_flight = self.in_flight(transaction, app, subject).await?;
        is_blind |= in_flight.is_none();
        let in_flight = in_flight.flatten();
        self.index.insert(key.clone(), self.slots.len());
        self.slots.push(Slot {
            app,
            stripe: self.numbers.stripe_of(app, &key[keys::SUBJECT_AT..]),
            key,
            record,
            in_flight,
            placed,
            counted,
            changed: false,
            held: None,
            is_apart: false,
            guests: Vec::new(),
            is_blind,
            unchanged: None,
        });
        Ok(self.slots.len() - 1)
    }

    /// The subject's record that is in flight, if there is one; `None` if it is damaged. Costs a
    /// read, and only while the app has a batch, or something under way by express.
    async fn in_flight(
        &self,
        transaction: &mut impl Transaction,
        app: AppId,
        subject: &Subject,
    ) -> Result<Option<Option<InFlight>>, StoreError> {
        if self.apps.get(&app).is_none_or(AppState::has_nothing_in_flight) {
            return Ok(Some(None));
        }
        let bytes = transaction.get(&keys::in_flight(app, subject)).await?;
        // One that is damaged is set aside when its batch is settled.
        let Some(bytes) = bytes else { return Ok(Some(None)) };
        let row: Option<InFlight> = decode(bytes.as_ref())?;
        Ok(row.map(|row| Some(row).filter(|row| !row.forgotten)))
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
        let sequence = self.next_sequence(slot);
        let slot = &mut self.slots[slot];
        if self.held.contains(&slot.app) {
            return Err(QueueRefusal::AppHeld);
        }
        let all_records = self.apps.values().map(|state| state.depth.records).sum::<u64>();
        let state = self.apps.entry(slot.app).or_default();
        slot.admit(&arrived, size, self.limits)?;

        let disposition = if let Some(waiting) = slot.record.take() {
            let (client, lane) = (arrived.client, arrived.lane);
            let mut merged = waiting.merge(arrived);
            let (entries, max) = self.clients.standing(client);
            let new = self.new.entry(client).or_default();
            // In the bulk lane nobody waits for it.
            if lane < Lane::Bulk
                && admission::admit_of_client(entries + *new, max).is_ok()
                && merged.invite(client)
            {
                *new += 1;
                slot.guests.push((client, sequence));
            }
            slot.record = Some(merged);
            Disposition::Coalesced
        } else {
            admission::admit_new(state.depth.into(), self.limits)?;
            let new = self.new.entry(arrived.client).or_default();
            let (waiting, max) = self.clients.standing(arrived.client);
            // Entries that lead to nothing any more count until a claim comes by, and where nothing
            // waits none does.
            let waiting = waiting.min(all_records);
            admission::admit_of_client(waiting + *new, max)?;
            *new += 1;
            // An estimate, until the group is written and the stored bytes are known.
            slot.counted = (slot.counted.0, arrived.lane, size);
            state.count_in(slot.counted);
            slot.record = Some(arrived);
            Disposition::Queued
        };
        slot.changed = true;
        self.numbers.take((slot.app, slot.stripe), sequence, stamped_at);
        Ok(Accepted { sequence, disposition })
    }

    /// Puts everything of subjects that changed. Returns what is to be put of their apps.
    pub(super) async fn write(
        self,
        transaction: &mut impl Transaction,
    ) -> Result<Written, StoreError> {
        let Self { mut numbers, mut apps, slots, mut touched, .. } = self;
        let mut pages = PageBuilder::default();
        for slot in &slots {
            if let Some((memory, delivered)) = slot.held.as_ref().filter(|(_, held)| held.is_news())
            {
                let subject_key = &slot.key[keys::SUBJECT_AT..];
                memory.write(transaction, slot.app, subject_key, delivered.clone());
            }
            if let Some(row) = slot.in_flight.as_ref().filter(|_| slot.is_apart) {
                let key = keys::in_flight_of(slot.app, &slot.key[keys::SUBJECT_AT..]);
                transaction.put(&key, row.encode());
            }
            let (true, Some(record)) = (slot.changed, &slot.record) else { continue };
            let bytes = record.encode();
            let state = apps.entry(slot.app).or_default();
            state.count_out(slot.counted);
            state.count_in((slot.counted.0, record.lane, slot.key.len() + bytes.len()));
            touched.insert(slot.app);
            if slot.placed != Some(record.lane) {
                pages.add(slot.app, record, &slot.key[keys::SUBJECT_AT..]);
            } else {
                for guest in &slot.guests {
                    pages.add_guest(slot.app, record, *guest, &slot.key[keys::SUBJECT_AT..]);
                }
            }
            transaction.put(&slot.key, bytes);
        }
        let placed = pages.write(transaction, &mut numbers).await?;
        Ok(Written { numbers, apps, touched, placed })
    }
}
