//! What upstream holds already: it is accepted, and not sent.

use super::{Accepted, Disposition, Group, Judgement, Memory, Slot};
use crate::{
    domain::{merge::Record, time::Timestamp},
    store::{StoreError, engine::Transaction, keys, queue::dead},
};

impl Slot {
    /// This was accepted of the subject, and is not sent.
    pub(super) fn leave_out(&mut self, unchanged: Option<Record>) {
        self.unchanged = match (self.unchanged.take(), unchanged) {
            (Some(before), Some(unchanged)) => Some(before.merge(unchanged)),
            (before, unchanged) => before.or(unchanged),
        };
    }
}

impl Group<'_> {
    /// Reads what upstream holds of a subject, the first time.
    pub(super) async fn recall(
        &mut self,
        transaction: &mut impl Transaction,
        slot: usize,
        memory: Memory,
    ) -> Result<(), StoreError> {
        let slot = &mut self.slots[slot];
        if slot.held.is_none() && !slot.is_blind {
            let subject_key = &slot.key[keys::SUBJECT_AT..];
            let delivered = memory.read(transaction, slot.app, subject_key).await?;
            slot.held = Some((memory, delivered));
        }
        Ok(())
    }

    /// Strikes from `arrived` what need not be sent. Says what is to be done with the rest, and
    /// what was struck, if it matters to anybody. Where nothing is left, that joins what waits if this
    /// is in too many pieces to be kept apart from it.
    pub(super) fn strike(
        &mut self,
        slot: usize,
        arrived: &mut Record,
        now: Timestamp,
    ) -> (Judgement, Option<Record>) {
        let Slot { app, held, record, in_flight, .. } = &mut self.slots[slot];
        let Some((memory, delivered)) = held.as_mut().filter(|(_, held)| !held.is_empty()) else {
            return (Judgement::Changed, None);
        };
        let under_way = |name: Option<&str>| {
            let in_flight = in_flight.as_ref().map(|row| &row.record);
            record.iter().chain(in_flight).any(|record| record.mentions(name))
        };
        let has_letters = self.apps.get(app).is_some_and(|state| state.dead_letters > 0);
        let whole = has_letters.then(|| arrived.clone());
        let judged = delivered.strike(arrived, under_way, memory.by(), now);
        let in_flight = in_flight.as_ref().map(|row| &row.record);
        let judgement = match record {
            Some(waiting) if waiting.is_in_pieces(in_flight) => Judgement::Changed,
            Some(_) | None => judged,
        };
        (judgement, whole.map(|whole| whole.without(arrived)))
    }

    /// Gives the next sequence to an update that upstream needs nothing of. What waits for its
    /// subject, or is in flight, does not hold it, whatever joins that later.
    pub(super) fn pass_over(&mut self, slot: usize, stamped_at: Timestamp) -> Accepted {
        let sequence = self.next_sequence(slot);
        let slot = &mut self.slots[slot];
        if let Some(waiting) = slot.record.as_mut().filter(|record| record.own.is_some()) {
            waiting.set_apart();
            slot.changed = true;
        }
        if let Some(row) = slot.in_flight.as_mut().filter(|row| row.record.own.is_some()) {
            row.record.set_apart();
            slot.is_apart = true;
        }
        self.numbers.take((slot.app, slot.stripe), sequence, stamped_at);
        Accepted { sequence, disposition: Disposition::Unchanged }
    }

    /// Strikes from the subjects' dead letters what was accepted since and is not sent: replayed,
    /// they would overwrite it.
    pub(super) async fn strike_letters(
        &mut self,
        transaction: &mut impl Transaction,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for slot in &self.slots {
            let Some(unchanged) = &slot.unchanged else { continue };
            let subject_key = &slot.key[keys::SUBJECT_AT..];
            let closed = dead::strike(transaction, slot.app, subject_key, unchanged, now).await?;
            if closed > 0 {
                let state = self.apps.entry(slot.app).or_default();
                state.dead_letters = state.dead_letters.saturating_sub(closed);
                self.touched.insert(slot.app);
            }
        }
        Ok(())
    }
}
