//! Dead letters: records that upstream will not take, until somebody replays or discards them.
//!
//! A letter waits beside the queue, and must not go back in time: what is delivered of its
//! subject is struck from it, and one with nothing left is closed as superseded. A closed one
//! keeps its sequences, so that receipts still find it, and none of its values.

use std::{fmt, str::FromStr};

use super::{
    After, Engine, Queue, Reads, Scope, StoreError, Stored, Transaction, decode,
    decode_or_set_aside, keys, pages::PageBuilder, shared::Numbers,
};
use crate::{
    domain::{
        admission,
        batch::DeadReason,
        merge::Record,
        time::Timestamp,
        update::{AppId, Sequence, Subject},
    },
    store::records::{Closing, Dead, Death, InFlight},
};

const CHUNK: usize = 256;

/// A dead letter's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadId {
    /// When it died.
    pub died_at: Timestamp,
    /// The last sequence in it.
    pub last_sequence: Sequence,
}

impl fmt::Display for DeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.died_at.as_micros(), self.last_sequence)
    }
}

impl FromStr for DeadId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (died_at, last) = text.rsplit_once('-').ok_or(())?;
        let died_at = Timestamp::from_micros(died_at.parse().map_err(drop)?);
        Ok(Self { died_at, last_sequence: last.parse().map_err(drop)? })
    }
}

/// A record that upstream will not take.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its name.
    pub id: DeadId,
    /// What it is about.
    pub subject: Subject,
    /// How it came to be one.
    pub death: Death,
    /// Why nobody needs it any more, and since when.
    pub closed: Option<(Closing, Timestamp)>,
    /// What upstream would not take; without values once it is closed.
    pub record: Record,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Those of this subject.
    pub subject: Option<Subject>,
    /// Those that died of this.
    pub reason: Option<DeadReason>,
    /// Closed ones, too.
    pub closed_too: bool,
}

/// Some dead letters, oldest first, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// The next page begins behind this one. `None` at the end.
    pub next: Option<DeadId>,
}

/// What became of a dead letter that was to be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It waits again.
    Replayed,
    /// Merged with what waits for its subject it would be too large, or the queue is full: later.
    NoRoom,
    /// There is none of this name, or it is closed: by now, perhaps.
    NotThere,
}

impl<E: Engine> Queue<E> {
    /// Sends a dead letter back into the queue, under what has come to wait for its subject. What
    /// is known to be older than what upstream holds stays behind.
    pub async fn replay(
        &mut self,
        app: AppId,
        id: DeadId,
        now: Timestamp,
    ) -> Result<Replay, StoreError> {
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        let mut head = self.head;
        let Some(mut letter) = read_open(&mut transaction, app, id).await? else {
            self.leave(transaction).await?;
            return Ok(Replay::NotThere);
        };
        let subject_key = letter.subject_key.clone();
        if let Some(memory) = self.memory(app, &head) {
            memory.strike_older(&mut transaction, (app, &subject_key), &mut letter.record).await?;
            if !letter.record.has_values() {
                self.close(transaction, (app, id, letter), (Closing::Superseded, now)).await?;
                return Ok(Replay::NotThere);
            }
        }
        let in_flight = transaction.get(&keys::in_flight_of(app, &subject_key)).await?;
        let in_flight = in_flight.map(|bytes| decode::<InFlight>(bytes.as_ref())).transpose()?;
        let in_flight = in_flight.flatten().map(|row| row.record);
        let mut state = self.state(app);
        let key = keys::pending_of(app, &subject_key);
        let kind = keys::kind_of(&subject_key);
        let mut merged = letter.record;
        match transaction.get(&key).await? {
            Some(bytes) => {
                let waiting: Option<Record> =
                    decode_or_set_aside(&mut transaction, &mut head, &key, bytes.as_ref())?;
                let stored_bytes = key.len() + bytes.as_ref().len();
                match waiting {
                    Some(waiting) => {
                        state.count_out((kind, waiting.lane, stored_bytes));
                        merged = merged.merge(waiting);
                    }
                    None => state.count_out_damaged(kind, stored_bytes),
                }
            }
            None if admission::admit_new(state.depth.into(), &self.limits).is_err() => {
                self.leave(transaction).await?;
                return Ok(Replay::NoRoom);
            }
            None => {}
        }
        // Should what is in flight come back, it becomes part of the record, too.
        let whole = in_flight.into_iter().fold(merged.clone(), Record::merge);
        let (bytes, properties) = (whole.size(), whole.properties.len());
        if admission::admit_merged(bytes, properties, &self.limits).is_err() {
            self.leave(transaction).await?;
            return Ok(Replay::NoRoom);
        }
        let bytes = merged.encode();
        state.count_in((kind, merged.lane, key.len() + bytes.len()));
        state.dead_letters = state.dead_letters.saturating_sub(1);
        let mut pages = PageBuilder::default();
        pages.add(app, &merged, &subject_key);
        let mut numbers = Numbers::from(head);
        let placed = pages.write(&mut transaction, &mut numbers).await?;
        transaction.put(&key, bytes);
        transaction.delete(&keys::dead(app, id.died_at, id.last_sequence));
        transaction.delete(&keys::dead_of(app, &subject_key, id.died_at, id.last_sequence));
        self.conclude_placed(transaction, app, (*numbers.head(app), state), placed).await?;
        Ok(Replay::Replayed)
    }

    /// Closes a dead letter for good. Returns whether it was there, and open.
    pub async fn discard(
        &mut self,
        app: AppId,
        id: DeadId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        let Some(letter) = read_open(&mut transaction, app, id).await? else {
            self.leave(transaction).await?;
            return Ok(false);
        };
        self.close(transaction, (app, id, letter), (Closing::Discarded, now)).await?;
        Ok(true)
    }

    async fn close(
        &mut self,
        mut transaction: E::Transaction,
        (app, id, letter): (AppId, DeadId, Dead),
        closed: (Closing, Timestamp),
    ) -> Result<(), StoreError> {
        close(&mut transaction, app, id, letter, closed);
        let mut state = self.state(app);
        state.dead_letters = state.dead_letters.saturating_sub(1);
        self.conclude(transaction, app, After { state: Some(state), ..After::default() }).await
    }
}

/// A letter that nobody has closed.
async fn read_open(
    transaction: &mut impl Transaction,
    app: AppId,
    id: DeadId,
) -> Result<Option<Dead>, StoreError> {
    let bytes = transaction.get(&keys::dead(app, id.died_at, id.last_sequence)).await?;
    let letter = bytes.map(|bytes| decode::<Dead>(bytes.as_ref())).transpose()?.flatten();
    Ok(letter.filter(|letter| letter.closed.is_none()))
}

/// Closes a letter. Its sequences stay, for receipts.
fn close(
    transaction: &mut impl Transaction,
    app: AppId,
    id: DeadId,
    mut letter: Dead,
    closed: (Closing, Timestamp),
) {
    letter.closed = Some(closed);
    letter.record.company_id = None;
    letter.record.properties.clear();
    transaction.put(&keys::dead(app, id.died_at, id.last_sequence), letter.encode());
}

/// Strikes what was delivered of a subject from its dead letters. Returns how many have nothing
/// left and are closed.
pub(super) async fn strike(
    transaction: &mut impl Transaction,
    app: AppId,
    subject_key: &[u8],
    delivered: &Record,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut closed = 0;
    for id in ids_of(transaction, app, subject_key).await? {
        let Some(mut letter) = read_open(transaction, app, id).await? else { continue };
        let struck = letter.record.strike_older_than(delivered);
        if !struck && letter.record.has_values() {
            continue;
        }
        if letter.record.has_values() {
            transaction.put(&keys::dead(app, id.died_at, id.last_sequence), letter.encode());
        } else {
            close(transaction, app, id, letter, (Closing::Superseded, now));
            closed += 1;
        }
    }
    Ok(closed)
}

pub(super) async fn ids_of(
    transaction: &mut impl Transaction,
    app: AppId,
    subject_key: &[u8],
) -> Result<Vec<DeadId>, StoreError> {
    let entries = transaction.scan(keys::all_dead_of(app, subject_key), usize::MAX).await?;
    let ids = entries.iter().filter_map(|(key, _)| keys::dead_at(key));
    Ok(ids.map(|(died_at, last_sequence)| DeadId { died_at, last_sequence }).collect())
}

/// The dead letter that the update with this sequence is in.
pub(super) async fn find_dead(
    transaction: &mut impl Transaction,
    app: AppId,
    subject: &Subject,
    sequence: Sequence,
) -> Result<Option<DeadLetter>, StoreError> {
    let key = keys::pending(app, subject);
    for id in ids_of(transaction, app, &key[keys::SUBJECT_AT..]).await? {
        let key = keys::dead(app, id.died_at, id.last_sequence);
        let Some(bytes) = transaction.get(&key).await? else { continue };
        let Some(letter) = letter(&key, bytes.as_ref())? else { continue };
        if letter.record.holds(sequence) {
            return Ok(Some(letter));
        }
    }
    Ok(None)
}

/// Whether a dead letter of the subject that may hold the update is damaged.
pub(super) async fn is_dead_damaged(
    transaction: &mut impl Transaction,
    app: AppId,
    subject_key: &[u8],
    sequence: Sequence,
) -> Result<bool, StoreError> {
    for id in ids_of(transaction, app, subject_key).await? {
        if id.last_sequence < sequence {
            continue;
        }
        let bytes = transaction.get(&keys::dead(app, id.died_at, id.last_sequence)).await?;
        if let Some(bytes) = bytes
            && decode::<Dead>(bytes.as_ref())?.is_none()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn letter(key: &[u8], bytes: &[u8]) -> Result<Option<DeadLetter>, StoreError> {
    let Some(dead) = decode::<Dead>(bytes)? else { return Ok(None) };
    let subject_at = [&[0; keys::SUBJECT_AT], &*dead.subject_key].concat();
    let (Some((died_at, last_sequence)), Some(subject)) =
        (keys::dead_at(key), keys::subject_of(&subject_at))
    else {
        return Ok(None);
    };
    let Dead { death, closed, record, .. } = dead;
    Ok(Some(DeadLetter { id: DeadId { died_at, last_sequence }, subject, death, closed, record }))
}

impl DeadFilter {
    fn takes(&self, letter: &DeadLetter) -> bool {
        self.subject.as_ref().is_none_or(|subject| *subject == letter.subject)
            && self.reason.is_none_or(|reason| reason == letter.death.reason)
            && (self.closed_too || letter.closed.is_none())
    }
}

impl<E: Engine> Reads<E> {
    /// Up to `limit` dead letters of an app, oldest first, behind `after`.
    pub async fn dead_letters(
        &self,
        app: AppId,
        filter: &DeadFilter,
        after: Option<DeadId>,
        limit: usize,
    ) -> Result<DeadPage, StoreError> {
        let mut page = DeadPage::default();
        let behind = |id: DeadId| keys::after(keys::dead(app, id.died_at, id.last_sequence));
        let mut from = after.map(behind);
        loop {
            let mut transaction = self.engine.begin().await?;
            let entries = transaction.scan(keys::all_dead(app, from), CHUNK).await?;
            let Some((last, _)) = entries.last() else { return Ok(page) };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &entries {
                let Some(letter) = letter(key, bytes.as_ref())? else { continue };
                if !filter.takes(&letter) {
                    continue;
                }
                if page.letters.len() >= limit {
                    page.next = page.letters.last().map(|letter| letter.id);
                    return Ok(page);
                }
                page.letters.push(letter);
            }
        }
    }

    /// One dead letter.
    pub async fn dead_letter(
        &self,
        app: AppId,
        id: DeadId,
    ) -> Result<Option<DeadLetter>, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let key = keys::dead(app, id.died_at, id.last_sequence);
        match transaction.get(&key).await? {
            Some(bytes) => letter(&key, bytes.as_ref()),
            None => Ok(None),
        }
    }
}
