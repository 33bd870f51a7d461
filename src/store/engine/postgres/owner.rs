//! The store's one holder, where it has one.
//!
//! A gateway takes the store for a time, its lease, and prolongs that while it runs. Another may
//! take it once the lease has ended, or at once where it has the same folder of the same machine
//! locked: then the holder before is dead. Taking it gives a new token, and every commit of the
//! holder checks its own: what an earlier holder sends late is refused by the database.
//!
//! A holder that cannot prolong its lease ends before that does, so that two never deliver at the
//! same time. Its commits are numbered. After one whose answer was lost it takes a new token, which
//! waits for that commit or shuts it out, and the number tells which: so it rides out a restart of
//! the database. A number that has gone back tells of commits that the database has lost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use tokio_postgres::types::{ToSql, Type};
use tokio_util::sync::CancellationToken;

use super::{
    connect::{Connection, PostgresOptions},
    failure::{Failure, Meaning},
    flight::{self, Fence, Writes},
    lease,
    pool::Pool,
};
use crate::{
    clock,
    domain::{
        backoff::{Backoff, BackoffLimits},
        time::Instant,
    },
    store::engine::EngineError,
};

const BACKOFF: BackoffLimits =
    BackoffLimits { initial: Duration::from_millis(100), max: Duration::from_secs(2) };

pub(super) struct Owner {
    /// Drawn at the start.
    me: String,
    pool: Arc<Pool>,
    commits: Mutex<Commits>,
    lost: watch::Sender<Option<String>>,
}

struct Commits {
    fence: Fence,
    /// Whether the last commit's answer never came.
    in_doubt: bool,
}

impl Owner {
    /// Takes the store, which may have to be waited for.
    pub(super) async fn take(
        pool: &Arc<Pool>,
        proof: &str,
    ) -> Result<(Arc<Self>, Instant), EngineError> {
        let me = format!("{:016x}", rand::random::<u64>());
        let began = clock::now().instant;
        let fence = lease::take(pool, &me, proof).await?;
        let commits = Mutex::new(Commits { fence, in_doubt: false });
        let lost = watch::Sender::new(None);
        let owner = Self { me, pool: pool.clone(), commits, lost };
        // It was prolonged by the database's clock some time after it was asked for.
        let until = began.plus(owner.patience());
        Ok((Arc::new(owner), until))
    }

    /// For how long it goes on without a word of the database.
    fn patience(&self) -> Duration {
        self.pool.options.lease / 2
    }

    /// Commits, and does not return before it is known whether that was done.
    pub(super) async fn commit(&self, writes: &Writes) -> Result<(), EngineError> {
        let mut commits = self.commits.lock().await;
        let mut backoff = Backoff::default();
        // Whether a commit in doubt is this one.
        let mut is_sent = false;
        loop {
            if commits.in_doubt {
                match lease::refence(&self.pool, &self.me).await {
                    Ok(found) => {
                        let before = commits.fence.commits;
                        *commits = Commits { fence: found, in_doubt: false };
                        if found.commits < before {
                            return Err(self.lose(&forgetful(before - found.commits)));
                        }
                        if is_sent && found.commits > before {
                            return Ok(());
                        }
                    }
                    Err(failure) => self.wait(failure, &mut backoff).await?,
                }
                continue;
            }
            // A connection that is lent has nothing under way.
            let lent = match self.pool.lend().await {
                Ok(lent) => lent,
                Err(failure) => {
                    self.wait(failure, &mut backoff).await?;
                    continue;
                }
            };
            let options = &self.pool.options;
            // Whoever drops this future does not know either.
            commits.in_doubt = true;
            let fence = Some(commits.fence);
            let sent = flight::commit(&lent, options, Some(&options.begin()), fence, writes).await;
            let Err(failure) = sent else {
                lent.give_back();
                commits.fence.commits += 1;
                commits.in_doubt = false;
                return Ok(());
            };
            drop(lent);
            commits.in_doubt = failure.meaning == Meaning::Unknown;
            is_sent = commits.in_doubt;
            self.pool.learn(&failure);
            self.wait(failure, &mut backoff).await?;
        }
    }

    /// Waits before something is tried again, or says why it is not.
    pub(super) async fn wait(
        &self,
        failure: Failure,
        backoff: &mut Backoff,
    ) -> Result<(), EngineError> {
        match failure.meaning {
            Meaning::Away | Meaning::AwayAll | Meaning::Unknown => {}
            Meaning::Fenced => return Err(self.lose(TAKEN)),
            Meaning::Failed => return Err(failure.into()),
        }
        if backoff.failures() == 0 {
            tracing::warn!(reason = failure.text, "the database is away: tries again");
        }
        let nap = tokio::time::sleep(backoff.fail(&BACKOFF, rand::random()));
        let mut lost = self.lost.subscribe();
        tokio::select! {
            biased;
            reason = lost.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone()).unwrap_or_default();
                Err(EngineError::Failed(reason))
            }
            () = nap => Ok(()),
        }
    }

    /// Ends once the store is not this process's any more.
    pub(super) async fn lost(&self) -> EngineError {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()) {
            Some(reason) => EngineError::Failed(reason),
            // It cannot be dropped while it is borrowed.
            None => std::future::pending().await,
        }
    }

    fn lose(&self, reason: &str) -> EngineError {
        self.lost.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert_with(|| reason.to_owned());
            is_first
        });
        EngineError::Failed(reason.to_owned())
    }

    /// Prolongs the lease until `stop`, or until it cannot: from then on the store is lost. Then
    /// gives it up.
    pub(super) async fn keep(self: Arc<Self>, mut until: Instant, stop: CancellationToken) {
        let options = &self.pool.options;
        let mut connection = None;
        let mut pause = options.lease / 6;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let sent_at = clock::now().instant;
            // It has a connection of its own: the others may all be in use.
            let renewing = self.renew(&mut connection, options);
            match timeout(options.lease / 6, renewing).await {
                Ok(Ok(true)) => {
                    until = sent_at.plus(self.patience());
                    pause = options.lease / 6;
                }
                Ok(Ok(false)) => {
                    self.lose(TAKEN);
                    return;
                }
                Ok(Err(_)) | Err(_) => {
                    connection = None;
                    pause = options.lease / 30;
                }
            }
            if clock::now().instant >= until {
                let patience = self.patience().as_millis();
                self.lose(&format!(
                    "the database has not answered for {patience} ms: this gateway ends, since \
                     another one may take the store soon"
                ));
                return;
            }
        }
        let releasing = lease::release(&self.pool, &self.me);
        timeout(Duration::from_secs(1), releasing).await.ok();
    }

    /// Whether it is still this process's.
    async fn renew(
        &self,
        connection: &mut Option<Connection>,
        options: &PostgresOptions,
    ) -> Result<bool, Failure> {
        if connection.is_none() {
            *connection = Some(self.pool.connect().await?);
        }
        let Some(Connection { client, .. }) = connection else { return Ok(true) };
        let sql = format!(
            "UPDATE {}.lease SET until = clock_timestamp() + $2 * interval '1 ms' \
             WHERE holder = $1",
            options.schema
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.me, Type::TEXT), (&lease::millis(options.lease), Type::INT8)];
        Ok(client.execute_typed(&sql, &parameters).await? == 1)
    }
}

const TAKEN: &str = "another gateway has taken the store over";

fn forgetful(commits: i64) -> String {
    format!(
        "the database has lost {commits} commits that it had confirmed, as it does where a standby \
         takes over that was behind: what was acknowledged with them is gone. Start again, to go on \
         from what is there; a synchronous standby would have kept them"
    )
}
