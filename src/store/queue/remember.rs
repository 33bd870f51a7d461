//! Remembering what upstream holds, where an app does not send it again.

use std::time::Duration;

use super::{After, Engine, Head, Queue, StoreError, Stored, Transaction, decode, keys};
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

/// For how long what an app delivered is remembered that is not configured now: as long as it
/// counts unless the configuration says otherwise.
const KEPT_UNCONFIGURED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How an app remembers what it delivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) suppression: Suppression,
    key: FingerprintKey,
    /// What counts was written under the same: at the same account, and since the memory was last
    /// begun anew.
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

    /// Upstream may hold the values of `record` now, or what it held before; or come to hold them
    /// by then.
    pub(super) async fn doubt(
        &self,
        transaction: &mut impl Transaction,
        (app, subject_key): (AppId, &[u8]),
        (record, late_until): (&Record, Option<Timestamp>),
    ) -> Result<(), StoreError> {
        let mut delivered = self.read(transaction, app, subject_key).await?;
        delivered.erase(record, self.key);
        if let Some(until) = late_until {
            delivered.doubt(until);
        }
        // Also what counts at another account alone: it may be this one again.
        self.write(transaction, app, subject_key, delivered);
        Ok(())
    }

    /// Strikes from `record` what came to be true before what upstream holds.
    pub(super) async fn strike_older(
        &self,
        transaction: &mut impl Transaction,
        (app, subject_key): (AppId, &[u8]),
        record: &mut Record,
    ) -> Result<(), StoreError> {
        let delivered = self.read(transaction, app, subject_key).await?;
        delivered.strike_older(record, self.key);
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
        let transaction = self.begin_fenced(app).await?;
        let mut state = self.state(app);
        if state.remembers != suppression.is_some() {
            state.remembers = suppression.is_some();
            // What is delivered meanwhile is not noted.
            state.epoch = state.epoch.wrapping_add(u32::from(!state.remembers));
            let after = After { state: Some(state), ..After::default() };
            self.conclude(transaction, app, after).await?;
        } else {
            self.leave(transaction).await?;
        }
        self.judge_by(app, suppression);
        Ok(())
    }

    /// Whether accepting tells what upstream holds already. Only who delivers the app decides
    /// whether that is remembered.
    pub fn judge_by(&mut self, app: AppId, suppression: Option<Suppression>) {
        match suppression {
            Some(suppression) => self.suppression.insert(app, suppression),
            None => self.suppression.remove(&app),
        };
    }

    /// How the app remembers what it delivers, if it does.
    pub(super) fn memory(&self, app: AppId, head: &Head) -> Option<Memory> {
        let suppression = *self.suppression.get(&app)?;
        if self.fleet.is_some() && !self.state(app).remembers {
            return None;
        }
        let key = FingerprintKey(head.store);
        let epoch = suppression.account.wrapping_add(self.state(app).epoch);
        Some(Memory { suppression, key, epoch })
    }

    /// Whether what is remembered of a subject still counts.
    pub(super) fn counts(
        &self,
        key: &[u8],
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let app = keys::app_of_held(key);
        let memory = app.and_then(|app| self.memory(app, &self.head));
        let is_known = app.is_some_and(|app| self.apps.contains_key(&app));
        let remembered = decode::<Remembered>(bytes)?;
        Ok(remembered.is_some_and(|remembered| {
            let age = now.since(remembered.delivered.delivered_at().unwrap_or_default());
            match memory {
                Some(Memory { suppression, epoch, .. }) => {
                    remembered.epoch == epoch && age <= suppression.refresh_after
                }
                None => !is_known && age <= KEPT_UNCONFIGURED,
            }
        }))
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
            let counts = self.counts(key, bytes.as_ref(), now)?;
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
