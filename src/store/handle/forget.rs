//! Forgetting a subject, step by step, so that updates are accepted in between.

use super::{Closed, Store};
use crate::{
    domain::update::{AppId, Subject},
    store::{EngineError, StoreError, Traces, committer::Op, queue::Forgotten},
};

/// What became of all that named a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// What was kept of it.
    pub forgotten: Forgotten,
    /// Mentions in entries of others.
    pub mentions: u64,
    /// What a scan of the whole store has found after that.
    pub traces: Traces,
}

impl Store {
    /// Erases what is kept of a subject, and sweeps out what names it elsewhere. Then scans
    /// all of the store for what is left.
    pub async fn forget(&self, app: AppId, subject: Subject) -> Result<Erased, StoreError> {
        let closed = |Closed| StoreError::Engine(EngineError::Failed(Closed.to_string()));
        let of = || subject.clone();
        let forgotten = self.ask(|reply| Op::Forget { app, subject: of(), reply }).await;
        let forgotten = forgotten.map_err(closed)?;
        let up_to = forgotten.up_to;
        let (mut mentions, mut from) = (0, None);
        loop {
            let sweep = |reply| Op::Sweep { app, subject: of(), up_to, from: from.take(), reply };
            let swept = self.ask(sweep).await.map_err(closed)?;
            mentions += swept.erased;
            from = swept.next;
            if from.is_none() {
                break;
            }
        }
        let traces = self.read(move |reads| reads.traces(app, subject, up_to)).await?;
        Ok(Erased { forgotten, mentions, traces })
    }
}
