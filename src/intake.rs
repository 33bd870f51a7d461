//! Admission: how much may wait for the writer, in memory. What may wait in the queue, on
//! disk, the queue decides itself.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    domain::update::Update,
    store::{Outcomes, Store, handle::NotTaken},
};

/// How much may wait for the writer.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Updates.
    pub waiting_updates_max: usize,
    /// Bytes of updates.
    pub waiting_bytes_max: usize,
}

/// Why updates were not handed to the writer, or not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// As much waits for the writer as may.
    #[error("too many updates wait to be stored")]
    Busy,
    /// The gateway is stopping. Nothing was stored.
    #[error("the gateway is stopping")]
    Stopping,
    /// The store failed before it answered. The updates may have been stored.
    #[error("the store failed before it answered")]
    Failed,
}

/// The way of updates to the writer.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    updates: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limits: IntakeLimits,
}

/// What is waiting takes part of the limits until it is answered.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Intake {
    /// The way to `store`.
    pub fn new(store: Store, limits: IntakeLimits) -> Self {
        Self {
            store,
            updates: Arc::new(Semaphore::new(limits.waiting_updates_max)),
            bytes: Arc::new(Semaphore::new(limits.waiting_bytes_max)),
            limits,
        }
    }

    /// Accepts updates, or says at once that too much waits. The answer is durable.
    pub async fn accept(&self, updates: Vec<Update>) -> Result<Outcomes, NotAccepted> {
        let (count, bytes) = self.size(&updates);
        let permits = (
            self.updates.clone().try_acquire_many_owned(count).map_err(|_| NotAccepted::Busy)?,
            self.bytes.clone().try_acquire_many_owned(bytes).map_err(|_| NotAccepted::Busy)?,
        );
        self.hand_over(updates, permits).await
    }

    /// Accepts updates once there is room: the sender of a stream waits in the meantime.
    pub async fn accept_in_turn(&self, updates: Vec<Update>) -> Result<Outcomes, NotAccepted> {
        let (count, bytes) = self.size(&updates);
        let stopping = |_| NotAccepted::Stopping;
        let permits = (
            self.updates.clone().acquire_many_owned(count).await.map_err(stopping)?,
            self.bytes.clone().acquire_many_owned(bytes).await.map_err(stopping)?,
        );
        self.hand_over(updates, permits).await
    }

    /// How much of the limits the updates take; never more than there is.
    fn size(&self, updates: &[Update]) -> (u32, u32) {
        let bytes: usize = updates.iter().map(Update::size).sum();
        let part = |n: usize, max: usize| u32::try_from(n.min(max)).unwrap_or(u32::MAX);
        (
            part(updates.len(), self.limits.waiting_updates_max),
            part(bytes, self.limits.waiting_bytes_max),
        )
    }

    async fn hand_over(
        &self,
        updates: Vec<Update>,
        permits: Permits,
    ) -> Result<Outcomes, NotAccepted> {
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes: oneshot::Receiver<Outcomes> =
            self.store.accept(updates).map_err(|not_taken| match not_taken {
                NotTaken::Full => NotAccepted::Busy,
                NotTaken::Closed => NotAccepted::Stopping,
            })?;
        let outcomes = outcomes.await.map_err(|_| NotAccepted::Failed);
        drop(permits);
        outcomes
    }
}
