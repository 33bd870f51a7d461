//! What is done now and then.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Ended;
use crate::{
    admin::status::Observatory,
    clock,
    store::{self, Store, queue::Retention},
    telemetry::Metrics,
};

const KEEP_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

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
pub(super) async fn keep(store: Store, keeping: Keeping, stop: CancellationToken) -> Ended {
    let mut from = None;
    while !stop.is_cancelled() {
        let now = clock::now();
        let retention = Retention {
            before: now.wall.minus(keeping.history),
            batches_max: keeping.batches_max,
            dead_before: now.wall.minus(keeping.dead),
            dead_max: keeping.dead_max,
        };
        match store.prune(from, retention).await {
            Ok(next) => from = next,
            Err(store::Closed) => break,
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(now.instant.plus(KEEP_INTERVAL))) => {}
        }
    }
    Ended::Housekeeper
}

/// Looks for how long each app's longest waiting record has waited. A scrape cannot: it would
/// have to read the disk.
pub(super) async fn look(
    observatory: Observatory,
    metrics: Metrics,
    stop: CancellationToken,
) -> Ended {
    while !stop.is_cancelled() {
        for app in observatory.apps.iter() {
            let oldest = observatory.oldest_pending(app.id).await;
            let age = oldest.map_or(Duration::ZERO, |at| clock::now().wall.since(at));
            metrics.oldest_pending(&app.name, age);
        }
        let next = clock::now().instant.plus(LOOK_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(next)) => {}
        }
    }
    Ended::Housekeeper
}
