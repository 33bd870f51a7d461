//! Group commit: one writer takes all that waits, commits it durably, then answers.
//!
//! The writer has a thread of its own, since an embedded engine blocks. Updates are taken in
//! groups: the first that waits and all that wait behind it, up to a limit. Everything else
//! (claim, advance, settle …) is a commit by itself, in its turn, so that no accepted update
//! waits for a commit of a thousand rows that it has no part in.

mod bearing;
mod gauges;
mod jobs;
mod leases;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::sync::{mpsc, oneshot};

use self::bearing::Borne;
pub use self::gauges::{ClientCounts, ClientGauges, Gauges, GroupCommits, QueueView, StoreGauges};
pub(super) use self::{jobs::JobOp, leases::LeaseOp};
use super::{
    engine::Engine,
    handle::Answer,
    queue::{
        Accepted, Claim, ClientTerms, DeadId, Forgotten, PruneCursor, Queue, Replay, Retention,
        SettledRow, Settling, StoreError, Swept, TakenExpress,
    },
};
use crate::{
    clock,
    domain::{
        admission::QueueRefusal,
        batch::{Batch, Claimable, Settlement},
        express::ExpressEnd,
        lease::LeaseTerms,
        memory::Memory,
        time::Instant,
        update::{AppId, ClientId, Sequence, Subject, Update},
    },
};

/// What became of each update of a group, in order.
pub type Outcomes = Vec<Result<Accepted, QueueRefusal>>;

/// What the writer is asked to do.
pub(super) enum Op {
    Accept {
        updates: Vec<Update>,
        answer: Answer,
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
    Lease(LeaseOp),
}

/// What a writer is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// For everything: the store is this process's alone.
    Alone,
    /// It accepts. Others write to the store, too.
    Accepts,
    /// It does what is neither accepting nor about leases.
    Controls,
    /// It keeps leases that last so long, and looks at what the others have written.
    Leases(LeaseTerms),
}

/// A writer: the only one, or one of those of a store that others write to.
pub(super) struct Committer<E> {
    pub(super) role: Role,
    pub(super) queue: Queue<E>,
    /// When all apps were looked at last.
    pub(super) looked_at: Option<Instant>,
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
                Op::Accept { updates, answer } => {
                    next = self.accept(updates, answer).await?;
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
                | Op::Job(_)
                | Op::Lease(_) => {
                    if let Err(error) = self.execute(op).await {
                        // Whoever asked hears nothing, and asks again or begins anew.
                        self.bear(error)?;
                    }
                }
            }
        }
    }

    /// Commits a group that begins with `updates`. Returns the op that ended it, if one did.
    async fn accept(
        &mut self,
        mut updates: Vec<Update>,
        answer: Answer,
    ) -> Result<Option<Op>, StoreError> {
        let mut answers = vec![(answer, updates.len())];
        let mut ended_by = None;
        while updates.len() < self.group_updates_max {
            match self.ops.try_recv() {
                Ok(Op::Accept { updates: more, answer }) => {
                    answers.push((answer, more.len()));
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
        let accepting = async {
            self.look_elsewhere(now.instant).await?;
            self.queue.accept(updates, now.wall).await
        };
        let mut outcomes = match accepting.await {
            Ok(outcomes) => outcomes,
            Err(error) => match self.bear(error)? {
                Borne::NotStored => vec![Err(QueueRefusal::StoreAway); senders.len()],
                // Nobody is answered, which says as much.
                Borne::Unknown => return Ok(ended_by),
            },
        };
        self.store.group_commits.count(clock::instant().since(now.instant), senders.len());
        self.count(&senders, &outcomes, now.wall);
        for (answer, count) in answers.into_iter().rev() {
            answer.send(outcomes.split_off(outcomes.len() - count));
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
                // Where others write to the store, what is known of most apps is old.
                if self.role == Role::Alone {
                    self.publish_all();
                }
                reply.send(next).ok();
                return Ok(());
            }
            Op::Job(op) => return op.execute(&mut self.queue, now).await,
            Op::Lease(op) => return self.lease(op).await,
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
        self.publish_clients();
        Ok(numbers)
    }
}
