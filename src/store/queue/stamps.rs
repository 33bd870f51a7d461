//! When updates occurred that do not say so: when they were accepted. Among values that can meet,
//! sequence order must be time order, whatever the clock does.

use std::time::Duration;

use super::{AppState, Engine, Queue, StoreError, Stored, Transaction, keys};
use crate::domain::time::Timestamp;

/// A clock that goes back by more is worth a word.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// What was delivered under a clock that was ahead by more is not remembered any longer than
/// anything waits: what occurs now would count as older for as long as that.
pub(super) const REMEMBERED_AHEAD_MAX: Duration = Duration::from_secs(60);

impl<E: Engine> Queue<E> {
    /// The time of updates that do not say when they occurred. Once nothing waits, is in flight or
    /// can be replayed, there are no values that they can meet but those that are remembered, and a
    /// clock that was ahead is forgotten: together with these, if it was ahead by much.
    pub(super) async fn stamp_time(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let last = self.head.last_accepted_at;
        let ahead = last.since(now);
        let is_empty = self.apps.values().all(AppState::is_empty);
        let remembers = self.apps.values().any(|state| state.remembers);
        if is_empty && ahead > REMEMBERED_AHEAD_MAX && remembers {
            self.forget_all_held().await?;
        }
        if last <= now || is_empty && (ahead > REMEMBERED_AHEAD_MAX || !remembers) {
            self.warned_of_clock = false;
            return Ok(now);
        }
        if ahead > CLOCK_AHEAD_MAX && !self.warned_of_clock {
            self.warned_of_clock = true;
            let ahead_seconds = ahead.as_secs();
            tracing::warn!(
                ahead_seconds,
                "the clock has gone back: until all that waits is delivered, and no dead letter is \
                 left, updates without occurred_at count as later than they are"
            );
        }
        Ok(last)
    }

    /// What apps remember of upstream counts no more.
    async fn forget_all_held(&mut self) -> Result<(), StoreError> {
        let mut apps = self.apps.clone();
        let mut transaction = self.engine.begin().await?;
        for (app, state) in apps.iter_mut().filter(|(_, state)| state.remembers) {
            state.epoch = state.epoch.wrapping_add(1);
            transaction.put(&keys::app(*app), state.encode());
        }
        transaction.commit().await?;
        self.apps = apps;
        tracing::warn!("the clock has gone back: what was delivered is not remembered any more");
        Ok(())
    }
}
