//! How everybody else reaches the store: ops go to the writer, reads go past it.

mod express;
mod forget;
mod jobs;
mod operators;
mod reads;
mod shared;
#[cfg(test)]
mod tests;
mod ways;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime,
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
};

pub(super) use self::ways::Answer;
pub use self::{forget::Erased, shared::start_shared};
use self::{jobs::Seen, reads::ReadAny, ways::Ways};
use super::{
    committer::{Committer, Gauges, Op, Outcomes, Role, StoreGauges},
    engine::Engine,
    queue::{
        Claim, ClientTerms, DeadFilter, DeadId, DeadLetter, DeadPage, Found, OldestOfLanes,
        PruneCursor, Queue, Reads, Replay, Retention, Settling, StoreError,
    },
    receipt_key::ReceiptKey,
};
use crate::{
    clock,
    domain::{
        batch::{Batch, Claimable, Settlement},
        budget::Occupancy,
        delivered::Suppression,
        lifecycle::Recovered,
        memory::Memory,
        update::{AppId, ClientId, Sequence, Subject, Update},
    },
};

/// The writer has ended: the store failed, or the process is stopping; or it goes on, and a database
/// that several share did not do what was asked. Whether that has been stored is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has closed, or is away")]
pub struct Closed;

/// What waiting updates take of their limits. Held until they are answered.
pub type Permits = [Option<OwnedSemaphorePermit>; 3];

/// The writer was not handed the updates: nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// As many wait as may.
    Full,
    /// The writer has ended.
    Closed,
    /// The store's database does not answer.
    Away,
}

/// How many ops other than updates may wait: each driver, operator and housekeeper has at
/// most one under way.
const CONTROL_OPS_MAX: usize = 64;

/// A way to the store. Clones lead to the same one; the writer ends when the last is dropped.
#[derive(Clone)]
pub struct Store {
    ways: Ways,
    reads: Arc<dyn ReadAny>,
    apps: Arc<BTreeMap<AppId, Gauges>>,
    gauges: Arc<StoreGauges>,
    seen_jobs: Arc<Mutex<Seen>>,
    away: Arc<watch::Sender<bool>>,
    receipt_key: Option<ReceiptKey>,
    id: u64,
}

/// The writer's thread, and how it ended.
pub type Writer = oneshot::Receiver<Result<(), StoreError>>;

/// How much of what goes to the writer.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Updates of one group commit.
    pub group_updates_max: usize,
    /// Updates that wait for the writer. Intake sees to it; the channel holds as many.
    pub waiting_updates_max: usize,
}

/// An app, and on what terms it uses the store.
#[derive(Clone, Debug)]
pub struct AppTerms {
    /// Its name.
    pub name: String,
    /// The occupancy that a job as large as can be would begin now.
    pub full_job: Occupancy,
    /// Whether it remembers what it delivers, and does not send it again.
    pub suppression: Option<Suppression>,
}

/// What a store is opened with: the app's number and what its driver goes on from.
pub type RecoveredApps = Vec<(AppId, Recovered)>;

/// Starts the writer of `queue`, for these apps.
pub async fn start<E: Engine + Clone>(
    mut queue: Queue<E>,
    apps: &[AppTerms],
    limits: GroupLimits,
) -> Result<(Store, Writer, RecoveredApps), StoreError> {
    let mut recovered = Vec::new();
    let mut gauges = BTreeMap::new();
    for terms in apps {
        let (app, found) = match recover(&mut queue, terms).await {
            // The others go on.
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(app = terms.name, %error, "an app cannot be served: it is held");
                let held = Some(error.to_string());
                (queue.hold(), Recovered { held, ..Recovered::default() })
            }
            served => served?,
        };
        recovered.push((app, found));
        gauges.insert(app, Gauges::default());
    }
    queue.recover_jobs().await?;
    let (ops, receiver) = mpsc::channel(limits.waiting_updates_max + CONTROL_OPS_MAX);
    let store = Store {
        ways: Ways::to_one(ops),
        reads: Arc::new(Reads::new(queue.engine().clone())),
        apps: Arc::new(gauges),
        gauges: Arc::default(),
        seen_jobs: Arc::default(),
        away: Arc::new(watch::Sender::new(false)),
        receipt_key: None,
        id: queue.store(),
    };
    let committer = Committer {
        role: Role::Alone,
        queue,
        looked_at: None,
        ops: receiver,
        group_updates_max: limits.group_updates_max,
        apps: store.apps.clone(),
        store: store.gauges.clone(),
    };
    committer.publish_all();
    let (ended, writer) = oneshot::channel();
    let runtime = runtime::Handle::current();
    thread::Builder::new()
        .name("committer".into())
        // A panic drops `ended`, which says as much.
        .spawn(move || ended.send(runtime.block_on(committer.run())).ok())
        .map_err(|error| StoreError::Engine(super::EngineError::Failed(error.to_string())))?;
    Ok((store, writer, recovered))
}

/// An app's number, and what its driver goes on from.
async fn recover<E: Engine>(
    queue: &mut Queue<E>,
    terms: &AppTerms,
) -> Result<(AppId, Recovered), StoreError> {
    let now = clock::now().wall;
    let app = queue.serve(&terms.name, terms.full_job, now).await?;
    // First, since what was under way by express is in doubt for what the app remembers.
    queue.suppress(app, terms.suppression).await?;
    Ok((app, queue.recover(app, now).await?))
}

impl Store {
    /// Accepts updates. The answer comes when all of them are durable, or refused; where none
    /// comes, they may have been stored.
    pub fn accept(
        &self,
        updates: Vec<Update>,
        permits: Permits,
    ) -> Result<oneshot::Receiver<Outcomes>, NotTaken> {
        if self.is_away() {
            return Err(NotTaken::Away);
        }
        self.ways.accept(updates, permits)
    }

    /// Moves pending records into a new batch, chunk by chunk, so that updates are accepted
    /// in between.
    pub async fn claim(
        &self,
        app: AppId,
        claimable: Claimable,
    ) -> Result<Option<Box<Batch>>, Closed> {
        let mut continued = None;
        loop {
            let claim = self.ask(|reply| Op::Claim { app, claimable, continued, reply }).await?;
            match claim {
                Claim::Continues(batch) => continued = Some(batch),
                Claim::Complete(batch) => return Ok(batch),
            }
        }
    }

    /// Makes the batch's new state and the memory durable.
    pub async fn advance(&self, batch: Box<Batch>, memory: Memory) -> Result<(), Closed> {
        self.ask(|reply| Op::Advance { batch, memory, reply }).await
    }

    /// Settles a chunk of the batch.
    pub async fn settle(
        &self,
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
    ) -> Result<Settling, Closed> {
        self.ask(|reply| Op::Settle { batch, settlement, memory, reply }).await
    }

    /// Pauses or resumes an app.
    pub async fn pause(&self, app: AppId, paused: bool) -> Result<(), Closed> {
        self.ask(|reply| Op::Pause { app, paused, reply }).await
    }

    /// Sends a dead letter back into the queue.
    pub async fn replay(&self, app: AppId, id: DeadId) -> Result<Replay, Closed> {
        self.ask(|reply| Op::Replay { app, id, reply }).await
    }

    /// Closes a dead letter for good. Returns whether it was there, and open.
    pub async fn discard(&self, app: AppId, id: DeadId) -> Result<bool, Closed> {
        self.ask(|reply| Op::Discard { app, id, reply }).await
    }

    /// The numbers of clients, by their names, and from now on their limits: how many records of
    /// its own each may have waiting. Where the number of one is lost, all stays as it was.
    pub async fn clients(
        &self,
        clients: Vec<(String, ClientTerms)>,
    ) -> Result<Result<Vec<ClientId>, StoreError>, Closed> {
        let mut answer = Err(Closed);
        for (nth, writer) in self.ways.all().into_iter().enumerate() {
            let clients = clients.clone();
            let numbers = ask(writer, |reply| Op::Clients { clients, reply }).await?;
            // The first has numbered them, and the others find them so.
            if nth == 0 {
                answer = Ok(numbers);
            }
        }
        answer
    }

    /// Forgets some of the history that is due. Returns where to go on.
    pub async fn prune(
        &self,
        from: PruneCursor,
        retention: Retention,
    ) -> Result<PruneCursor, Closed> {
        self.ask(|reply| Op::Prune { from, retention, reply }).await
    }

    /// Ends the writer, once all that was asked before is done.
    pub async fn close(&self) {
        for writer in self.ways.all() {
            // If it has ended already, so much the better.
            writer.send(Op::Close).await.ok();
        }
    }

    /// Whether the writer has ended.
    pub fn is_closed(&self) -> bool {
        self.ways.control.is_closed()
    }

    async fn ask<T>(&self, op: impl FnOnce(oneshot::Sender<T>) -> Op) -> Result<T, Closed> {
        ask(&self.ways.control, op).await
    }

    /// Where the update with this sequence is.
    pub async fn find(
        &self,
        app: AppId,
        subject: Subject,
        sequence: Sequence,
    ) -> Result<Found, StoreError> {
        self.read(move |reads| reads.find(app, subject, sequence)).await
    }

    /// The upload of a batch.
    pub async fn upload(&self, batch: Batch) -> Result<Vec<u8>, StoreError> {
        self.read(move |reads| reads.upload(batch)).await
    }

    /// The batches of an app with a number of at most `newest`, newest first.
    pub async fn batches(
        &self,
        app: AppId,
        newest: u64,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.read(move |reads| reads.batches(app, newest, limit)).await
    }

    /// Of each lane, when the first update of the record that waits longest was accepted.
    pub async fn oldest_of_lanes(&self, app: AppId) -> Result<OldestOfLanes, StoreError> {
        self.read(move |reads| reads.oldest_of_lanes(app)).await
    }

    /// Up to `limit` dead letters of an app, oldest first, behind `after`.
    pub async fn dead_letters(
        &self,
        app: AppId,
        filter: DeadFilter,
        after: Option<DeadId>,
        limit: usize,
    ) -> Result<DeadPage, StoreError> {
        self.read(move |reads| reads.dead_letters(app, filter, after, limit)).await
    }

    /// One dead letter.
    pub async fn dead_letter(
        &self,
        app: AppId,
        id: DeadId,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.read(move |reads| reads.dead_letter(app, id)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Arc<dyn ReadAny>) -> BoxFuture<'static, Result<T, StoreError>>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        let reads = self.reads.clone();
        let runtime = runtime::Handle::current();
        // Embedded engines read from disk in the caller's thread.
        let done = tokio::task::spawn_blocking(move || runtime.block_on(read(reads))).await;
        done.unwrap_or_else(|error| {
            Err(StoreError::Engine(super::EngineError::Failed(error.to_string())))
        })
    }

    /// What the writer tells about an app.
    pub fn app(&self, app: AppId) -> Option<&Gauges> {
        self.apps.get(&app)
    }

    /// What the writer tells about the store.
    pub fn gauges(&self) -> &StoreGauges {
        &self.gauges
    }

    /// The number that the store drew when it was made.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What the store takes on disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.reads.disk_bytes()
    }

    /// The engine's name in the configuration.
    pub fn engine_name(&self) -> &'static str {
        self.reads.engine_name()
    }
}

async fn ask<T>(
    writer: &mpsc::Sender<Op>,
    op: impl FnOnce(oneshot::Sender<T>) -> Op,
) -> Result<T, Closed> {
    let (reply, answer) = oneshot::channel();
    writer.send(op(reply)).await.map_err(|_| Closed)?;
    answer.await.map_err(|_| Closed)
}
