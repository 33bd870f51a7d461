//! What is remembered of what was delivered, and the ways to get that wrong.

use userpilot_gateway::{
    domain::{
        batch::{Batch, Settlement},
        delivered::Suppression,
        lifecycle::Command,
        memory::Memory,
        time::Timestamp,
    },
    store::{
        StoreError,
        engine::{Engine, MemoryEngine, Transaction},
        queue::Queue,
    },
};

use crate::{
    express::{Entries, hide_rows},
    process::STORE,
    sabotage::Sabotage,
    scenario::Fault,
    world::{Halt, World},
};

/// The first byte of the keys of what is remembered.
const HELD: u8 = b'v';

impl World {
    /// What is to be settled as delivered is remembered from now on.
    pub(crate) fn note_settled(&mut self, command: &Command) {
        let Command::Settle(batch, Settlement::Delivered, _) = command else { return };
        let network = self.network.inside();
        let job = network.account.jobs.iter().find(|job| Some(&job.id) == batch.job_id.as_ref());
        for row in job.into_iter().flat_map(|job| &job.rows) {
            self.checker.settled(row, self.time);
        }
    }

    /// Takes away what is in flight, for who is not to look there.
    pub(crate) fn hide_flights(&self) -> Result<Entries, Halt> {
        // What a power cut finds hidden would be lost.
        let hides = self.scenario.sabotage == Some(Sabotage::IgnoresFlight);
        match hides && !self.scenario.has(Fault::PowerCut) {
            true => hide_rows(&self.engine, |_| true).map_err(|_| Halt::Died),
            false => Ok(Vec::new()),
        }
    }
}

/// What would be remembered if all of a batch had been delivered.
pub(crate) async fn as_if_delivered(
    queue: &Queue<MemoryEngine>,
    batch: &Batch,
    now: Timestamp,
) -> Result<Entries, StoreError> {
    let copy = MemoryEngine::default();
    let mut transaction = copy.begin().await?;
    for (key, value) in entries(queue.engine()).await? {
        transaction.put(&key, value);
    }
    transaction.commit().await?;
    let limits = crate::scenario::Scenario::new(1).queue;
    let mut queue = Queue::open(copy, limits, STORE).await?;
    let app = queue.app("production").await?;
    let refresh_after = std::time::Duration::MAX;
    let suppression = Suppression { refresh_after, properties_max: 8, account: 0 };
    queue.suppress(app, Some(suppression)).await?;
    let batch = Batch { completed_rows: batch.rows, ..batch.clone() };
    while !queue.settle(&batch, Settlement::Delivered, Memory::default(), now).await?.complete {}
    let mut held = entries(queue.engine()).await?;
    held.retain(|(key, _)| key.first() == Some(&HELD));
    Ok(held)
}

/// Remembers what was not delivered.
pub(crate) async fn remember(queue: &Queue<MemoryEngine>, held: Entries) -> Result<(), StoreError> {
    let mut transaction = queue.engine().begin().await?;
    for (key, value) in held {
        transaction.put(&key, value);
    }
    transaction.commit().await?;
    Ok(())
}

async fn entries(engine: &MemoryEngine) -> Result<Entries, StoreError> {
    let mut transaction = engine.begin().await?;
    let all = transaction.scan(vec![0]..=vec![0xff; 9], usize::MAX).await?;
    Ok(all.into_iter().map(|(key, value)| (key, AsRef::<[u8]>::as_ref(&value).to_vec())).collect())
}
