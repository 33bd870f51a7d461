//! Remembering what upstream holds, where an app does not send it again.

use super::{Engine, Head, Queue, StoreError, Stored, Transaction, decode, keys};
use crate::{
    domain::{
        delivered::{Delivered, FingerprintKey, Suppression},
        merge::Record,
        time::Timestamp,
        update::AppId,
    },
    store::records::Remembered,
};

const CHUNK: usize = 1_000;

/// How an app remembers what it delivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) suppression: Suppression,
    key: FingerprintKey,
    epoch: u32,
}

impl Memory {
    /// What upstream holds of a subject, as far as that is known.
    pub(super) async fn read(
        &self,
        transaction: &mut impl Transaction,
        app: AppId,
        subject_key: &[u8],
    ) -> Result<Delivered, StoreError> {
        let bytes = transaction.get(&keys::held_of(app, subject_key)).await?;
        let Some(bytes) = bytes else { return Ok(Delivered::default()) };
        // One that is damaged is as good as none: nothing depends on it.
        let remembered = decode::<Remembered>(bytes.as_ref())?;
        let remembered = remembered.filter(|remembered| remembered.epoch == self.epoch);
        Ok(remembered.map(|remembered| remembered.delivered).unwrap_or_default())
    }

    /// Remembers this of a subject from now on.
    pub(super) fn write(
        &self,
        transaction: &mut impl Transaction,
        app: AppId,
        subject_key: &[u8],
        delivered: Delivered,
    ) {
        let key = keys::held_of(app, subject_key);
        match delivered.is_empty() {
            true => transaction.delete(&key),
            false => transaction.put(&key, Remembered { epoch: self.epoch, delivered }.encode()),
        }
    }

    /// Upstream holds the values of `record` now; or, where that is not `certain`, may.
    pub(super) async fn learn(
        &self,
        transaction: &mut impl Transaction,
        (app, subject_key): (AppId, &[u8]),
        (record, certain): (&Record, bool),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut delivered = self.read(transaction, app, subject_key).await?;
        match certain {
            true => delivered.feed(record, self.by(), now),
            false if delivered.is_empty() => return Ok(()),
            false => delivered.erase(record, self.key),
        }
        self.write(transaction, app, subject_key, delivered);
        Ok(())
    }

    /// By what values are compared.
    pub(super) fn by(&self) -> (FingerprintKey, &Suppression) {
        (self.key, &self.suppression)
    }
}

impl<E: Engine> Queue<E> {
    /// From now on the app remembers what it delivers, and does not send it again for so long; or
    /// it does not, and what it remembered counts no more.
    pub async fn suppress(
        &mut self,
        app: AppId,
        suppression: Option<Suppression>,
    ) -> Result<(), StoreError> {
        let mut state = self.state(app);
        if state.remembers != suppression.is_some() {
            state.remembers = suppression.is_some();
            // What is delivered meanwhile is not noted.
            state.epoch = state.epoch.wrapping_add(u32::from(!state.remembers));
            let mut transaction = self.engine.begin().await?;
            transaction.put(&keys::app(app), state.encode());
            transaction.commit().await?;
            self.apps.insert(app, state);
        }
        match suppression {
            Some(suppression) => self.suppression.insert(app, suppression),
            None => self.suppression.remove(&app),
        };
        Ok(())
    }

    /// How the app remembers what it delivers, if it does.
    pub(super) fn memory(&self, app: AppId, head: &Head) -> Option<Memory> {
        let suppression = *self.suppression.get(&app)?;
        let key = FingerprintKey(head.store);
        Some(Memory { suppression, key, epoch: self.state(app).epoch })
    }

    /// Forgets what counts no more, of the next subjects after `from`. Returns where to go on.
    pub(super) async fn prune_held(
        &mut self,
        from: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let entries = transaction.scan(keys::all_held(from), CHUNK).await?;
        let mut due = false;
        for (key, bytes) in &entries {
            let Some(app) = keys::app_of_held(key).filter(|app| self.apps.contains_key(app)) else {
                continue;
            };
            let memory = self.memory(app, &self.head);
            let remembered = decode::<Remembered>(bytes.as_ref())?;
            let counts = memory.zip(remembered).is_some_and(|(memory, remembered)| {
                let at = remembered.delivered.delivered_at().unwrap_or_default();
                remembered.epoch == memory.epoch
                    && now.since(at) <= memory.suppression.refresh_after
            });
            if !counts {
                transaction.delete(key);
                due = true;
            }
        }
        if due {
            transaction.commit().await?;
        }
        Ok(entries.into_iter().nth(CHUNK - 1).map(|(last, _)| keys::after(last)))
    }
}
