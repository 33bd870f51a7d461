//! Rescuing an app whose state or unsettled batch is damaged.
//!
//! Both only say in short what other entries hold: what waits is counted anew, and rows in flight
//! whose batch is lost go back under what waits for their subjects. What cannot be known is taken
//! for the worst that it may be: that a full job was submitted just now and runs, that whatever
//! is not found may have been dropped, and, where the state is lost, that an operator had paused
//! the app. After a crash in the middle the next start begins again: the damaged entries are set
//! aside in the commit that puts the new ones in their places.

use std::collections::BTreeMap;

use super::{
    After, AppState, Batch, Engine, Head, Queue, StoreError, Stored, Transaction,
    claim::CHUNK_ROWS, decode, decode_or_set_aside, keys, recovery::Survey,
};
use crate::{
    domain::{
        batch::BatchState, budget::Occupancy, lifecycle::Rescue, memory::Memory, merge::Record,
        time::Timestamp, update::AppId,
    },
    store::records::{Dead, Delivery, InFlight},
};

const CHUNK: usize = 1_000;

/// Puts what is to be known of a rescue, or takes it away once it is over.
pub(super) fn put_rescue(transaction: &mut impl Transaction, app: AppId, rescue: Option<Rescue>) {
    match rescue {
        Some(rescue) if rescue.is_over() => transaction.delete(&keys::rescue(app)),
        Some(rescue) => transaction.put(&keys::rescue(app), rescue.encode()),
        None => {}
    }
}

/// What is to be known of a rescue, if there was one.
pub(super) async fn read_rescue(
    transaction: &mut impl Transaction,
    app: AppId,
) -> Result<Option<Rescue>, StoreError> {
    let Some(bytes) = transaction.get(&keys::rescue(app)).await? else { return Ok(None) };
    // One that is damaged says at least that there was one.
    let worst = Rescue { at: Timestamp::default(), paused: false, job_unknown: true };
    Ok(Some(decode(bytes.as_ref())?.unwrap_or(worst)))
}

impl<E: Engine> Queue<E> {
    pub(super) fn rescued(&self, app: AppId) -> Option<Rescue> {
        self.rescued.get(&app).copied()
    }

    /// Remembers what `put_rescue` put.
    pub(super) fn keep_rescue(&mut self, app: AppId, rescue: Option<Rescue>) {
        match rescue.filter(|rescue| !rescue.is_over()) {
            Some(rescue) => self.rescued.insert(app, rescue),
            None => self.rescued.remove(&app),
        };
    }

    /// Makes anew what is damaged of the app's state and its unsettled batches. Its pages and the
    /// counters of what waits are left for `recover`, which finds them marked.
    pub(super) async fn rescue(
        &mut self,
        (app, name): (AppId, &str),
        survey: Survey,
        full_job: Occupancy,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_rescue(app).await?;
        let earlier = read_rescue(&mut transaction, app).await?;
        transaction.put(&keys::pages_damaged(app), Vec::new());
        transaction.commit().await?;
        let requeued = self.requeue_lost(app, &survey.unsettled).await?;
        let state_is_lost = survey.state.is_none();
        // Where the state is there, it led to a batch that is not. Where it is not, any batch that
        // does not read back may have been under way, also if its rows went back before a crash.
        let batch_is_lost = requeued > 0 || !state_is_lost || !survey.damaged.is_empty();
        let state = match survey.state {
            Some(state) => state,
            None => self.state_anew(app, &survey).await?,
        };
        let memory = Memory { occupancy: full_job, ..state.memory };
        let unsettled = survey.unsettled.keys().next_back().copied();
        // What is remembered of what was delivered counts no more: rows go back of which it is not
        // known whether they were.
        let epoch = u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX);
        let state = AppState { memory, unsettled, epoch, ..state };
        // Only the first of a chain can have been submitted.
        let first_is_there = match survey.state {
            Some(before) => before.unsettled.is_some_and(|it| survey.unsettled.contains_key(&it)),
            None => survey.unsettled.values().any(|batch| batch.state != BatchState::Claimed),
        };
        let rescue = Rescue {
            at: now,
            paused: state_is_lost || earlier.is_some_and(|earlier| earlier.paused),
            // What an earlier one did not come to know is not known now.
            job_unknown: (batch_is_lost && !first_is_there)
                || earlier.is_some_and(|earlier| earlier.job_unknown),
        };
        self.replace(app, &survey, state, rescue).await?;
        tracing::error!(
            app = name,
            state_is_lost,
            batch_is_lost,
            requeued_rows = requeued,
            paused = state.paused,
            "what the store holds of an app was damaged and is made anew; if it is paused, see \
             whether all is well, and resume it"
        );
        Ok(())
    }

    /// Sets aside what is damaged and puts the new entries, in one commit.
    async fn replace(
        &mut self,
        app: AppId,
        survey: &Survey,
        state: AppState,
        rescue: Rescue,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_rescue(app).await?;
        let state = match survey.state {
            // Others may have accepted meanwhile.
            Some(_) if self.fleet.is_some() => {
                let AppState { memory, unsettled, epoch, .. } = state;
                AppState { memory, unsettled, epoch, ..self.state(app) }
            }
            Some(_) | None => state,
        };
        let mut head = self.head;
        for number in &survey.damaged {
            let key = keys::batch(app, *number);
            set_aside::<Batch>(&mut transaction, &mut head, &key).await?;
        }
        for batch in chained(&survey.unsettled) {
            transaction.put(&keys::batch(app, batch.id.number), batch.encode());
        }
        let key = keys::app(app);
        set_aside::<AppState>(&mut transaction, &mut head, &key).await?;
        put_rescue(&mut transaction, app, Some(rescue));
        let (head, state) = (Some(head), Some(state));
        self.conclude(transaction, app, After { head, state, ..After::default() }).await
    }

    /// Sends the rows in flight that belong to none of `unsettled` back under what waits for
    /// their subjects. Returns how many they were, damaged ones included.
    async fn requeue_lost(
        &mut self,
        app: AppId,
        unsettled: &BTreeMap<u64, Batch>,
    ) -> Result<u64, StoreError> {
        let (mut requeued, mut from) = (0, None);
        loop {
            let mut transaction = self.begin_rescue(app).await?;
            let mut head = self.head;
            let rows = transaction.scan(keys::all_in_flight(app, from), CHUNK_ROWS).await?;
            let Some((last, _)) = rows.last() else {
                self.leave(transaction).await?;
                return Ok(requeued);
            };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &rows {
                let row: Option<InFlight> =
                    decode_or_set_aside(&mut transaction, &mut head, key, bytes.as_ref())?;
                let held = |row: &InFlight| {
                    unsettled.values().any(|batch| batch.part.holds(row.batch, row.position))
                };
                if row.as_ref().is_some_and(held) {
                    continue;
                }
                requeued += 1;
                let Some(row) = row else { continue };
                transaction.delete(key);
                if !row.forgotten {
                    let subject_key = &key[keys::SUBJECT_AT..];
                    let place = (app, subject_key);
                    put_under(&mut transaction, &mut head, place, row.record).await?;
                }
            }
            let after = After { head: Some(head), ..After::default() };
            self.conclude(transaction, app, after).await?;
        }
    }

    /// An app's state, from all else that there is of the app; without what waits.
    async fn state_anew(&self, app: AppId, survey: &Survey) -> Result<AppState, StoreError> {
        let mut last_batch = survey.damaged.iter().copied().max().unwrap_or(0);
        last_batch = last_batch.max(survey.numbers.map_or(0, |(_, greatest)| greatest));
        let mut transaction = self.engine.begin().await?;
        let aside = transaction.scan(keys::quarantined_batches(app), usize::MAX).await?;
        let numbers = aside.iter().map(|(key, _)| keys::quarantined_key(key));
        let numbers = numbers.filter_map(keys::number_of_batch);
        last_batch = last_batch.max(numbers.max().unwrap_or(0));
        let mut dead_letters = 0;
        let mut from = None;
        loop {
            let mut transaction = self.engine.begin().await?;
            let letters = transaction.scan(keys::all_dead(app, from), CHUNK).await?;
            let Some((last, _)) = letters.last() else { break };
            from = Some(keys::after(last.clone()));
            for (_, bytes) in &letters {
                let letter: Option<Dead> = decode(bytes.as_ref())?;
                let died_in = letter.as_ref().map_or(0, |letter| letter.death.batch.number);
                last_batch = last_batch.max(died_in);
                dead_letters += u64::from(letter.is_none_or(|letter| letter.closed.is_none()));
            }
        }
        // A number that history names must not come to be another batch's.
        let mut from = None;
        loop {
            let mut transaction = self.engine.begin().await?;
            let deliveries = transaction.scan(keys::all_deliveries_of(app, from), CHUNK).await?;
            let Some((last, _)) = deliveries.last() else { break };
            from = Some(keys::after(last.clone()));
            for (_, bytes) in &deliveries {
                let delivery: Option<Delivery> = decode(bytes.as_ref())?;
                last_batch = last_batch.max(delivery.map_or(0, |delivery| delivery.batch));
            }
        }
        Ok(AppState {
            last_batch,
            forgotten_batches: survey
                .numbers
                .map_or(last_batch, |(least, _)| least.saturating_sub(1)),
            dead_letters,
            paused: true,
            dropped: Some((0, self.head.last_sequence)),
            ..AppState::default()
        })
    }
}

/// Those of the batches that do not lead to the next, made to.
fn chained(unsettled: &BTreeMap<u64, Batch>) -> Vec<Batch> {
    let mut then = None;
    let mut changed = Vec::new();
    for (number, batch) in unsettled {
        if batch.then != then {
            changed.push(Batch { then, ..batch.clone() });
        }
        then = Some(*number);
    }
    changed
}

/// Sets an entry aside if it is there and damaged.
pub(super) async fn set_aside<T: Stored>(
    transaction: &mut impl Transaction,
    head: &mut Head,
    key: &[u8],
) -> Result<(), StoreError> {
    if let Some(bytes) = transaction.get(key).await? {
        decode_or_set_aside::<T>(transaction, head, key, bytes.as_ref())?;
    }
    Ok(())
}

/// Merges a record under what waits for its subject.
async fn put_under(
    transaction: &mut impl Transaction,
    head: &mut Head,
    (app, subject_key): (AppId, &[u8]),
    record: Record,
) -> Result<(), StoreError> {
    let key = keys::pending_of(app, subject_key);
    let waiting: Option<Record> = match transaction.get(&key).await? {
        Some(bytes) => decode_or_set_aside(transaction, head, &key, bytes.as_ref())?,
        None => None,
    };
    let merged = waiting.into_iter().fold(record, Record::merge);
    transaction.put(&key, merged.encode());
    Ok(())
}
