//! Group commit: one writer takes all that waits, commits it durably, then answers.
//!
//! The writer has a thread of its own, since an embedded engine blocks. Updates are taken in
//! groups: the first that waits and all that wait behind it, up to a limit. Everything else
//! (claim, advance, settle …) is a commit by itself, in its turn, so that no accepted update
//! waits for a commit of a thousand rows that it has no part in.

mod gauges;
mod jobs;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{mpsc, oneshot, watch};

pub use self::gauges::{ClientCounts, ClientGauges, GroupCommits};
pub(super) use self::jobs::JobOp;
use super::{
    engine::Engine,
    handle::Permits,
    queue::{
        Accepted, Claim, ClientTerms, DeadId, Forgotten, PruneCursor, Queue, QueueDepth, Replay,
        Retention, SettledRow, Settling, StoreError, Swept, TakenExpress,
    },
};
use crate::{
    clock,
    domain::{
        admission::QueueRefusal,
        batch::{Batch, Claimable, Settlement},
        express::ExpressEnd,
        memory::Memory,
        time::Instant,
        update::{AppId, ClientId, Sequence, Subject, SubjectKind, Update},
    },
};

/// What became of each update of a group, in order.
pub type Outcomes = Vec<Result<Accepted, QueueRefusal>>;

/// What the writer is asked to do.
pub(super) enum Op {
    Accept {
        updates: Vec<Update>,
        permits: Permits,
        reply: oneshot::Sender<Outcomes>,
    },
    Claim {
        app: AppId,
        claimable: Claimable,
        continued: Option<u64>,
        reply: oneshot::Sender<Claim>,
    },
    Advance {
        batch: Box<Batch>,
        memory: Memory,
        reply: oneshot::Sender<()>,
    },
    Settle {
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
        reply: oneshot::Sender<Settling>,
    },
    TakeExpress {
        app: AppId,
        max: u64,
        reply: oneshot::Sender<TakenExpress>,
    },
    SettleExpress {
        app: AppId,
        ends: Vec<(Subject, ExpressEnd)>,
        reply: oneshot::Sender<Vec<SettledRow>>,
    },
    Pause {
        app: AppId,
        paused: bool,
        reply: oneshot::Sender<()>,
    },
    Replay {
        app: AppId,
        id: DeadId,
        reply: oneshot::Sender<Replay>,
    },
    Discard {
        app: AppId,
        id: DeadId,
        reply: oneshot::Sender<bool>,
    },
    Forget {
        app: AppId,
        subject: Subject,
        reply: oneshot::Sender<Forgotten>,
    },
    Sweep {
        app: AppId,
        subject: Subject,
        up_to: Sequence,
        from: Option<Vec<u8>>,
        reply: oneshot::Sender<Swept>,
    },
    Clients {
        clients: Vec<(String, ClientTerms)>,
        reply: oneshot::Sender<Result<Vec<ClientId>, StoreError>>,
    },
    /// Everything that was asked before is done; then the writer ends.
    Close,
    Prune {
        from: PruneCursor,
        retention: Retention,
        reply: oneshot::Sender<PruneCursor>,
    },
    Job(JobOp),
}

/// What the writer tells the world about an app's queue.
#[derive(Debug)]
pub struct Gauges {
    /// What waits, and since when anything does.
    pub queue: watch::Sender<QueueView>,
    /// Updates accepted since the start.
    pub accepted: AtomicU64,
    /// Of these, the ones that were merged into a waiting record.
    pub coalesced: AtomicU64,
    /// Of these, the ones that upstream needs nothing of.
    pub suppressed: AtomicU64,
    /// Updates that the queue refused since the start.
    pub refused: AtomicU64,
}

/// What waits for an app, as everybody may see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// How much waits.
    pub depth: QueueDepth,
    /// Since when anything does.
    pub since: Option<Instant>,
    /// Updates more urgent than bulk that were accepted since the start.
    pub urgent_updates: u64,
    /// Updates of the express lane that were accepted since the start.
    pub express_updates: u64,
}

/// What the writer tells the world about the store.
#[derive(Debug, Default)]
pub struct StoreGauges {
    /// The last sequence that was given.
    pub last_sequence: AtomicU64,
    /// Entries that were set aside.
    pub quarantined: AtomicU64,
    /// Commits of groups of updates since the start.
    pub group_commits: GroupCommits,
    /// Dead letters that were dropped since the start, for their age or their number.
    pub dead_lost: AtomicU64,
    /// Rises when records may have moved on.
    pub moves: AtomicU64,
    /// What is counted of each client.
    pub clients: ClientGauges,
}

/// The one writer.
pub(super) struct Committer<E> {
    pub(super) queue: Queue<E>,
    pub(super) ops: mpsc::Receiver<Op>,
    pub(super) group_updates_max: usize,
    pub(super) apps: Arc<BTreeMap<AppId, Gauges>>,
    pub(super) store: Arc<StoreGauges>,
}

impl<E: Engine> Committer<E> {
    /// Publishes what was found in the store. To be called before anybody looks.
    pub(super) fn publish_all(&self) {
        for app in self.apps.keys() {
            self.publish(*app);
        }
    }

    /// Works until everybody who could ask is gone, or the store fails or is lost to another.
    pub(super) async fn run(self) -> Result<(), StoreError>
    where
        E: Clone,
    {
        let engine = self.queue.engine().clone();
        tokio::select! {
            biased;
            ended = self.work() => ended,
            lost = engine.lost() => Err(lost.into()),
        }
    }

    async fn work(mut self) -> Result<(), StoreError> {
        let mut next = None;
        loop {
            let op = match next.take() {
                Some(op) => op,
                None => match self.ops.recv().await {
                    Some(op) => op,
                    None => return Ok(()),
                },
            };
            match op {
                Op::Accept { updates, permits, reply } => {
                    next = self.accept(updates, (permits, reply)).await?;
                }
                Op::Close => return Ok(()),
                Op::Claim { .. }
                | Op::Advance { .. }
                | Op::Settle { .. }
                | Op::TakeExpress { .. }
                | Op::SettleExpress { .. }
                | Op::Pause { .. }
                | Op::Replay { .. }
                | Op::Discard { .. }
                | Op::Forget { .. }
                | Op::Sweep { .. }
                | Op::Clients { .. }
                | Op::Prune { .. }
                | Op::Job(_) => self.execute(op).await?,
            }
        }
    }

    /// Commits a group that begins with `updates`. Returns the op that ended it, if one did.
    async fn accept(
        &mut self,
        mut updates: Vec<Update>,
        (permits, reply): (Permits, oneshot::Sender<Outcomes>),
    ) -> Result<Option<Op>, StoreError> {
        let mut replies = vec![(permits, reply, updates.len())];
        let mut ended_by = None;
        while updates.len() < self.group_updates_max {
            match self.ops.try_recv() {
                Ok(Op::Accept { updates: more, permits, reply }) => {
                    replies.push((permits, reply, more.len()));
                    updates.extend(more);
                }
                Ok(op) => {
                    ended_by = Some(op);
                    break;
                }
                Err(_) => break,
            }
        }
        let senders: Vec<_> = updates.iter().map(|update| (update.app, update.client)).collect();
        let now = clock::now();
        let mut outcomes = self.queue.accept(updates, now.wall).await?;
        self.store.group_commits.count(clock::instant().since(now.instant), senders.len());
        self.count(&senders, &outcomes, now.wall);
        for (permits, reply, count) in replies.into_iter().rev() {
            let own = outcomes.split_off(outcomes.len() - count);
            // Who asked may have gone. What was accepted stays accepted.
            reply.send(own).ok();
            drop(permits);
        }
        Ok(ended_by)
    }

    async fn execute(&mut self, op: Op) -> Result<(), StoreError> {
        let now = clock::now().wall;
        match op {
            Op::Accept { .. } | Op::Close => unreachable!("run takes these itself"),
            Op::Claim { app, claimable, continued, reply } => {
                let claim = self.queue.claim(app, claimable, continued, now).await?;
                self.publish(app);
                reply.send(claim).ok();
            }
            Op::Advance { batch, memory, reply } => {
                self.queue.advance(&batch, memory).await?;
                reply.send(()).ok();
            }
            Op::Settle { batch, settlement, memory, reply } => {
                let settling = self.queue.settle(&batch, settlement, memory, now).await?;
                self.publish(batch.id.app);
                reply.send(settling).ok();
            }
            Op::TakeExpress { app, max, reply } => {
                let taken = self.queue.take_express(app, max, now).await?;
                self.publish(app);
                reply.send(taken).ok();
            }
            Op::SettleExpress { app, ends, reply } => {
                let delivered = self.queue.settle_express(app, &ends, now).await?;
                self.publish(app);
                reply.send(delivered).ok();
            }
            Op::Pause { app, paused, reply } => {
                self.queue.pause(app, paused).await?;
                reply.send(()).ok();
            }
            Op::Replay { app, id, reply } => {
                let replay = self.queue.replay(app, id, now).await?;
                self.publish(app);
                reply.send(replay).ok();
            }
            Op::Discard { app, id, reply } => {
                let discarded = self.queue.discard(app, id, now).await?;
                self.publish(app);
                reply.send(discarded).ok();
            }
            Op::Forget { app, subject, reply } => {
                let forgotten = self.queue.forget(app, &subject, now).await?;
                self.publish(app);
                reply.send(forgotten).ok();
            }
            Op::Sweep { app, subject, up_to, from, reply } => {
                let swept = self.queue.sweep(app, &subject, up_to, from).await?;
                self.publish(app);
                reply.send(swept).ok();
            }
            Op::Clients { clients, reply } => {
                reply.send(self.clients(&clients).await?).ok();
            }
            Op::Prune { from, retention, reply } => {
                let next = self.queue.prune(from, retention).await?;
                self.publish_all();
                reply.send(next).ok();
                return Ok(());
            }
            Op::Job(op) => return op.execute(&mut self.queue, now).await,
        }
        self.store.moves.fetch_add(1, Relaxed);
        Ok(())
    }

    /// The numbers of clients. Whoever names clients that are damaged has to do without, and all
    /// else goes on.
    async fn clients(
        &mut self,
        clients: &[(String, ClientTerms)],
    ) -> Result<Result<Vec<ClientId>, StoreError>, StoreError> {
        let numbers = match self.queue.clients(clients).await {
            damaged @ Err(StoreError::Damaged { .. }) => damaged,
            numbers => Ok(numbers?),
        };
        self.store.clients.waiting(self.queue.waiting_by_client());
        Ok(numbers)
    }

    /// Publishes what waits for an app. Wakes who watches only when there comes to be something
    /// of a kind, or nothing, or something by express.
    fn publish(&self, app: AppId) {
        let Some(gauges) = self.apps.get(&app) else { return };
        let depth = self.queue.depth(app);
        let urgent_updates = self.queue.urgent_updates(app);
        let express_updates = self.queue.express_updates(app);
        gauges.queue.send_if_modified(|view| {
            let express = view.express_updates != express_updates
                || view.depth.express_records != depth.express_records;
            let (before, by_kind) = (view.depth.by_kind(), depth.by_kind());
            let changed = |kind| (*by_kind.of(kind) > 0) != (*before.of(kind) > 0);
            let (waited, waits) = (view.depth.records > 0, depth.records > 0);
            view.depth = depth;
            view.urgent_updates = urgent_updates;
            view.express_updates = express_updates;
            if waits != waited {
                view.since = waits.then(|| clock::now().instant);
            }
            SubjectKind::ALL.into_iter().any(changed) || express
        });
        let (last_sequence, quarantined) = self.queue.head();
        self.store.last_sequence.store(last_sequence, Relaxed);
        self.store.quarantined.store(quarantined, Relaxed);
        self.store.dead_lost.store(self.queue.dead_lost(), Relaxed);
        self.store.clients.waiting(self.queue.waiting_by_client());
    }
}
