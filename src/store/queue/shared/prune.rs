//! Forgetting what is old: whoever delivers an app does it, one app a transaction.

use super::After;
use crate::{
    domain::{time::Timestamp, update::AppId},
    store::{
        keys,
        queue::{
            Engine, PruneCursor, Queue, Retention, StoreError, Transaction,
            prune::{CHUNK, forget_deliveries, prune_batches, prune_dead},
            stamps::REMEMBERED_AHEAD_MAX,
        },
        records::AppState,
        walk::app_of,
    },
};

impl<E: Engine> Queue<E> {
    /// As [`Self::prune`], of the apps that this queue delivers.
    pub(in crate::store::queue) async fn prune_own(
        &mut self,
        from: PruneCursor,
        retention: Retention,
    ) -> Result<PruneCursor, StoreError> {
        let own: Vec<AppId> =
            self.fleet.iter().flat_map(|fleet| fleet.tokens.keys().copied()).collect();
        let turns = [turn(&own, from.deliveries), turn(&own, from.held)];
        let mut next = PruneCursor::default();
        for (at, app) in own.iter().enumerate() {
            let [deliveries, held] =
                [0, 1].map(|kind| turns[kind].clone().filter(|(of, _)| of == app));
            let behind = own.get(at + 1).copied();
            let of_app = self.prune_app(*app, (deliveries, held), retention).await;
            let (more_deliveries, more_held) = match of_app {
                Ok(more) => more,
                // Whoever delivers it now prunes it.
                Err(StoreError::LeaseLost { .. }) => {
                    self.let_go(*app);
                    continue;
                }
                Err(error @ StoreError::Engine(_)) => return Err(error),
                // It is damaged, of which whoever delivers it tells.
                Err(error) => {
                    tracing::debug!(app = app.0, %error, "nothing of the app is forgotten");
                    continue;
                }
            };
            let start = |range: std::ops::RangeInclusive<Vec<u8>>| range.into_inner().0;
            if let Some(more) = more_deliveries {
                let next_app = behind.map(|app| start(keys::all_deliveries_of(app, None)));
                next.deliveries = more.or(next_app);
            }
            if let Some(more) = more_held {
                next.held = more.or_else(|| behind.map(|app| start(keys::all_held_of(app, None))));
            }
            self.prune_jobs_of(*app, retention.before).await?;
        }
        Ok(next)
    }

    /// Prunes one app; its deliveries and what it remembers where it is their turn. Where to go on
    /// with these, then.
    async fn prune_app(
        &mut self,
        app: AppId,
        (deliveries, held): (Option<Turn>, Option<Turn>),
        retention: Retention,
    ) -> Result<(Option<Option<Vec<u8>>>, Option<Option<Vec<u8>>>), StoreError> {
        let mut transaction = self.begin_fenced(app).await?;
        let before = self.state(app);
        let mut state = before;
        let mut due = 0;
        let mut more = (None, None);
        if let Some((_, from)) = deliveries {
            let range = keys::all_deliveries_of(app, from);
            let (forgotten, next) =
                forget_deliveries(&mut transaction, range, retention.before).await?;
            due += forgotten;
            more.0 = Some(next);
        }
        if let Some((_, from)) = held {
            let entries = transaction.scan(keys::all_held_of(app, from), CHUNK).await?;
            for (key, bytes) in &entries {
                if !self.counts(key, bytes.as_ref(), retention.now.wall)? {
                    transaction.delete(key);
                    due += 1;
                }
            }
            let last = entries.into_iter().nth(CHUNK - 1);
            more.1 = Some(last.map(|(last, _)| keys::after(last)));
        }
        due += prune_batches(&mut transaction, app, &mut state, retention).await?;
        let (forgotten, lost) = prune_dead(&mut transaction, app, &mut state, retention).await?;
        due += forgotten;
        due += usize::from(state.ageing.is_news_to(before.ageing));
        let back = self.set_back(app, &mut state, retention.now.wall);
        if due == 0 && back.is_none() {
            self.leave(transaction).await?;
            return Ok(more);
        }
        let after = After { state: Some(state), stamped_until: back, ..After::default() };
        self.conclude(transaction, app, after).await?;
        self.note_lost(lost);
        Ok(more)
    }

    /// As [`Self::stamp_time`] for an app that was accepted for under a clock that was ahead by
    /// much: once nothing waits, what it remembers counts no more, and no stamp is later than this.
    fn set_back(&self, app: AppId, state: &mut AppState, now: Timestamp) -> Option<Timestamp> {
        let courses = self.fleet.as_ref()?.courses.get(&app)?;
        let last = courses.iter().map(|course| course.last_accepted_at).max()?;
        if last.since(now) <= REMEMBERED_AHEAD_MAX || !state.is_empty() || !state.remembers {
            return None;
        }
        state.epoch = state.epoch.wrapping_add(1);
        Some(now)
    }
}

/// An app, and where its entries go on.
type Turn = (AppId, Option<Vec<u8>>);

/// Whose entries are looked at next.
fn turn(own: &[AppId], from: Option<Vec<u8>>) -> Option<Turn> {
    let of = from.as_deref().and_then(app_of);
    let of = of.unwrap_or(AppId(0));
    match own.iter().find(|app| **app >= of) {
        Some(app) if *app == of => Some((of, from)),
        found => found.or(own.first()).map(|app| (*app, None)),
    }
}
