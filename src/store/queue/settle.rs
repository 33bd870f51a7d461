//! Settling: the rows of a batch go to where they belong, or become smaller batches.

mod deliver;

use std::ops::Range;

use super::{
    After, Batch, Engine, Queue, StoreError, Stored, Transaction, claim::CHUNK_ROWS, dead, decode,
    decode_or_set_aside, keys, pages::PageBuilder, remember, shared::Numbers,
};
use crate::{
    domain::{
        batch::{BatchId, BatchState, Cut, DeadReason, Happening, Part, Settlement},
        memory::Memory,
        merge::Record,
        row::write_row,
        time::Timestamp,
        update::{AppId, ClientId, Lane},
    },
    store::records::{AppState, Dead, Death, Head, InFlight},
};

/// What one chunk of a settlement came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settling {
    /// Whether all rows are settled.
    pub complete: bool,
    /// The rows of this chunk.
    pub rows: Vec<SettledRow>,
    /// Once complete, the batch that is delivered next, before any new one.
    pub next: Option<Box<Batch>>,
}

/// What of a row is told when it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledRow {
    /// Whose own it was.
    pub client: ClientId,
    /// In which lane: the most urgent one of its updates'.
    pub lane: Lane,
    /// When the first of its updates had been accepted.
    pub accepted_at: Timestamp,
}

impl<E: Engine> Queue<E> {
    /// Settles up to [`CHUNK_ROWS`] rows of `batch`. With the first of them the settlement is
    /// decided for good: after a crash it goes on.
    pub async fn settle(
        &mut self,
        batch: &Batch,
        settlement: Settlement,
        memory: Memory,
        now: Timestamp,
    ) -> Result<Settling, StoreError> {
        if let Settlement::Split(cut) = settlement {
            return self.split(batch, cut, memory, now).await;
        }
        let app = batch.id.app;
        let mut chunk = self.begin_settling(batch.clone(), now).await?;
        chunk.state.memory = memory;
        let mut from = None;
        let complete = loop {
            let range = keys::all_in_flight(app, from);
            let rows = chunk.transaction.scan(range, CHUNK_ROWS).await?;
            let Some((last, _)) = rows.last() else { break true };
            from = Some(keys::after(last.clone()));
            chunk.read_ahead(&rows, self.fleet.is_some()).await?;
            for (key, bytes) in &rows {
                chunk.settle(key, bytes.as_ref(), settlement).await?;
            }
            if chunk.settled.len() >= CHUNK_ROWS {
                break false;
            }
        };
        let Chunk { transaction, batch, state, .. } = &mut chunk;
        batch.state = BatchState::Settling(settlement);
        batch.settled_at = Some(now);
        if complete {
            batch.state = BatchState::Settled(settlement);
            state.unsettled = batch.then;
        }
        let unsettled = state.unsettled;
        transaction.put(&keys::batch(app, batch.id.number), batch.encode());
        let rows = self.commit_settled(chunk).await?;
        let next = match unsettled.filter(|_| complete) {
            Some(number) => Some(Box::new(self.next_batch(app, number).await?)),
            None => None,
        };
        Ok(Settling { complete, rows, next })
    }

    /// A chunk of the rows of `batch` that has settled nothing yet.
    pub(super) async fn begin_settling(
        &mut self,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Chunk<E::Transaction>, StoreError> {
        let app = batch.id.app;
        Ok(Chunk {
            transaction: self.begin_fenced(app).await?,
            batch,
            state: self.state(app),
            head: self.head,
            pages: PageBuilder::default(),
            settled: Vec::new(),
            memory: self.memory(app, &self.head),
            now,
            lane_back: Lane::Express,
            late_until: None,
        })
    }

    /// Makes what a chunk has settled durable, and tells of its rows.
    pub(super) async fn commit_settled(
        &mut self,
        chunk: Chunk<E::Transaction>,
    ) -> Result<Vec<SettledRow>, StoreError> {
        let Chunk { mut transaction, batch, state, head, pages, settled, .. } = chunk;
        let app = batch.id.app;
        let mut numbers = Numbers::from(head);
        let placed = pages.write(&mut transaction, &mut numbers).await?;
        self.conclude_placed(transaction, app, (*numbers.head(app), state), placed).await?;
        Ok(settled)
    }

    /// Makes smaller batches of `batch`, which follow one after the other. Its rows stay where
    /// they are.
    async fn split(
        &mut self,
        batch: &Batch,
        cut: Cut,
        memory: Memory,
        now: Timestamp,
    ) -> Result<Settling, StoreError> {
        let app = batch.id.app;
        let mut transaction = self.begin_fenced(app).await?;
        let mut state = AppState { memory, ..self.state(app) };
        let rows = rows_of(&mut transaction, batch).await?;
        let mut next = batch.then;
        let mut first = None;
        for range in parts(rows.len(), cut).into_iter().rev() {
            let rows = &rows[range];
            let (Some(start), Some(end)) = (rows.first(), rows.last()) else { continue };
            state.last_batch += 1;
            let id = BatchId { opening: self.opening, number: state.last_batch, app };
            let mut part = Batch {
                state: BatchState::Claimed,
                part: Part { first: start.position, end: end.position + 1, ..batch.part },
                then: next,
                rows: rows.len() as u64,
                bytes: rows.iter().map(|row| row.bytes).sum(),
                updates: rows.iter().map(|row| row.updates).sum(),
                refused_at: batch.refused_at,
                values: batch.values,
                parent: Some(batch.id),
                ..Batch::new(id, batch.kind, batch.watermark, batch.claimed_at)
            };
            part.note(Happening::Claimed, now, "a part of a batch that was split");
            transaction.put(&keys::batch(app, id.number), part.encode());
            next = Some(id.number);
            first = Some(Box::new(part));
        }
        state.unsettled = next;
        let settled = Batch {
            state: BatchState::Settled(Settlement::Split(cut)),
            settled_at: Some(now),
            ..batch.clone()
        };
        transaction.put(&keys::batch(app, batch.id.number), settled.encode());
        let after = After { state: Some(state), ..After::default() };
        self.conclude(transaction, app, after).await?;
        let next = match (first, state.unsettled) {
            (None, Some(number)) => Some(Box::new(self.next_batch(app, number).await?)),
            (first, _) => first,
        };
        Ok(Settling { complete: true, rows: Vec::new(), next })
    }

    async fn next_batch(&self, app: AppId, number: u64) -> Result<Batch, StoreError> {
        let mut transaction = self.engine.begin().await?;
        self.batch(&mut transaction, (app, number), "delivered next").await
    }
}

/// The rows of a batch, in order. A damaged one is set aside when the batch is settled.
async fn rows_of(
    transaction: &mut impl Transaction,
    batch: &Batch,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut json = Vec::new();
    let mut from = None;
    loop {
        let range = keys::all_in_flight(batch.id.app, from);
        let entries = transaction.scan(range, CHUNK_ROWS).await?;
        let Some((last, _)) = entries.last() else { break };
        from = Some(keys::after(last.clone()));
        for (key, bytes) in &entries {
            let row: Option<InFlight> = decode(bytes.as_ref())?;
            let row = row.filter(|row| batch.part.holds(row.batch, row.position));
            let (Some(row), Some(subject)) = (row, keys::subject_of(key)) else { continue };
            json.clear();
            write_row(&subject, &row.record, batch.values, &mut json);
            let InFlight { position, record, .. } = row;
            rows.push(Row { position, bytes: json.len() as u64 + 1, updates: record.updates });
        }
    }
    rows.sort_by_key(|row| row.position);
    Ok(rows)
}

/// What a split must know of a row.
struct Row {
    position: u64,
    bytes: u64,
    updates: u64,
}

/// The ranges that so many rows are cut into, in the order in which they are tried.
fn parts(rows: usize, cut: Cut) -> Vec<Range<usize>> {
    match cut {
        Cut::Halves => vec![0..rows.div_ceil(2), rows.div_ceil(2)..rows],
        Cut::Probe(place) => {
            let probe = usize::try_from(place).unwrap_or(0).min(rows.saturating_sub(1));
            let behind = (probe + 1).min(rows);
            vec![probe..behind, 0..probe, behind..rows]
        }
    }
}

/// A chunk that is being settled.
pub(super) struct Chunk<T> {
    pub(super) transaction: T,
    pub(super) batch: Batch,
    pub(super) state: AppState,
    pub(super) head: Head,
    pub(super) pages: PageBuilder,
    pub(super) settled: Vec<SettledRow>,
    pub(super) memory: Option<remember::Memory>,
    pub(super) now: Timestamp,
    /// The most urgent lane that a record goes back into.
    pub(super) lane_back: Lane,
    /// Until when upstream may come to hold a record's values that it does not hold now.
    pub(super) late_until: Option<Timestamp>,
}

impl<T: Transaction> Chunk<T> {
    pub(super) async fn settle(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        settlement: Settlement,
    ) -> Result<(), StoreError> {
        let row: Option<InFlight> =
            decode_or_set_aside(&mut self.transaction, &mut self.head, key, bytes)?;
        let part = self.batch.part;
        let Some(row) = row.filter(|row| part.holds(row.batch, row.position)) else {
            return Ok(());
        };
        let Record { client, lane, first_accepted_at: accepted_at, .. } = row.record;
        self.settled.push(SettledRow { client, lane, accepted_at });
        self.transaction.delete(key);
        if row.forgotten {
            // Whatever became of it, nobody is to know.
            return Ok(());
        }
        let subject_key = &key[keys::SUBJECT_AT..];
        // Of a batch that counts as delivered without some of its rows, each may be one.
        let all = self.batch.completed_rows >= self.batch.rows;
        let certain = settlement == Settlement::Delivered && all;
        if let Some(memory) = self.memory.filter(|_| !certain) {
            let subject = (self.batch.id.app, subject_key);
            let doubted = (&row.record, self.late_until);
            memory.doubt(&mut self.transaction, subject, doubted).await?;
        }
        match settlement {
            Settlement::Delivered => self.deliver(subject_key, row.record, certain).await,
            Settlement::Requeued => self.requeue(subject_key, row.record).await,
            Settlement::Dead(reason) => {
                self.bury(subject_key, row.record, reason);
                Ok(())
            }
            Settlement::Split(_) => unreachable!("a split moves no rows"),
        }
    }

    /// Makes a dead letter of the record.
    fn bury(&mut self, subject_key: &[u8], mut record: Record, reason: DeadReason) {
        record.set_apart();
        // Nobody waits for it any more.
        record.guests.clear();
        let app = self.batch.id.app;
        let death = Death {
            reason,
            detail: self.batch.last_error.clone(),
            batch: self.batch.id,
            job_id: self.batch.job_id.clone(),
            request_id: self.batch.request_id.clone(),
        };
        let last = record.last_sequence;
        let letter = Dead { subject_key: subject_key.to_vec(), death, closed: None, record };
        self.transaction.put(&keys::dead(app, self.now, last), letter.encode());
        self.transaction.put(&keys::dead_of(app, subject_key, self.now, last), Vec::new());
        self.state.dead_letters += 1;
    }

    /// Merges the record under what has come to wait for its subject.
    async fn requeue(&mut self, subject_key: &[u8], record: Record) -> Result<(), StoreError> {
        let app = self.batch.id.app;
        let key = keys::pending_of(app, subject_key);
        let kind = keys::kind_of(subject_key);
        let mut merged = record;
        if let Some(bytes) = self.transaction.get(&key).await? {
            let waiting: Option<Record> =
                decode_or_set_aside(&mut self.transaction, &mut self.head, &key, bytes.as_ref())?;
            let stored_bytes = key.len() + bytes.as_ref().len();
            match waiting {
                Some(waiting) => {
                    self.state.count_out((kind, waiting.lane, stored_bytes));
                    merged = merged.merge(waiting);
                }
                None => self.state.count_out_damaged(kind, stored_bytes),
            }
        }
        merged.lane = merged.lane.max(self.lane_back);
        let bytes = merged.encode();
        self.state.count_in((kind, merged.lane, key.len() + bytes.len()));
        self.pages.add(app, &merged, subject_key);
        self.transaction.put(&key, bytes);
        Ok(())
    }
}
