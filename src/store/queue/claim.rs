//! Claiming: pending records of one kind become a batch. Which kind it is, `domain::share` says.

use std::{collections::HashSet, time::Duration};

use super::{
    After, AppState, Batch, Engine, EngineError, Head, Queue, StoreError, Stored, Transaction,
    clients::{Clients, Entries},
    decode, decode_or_set_aside, keys,
    lane::{LaneCursor, URGENT},
    pages::first_of,
};
use crate::{
    domain::{
        batch::{BatchId, BatchLimits, BatchState, ClaimLimits, Claimable, Happening},
        merge::Record,
        row::write_row,
        share,
        time::Timestamp,
        update::{AppId, ByKind, Lane, Sequence, Subject, SubjectKind},
    },
    store::records::{InFlight, PageEntry},
};

/// How long a bulk claim leaves a record to express: twice what express is to take in the worst
/// of good times, so that a job does not take along what would be upstream long before it ends.
pub(super) const EXPRESS_HEAD_START: Duration = Duration::from_secs(2);

/// How many records one commit moves at the most: about 35 ms on a slow disk.
pub(super) const CHUNK_ROWS: usize = 1_000;

/// What one chunk of a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is more: claim again with this batch.
    Continues(u64),
    /// The batch is complete and will not change, or there was nothing to claim.
    Complete(Option<Box<Batch>>),
}

impl<E: Engine> Queue<E> {
    /// Moves up to [`CHUNK_ROWS`] pending records into a batch: a new one of the kind whose turn
    /// it is, or `continued`. Records that came after the claim began are left for the next.
    pub async fn claim(
        &mut self,
        app: AppId,
        claimable: impl Into<Claimable>,
        continued: Option<u64>,
        now: Timestamp,
    ) -> Result<Claim, StoreError> {
        let claimable = claimable.into();
        let mut transaction = self.begin_fenced(app).await?;
        let state = self.state(app);
        let mut heads = None;
        let (batch, kinds) = match continued {
            Some(number) => {
                let batch = self.batch(&mut transaction, (app, number), "claimed into").await?;
                let kind = batch.kind;
                (batch, vec![kind])
            }
            None => {
                let waiting = read_heads(&mut transaction, app, (&state, &claimable), now).await?;
                heads = Some(waiting);
                let kind = share::turn(waiting, state.passed_over).unwrap_or_default();
                let id = BatchId { opening: self.opening, number: state.last_batch + 1, app };
                (Batch::new(id, kind, self.head.last_sequence, now), vec![kind, kind.other()])
            }
        };
        let rows_max = match heads {
            Some(heads) => {
                rows_out_of_turn(&mut transaction, &state, (heads, &batch), &claimable).await?
            }
            None => self.rows_out_of_turn.get(&app).copied(),
        };
        let mut chunk = Chunk::new(transaction, (state, self.head), batch);
        chunk.express_waits_until = Some(now);
        chunk.reads_ahead = self.fleet.is_some();
        let first = kinds.first().copied();
        for kind in kinds {
            let Some(mut limits) = *claimable.of(kind) else { continue };
            let rows_max = rows_max.filter(|_| Some(kind) == first);
            limits.batch.rows_max = limits.batch.rows_max.min(rows_max.unwrap_or(u64::MAX));
            // It counts sequences, of which a stripe gives one of so many.
            limits.reach = limits.reach.saturating_mul(u64::from(self.stripes()));
            chunk.take_kind(kind, limits, &self.clients).await?;
            // The other goes only if there is nothing to be had of the first.
            if chunk.batch.rows > 0 {
                break;
            }
        }
        match rows_max.filter(|_| Some(chunk.batch.kind) == first) {
            Some(rows_max) => self.rows_out_of_turn.insert(app, rows_max),
            None => self.rows_out_of_turn.remove(&app),
        };
        self.end_chunk(chunk, heads).await
    }

    /// Makes a chunk durable. `heads` is what waited before the first of a batch.
    async fn end_chunk(
        &mut self,
        mut chunk: Chunk<E::Transaction>,
        heads: Option<ByKind<Option<share::Head>>>,
    ) -> Result<Claim, StoreError> {
        let complete = chunk.full || chunk.taken.len() < CHUNK_ROWS;
        let Chunk { transaction, state, batch, .. } = &mut chunk;
        let BatchId { app, number, .. } = batch.id;
        if complete {
            batch.state = BatchState::Claimed;
            batch.part.end = batch.rows;
            batch.note(Happening::Claimed, batch.claimed_at, "");
        }
        if batch.rows > 0 {
            state.last_batch = number;
            state.unsettled = Some(number);
            if let Some(heads) = heads {
                state.passed_over = share::passed_over(heads, batch.kind);
            }
            transaction.put(&keys::batch(app, number), batch.encode());
        }
        let batch = self.commit_taken(chunk).await?;
        Ok(match complete {
            true => Claim::Complete((batch.rows > 0).then(|| Box::new(batch))),
            false => Claim::Continues(number),
        })
    }

    /// Makes what a chunk has taken durable, and the pages anew if it found any damaged.
    pub(super) async fn commit_taken(
        &mut self,
        chunk: Chunk<E::Transaction>,
    ) -> Result<Batch, StoreError> {
        let Chunk { mut transaction, state, head, batch, pages_damaged, gone, .. } = chunk;
        let app = batch.id.app;
        if pages_damaged {
            transaction.put(&keys::pages_damaged(app), Vec::new());
        }
        let (head, state) = (Some(head), Some(state));
        self.conclude(transaction, app, After { head, state, gone, ..After::default() }).await?;
        if pages_damaged {
            self.rebuild_pages(app).await?;
        }
        Ok(batch)
    }
}

/// How many rows a new batch may have of a bulk lane that goes before what is more urgent.
async fn rows_out_of_turn(
    transaction: &mut impl Transaction,
    state: &AppState,
    (heads, new): (ByKind<Option<share::Head>>, &Batch),
    claimable: &Claimable,
) -> Result<Option<u64>, StoreError> {
    let limits = claimable.of(new.kind).filter(|_| share::is_out_of_turn(heads, new.kind));
    let Some(ClaimLimits { batch, for_bulk, .. }) = limits else { return Ok(None) };
    let mut number = state.last_batch;
    // What was split is meant as a whole.
    for _ in 0..2 {
        let bytes = transaction.get(&keys::batch(new.id.app, number)).await?;
        let last = bytes.map(|bytes| decode::<Batch>(bytes.as_ref())).transpose()?.flatten();
        let Some(last) = last.filter(|last| last.kind != new.kind) else { return Ok(None) };
        if last.part.origin == number {
            let rows = share::rows_out_of_turn(last.rows, batch.rows_max, for_bulk.rows_max);
            return Ok(Some(rows));
        }
        number = last.part.origin;
    }
    Ok(None)
}

/// The first of what waits of each kind that may be claimed.
async fn read_heads(
    transaction: &mut impl Transaction,
    app: AppId,
    (state, claimable): (&AppState, &Claimable),
    now: Timestamp,
) -> Result<ByKind<Option<share::Head>>, EngineError> {
    let mut heads = ByKind::default();
    for kind in SubjectKind::ALL {
        if claimable.of(kind).is_none() || *state.by_kind().of(kind) == 0 {
            continue;
        }
        // Where no page leads to what waits, claiming finds that out.
        let mut head = share::Head { lane: Lane::Bulk, first_sequence: Sequence::MAX };
        for lane in Lane::ALL {
            let first = first_of(transaction, app, (kind, lane)).await?;
            if let Some(record) = first.filter(|record| !waits_for_express(record, now)) {
                head = share::Head { lane, first_sequence: record.first_sequence };
                break;
            }
        }
        *heads.of_mut(kind) = Some(head);
    }
    Ok(heads)
}

/// Whether a record is left to express for now. What has waited for longer, express cannot send
/// soon. One that seems to be of the future was stamped by a clock that was ahead: its age is not
/// known.
fn waits_for_express(record: &Record, now: Timestamp) -> bool {
    let arrived = record.first_accepted_at;
    record.lane == Lane::Express && arrived <= now && now.since(arrived) < EXPRESS_HEAD_START
}

/// A chunk that is being claimed.
pub(super) struct Chunk<T> {
    pub(super) transaction: T,
    pub(super) limits: ClaimLimits,
    pub(super) state: AppState,
    pub(super) head: Head,
    pub(super) batch: Batch,
    /// The subjects of the rows of this chunk: its reads still see them waiting.
    taken: HashSet<Vec<u8>>,
    /// Of these, those that were damaged, and are no rows.
    damaged: HashSet<Vec<u8>>,
    /// How many more entries of pages are looked at.
    pub(super) looks: usize,
    /// How many of each client are looked at in vain, where there is a limit.
    pub(super) looks_of_client_max: Option<usize>,
    /// One of these was reached.
    pub(super) cut_short: bool,
    /// The batch holds no more.
    full: bool,
    pub(super) pages_damaged: bool,
    /// Entries that were taken off pages, by client.
    pub(super) gone: Entries,
    row: Vec<u8>,
    /// Records may not be taken now, and so wait in spite of all that was taken.
    stays: bool,
    /// Reading what entries lead to one by one would cost a way to the store each.
    pub(super) reads_ahead: bool,
    /// The time of a claim that leaves to express what came to it just before.
    express_waits_until: Option<Timestamp>,
}

/// What becomes of an entry of a page.
pub(super) enum Fate {
    /// Its record is in the batch now.
    Taken,
    /// Its record is not where it points to.
    Gone,
    /// Its record may not be taken now.
    Stays,
    /// Its record is the first that the batch has no room for.
    Full,
}

impl<T: Transaction> Chunk<T> {
    /// One that has taken nothing yet.
    pub(super) fn new(transaction: T, (state, head): (AppState, Head), batch: Batch) -> Self {
        Self {
            transaction,
            limits: BatchLimits { rows_max: 0, bytes_max: 0 }.into(),
            state,
            head,
            batch,
            taken: HashSet::new(),
            damaged: HashSet::new(),
            looks: usize::MAX,
            looks_of_client_max: None,
            cut_short: false,
            full: false,
            pages_damaged: false,
            gone: Entries::new(),
            row: Vec::new(),
            stays: false,
            reads_ahead: false,
            express_waits_until: None,
        }
    }

    /// Whether its commit would change nothing.
    pub(super) fn has_changed_nothing(&self) -> bool {
        self.batch.rows == 0 && self.gone.is_empty() && !self.pages_damaged
    }

    pub(super) fn is_over(&self) -> bool {
        self.full || self.taken.len() >= CHUNK_ROWS || self.looks == 0
    }

    /// The subjects of the rows that were taken.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let keys = self.taken.difference(&self.damaged);
        let key = |subject_key: &Vec<u8>| keys::in_flight_of(self.batch.id.app, subject_key);
        let mut subjects: Vec<Subject> =
            keys.filter_map(|subject_key| keys::subject_of(&key(subject_key))).collect();
        subjects.sort_unstable();
        subjects
    }

    /// Takes records of a kind: of the urgent lanes first, up to what is kept for the bulk lane
    /// while it waits; then of that one; then of the urgent ones what is left of the room.
    async fn take_kind(
        &mut self,
        kind: SubjectKind,
        limits: ClaimLimits,
        clients: &Clients,
    ) -> Result<(), StoreError> {
        self.batch.kind = kind;
        self.limits = limits;
        // What was claimed before, if this goes on, was measured by its own.
        if self.batch.rows == 0 {
            self.batch.values = limits.values;
        }
        let (app, transaction) = (self.batch.id.app, &mut self.transaction);
        let turns = (clients, &self.state);
        let mut urgent = LaneCursor::open(transaction, app, (kind, URGENT), turns).await?;
        let mut bulk = LaneCursor::open(transaction, app, (kind, &[Lane::Bulk]), turns).await?;
        let waits = self.state.bulk_records > 0;
        let for_bulk = if waits { limits.for_bulk } else { Default::default() };
        self.take_lanes(&mut urgent, limits.batch.without(for_bulk)).await?;
        self.take_lanes(&mut bulk, limits.batch).await?;
        self.take_lanes(&mut urgent, limits.batch).await?;
        self.close_lanes(urgent);
        self.close_lanes(bulk);
        // Pages that lead to nothing, while something waits, are as good as damaged.
        let all = limits.reach == u64::MAX;
        let waits = *self.state.by_kind().of(kind) > 0;
        self.pages_damaged |= all && self.batch.rows == 0 && waits && !self.stays;
        Ok(())
    }

    /// Takes the record that `entry` points to, if it may, up to `limits`.
    pub(super) async fn take(
        &mut self,
        lane: Lane,
        entry: &PageEntry,
        limits: BatchLimits,
    ) -> Result<Fate, StoreError> {
        let app = self.batch.id.app;
        self.looks -= 1;
        let oldest = self.batch.watermark.saturating_sub(self.limits.reach);
        if entry.first_sequence < oldest {
            return Ok(Fate::Stays);
        }
        if self.taken.contains(&entry.subject_key) {
            return Ok(Fate::Gone);
        }
        if keys::kind_of(&entry.subject_key) != self.batch.kind {
            // Wherever that comes from, no job holds both kinds.
            self.pages_damaged = true;
            return Ok(Fate::Gone);
        }
        let key = keys::pending_of(app, &entry.subject_key);
        let Some(bytes) = self.transaction.get(&key).await? else { return Ok(Fate::Gone) };
        let stored_bytes = key.len() + bytes.as_ref().len();
        let record: Option<Record> =
            decode_or_set_aside(&mut self.transaction, &mut self.head, &key, bytes.as_ref())?;
        let (Some(record), Some(subject)) = (record, keys::subject_of(&key)) else {
            // In which lane it was is not known any more: all are counted anew.
            self.state.count_out_damaged(self.batch.kind, stored_bytes);
            self.pages_damaged = true;
            // Another entry may point to it, too.
            self.taken.insert(entry.subject_key.clone());
            self.damaged.insert(entry.subject_key.clone());
            return Ok(Fate::Gone);
        };
        if !entry.leads_to(&record, lane) {
            return Ok(Fate::Gone);
        }
        if record.first_sequence < oldest {
            return Ok(Fate::Stays);
        }
        // At most one record of a subject is in flight.
        let in_flight = keys::in_flight_of(app, &entry.subject_key);
        let left_to_express =
            self.express_waits_until.is_some_and(|now| waits_for_express(&record, now));
        if left_to_express || self.transaction.get(&in_flight).await?.is_some() {
            self.stays = true;
            return Ok(Fate::Stays);
        }
        self.row.clear();
        write_row(&subject, &record, self.batch.values, &mut self.row);
        let row_bytes = self.row.len() as u64 + 1;
        if !limits.fit(self.batch.rows, self.batch.bytes, row_bytes) {
            self.full = limits == self.limits.batch;
            return Ok(Fate::Full);
        }
        let position = self.batch.rows;
        self.batch.rows += 1;
        self.batch.bytes += row_bytes;
        self.batch.updates += record.updates;
        self.taken.insert(entry.subject_key.clone());
        self.state.count_out((self.batch.kind, lane, stored_bytes));
        self.transaction.delete(&key);
        let row = InFlight { batch: self.batch.id.number, position, record, forgotten: false };
        self.transaction.put(&in_flight, row.encode());
        Ok(Fate::Taken)
    }
}
