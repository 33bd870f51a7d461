//! Express: pending records of the express lane go up one by one, by the real-time endpoint.
//!
//! `take` moves some of them in flight, marked as express and in no batch; `settle` moves each
//! to where it belongs, as a batch's row. What a process leaves in flight at its death, the next
//! one puts back before anything is claimed: whether its request was carried out is not known,
//! and sending the values again, under those that came since, leaves the same profile. At most
//! one record of a subject is in flight, by express or in a batch, so that their order holds.

use super::{
    Batch, Engine, Queue, Reads, StoreError, Transaction, claim::Chunk, decode, keys,
    lane::LaneCursor, pages::first_of, settle::SettledRow,
};
use crate::{
    domain::{
        batch::{BatchId, BatchLimits, Part, Settlement},
        delivered::LATE_MAX,
        express::ExpressEnd,
        row::{RowValues, write_identify},
        time::Timestamp,
        update::{AppId, Lane, Sequence, Subject, SubjectKind},
    },
    store::records::{EXPRESS, InFlight},
};

const CHUNK: usize = 256;
/// How many entries of a kind one look goes through: those of subjects that are in flight with a
/// batch are passed over, look for look.
const LOOKS_MAX: usize = 1_000;
/// How many of these a client has passed over. What stands behind so many goes with a batch.
const LOOKS_OF_CLIENT_MAX: usize = 500;

/// What express has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenExpress {
    /// Whose records are in flight.
    pub subjects: Vec<Subject>,
    /// So many had to be passed over that not all were looked at.
    pub cut_short: bool,
}

impl<E: Engine> Queue<E> {
    /// Moves up to `max` records of the express lane in flight, whose subjects have none there.
    /// Who has waited longer goes first among users and companies; clients take turns, also in
    /// being passed over.
    pub async fn take_express(
        &mut self,
        app: AppId,
        max: u64,
        now: Timestamp,
    ) -> Result<TakenExpress, StoreError> {
        let mut transaction = self.begin_fenced(app).await?;
        // A job whose batch is lost may still write older values of what went back, until the life
        // cycle has seen its end: then the next batch begins.
        if self.rescued(app).is_some_and(|rescue| rescue.job_unknown) {
            self.leave(transaction).await?;
            return Ok(TakenExpress::default());
        }
        let mut kinds = Vec::new();
        for kind in SubjectKind::ALL {
            if let Some(first) = first_of(&mut transaction, app, (kind, Lane::Express)).await? {
                kinds.push((first.first_sequence, kind));
            }
        }
        kinds.sort_unstable();
        let batch = express_rows(app, self.head.last_sequence, now);
        let mut chunk = Chunk::new(transaction, (self.state(app), self.head), batch);
        chunk.reads_ahead = self.fleet.is_some();
        chunk.looks_of_client_max = Some(LOOKS_OF_CLIENT_MAX);
        chunk.limits = BatchLimits { rows_max: max, bytes_max: u64::MAX }.into();
        for (_, kind) in kinds {
            chunk.batch.kind = kind;
            chunk.looks = LOOKS_MAX;
            let lanes: (_, &'static [Lane]) = (kind, &[Lane::Express]);
            let turns = (&self.clients, &chunk.state);
            let mut cursor = LaneCursor::open(&mut chunk.transaction, app, lanes, turns).await?;
            chunk.take_lanes(&mut cursor, chunk.limits.batch).await?;
            chunk.close_lanes(cursor);
        }
        let taken = TakenExpress { subjects: chunk.subjects(), cut_short: chunk.cut_short };
        if chunk.has_changed_nothing() {
            self.leave(chunk.transaction).await?;
            return Ok(taken);
        }
        chunk.state.express_in_flight += chunk.batch.rows;
        self.commit_taken(chunk).await?;
        Ok(taken)
    }

    /// Updates of the express lane that were accepted since the queue was opened.
    pub fn express_updates(&self, app: AppId) -> u64 {
        self.express.get(&app).copied().unwrap_or(0)
    }

    /// Settles records that went by express, in one durable commit. Says which were delivered.
    pub async fn settle_express(
        &mut self,
        app: AppId,
        ends: &[(Subject, ExpressEnd)],
        now: Timestamp,
    ) -> Result<Vec<SettledRow>, StoreError> {
        self.settle_counted(app, None, ends, now).await
    }

    /// The same, where it was counted anew how many are in flight.
    async fn settle_counted(
        &mut self,
        app: AppId,
        in_flight: Option<u64>,
        ends: &[(Subject, ExpressEnd)],
        now: Timestamp,
    ) -> Result<Vec<SettledRow>, StoreError> {
        let batch = express_rows(app, self.head.last_sequence, now);
        let mut chunk = self.begin_settling(batch, now).await?;
        chunk.batch.watermark = self.head.last_sequence;
        chunk.state.express_in_flight = in_flight.unwrap_or(chunk.state.express_in_flight);
        for (subject, end) in ends {
            let key = keys::in_flight(app, subject);
            chunk.state.express_in_flight = chunk.state.express_in_flight.saturating_sub(1);
            // A damaged one may have been set aside with a batch.
            let Some(bytes) = chunk.transaction.get(&key).await? else { continue };
            chunk.late_until = (*end == ExpressEnd::Unknown).then(|| now.plus(LATE_MAX));
            let (settlement, lane_back) = match end {
                ExpressEnd::Delivered => (Settlement::Delivered, Lane::Express),
                ExpressEnd::Back | ExpressEnd::Unknown => (Settlement::Requeued, Lane::Express),
                ExpressEnd::Refused => (Settlement::Requeued, Lane::Interactive),
            };
            chunk.lane_back = lane_back;
            let before = chunk.settled.len();
            chunk.settle(&key, bytes.as_ref(), settlement).await?;
            if *end != ExpressEnd::Delivered {
                chunk.settled.truncate(before);
            }
        }
        self.commit_settled(chunk).await
    }

    /// Puts back what the last process left in flight by express. Upstream may hold what that
    /// carries, or what it held before, or come to hold it late: where the app remembers what it
    /// delivered, which is to be known by now, that is in doubt.
    pub(super) async fn recover_express(
        &mut self,
        app: AppId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.state(app).express_in_flight == 0 {
            return Ok(());
        }
        let (mut left, mut from) = (Vec::new(), None);
        loop {
            let mut transaction = self.engine.begin().await?;
            let rows = transaction.scan(keys::all_in_flight(app, from), CHUNK).await?;
            let Some((last, _)) = rows.last() else { break };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &rows {
                let row: Option<InFlight> = decode(bytes.as_ref())?;
                if row.is_some_and(|row| row.is_express())
                    && let Some(subject) = keys::subject_of(key)
                {
                    left.push((subject, ExpressEnd::Unknown));
                }
            }
        }
        // What is damaged cannot be told apart from a batch's, and goes with the next one.
        self.settle_counted(app, Some(left.len() as u64), &left, now).await.map(drop)
    }
}

impl<E: Engine> Reads<E> {
    /// The body of the request that a subject's record in flight goes by; `None` where there is
    /// none, or nothing of it is to be sent any more.
    pub async fn express_body(
        &self,
        app: AppId,
        subject: &Subject,
        values: RowValues,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.engine.begin().await?.get(&keys::in_flight(app, subject)).await?;
        let Some(bytes) = bytes else { return Ok(None) };
        let row: Option<InFlight> = decode(bytes.as_ref())?;
        Ok(row.filter(|row| row.is_express() && !row.forgotten).map(|row| {
            let mut body = Vec::new();
            write_identify(subject, &row.record, values, &mut body);
            body
        }))
    }
}

/// What goes by express, in the place of a batch that is never stored.
fn express_rows(app: AppId, watermark: Sequence, now: Timestamp) -> Batch {
    let id = BatchId { opening: 0, number: EXPRESS, app };
    let part = Part { origin: EXPRESS, first: 0, end: u64::MAX };
    Batch { part, ..Batch::new(id, SubjectKind::User, watermark, now) }
}
