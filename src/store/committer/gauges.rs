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

use super::Committer;
use crate::{
    domain::{
        admission::QueueRefusal,
        time::Timestamp,
        update::{AppId, ClientId},
    },
    store::{
        engine::Engine,
        queue::{Accepted, Disposition},
    },
};

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
}
