//! Settling: the rows of a batch go to where they belong.

use super::{
    Batch, Engine, Queue, StoreError, Stored, Transaction, claim::CHUNK_ROWS, decode_or_set_aside,
    keys, pages::PageBuilder,
};
use crate::{
    domain::{
        batch::{BatchState, Settlement},
        budget::Occupancy,
        merge::Record,
        time::Timestamp,
        update::Sequence,
    },
    store::records::{AppState, Delivery, Head, InFlight},
};

/// What one chunk of a settlement came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settling {
    /// Whether all rows are settled.
    pub complete: bool,
    /// When the first updates of the rows of this chunk had been accepted.
    pub accepted_at: Vec<Timestamp>,
}

impl<E: Engine> Queue<E> {
    /// Settles up to [`CHUNK_ROWS`] rows of `batch`. With the first of them the settlement is
    /// decided for good: after a crash it goes on.
    pub async fn settle(
        &mut self,
        batch: &Batch,
        settlement: Settlement,
        occupancy: Occupancy,
        now: Timestamp,
    ) -> Result<Settling, StoreError> {
        let app = batch.id.app;
        let mut chunk = Chunk {
            transaction: self.engine.begin().await?,
            batch: batch.clone(),
            state: AppState { occupancy, ..self.state(app) },
            head: self.head,
            pages: PageBuilder::default(),
            accepted_at: Vec::new(),
        };
        let mut from = None;
        let complete = loop {
            let range = keys::all_in_flight(app, from);
            let rows = chunk.transaction.scan(range, CHUNK_ROWS).await?;
            let Some((last, _)) = rows.last() else { break true };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &rows {
                chunk.settle(key, bytes.as_ref(), settlement, now).await?;
            }
            if chunk.accepted_at.len() >= CHUNK_ROWS {
                break false;
            }
        };
        let Chunk { mut transaction, mut batch, mut state, head, pages, accepted_at } = chunk;
        pages.write(&mut transaction);
        batch.state = BatchState::Settling(settlement);
        batch.settled_at = Some(now);
        if complete {
            batch.state = BatchState::Settled(settlement);
            state.unsettled = None;
        }
        transaction.put(&keys::batch(app, batch.id.number), batch.encode());
        transaction.put(&keys::app(app), state.encode());
        transaction.put(keys::HEAD, head.encode());
        transaction.commit().await?;
        self.apps.insert(app, state);
        self.head = head;
        Ok(Settling { complete, accepted_at })
    }
}

/// A chunk that is being settled.
struct Chunk<T> {
    transaction: T,
    batch: Batch,
    state: AppState,
    head: Head,
    pages: PageBuilder,
    accepted_at: Vec<Timestamp>,
}

impl<T: Transaction> Chunk<T> {
    async fn settle(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row: Option<InFlight> =
            decode_or_set_aside(&mut self.transaction, &mut self.head, key, bytes)?;
        let Some(row) = row.filter(|row| row.batch == self.batch.id.number) else { return Ok(()) };
        self.accepted_at.push(row.record.first_accepted_at);
        self.transaction.delete(key);
        match settlement {
            Settlement::Delivered => {
                self.deliver(&key[keys::SUBJECT_AT..], &row.record, now);
                Ok(())
            }
            Settlement::Requeued => self.requeue(&key[keys::SUBJECT_AT..], row.record).await,
        }
    }

    fn deliver(&mut self, subject_key: &[u8], record: &Record, now: Timestamp) {
        let delivery = Delivery {
            first_sequence: record.first_sequence,
            batch: self.batch.id.number,
            delivered_at: now,
        };
        let key = keys::delivery_of(self.batch.id.app, subject_key, record.last_sequence);
        self.transaction.put(&key, delivery.encode());
    }

    /// Merges the record under what has come to wait for its subject.
    async fn requeue(&mut self, subject_key: &[u8], record: Record) -> Result<(), StoreError> {
        let app = self.batch.id.app;
        let key = keys::pending_of(app, subject_key);
        let mut merged = record;
        if let Some(bytes) = self.transaction.get(&key).await? {
            let waiting: Option<Record> =
                decode_or_set_aside(&mut self.transaction, &mut self.head, &key, bytes.as_ref())?;
            let stored_bytes = key.len() + bytes.as_ref().len();
            match waiting {
                Some(waiting) => {
                    self.state.count_out((waiting.lane, stored_bytes));
                    merged = merged.merge(waiting);
                }
                None => self.state.count_out_damaged(stored_bytes),
            }
        }
        let bytes = merged.encode();
        self.state.count_in((merged.lane, key.len() + bytes.len()));
        self.pages.add(app, &merged, subject_key);
        self.transaction.put(&key, bytes);
        Ok(())
    }
}

/// The sequences that a delivery took along.
pub(super) fn took_along(delivery: &Delivery, last: Sequence, sequence: Sequence) -> bool {
    (delivery.first_sequence..=last).contains(&sequence)
}
