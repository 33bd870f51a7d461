//! Importing: records of another store are merged into this one's, as if each were an update
//! that arrives now.

use super::{
    Accepted, Disposition, Engine, Queue, StoreError,
    accept::Group,
    shared::{Begun, Wakes},
};
use crate::domain::{
    admission::{self, QueueRefusal},
    merge::Record,
    time::Timestamp,
    update::{AppId, Subject},
};

/// A record that arrives from another store.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The app, by its number in this store.
    pub app: AppId,
    /// What it is about.
    pub subject: Subject,
    /// The record. Its sequences do not count: it is given one when it is merged.
    pub record: Record,
    /// Updates that come after it and do not say when they occurred count as later than this.
    pub stamped_until: Timestamp,
}

impl<E: Engine> Queue<E> {
    /// Merges a group of records in one durable commit, in their order. Says of each whether it
    /// was merged into one that waited.
    pub async fn import(
        &mut self,
        arrivals: Vec<Arrival>,
    ) -> Result<Vec<Result<bool, QueueRefusal>>, StoreError> {
        let subjects = arrivals.iter().map(|arrival| (arrival.app, &arrival.subject));
        let subjects = self.subject_keys(subjects);
        // What it is stamped with does not hang on the clock.
        let begun = self.begin_import(subjects).await?;
        let Begun { mut transaction, stripes, .. } = begun;
        let mut group = Group::new(self, &stripes, arrivals.len());
        let mut outcomes = Vec::with_capacity(arrivals.len());
        for Arrival { app, subject, record, stamped_until } in arrivals {
            let slot = group.slot(&mut transaction, app, &subject).await?;
            let size = record.size();
            // No door has measured it.
            let fits = admission::admit_merged(size, record.properties.len(), &self.limits);
            outcomes.push(fits.and_then(|()| group.import(slot, record, stamped_until)));
        }
        let written = group.write(&mut transaction).await?;
        self.conclude_group(transaction, written, Wakes::default()).await?;
        let merged = |accepted: Accepted| accepted.disposition == Disposition::Coalesced;
        Ok(outcomes.into_iter().map(|outcome| outcome.map(merged)).collect())
    }
}

impl Group<'_> {
    fn import(
        &mut self,
        slot: usize,
        mut record: Record,
        stamped_until: Timestamp,
    ) -> Result<Accepted, QueueRefusal> {
        let sequence = self.next_sequence(slot);
        record.first_sequence = sequence;
        record.last_sequence = sequence;
        record.own = Some((sequence, sequence));
        if let Some((_, stamp)) = &mut record.company_id {
            stamp.sequence = sequence;
        }
        for property in &mut record.properties {
            property.stamp.sequence = sequence;
        }
        let size = record.size();
        let stamped_at = self.last_stamp(slot).max(stamped_until);
        self.merge(slot, record, size, stamped_at)
    }
}
