//! What is done now and then.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Ended, INGEST, fleet::watch_database};
use crate::{
    admin::{history::SAMPLE_INTERVAL, status::Observatory},
    clock,
    domain::space::{Room, Space},
    store::{
        self, JobId, Store, file_system,
        queue::{PruneCursor, Retention},
    },
    telemetry::Metrics,
};

const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Jobs that are looked at in each interval.
const JOBS_AT_ONCE: usize = 8;
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Why the gateway takes no updates while the disk is nearly full.
const DISK_LOW: &str = "the disk is nearly full: less than store.free_bytes_min is free";

/// What the housekeepers need.
pub(super) struct House {
    pub(super) observatory: Observatory,
    pub(super) metrics: Metrics,
    pub(super) keeping: Keeping,
    pub(super) not_ready: watch::Sender<Option<&'static str>>,
    pub(super) health: HealthReporter,
    pub(super) stop: CancellationToken,
}

impl House {
    /// Sets the housekeepers to work, and makes the gateway ready, as far as the disk allows.
    pub(super) fn keep(
        self,
        tasks: &mut JoinSet<Ended>,
        watermark: Watermark,
        space: watch::Sender<Space>,
    ) {
        let Self { observatory, metrics, keeping, not_ready, health, stop } = self;
        not_ready.send_replace(reason(*space.borrow()));
        tasks.spawn(keep(observatory.store.clone(), keeping, stop.clone()));
        tasks.spawn(follow_jobs(observatory.store.clone(), stop.clone()));
        tasks.spawn(tell_health(observatory.not_ready.clone(), health, stop.clone()));
        tasks.spawn(sample(observatory.clone(), stop.clone()));
        if observatory.store.is_shared() {
            let store = observatory.store.clone();
            tasks.spawn(watch_database(store, not_ready.clone(), stop.clone()));
        }
        tasks.spawn(look(observatory, metrics, stop.clone()));
        tasks.spawn(watch_space(watermark, space, not_ready, stop));
    }
}

/// What is kept of what is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    /// For how long deliveries and batches are.
    pub(super) history: Duration,
    /// How many batches are, per app.
    pub(super) batches_max: u64,
    /// For how long dead letters are.
    pub(super) dead: Duration,
    /// How many dead letters are, per app.
    pub(super) dead_max: u64,
}

/// Forgets history that is old enough, a little at a time.
async fn keep(store: Store, keeping: Keeping, stop: CancellationToken) -> Ended {
    let mut from = PruneCursor::default();
    while !stop.is_cancelled() {
        let now = clock::now();
        let retention = Retention {
            before: now.wall.minus(keeping.history),
            batches_max: keeping.batches_max,
            now,
            dead_kept: keeping.dead,
            dead_max: keeping.dead_max,
        };
        match store.prune(from.clone(), retention).await {
            Ok(next) => from = next,
            Err(store::Closed) if store.is_closed() => break,
            // Where several share the store, a database that is away is tried again.
            Err(store::Closed) => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(now.instant.plus(KEEP_INTERVAL))) => {}
        }
    }
    Ended::Housekeeper
}

/// Notes what has become of callers' jobs, some at a time: what is noted does not depend on
/// deliveries and dead letters that history will forget.
async fn follow_jobs(store: Store, stop: CancellationToken) -> Ended {
    let mut after = None;
    while !stop.is_cancelled() {
        let jobs = match store.unfinished_jobs().await {
            Err(store::Closed) if store.is_closed() => break,
            jobs => jobs.unwrap_or_default(),
        };
        let due = jobs.iter().filter(|id| after.is_none_or(|after| **id > after));
        let due: Vec<JobId> = due.copied().take(JOBS_AT_ONCE).collect();
        // Round and round.
        after = due.last().copied();
        for id in due {
            if let Err(error) = store.follow_job(id).await {
                tracing::warn!(%error, "what has become of a job cannot be read");
            }
        }
        let next = clock::now().instant.plus(KEEP_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(next)) => {}
        }
    }
    Ended::Housekeeper
}

/// Looks for how long the longest waiting record of each app's lanes has waited. A scrape cannot:
/// it would have to read the disk.
async fn look(observatory: Observatory, metrics: Metrics, stop: CancellationToken) -> Ended {
    while !stop.is_cancelled() {
        for app in observatory.apps.iter() {
            for (lane, oldest) in observatory.oldest_of_lanes(app.id).await {
                let age = oldest.map_or(Duration::ZERO, |at| clock::now().wall.since(at));
                metrics.oldest_pending(&app.name, lane, age);
            }
        }
        let next = clock::now().instant.plus(LOOK_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(next)) => {}
        }
    }
    Ended::Housekeeper
}

/// Keeps how the apps do.
async fn sample(observatory: Observatory, stop: CancellationToken) -> Ended {
    let mut next = clock::now().instant;
    while !stop.is_cancelled() {
        let mut observed = Vec::with_capacity(observatory.apps.len());
        for app in observatory.apps.iter() {
            observed.push((app.id, observatory.observed(app).await));
        }
        let now = clock::now();
        observatory.history.sample(observed, now);
        // As even as can be, and not in a hurry after a standstill.
        next = next.plus(SAMPLE_INTERVAL).max(now.instant);
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(next)) => {}
        }
    }
    Ended::Housekeeper
}

/// Where the store lies, and how much of that is to stay free.
pub(super) struct Watermark {
    pub(super) path: PathBuf,
    pub(super) free_bytes_min: u64,
}

impl Watermark {
    /// How the file system is now, after it was `before`.
    pub(super) async fn look(&self, before: Space) -> Space {
        let free = free_bytes(&self.path).await;
        let space = before.seen(free, self.free_bytes_min);
        let free_bytes_min = self.free_bytes_min;
        match (before.room, space.room) {
            (Room::Enough, Room::Low) => {
                tracing::warn!(free_bytes = free, free_bytes_min, "{DISK_LOW}; refuses updates");
            }
            (Room::Low, Room::Enough) => {
                tracing::info!(free_bytes = free, free_bytes_min, "the disk has room again");
            }
            (Room::Enough, Room::Enough) | (Room::Low, Room::Low) => {}
        }
        space
    }
}

/// A file system that does not answer holds up nothing else.
async fn free_bytes(path: &Path) -> Option<u64> {
    let path = path.to_owned();
    let asked = tokio::task::spawn_blocking(move || file_system::free_bytes(&path));
    asked.await.ok()?.ok()
}

/// Why the gateway is not ready, as far as the disk is the reason.
fn reason(space: Space) -> Option<&'static str> {
    match space.room {
        Room::Enough => None,
        Room::Low => Some(DISK_LOW),
    }
}

/// Watches the disk, and makes the gateway unready while too little is free.
async fn watch_space(
    watermark: Watermark,
    seen: watch::Sender<Space>,
    not_ready: watch::Sender<Option<&'static str>>,
    stop: CancellationToken,
) -> Ended {
    while !stop.is_cancelled() {
        let before = *seen.borrow();
        let space = watermark.look(before).await;
        seen.send_replace(space);
        let reason = reason(space);
        not_ready.send_if_modified(|standing| {
            // Any other reason, such as a stop, is the stronger one.
            let ours = standing.is_none() || *standing == Some(DISK_LOW);
            let changes = ours && *standing != reason;
            if changes {
                *standing = reason;
            }
            changes
        });
        let next = clock::now().instant.plus(SPACE_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(next)) => {}
        }
    }
    Ended::Housekeeper
}

/// Tells the health service what readiness is.
async fn tell_health(
    mut not_ready: watch::Receiver<Option<&'static str>>,
    health: HealthReporter,
    stop: CancellationToken,
) -> Ended {
    loop {
        let status = match *not_ready.borrow_and_update() {
            None => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        };
        health.set_service_status(INGEST, status).await;
        tokio::select! {
            () = stop.cancelled() => return Ended::Housekeeper,
            changed = not_ready.changed() => if changed.is_err() {
                return Ended::Housekeeper;
            }
        }
    }
}
