//! What is counted of updates that were accepted, by app and by client.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::watch;

use super::{Committer, Role};
use crate::{
    clock,
    domain::{
        admission::QueueRefusal,
        time::{Instant, Timestamp},
        update::{AppId, ClientId, SubjectKind},
    },
    store::{
        engine::Engine,
        queue::{Accepted, Disposition, QueueDepth},
    },
};

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

impl Default for Gauges {
    fn default() -> Self {
        Self {
            queue: watch::Sender::new(QueueView::default()),
            accepted: 0.into(),
            coalesced: 0.into(),
            suppressed: 0.into(),
            refused: 0.into(),
        }
    }
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

/// What the writer counts of one client. There are as many as there are names of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// How many records of its own wait.
    pub waiting: u64,
    /// Its updates that were merged into a waiting record, since the start.
    pub coalesced: u64,
    /// Its updates that upstream needed nothing of, since the start.
    pub suppressed: u64,
    /// When one of its own was last accepted, since the start.
    pub last_update_at: Option<Timestamp>,
}

/// How long commits of groups of updates take: mostly a flush of the disk.
const COMMIT_SECONDS: [f64; 15] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// From an update that is alone to the largest group that the configuration allows.
const COMMIT_UPDATES: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 8_192.0, 65_536.0];

/// What the writer counts of commits of groups of updates.
#[derive(Debug)]
pub struct GroupCommits {
    /// How many there were since the start.
    pub total: AtomicU64,
    /// From when a group was complete until it was durable, in seconds.
    pub seconds: Histogram,
    /// The updates of each, those that were refused among them.
    pub updates: Histogram,
}

impl Default for GroupCommits {
    fn default() -> Self {
        let [seconds, updates] = [&COMMIT_SECONDS[..], &COMMIT_UPDATES[..]]
            .map(|bounds| Histogram::new(bounds.iter().copied()));
        Self { total: 0.into(), seconds, updates }
    }
}

impl GroupCommits {
    /// Counts one that took so long and had so many updates.
    pub(super) fn count(&self, took: Duration, updates: usize) {
        self.total.fetch_add(1, Relaxed);
        self.seconds.observe(took.as_secs_f64());
        self.updates.observe(updates as f64);
    }
}

/// What the writer counts of all clients.
#[derive(Debug, Default)]
pub struct ClientGauges(Mutex<BTreeMap<ClientId, ClientCounts>>);

impl ClientGauges {
    /// What there is of a client.
    pub fn of(&self, client: ClientId) -> ClientCounts {
        self.all().get(&client).copied().unwrap_or_default()
    }

    /// So many records of each client's own wait.
    pub(super) fn waiting(&self, waiting: impl Iterator<Item = (ClientId, u64)>) {
        let mut all = self.all();
        for counts in all.values_mut() {
            counts.waiting = 0;
        }
        for (client, count) in waiting {
            all.entry(client).or_default().waiting = count;
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ClientId, ClientCounts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> Committer<E> {
    /// Counts a group that has been committed, and publishes what it changed.
    pub(super) fn count(
        &self,
        senders: &[(AppId, ClientId)],
        outcomes: &[Result<Accepted, QueueRefusal>],
        now: Timestamp,
    ) {
        let mut changed = Vec::new();
        let mut clients = self.store.clients.all();
        for ((app, client), outcome) in senders.iter().zip(outcomes) {
            let Some(gauges) = self.apps.get(app) else { continue };
            match outcome {
                Ok(accepted) => {
                    let coalesced = u64::from(accepted.disposition == Disposition::Coalesced);
                    let suppressed = u64::from(accepted.disposition == Disposition::Unchanged);
                    gauges.accepted.fetch_add(1, Relaxed);
                    gauges.coalesced.fetch_add(coalesced, Relaxed);
                    gauges.suppressed.fetch_add(suppressed, Relaxed);
                    let counts = clients.entry(*client).or_default();
                    counts.coalesced += coalesced;
                    counts.suppressed += suppressed;
                    counts.last_update_at = Some(now);
                }
                Err(_) => {
                    gauges.refused.fetch_add(1, Relaxed);
                }
            }
            if changed.last() != Some(app) {
                changed.push(*app);
            }
        }
        drop(clients);
        for app in changed {
            self.publish(app);
        }
    }

    /// Publishes what waits for an app. Wakes who watches only when there comes to be something
    /// of a kind, or nothing, or something by express.
    pub(super) fn publish(&self, app: AppId) {
        let Some(gauges) = self.apps.get(&app) else { return };
        let depth = self.queue.depth(app);
        let urgent_updates = self.queue.urgent_updates(app);
        let express_updates = self.queue.express_updates(app);
        gauges.queue.send_if_modified(|view| {
            let express = view.express_updates < express_updates
                || view.depth.express_records != depth.express_records;
            let (before, by_kind) = (view.depth.by_kind(), depth.by_kind());
            let changed = |kind| (*by_kind.of(kind) > 0) != (*before.of(kind) > 0);
            let (waited, waits) = (view.depth.records > 0, depth.records > 0);
            view.depth = depth;
            // Of several writers some know more than others.
            view.urgent_updates = view.urgent_updates.max(urgent_updates);
            view.express_updates = view.express_updates.max(express_updates);
            if waits != waited {
                view.since = waits.then(|| clock::now().instant);
            }
            SubjectKind::ALL.into_iter().any(changed) || express
        });
        let (last_sequence, quarantined) = self.queue.head();
        self.store.last_sequence.fetch_max(last_sequence, Relaxed);
        self.store.quarantined.fetch_max(quarantined, Relaxed);
        self.store.dead_lost.fetch_max(self.queue.dead_lost(), Relaxed);
        self.publish_clients();
    }

    /// Of several writers, the one that looks at all apps knows.
    pub(super) fn publish_clients(&self) {
        if matches!(self.role, Role::Alone | Role::Leases(_)) {
            self.store.clients.waiting(self.queue.waiting_by_client());
        }
    }
}
