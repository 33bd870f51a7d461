//! Forgetting deliveries, batches and dead letters that are old enough.

use std::{ops::RangeInclusive, time::Duration};

use super::{AppState, Engine, Queue, StoreError, Stored, Transaction, decode, keys};
use crate::{
    domain::{
        batch::{Batch, BatchState},
        merge::Span,
        time::{Now, Timestamp},
        update::{AppId, Sequence},
    },
    store::records::{Closing, Dead, Delivery},
};

pub(super) const CHUNK: usize = 1_000;
const DEAD_CHUNK: usize = 256;

/// How long history is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Deliveries, settled batches and jobs from before this are forgotten.
    pub before: Timestamp,
    /// Of each app, settled batches beyond this many are forgotten.
    pub batches_max: u64,
    /// The time.
    pub now: Now,
    /// Dead letters that are older are dropped.
    pub dead_kept: Duration,
    /// Of each app, the oldest dead letters beyond this many are dropped.
    pub dead_max: u64,
}

impl Default for Retention {
    /// Keeps everything.
    fn default() -> Self {
        Self {
            before: Timestamp::from_micros(i64::MIN),
            batches_max: u64::MAX,
            now: Now::default(),
            dead_kept: Duration::MAX,
            dead_max: u64::MAX,
        }
    }
}

/// Where pruning goes on; `None` is the beginning. It goes through each kind of entry round and
/// round, at a pace of its own, so that none waits for the end of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneCursor {
    /// Among deliveries.
    pub deliveries: Option<Vec<u8>>,
    /// Among what is remembered of subjects.
    pub held: Option<Vec<u8>>,
}

impl<E: Engine> Queue<E> {
    /// Looks at the next deliveries and at what is remembered of the next subjects, and at the
    /// oldest batches, and forgets what is due. Returns where to go on.
    pub async fn prune(
        &mut self,
        from: PruneCursor,
        retention: Retention,
    ) -> Result<PruneCursor, StoreError> {
        if self.fleet.is_some() {
            return self.prune_own(from, retention).await;
        }
        let held = self.prune_held(from.held, retention.now.wall).await?;
        let mut transaction = self.engine.begin().await?;
        let range = keys::all_deliveries(from.deliveries);
        let (mut due, deliveries) =
            forget_deliveries(&mut transaction, range, retention.before).await?;
        let mut apps = self.apps.clone();
        let mut lost = 0;
        for (app, state) in &mut apps {
            due += prune_batches(&mut transaction, *app, state, retention).await?;
            let (forgotten, open) = prune_dead(&mut transaction, *app, state, retention).await?;
            due += forgotten;
            lost += open;
            if state.ageing.is_news_to(self.state(*app).ageing) {
                transaction.put(&keys::app(*app), state.encode());
                due += 1;
            }
        }
        if due > 0 {
            transaction.commit().await?;
        }
        self.apps = apps;
        self.note_lost(lost);
        self.prune_jobs(retention.before).await?;
        Ok(PruneCursor { deliveries, held })
    }

    pub(super) fn note_lost(&mut self, lost: u64) {
        if lost > 0 {
            self.dead_lost += lost;
            tracing::warn!(dead_letters = lost, "dead letters are too old or too many: dropped");
        }
    }
}

/// Forgets the first deliveries of a range that are due. Returns how many, and where to go on.
pub(super) async fn forget_deliveries(
    transaction: &mut impl Transaction,
    range: RangeInclusive<Vec<u8>>,
    before: Timestamp,
) -> Result<(usize, Option<Vec<u8>>), StoreError> {
    let deliveries = transaction.scan(range, CHUNK).await?;
    let mut due = 0;
    for (key, bytes) in &deliveries {
        // One that does not decode tells nobody anything.
        let delivery: Option<Delivery> = decode(bytes.as_ref())?;
        if delivery.is_none_or(|delivery| delivery.delivered_at < before) {
            transaction.delete(key);
            due += 1;
        }
    }
    let next = deliveries.into_iter().nth(CHUNK - 1).map(|(last, _)| keys::after(last));
    Ok((due, next))
}

/// Forgets the oldest batches of an app, as far as they are due. Returns how many.
pub(super) async fn prune_batches(
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

/// The span of what was dropped, with one more letter.
fn dropped(span: Option<Span>, letter: Option<&Dead>, last: Sequence) -> Option<Span> {
    let first = match letter {
        // Upstream holds later values of all that was in it.
        Some(Dead { closed: Some((Closing::Superseded, _)), .. }) => return span,
        Some(Dead { closed: Some((Closing::Discarded, _)) | None, record, .. }) => {
            record.first_sequence
        }
        // What was in a damaged one is not known.
        None => 0,
    };
    Some(span.map_or((first, last), |(from, to)| (from.min(first), to.max(last))))
}

/// Forgets the dead letters that are too old, and the oldest of those that are too many.
/// Returns how many nobody had closed: these are lost.
pub(super) async fn prune_dead(
    transaction: &mut impl Transaction,
    app: AppId,
    state: &mut AppState,
    retention: Retention,
) -> Result<(usize, u64), StoreError> {
    let Retention { now, dead_kept, dead_max, .. } = retention;
    state.ageing = state.ageing.look(now, dead_kept);
    let dead_before = state.ageing.too_old_before(dead_kept);
    let (mut forgotten, mut lost, mut from) = (0, 0, None);
    'all: while forgotten < DEAD_CHUNK {
        let entries = transaction.scan(keys::all_dead(app, from), DEAD_CHUNK).await?;
        let Some((last, _)) = entries.last() else { break };
        from = Some(keys::after(last.clone()));
        for (key, bytes) in &entries {
            let Some((died_at, last)) = keys::dead_at(key) else { continue };
            let letter: Option<Dead> = decode(bytes.as_ref())?;
            // Whether a damaged one was counted is not known: better too many than too few.
            let open = letter.as_ref().is_some_and(|letter| letter.closed.is_none());
            let too_old = died_at < dead_before;
            let too_many = open && state.dead_letters > dead_max;
            if !too_old && state.dead_letters <= dead_max {
                break 'all;
            }
            if too_old || too_many {
                transaction.delete(key);
                if let Some(letter) = &letter {
                    transaction.delete(&keys::dead_of(app, &letter.subject_key, died_at, last));
                }
                state.dropped = dropped(state.dropped, letter.as_ref(), last);
                forgotten += 1;
                lost += u64::from(open);
                state.dead_letters = state.dead_letters.saturating_sub(u64::from(open));
            }
        }
    }
    if forgotten > 0 {
        transaction.put(&keys::app(app), state.encode());
    }
    Ok((forgotten, lost))
}
