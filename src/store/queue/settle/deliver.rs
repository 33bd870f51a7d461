//! Delivered: upstream holds a record's values now, and what waits for its subject loses what that
//! makes superfluous.

use super::{Chunk, StoreError, Stored, Transaction, dead, decode, keys, remember};
use crate::{
    domain::{delivered::Delivered, merge::Record},
    store::records::Delivery,
};

/// What upstream holds of a subject, and how that is remembered.
type Held = (remember::Memory, Delivered);

impl<T: Transaction> Chunk<T> {
    /// Reads what settling these rows looks at, where doing so one by one would cost a way to the
    /// store each.
    pub(super) async fn read_ahead<V>(
        &mut self,
        rows: &[(Vec<u8>, V)],
        is_far: bool,
    ) -> Result<(), StoreError> {
        if !is_far {
            return Ok(());
        }
        let app = self.batch.id.app;
        let mut ahead = Vec::with_capacity(2 * rows.len());
        for subject_key in rows.iter().filter_map(|(key, _)| key.get(keys::SUBJECT_AT..)) {
            ahead.push(keys::pending_of(app, subject_key));
            if self.memory.is_some() {
                ahead.push(keys::held_of(app, subject_key));
            }
        }
        Ok(self.transaction.prefetch(&ahead).await?)
    }

    /// Upstream holds the values of `record`, for `certain` or in all likelihood.
    pub(super) async fn deliver(
        &mut self,
        subject_key: &[u8],
        record: Record,
        certain: bool,
    ) -> Result<(), StoreError> {
        let app = self.batch.id.app;
        self.note(subject_key, &record);
        let mut held = self.feed(subject_key, &record, certain).await?;
        let struck = self.strike_waiting(subject_key, &record, held.as_mut()).await?;
        if let Some((memory, delivered)) = held {
            memory.write(&mut self.transaction, app, subject_key, delivered);
        }
        if self.state.dead_letters == 0 {
            return Ok(());
        }
        // Upstream holds what was struck, too, or something later.
        let all = struck.into_iter().fold(record, Record::merge);
        let closed = dead::strike(&mut self.transaction, app, subject_key, &all, self.now).await?;
        self.state.dead_letters = self.state.dead_letters.saturating_sub(closed);
        Ok(())
    }

    /// Notes for receipts that the updates of a record are delivered.
    fn note(&mut self, subject_key: &[u8], record: &Record) {
        for (first_sequence, last) in record.spans() {
            let delivery = Delivery {
                first_sequence,
                last_sequence: record.last_sequence,
                batch: self.batch.id.number,
                delivered_at: self.now,
            };
            let key = keys::delivery_of(self.batch.id.app, subject_key, last);
            self.transaction.put(&key, delivery.encode());
        }
    }

    /// What upstream holds now, where that is remembered.
    async fn feed(
        &mut self,
        subject_key: &[u8],
        record: &Record,
        certain: bool,
    ) -> Result<Option<Held>, StoreError> {
        let Some(memory) = self.memory else { return Ok(None) };
        let app = self.batch.id.app;
        let mut delivered = memory.read(&mut self.transaction, app, subject_key).await?;
        delivered.feed(record, memory.by(), self.now);
        if !certain {
            // It counts as delivered: what is older comes too late. Sent again it goes up.
            delivered.erase(record, memory.by().0);
        }
        Ok(Some((memory, delivered)))
    }

    /// Strikes from what waits for the subject what was delivered with a later stamp: sent after
    /// it, it would overwrite what it must lose against. Only now, since what is in flight may
    /// come to be dead instead. Strikes, too, what upstream is known to hold: it was kept since
    /// something else might have been. A record with nothing left waits no more. Returns what was
    /// struck.
    async fn strike_waiting(
        &mut self,
        subject_key: &[u8],
        delivered: &Record,
        held: Option<&mut Held>,
    ) -> Result<Option<Record>, StoreError> {
        let key = keys::pending_of(self.batch.id.app, subject_key);
        let Some(bytes) = self.transaction.get(&key).await? else { return Ok(None) };
        // One that is damaged is set aside when it is claimed.
        let Some(before) = decode::<Record>(bytes.as_ref())? else { return Ok(None) };
        let mut waiting = before.clone();
        waiting.strike_older_than(delivered);
        if let Some((memory, held)) = held {
            // Nothing else of the subject is in flight.
            held.strike(&mut waiting, |_| false, memory.by(), self.now);
        }
        if waiting == before {
            return Ok(None);
        }
        let (kind, lane) = (keys::kind_of(subject_key), waiting.lane);
        self.state.count_out((kind, lane, key.len() + bytes.as_ref().len()));
        if waiting.has_values() {
            let left = waiting.encode();
            self.state.count_in((kind, lane, key.len() + left.len()));
            self.transaction.put(&key, left);
        } else {
            self.note(subject_key, &before);
            self.transaction.delete(&key);
        }
        Ok(Some(before.without(&waiting)))
    }
}
