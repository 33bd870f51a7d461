//! What a store that several share needs: transactions that begin with locks.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};

use super::{
    PostgresEngine, PostgresTransaction,
    connect::Schema,
    failure::Failure,
    flight::{Read, Writes, by_table, in_order},
};
use crate::{
    domain::time::Timestamp,
    store::engine::{Engine as _, EngineError, Sharing, Transaction as _},
};

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";

/// What waits for no lock and reads nothing is answered sooner, whatever else the database does. Or
/// it does not answer.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Locks, then looks at the clock: what is read after the locks is what those who had them wrote.
pub(super) async fn begin(
    engine: &PostgresEngine,
    locks: &[Vec<u8>],
    reads: &[Vec<u8>],
) -> Result<PostgresTransaction, EngineError> {
    let pool = engine.pool();
    let lent = pool.lend().await?;
    let lock_rows = by_table(locks.iter().map(Vec::as_slice));
    let ahead: Vec<Read<'_>> = by_table(reads.iter().map(Vec::as_slice))
        .into_iter()
        .map(|(table, keys)| Read::Many(table, keys))
        .collect();
    let begun = {
        let (client, schema) = (lent.client(), &pool.options.schema);
        let begin = pool.options.begin();
        let mut train: Vec<BoxFuture<'_, Result<Vec<Row>, Error>>> =
            vec![async move { client.batch_execute(&begin).await.map(|()| Vec::new()) }.boxed()];
        for (table, keys) in &lock_rows {
            train.push(lock(client, schema, table, keys).boxed());
        }
        train.push(client.query_typed(CLOCK, &[]).boxed());
        train.extend(ahead.iter().map(|read| read.run(client, schema).boxed()));
        timeout(pool.options.answer_timeout(), in_order(train)).await
    };
    let rows = match begun {
        Ok(answers) => answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::from),
        Err(_) => {
            pool.cancel(lent.client());
            Err(Failure::away("the locks were not given in time"))
        }
    };
    let rows = rows.inspect_err(|failure| pool.learn(failure))?;
    let (locked, rows) = rows.split_at((1 + lock_rows.len()).min(rows.len()));
    let wanted: usize = lock_rows.iter().map(|(_, keys)| keys.len()).sum();
    if locked.iter().map(Vec::len).sum::<usize>() < wanted {
        return Err(EngineError::Failed("an entry to be locked is not there".to_owned()));
    }
    let Some((clock, read)) = rows.split_first() else {
        return Err(EngineError::Failed("the clock was not told".to_owned()));
    };
    let time = clock.first().map(timestamp).transpose()?;
    let mut transaction = PostgresTransaction::locked(engine.clone(), locks, lent, time);
    transaction.has_read(reads, read)?;
    Ok(transaction)
}

async fn lock(
    client: &Client,
    schema: &Schema,
    table: &str,
    keys: &[&[u8]],
) -> Result<Vec<Row>, Error> {
    let sql =
        format!("SELECT key FROM {schema}.{table} WHERE key = ANY($1) ORDER BY key FOR UPDATE");
    client.query_typed(&sql, &[(&keys, Type::BYTEA_ARRAY)]).await
}

fn timestamp(row: &Row) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_micros(row.try_get(0)?))
}

/// The database's own time. Where it is not told, nobody waits for an answer any longer.
pub(super) async fn time(engine: &PostgresEngine) -> Result<Option<Timestamp>, EngineError> {
    let pool = engine.pool();
    let lent = pool.lend().await?;
    let limit = CLOCK_TIMEOUT.min(pool.options.statement_timeout);
    let Ok(row) = timeout(limit, lent.client().query_typed_one(CLOCK, &[])).await else {
        pool.forsake();
        return Err(Failure::away("no answer in time").into());
    };
    let time = timestamp(&row.map_err(Failure::from)?)?;
    lent.give_back();
    Ok(Some(time))
}

/// Of several that put at once one is first, and all are told what it put.
pub(super) async fn put_if_absent(
    engine: &PostgresEngine,
    key: &[u8],
    value: Vec<u8>,
) -> Result<Vec<u8>, EngineError> {
    if engine.sharing() == Sharing::Alone {
        let mut transaction = engine.begin().await?;
        if let Some(found) = transaction.get(key).await? {
            return Ok(found);
        }
        transaction.put(key, value.clone());
        transaction.commit().await?;
        return Ok(value);
    }
    let pool = engine.pool();
    let lent = pool.lend().await?;
    let (schema, table) = (&pool.options.schema, super::tables::of(key));
    let begin = pool.options.begin();
    let insert =
        format!("INSERT INTO {schema}.{table} (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    let whole = async {
        let client = lent.client();
        client.batch_execute(&begin).await?;
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&key, Type::BYTEA), (&value, Type::BYTEA)];
        client.execute_typed(&insert, &parameters).await?;
        Ok::<_, Failure>(())
    };
    timeout(pool.options.answer_timeout(), whole)
        .await
        .map_err(|_| Failure::away("no answer in time"))??;
    let no_writes = Writes::new();
    engine.commit_held(lent, &no_writes).await?;
    let found = engine.begin().await?.get(key).await?;
    found.ok_or_else(|| EngineError::Failed("what was put is not there".to_owned()))
}
