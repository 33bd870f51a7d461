//! Who delivers an app: the holder of its lease.

use super::Scope;
use crate::{
    domain::{lease::Lease, lifecycle::Recovered, time::Timestamp, update::AppId},
    store::{
        handle::AppTerms,
        keys::course::lease,
        queue::{Engine, Queue, StoreError, Transaction, decode},
    },
};

impl<E: Engine> Queue<E> {
    /// Begins a transaction on all of an app, which this queue must be the one to deliver.
    pub(in crate::store::queue) async fn begin_fenced(
        &mut self,
        app: AppId,
    ) -> Result<E::Transaction, StoreError> {
        let transaction = self.lock(Scope::App(app), &[lease(app)], false).await?;
        self.fenced(transaction, app).await
    }

    /// The same where the app's state may be damaged: it counts as none then.
    pub(in crate::store::queue) async fn begin_rescue(
        &mut self,
        app: AppId,
    ) -> Result<E::Transaction, StoreError> {
        let transaction = self.lock(Scope::App(app), &[lease(app)], true).await?;
        self.fenced(transaction, app).await
    }

    /// The token is read after the locks were taken, and stays as it is read for whom it matters:
    /// see the head of this module.
    async fn fenced(
        &self,
        mut transaction: E::Transaction,
        app: AppId,
    ) -> Result<E::Transaction, StoreError> {
        let Some(fleet) = &self.fleet else { return Ok(transaction) };
        let lease = transaction.get(&lease(app)).await?;
        let lease = lease.map(|bytes| decode::<Lease>(bytes.as_ref())).transpose()?.flatten();
        let own = fleet.tokens.get(&app);
        if own.is_some() && lease.map(|lease| lease.token).as_ref() == own {
            return Ok(transaction);
        }
        self.leave(transaction).await?;
        Err(StoreError::LeaseLost { app: self.names.get(&app).cloned().unwrap_or_default() })
    }

    /// This queue delivers an app from now on, under the lease that has this token. What there is
    /// of the app is read anew, and made anew where it is damaged; its driver goes on from what is
    /// returned.
    pub async fn adopt(
        &mut self,
        terms: &AppTerms,
        token: u64,
        now: Timestamp,
    ) -> Result<(AppId, Recovered), StoreError> {
        let app = self.named(&terms.name).await?;
        self.hold_lease(app, token);
        let app = self.serve(&terms.name, terms.full_job, now).await?;
        self.suppress(app, terms.suppression).await?;
        Ok((app, self.recover(app, now).await?))
    }

    /// From now on what only the holder of an app's lease may do is done under this token.
    pub(in crate::store::queue) fn hold_lease(&mut self, app: AppId, token: u64) {
        if let Some(fleet) = &mut self.fleet {
            fleet.tokens.insert(app, token);
        }
    }

    /// Another delivers the app.
    pub(in crate::store) fn let_go(&mut self, app: AppId) {
        if let Some(fleet) = &mut self.fleet {
            fleet.tokens.remove(&app);
        }
    }
}
