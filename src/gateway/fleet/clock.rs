//! The database's clock, by which all go that share it; and whether it answers.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    domain::{
        lease::SAMPLE_MAX,
        time::{Instant, Timestamp},
    },
    gateway::Ended,
    store::{EngineError, Store, engine::Engine},
};

const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A database that takes longer to say what time it is does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the gateway takes no updates while the database is away.
const AWAY: &str = "the store's database does not answer";

/// Sets this process's clock by the engine's, where that is quick enough to tell.
pub(in crate::gateway) async fn anchored<E: Engine>(engine: &E) -> Result<(), EngineError> {
    for _ in 0..10 {
        let asked_at = clock::instant();
        if let Some(wall) = engine.time().await?
            && anchor(wall, asked_at)
        {
            return Ok(());
        }
    }
    Err(EngineError::Away("it takes too long to say what time it is".to_owned()))
}

/// Whether what was told counts. It was so half way between the question and the answer.
fn anchor(wall: Timestamp, asked_at: Instant) -> bool {
    let way = clock::instant().since(asked_at);
    let counts = way <= SAMPLE_MAX;
    if counts {
        clock::anchor(wall, asked_at.plus(way / 2));
    }
    counts
}

/// Asks the database for the time, again and again. While it does not answer nothing is accepted,
/// and the gateway is not ready.
pub(in crate::gateway) async fn watch_database(
    store: Store,
    not_ready: watch::Sender<Option<&'static str>>,
    stop: CancellationToken,
) -> Ended {
    while !stop.is_cancelled() {
        let asked_at = clock::instant();
        let answer = timeout(ANSWER_TIMEOUT, store.time()).await;
        let trouble = match answer {
            Ok(Ok(wall)) => {
                if let Some(wall) = wall {
                    anchor(wall, asked_at);
                }
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {ANSWER_TIMEOUT:?}")),
        };
        match (&trouble, store.is_away()) {
            (Some(trouble), false) => tracing::warn!(trouble, "{AWAY}: refuses updates"),
            (None, true) => tracing::info!("the store's database answers again"),
            (Some(_), true) | (None, false) => {}
        }
        store.tell_away(trouble.is_some());
        let reason = trouble.map(|_| AWAY);
        not_ready.send_if_modified(|standing| {
            // Any other reason, such as a stop, is the stronger one.
            let ours = standing.is_none() || *standing == Some(AWAY);
            let changes = ours && *standing != reason;
            if changes {
                *standing = reason;
            }
            changes
        });
        let next = asked_at.plus(ASK_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(next)) => {}
        }
    }
    Ended::Housekeeper
}
