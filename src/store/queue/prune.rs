//! Forgetting deliveries and batches that are old enough.

use super::{
    AppState, Engine, Queue, StoreError, Stored, Transaction, dead::prune_dead, decode, keys,
};
use crate::{
    domain::{
        batch::{Batch, BatchState},
        time::Timestamp,
        update::AppId,
    },
    store::records::Delivery,
};

const CHUNK: usize = 1_000;

/// How long history is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Deliveries and settled batches from before this are forgotten.
    pub before: Timestamp,
    /// Of each app, settled batches beyond this many are forgotten.
    pub batches_max: u64,
    /// Dead letters from before this are dropped.
    pub dead_before: Timestamp,
    /// Of each app, the oldest dead letters beyond this many are dropped.
    pub dead_max: u64,
}

impl Default for Retention {
    /// Keeps everything.
    fn default() -> Self {
        Self {
            before: Timestamp::from_micros(i64::MIN),
            batches_max: u64::MAX,
            dead_before: Timestamp::from_micros(i64::MIN),
            dead_max: u64::MAX,
        }
    }
}

impl<E: Engine> Queue<E> {
    /// Looks at the next deliveries after `from` and at the oldest batches, and forgets what
    /// is due. Returns where to go on, or `None` at the end.
    pub async fn prune(
        &mut self,
        from: Option<Vec<u8>>,
        retention: Retention,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let deliveries = transaction.scan(keys::all_deliveries(from), CHUNK).await?;
        let mut due = 0;
        for (key, bytes) in &deliveries {
            // One that does not decode tells nobody anything.
            let delivery: Option<Delivery> = decode(bytes.as_ref())?;
            if delivery.is_none_or(|delivery| delivery.delivered_at < retention.before) {
                transaction.delete(key);
                due += 1;
            }
        }
        let mut apps = self.apps.clone();
        let mut lost = 0;
        for (app, state) in &mut apps {
            due += prune_batches(&mut transaction, *app, state, retention).await?;
            let (forgotten, open) = prune_dead(&mut transaction, *app, state, retention).await?;
            due += forgotten;
            lost += open;
        }
        if due > 0 {
            transaction.commit().await?;
            self.apps = apps;
        }
        if lost > 0 {
            self.dead_lost += lost;
            tracing::warn!(dead_letters = lost, "dead letters are too old or too many: dropped");
        }
        Ok(deliveries.into_iter().nth(CHUNK - 1).map(|(last, _)| keys::after(last)))
    }
}

/// Forgets the oldest batches of an app, as far as they are due. Returns how many.
async fn prune_batches(
    transaction: &mut impl Transaction,
    app: AppId,
    state: &mut AppState,
    retention: Retention,
) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    while forgotten < CHUNK && state.forgotten_batches < state.last_batch {
        let key = keys::batch(app, state.forgotten_batches + 1);
        if let Some(bytes) = transaction.get(&key).await? {
            let kept = state.last_batch - state.forgotten_batches;
            let due = match decode::<Batch>(bytes.as_ref())? {
                Some(batch) => settled_at(&batch)
                    .is_some_and(|at| at < retention.before || kept > retention.batches_max),
                // It tells nobody anything; but what goes on from it must find it, by way of others.
                None => state.unsettled.is_none(),
            };
            if !due {
                break;
            }
            transaction.delete(&key);
        }
        state.forgotten_batches += 1;
        forgotten += 1;
    }
    if forgotten > 0 {
        transaction.put(&keys::app(app), state.encode());
    }
    Ok(forgotten)
}

/// When the batch was settled, if it is.
fn settled_at(batch: &Batch) -> Option<Timestamp> {
    matches!(batch.state, BatchState::Settled(_)).then_some(batch.settled_at).flatten()
}
