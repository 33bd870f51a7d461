//! Claiming: pending records become a batch.

use std::collections::HashSet;

use super::{
    AppState, Batch, Engine, Head, Queue, StoreError, Stored, Transaction, clients::Entries,
    decode_or_set_aside, keys,
};
use crate::{
    domain::{
        batch::{BatchId, BatchState, ClaimLimits},
        merge::Record,
        row::write_row,
        time::Timestamp,
        update::{AppId, Lane, Sequence},
    },
    store::records::{InFlight, PageEntry},
};

/// How many records one commit moves at the most: about 35 ms on a slow disk.
pub(super) const CHUNK_ROWS: usize = 1_000;
const PAGES_A_SCAN: usize = 32;

/// What one chunk of a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is more: claim again with this batch.
    Continues(u64),
    /// The batch is complete and will not change, or there was nothing to claim.
    Complete(Option<Box<Batch>>),
}

impl<E: Engine> Queue<E> {
    /// Moves up to [`CHUNK_ROWS`] pending records into a batch: a new one, or `continued`.
    /// Records that came after the claim began are left for the next.
    pub async fn claim(
        &mut self,
        app: AppId,
        limits: impl Into<ClaimLimits>,
        continued: Option<u64>,
        now: Timestamp,
    ) -> Result<Claim, StoreError> {
        let limits = limits.into();
        let state = self.state(app);
        let batch = match continued {
            Some(number) => self.batch(app, number, "claimed into").await?,
            None => {
                let id = BatchId { opening: self.opening, number: state.last_batch + 1, app };
                Batch::new(id, self.head.last_sequence, now)
            }
        };
        let mut chunk = Chunk {
            transaction: self.engine.begin().await?,
            limits,
            state,
            head: self.head,
            batch,
            taken: HashSet::new(),
            full: false,
            pages_damaged: false,
            gone: Entries::new(),
            row: Vec::new(),
        };
        for lane in Lane::ALL {
            chunk.take_lane(lane).await?;
        }
        let Chunk {
            mut transaction,
            mut state,
            head,
            mut batch,
            taken,
            full,
            pages_damaged,
            gone,
            ..
        } = chunk;
        let complete = full || taken.len() < CHUNK_ROWS;
        if complete {
            batch.state = BatchState::Claimed;
            batch.part.end = batch.rows;
        }
        let number = batch.id.number;
        if batch.rows > 0 {
            state.last_batch = number;
            state.unsettled = Some(number);
            transaction.put(&keys::batch(app, number), batch.encode());
        }
        transaction.put(&keys::app(app), state.encode());
        transaction.put(keys::HEAD, head.encode());
        // Pages that lead to nothing, while something waits, are as good as damaged.
        let all = limits.reach == u64::MAX;
        let pages_damaged = pages_damaged || (all && batch.rows == 0 && state.depth.records > 0);
        if pages_damaged {
            transaction.put(&keys::pages_damaged(app), Vec::new());
        }
        transaction.commit().await?;
        self.apps.insert(app, state);
        self.head = head;
        self.clients.go(gone);
        if pages_damaged {
            self.rebuild_pages(app).await?;
        }
        Ok(match complete {
            true => Claim::Complete((batch.rows > 0).then(|| Box::new(batch))),
            false => Claim::Continues(number),
        })
    }
}

/// A chunk that is being claimed.
struct Chunk<T> {
    transaction: T,
    limits: ClaimLimits,
    state: AppState,
    head: Head,
    batch: Batch,
    /// The subjects of the rows of this chunk: its reads still see them waiting.
    taken: HashSet<Vec<u8>>,
    /// The batch holds no more.
    full: bool,
    pages_damaged: bool,
    /// Entries that were taken off pages, by client.
    gone: Entries,
    row: Vec<u8>,
}

/// What becomes of an entry of a page.
enum Fate {
    /// Its record was taken, or is not where it points to.
    Gone,
    /// Its record stays.
    Stays,
}

impl<T: Transaction> Chunk<T> {
    fn is_over(&self) -> bool {
        self.full || self.taken.len() >= CHUNK_ROWS
    }

    async fn take_lane(&mut self, lane: Lane) -> Result<(), StoreError> {
        let app = self.batch.id.app;
        let mut from = None;
        while !self.is_over() {
            let pages = self.transaction.scan(keys::pages(app, lane, from), PAGES_A_SCAN).await?;
            let Some((last, _)) = pages.last() else { break };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in pages {
                if self.is_over() {
                    break;
                }
                self.take_page(lane, &key, bytes.as_ref()).await?;
            }
        }
        Ok(())
    }

    async fn take_page(&mut self, lane: Lane, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        let entries: Option<Vec<PageEntry>> =
            decode_or_set_aside(&mut self.transaction, &mut self.head, key, bytes)?;
        let Some(entries) = entries else {
            self.pages_damaged = true;
            return Ok(());
        };
        let count = entries.len();
        let mut staying = Vec::new();
        for entry in entries {
            match self.take(lane, &entry).await? {
                Fate::Gone => {}
                Fate::Stays => staying.push(entry),
            }
        }
        if staying.len() == count {
            return Ok(());
        }
        if let Some(client) = keys::client_of_page(key) {
            *self.gone.entry(client).or_default() += (count - staying.len()) as u64;
        }
        self.transaction.delete(key);
        if let Some(first) = staying.first() {
            // The key is the old one but for the first sequence at its end.
            let mut key = key[..key.len() - size_of::<Sequence>()].to_vec();
            key.extend(first.first_sequence.to_be_bytes());
            self.transaction.put(&key, staying.encode());
        }
        Ok(())
    }

    /// Takes the record that `entry` points to, if it may.
    async fn take(&mut self, lane: Lane, entry: &PageEntry) -> Result<Fate, StoreError> {
        let app = self.batch.id.app;
        let oldest = self.batch.watermark.saturating_sub(self.limits.reach);
        if self.is_over() || !(oldest..=self.batch.watermark).contains(&entry.first_sequence) {
            return Ok(Fate::Stays);
        }
        if self.taken.contains(&entry.subject_key) {
            return Ok(Fate::Gone);
        }
        let key = keys::pending_of(app, &entry.subject_key);
        let Some(bytes) = self.transaction.get(&key).await? else { return Ok(Fate::Gone) };
        let stored_bytes = key.len() + bytes.as_ref().len();
        let record: Option<Record> =
            decode_or_set_aside(&mut self.transaction, &mut self.head, &key, bytes.as_ref())?;
        let (Some(record), Some(subject)) = (record, keys::subject_of(&key)) else {
            self.state.count_out((lane, stored_bytes));
            // Another entry may point to it, too.
            self.taken.insert(entry.subject_key.clone());
            return Ok(Fate::Gone);
        };
        if record.lane != lane || record.first_sequence != entry.first_sequence {
            return Ok(Fate::Gone);
        }
        // At most one record of a subject is in flight.
        let in_flight = keys::in_flight_of(app, &entry.subject_key);
        if self.transaction.get(&in_flight).await?.is_some() {
            return Ok(Fate::Stays);
        }
        self.row.clear();
        write_row(&subject, &record, &mut self.row);
        let row_bytes = self.row.len() as u64 + 1;
        if !self.limits.batch.fit(self.batch.rows, self.batch.bytes, row_bytes) {
            self.full = true;
            return Ok(Fate::Stays);
        }
        let position = self.batch.rows;
        self.batch.rows += 1;
        self.batch.bytes += row_bytes;
        self.batch.updates += record.updates;
        self.taken.insert(entry.subject_key.clone());
        self.state.count_out((lane, stored_bytes));
        self.transaction.delete(&key);
        let row = InFlight { batch: self.batch.id.number, position, record };
        self.transaction.put(&in_flight, row.encode());
        Ok(Fate::Gone)
    }
}
