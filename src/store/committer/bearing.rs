//! What a writer outlives, where others write to the store, too.

use std::time::Duration;

use super::{Committer, Role};
use crate::{
    domain::time::Instant,
    store::{
        engine::{Engine, EngineError},
        queue::StoreError,
    },
};

/// What is known of a transaction that failed.
pub(super) enum Borne {
    /// Nothing of it was stored.
    NotStored,
    /// The commit's answer never came.
    Unknown,
}

/// How old may be what is known of apps that others have written to.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl<E: Engine> Committer<E> {
    /// Reads anew what waits for all apps, where that counts for the limits of clients.
    pub(super) async fn look_elsewhere(&mut self, now: Instant) -> Result<(), StoreError> {
        let is_due = self.looked_at.is_none_or(|at| now.since(at) >= LOOK_INTERVAL);
        if self.queue.looks_at_all_apps() && is_due {
            let apps: Vec<_> = self.apps.keys().copied().collect();
            self.queue.refresh(&apps).await?;
            self.looked_at = Some(now);
        }
        Ok(())
    }

    /// What an error means that does not end the writer. Whoever delivers an app makes anew what is
    /// damaged of it, when it begins.
    pub(super) fn bear(&self, error: StoreError) -> Result<Borne, StoreError> {
        match (self.role, error) {
            (Role::Alone, error) => Err(error),
            (_, StoreError::Engine(EngineError::Unknown(reason))) => {
                tracing::warn!(reason, "the database did not say whether a commit was done");
                Ok(Borne::Unknown)
            }
            // Whoever watches the database tells.
            (_, error) if error.is_passing() => Ok(Borne::NotStored),
            (_, error @ (StoreError::Damaged { .. } | StoreError::DamagedBatch { .. })) => {
                tracing::error!(%error, "nothing is stored for an app until this is made anew");
                Ok(Borne::NotStored)
            }
            (_, error) => Err(error),
        }
    }
}
