//! Admission: how much may wait for the writer, in memory. What may wait in the queue, on
//! disk, the queue decides itself.

use std::sync::Arc;

use opentelemetry::trace::SpanContext;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    domain::{
        space::{Room, Space},
        update::{AppId, Subject, Update},
    },
    store::{
        Outcomes, Store,
        handle::{NotTaken, Permits},
    },
    trace::{self, Traces},
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
    /// Too little is free on the disk. Nothing was stored.
    #[error("the disk is nearly full")]
    DiskLow,
    /// The store's database does not answer. Nothing was stored.
    #[error("the store's database does not answer")]
    StoreAway,
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
    /// The part of `updates` that streams may take together: the rest is for calls, which do
    /// not wait.
    stream_updates: Arc<Semaphore>,
    traces: Traces,
    space: watch::Receiver<Space>,
    limits: IntakeLimits,
}

/// Updates that were handed to the writer, and their answer to come.
#[derive(Debug)]
#[must_use = "the updates are not durable before they are answered"]
pub struct HandedOver(Option<(oneshot::Receiver<Outcomes>, Option<Traced>)>);

impl HandedOver {
    /// No updates at all.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// The answer. What it calls accepted is durable.
    pub async fn answer(self) -> Result<Outcomes, NotAccepted> {
        let Some((outcomes, traced)) = self.0 else { return Ok(Vec::new()) };
        let outcomes = outcomes.await.map_err(|_| NotAccepted::Failed)?;
        if let Some(traced) = traced {
            traced.carry(&outcomes);
        }
        Ok(outcomes)
    }
}

/// Updates that came with a trace.
#[derive(Debug)]
struct Traced {
    traces: Traces,
    span: SpanContext,
    updates: Vec<(AppId, Subject)>,
}

impl Traced {
    fn carry(self, outcomes: &Outcomes) {
        for ((app, subject), outcome) in self.updates.into_iter().zip(outcomes) {
            if let Ok(accepted) = outcome {
                self.traces.carry(self.span.clone(), app, subject, accepted.sequence);
            }
        }
    }
}

impl Intake {
    /// The way to `store`, which lies in `space`. `traces` hears of what is accepted.
    pub fn new(
        store: Store,
        traces: Traces,
        space: watch::Receiver<Space>,
        limits: IntakeLimits,
    ) -> Self {
        let IntakeLimits { waiting_updates_max, waiting_bytes_max } = limits;
        Self {
            store,
            traces,
            updates: Arc::new(Semaphore::new(waiting_updates_max)),
            bytes: Arc::new(Semaphore::new(waiting_bytes_max)),
            stream_updates: Arc::new(Semaphore::new((waiting_updates_max / 2).max(1))),
            space,
            limits,
        }
    }

    /// Hands updates to the writer, or says at once that too much waits. They are accepted in
    /// the order in which they are handed over.
    pub fn hand_over(&self, updates: Vec<Update>) -> Result<HandedOver, NotAccepted> {
        let busy = |_| NotAccepted::Busy;
        let (count, bytes) = self.size(&updates);
        let count = self.updates.clone().try_acquire_many_owned(count).map_err(busy)?;
        let bytes = self.bytes.clone().try_acquire_many_owned(bytes).map_err(busy)?;
        self.give(updates, [Some(count), Some(bytes), None])
    }

    /// Hands updates of a stream to the writer once there is room: its sender waits meanwhile.
    pub async fn hand_over_in_turn(&self, updates: Vec<Update>) -> Result<HandedOver, NotAccepted> {
        let stopping = |_| NotAccepted::Stopping;
        let (count, bytes) = self.size(&updates);
        let of_streams = count.min(part(self.limits.waiting_updates_max / 2).max(1));
        let of_streams = self.stream_updates.clone().acquire_many_owned(of_streams).await;
        let of_streams = of_streams.map_err(stopping)?;
        let count = self.updates.clone().acquire_many_owned(count).await.map_err(stopping)?;
        let bytes = self.bytes.clone().acquire_many_owned(bytes).await.map_err(stopping)?;
        self.give(updates, [Some(count), Some(bytes), Some(of_streams)])
    }

    /// The disk that the store is on, as it was seen last.
    pub fn space(&self) -> watch::Receiver<Space> {
        self.space.clone()
    }

    /// How much of the limits the updates take; never more than there is.
    fn size(&self, updates: &[Update]) -> (u32, u32) {
        let bytes: usize = updates.iter().map(Update::size).sum();
        let IntakeLimits { waiting_updates_max, waiting_bytes_max } = self.limits;
        (part(updates.len().min(waiting_updates_max)), part(bytes.min(waiting_bytes_max)))
    }

    /// The writer keeps the permits until it has answered: who asked may be gone by then, and
    /// what was asked still waits.
    fn give(&self, updates: Vec<Update>, permits: Permits) -> Result<HandedOver, NotAccepted> {
        if updates.is_empty() {
            return Ok(HandedOver(None));
        }
        // Before the engine ever sees a full disk.
        match self.space.borrow().room {
            Room::Enough => {}
            Room::Low => return Err(NotAccepted::DiskLow),
        }
        let traced = trace::served().map(|span| Traced {
            traces: self.traces.clone(),
            span,
            updates: updates.iter().map(|update| (update.app, update.subject.clone())).collect(),
        });
        match self.store.accept(updates, permits) {
            Ok(outcomes) => Ok(HandedOver(Some((outcomes, traced)))),
            Err(NotTaken::Full) => Err(NotAccepted::Busy),
            Err(NotTaken::Closed) => Err(NotAccepted::Stopping),
            Err(NotTaken::Away) => Err(NotAccepted::StoreAway),
        }
    }
}

fn part(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
