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

/// Forgets history that is old enough, a little at a time.
pub(super) async fn keep(
    store: Store,
    (keep, batches_max): (Duration, u64),
    stop: CancellationToken,
) -> Ended {
    let mut from = None;
    while !stop.is_cancelled() {
        let now = clock::now();
        let retention = Retention { before: now.wall.minus(keep), batches_max };
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
