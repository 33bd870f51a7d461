//! The two rows that say whose the store is.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::timeout;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use super::{
    failure::{Failure, Meaning},
    flight::Fence,
    pool::{Lent, Pool},
};
use crate::store::engine::EngineError;

/// How long to wait before a lease that has not ended is looked at again.
const LOOK: Duration = Duration::from_millis(250);

/// How a lease stands that is another's.
struct Standing {
    place: String,
    holder: String,
    /// Until when, as text, and for how much longer.
    until: String,
    left_ms: i64,
}

/// Takes the store once its lease has ended. Where that is prolonged meanwhile, its holder is alive.
pub(super) async fn take(pool: &Arc<Pool>, me: &str, proof: &str) -> Result<Fence, EngineError> {
    let mut seen: Option<Standing> = None;
    loop {
        let standing = match try_to_take(pool, me, proof).await? {
            Ok(fence) => return Ok(fence),
            Err(standing) => standing,
        };
        match &seen {
            None => tracing::info!(
                holder = standing.place,
                left_ms = standing.left_ms,
                "the store has a holder, or had one that did not give it up: waits for its lease"
            ),
            Some(seen) if seen.until == standing.until && seen.holder == standing.holder => {}
            Some(_) => {
                let path = format!("{}, held by {},", pool.options.place(), standing.place);
                return Err(EngineError::InUse { path, holder: None });
            }
        }
        seen = Some(standing);
        tokio::time::sleep(LOOK).await;
    }
}

async fn try_to_take(
    pool: &Arc<Pool>,
    me: &str,
    proof: &str,
) -> Result<Result<Fence, Standing>, Failure> {
    let schema = &pool.options.schema;
    let take = format!(
        "UPDATE {schema}.lease SET holder = $1, place = $2, proof = $3, \
         until = clock_timestamp() + $4 * interval '1 ms' \
         WHERE until <= clock_timestamp() OR (proof = $3 AND proof <> '')"
    );
    let fence = format!(
        "UPDATE {schema}.fence SET token = token + 1, holder = $1 RETURNING token, commits"
    );
    let look = format!(
        "SELECT place, holder, until::text, \
         (extract(epoch FROM until - clock_timestamp()) * 1000)::int8 FROM {schema}.lease"
    );
    in_transaction(pool, async |client| {
        let place = format!("{}, process {}", host_name(), std::process::id());
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&me, Type::TEXT),
            (&place, Type::TEXT),
            (&proof, Type::TEXT),
            (&millis(pool.options.lease), Type::INT8),
        ];
        if client.execute_typed(&take, &parameters).await? == 0 {
            let row = client.query_typed_one(&look, &[]).await?;
            return Ok(Err(Standing {
                place: row.try_get(0)?,
                holder: row.try_get(1)?,
                until: row.try_get(2)?,
                left_ms: row.try_get(3)?,
            }));
        }
        let row = client.query_typed_one(&fence, &[(&me, Type::TEXT)]).await?;
        Ok(Ok(Fence { token: row.try_get(0)?, commits: row.try_get(1)? }))
    })
    .await
}

/// Takes a new token. A commit under the old one that is still under way is waited for, and one
/// that comes later is refused.
pub(super) async fn refence(pool: &Arc<Pool>, me: &str) -> Result<Fence, Failure> {
    let sql = format!(
        "UPDATE {}.fence SET token = token + 1 WHERE holder = $1 RETURNING token, commits",
        pool.options.schema
    );
    in_transaction(pool, async |client| {
        let row = client.query_typed_opt(&sql, &[(&me, Type::TEXT)]).await?;
        let Some(row) = row else {
            return Err(Failure { meaning: Meaning::Fenced, text: String::new() });
        };
        Ok(Fence { token: row.try_get(0)?, commits: row.try_get(1)? })
    })
    .await
}

/// Gives the store up, for whoever comes next.
pub(super) async fn release(pool: &Arc<Pool>, me: &str) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE {}.lease SET until = clock_timestamp() WHERE holder = $1",
        pool.options.schema
    );
    let connection = pool.connect().await?;
    connection.client.execute_typed(&sql, &[(&me, Type::TEXT)]).await?;
    Ok(())
}

/// Statements of one transaction, each sent once the one before is answered.
async fn in_transaction<T>(
    pool: &Arc<Pool>,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let lent: Lent = pool.lend().await?;
    let connection = lent.connection();
    connection.doubt.store(false, Ordering::SeqCst);
    let whole = async {
        let client = &connection.client;
        client.batch_execute(&pool.options.begin()).await?;
        let done = work(client).await?;
        client.batch_execute("SET LOCAL statement_timeout = 0; COMMIT").await?;
        Ok(done)
    };
    let done = match timeout(pool.options.answer_timeout(), whole).await {
        Ok(done) => done,
        Err(_) => Err(Failure::away("no answer in time")),
    };
    match &done {
        Ok(_) if connection.doubt.load(Ordering::SeqCst) => {
            return Err(Failure::away("the server stopped waiting for the synchronous standby"));
        }
        Ok(_) => lent.give_back(),
        Err(failure) => pool.learn(failure),
    }
    done
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "a host".to_owned() } else { name.trim().to_owned() }
}
