//! Recovering an app: its state and its batches are read, and what is damaged is set aside.

use std::collections::BTreeMap;

use super::{
    After, AppState, Batch, Engine, Queue, StoreError, Transaction, decode, decode_or_set_aside,
    keys, rescue::read_rescue,
};
use crate::domain::{
    batch::BatchState, budget::Occupancy, lifecycle::Recovered, time::Timestamp, update::AppId,
};

const CHUNK: usize = 1_000;

/// What is there of an app.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Its state; `None` if it is damaged, or missing although there is more of the app.
    pub(super) state: Option<AppState>,
    /// Its batches that are not settled, by number. Each is followed by one of a lower number.
    pub(super) unsettled: BTreeMap<u64, Batch>,
    /// The numbers of batches that do not read back.
    pub(super) damaged: Vec<u64>,
    /// The least and the greatest number of its batches, damaged ones aside.
    pub(super) numbers: Option<(u64, u64)>,
}

impl Survey {
    /// Whether the app's state is there, and so are all batches that it leads to.
    fn is_whole(&self) -> bool {
        let Some(state) = self.state else { return false };
        let mut next = state.unsettled;
        while let Some(number) = next {
            let Some(batch) = self.unsettled.get(&number) else { return false };
            // Numbers fall, so this comes to an end.
            next = batch.then.filter(|then| *then < number);
        }
        true
    }
}

impl<E: Engine> Queue<E> {
    /// The app called `name`. What is damaged of its state and its batches is set aside and, as far
    /// as it matters, made anew. `full_job` is the occupancy that a job as large as can be would
    /// begin now. Whether it remembers what it delivers is to be said next, by [`Self::suppress`];
    /// then [`Self::recover`] tells what its driver goes on from.
    pub async fn serve(
        &mut self,
        name: &str,
        full_job: Occupancy,
        now: Timestamp,
    ) -> Result<AppId, StoreError> {
        let app = self.named(name).await?;
        let mut transaction = self.begin_rescue(app).await?;
        let mut survey = survey(&mut transaction, app).await?;
        self.leave(transaction).await?;
        if self.fleet.is_some() {
            // With what was counted since.
            survey.state = survey.state.map(|_| self.state(app));
        }
        match survey.state {
            Some(state) if survey.is_whole() => {
                self.apps.insert(app, state);
                self.set_batches_aside(app, &survey.damaged).await?;
            }
            Some(_) | None => self.rescue((app, name), survey, full_job, now).await?,
        }
        Ok(app)
    }

    /// Holds an app of which too much is damaged to tell what is its own. It gets a number that
    /// names nothing in the store; its updates are refused, and nothing is stored for it.
    pub fn hold(&mut self) -> AppId {
        let held = u16::try_from(self.held.len()).unwrap_or(u16::MAX);
        let app = AppId(u16::MAX - held);
        self.held.insert(app);
        app
    }

    /// What the app's driver goes on from.
    pub async fn recover(&mut self, app: AppId, now: Timestamp) -> Result<Recovered, StoreError> {
        let mut transaction = self.begin_fenced(app).await?;
        let are_pages_damaged = transaction.get(&keys::pages_damaged(app)).await?.is_some();
        self.leave(transaction).await?;
        if are_pages_damaged {
            self.rebuild_pages(app).await?;
        }
        self.recover_express(app, now).await?;
        let mut transaction = self.engine.begin().await?;
        let state = self.state(app);
        let unsettled = match state.unsettled {
            Some(number) => Some(self.batch(&mut transaction, (app, number), "recovered").await?),
            None => None,
        };
        let rescue = read_rescue(&mut transaction, app).await?;
        self.keep_rescue(app, rescue);
        let (memory, paused) = (state.memory, state.paused);
        Ok(Recovered { unsettled, memory, paused, rescue, held: None })
    }

    /// Sets batches aside that are history, and cannot be read.
    async fn set_batches_aside(&mut self, app: AppId, damaged: &[u64]) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin_fenced(app).await?;
        let mut head = self.head;
        for number in damaged {
            let key = keys::batch(app, *number);
            let Some(bytes) = transaction.get(&key).await? else { continue };
            decode_or_set_aside::<Batch>(&mut transaction, &mut head, &key, bytes.as_ref())?;
        }
        self.conclude(transaction, app, After { head: Some(head), ..After::default() }).await
    }
}

async fn survey(transaction: &mut impl Transaction, app: AppId) -> Result<Survey, StoreError> {
    let mut survey = Survey::default();
    let (mut from, end) = keys::batches(app, u64::MAX).into_inner();
    loop {
        let entries = transaction.scan(from..=end.clone(), CHUNK).await?;
        let Some((last, _)) = entries.last() else { break };
        from = keys::after(last.clone());
        for (key, bytes) in &entries {
            let Some(number) = keys::number_of_batch(key) else { continue };
            match decode::<Batch>(bytes.as_ref())? {
                None => survey.damaged.push(number),
                Some(batch) => {
                    let (least, greatest) = survey.numbers.unwrap_or((number, number));
                    survey.numbers = Some((least.min(number), greatest.max(number)));
                    if !matches!(batch.state, BatchState::Settled(_)) {
                        survey.unsettled.insert(number, batch);
                    }
                }
            }
        }
    }
    survey.state = match transaction.get(&keys::app(app)).await? {
        Some(bytes) => decode(bytes.as_ref())?,
        None => {
            let is_new = survey.damaged.is_empty() && survey.numbers.is_none();
            let pending = transaction.scan(keys::all_pending(app, None), 1).await?;
            let in_flight = transaction.scan(keys::all_in_flight(app, None), 1).await?;
            let is_new = is_new && pending.is_empty() && in_flight.is_empty();
            is_new.then(AppState::default)
        }
    };
    Ok(survey)
}
