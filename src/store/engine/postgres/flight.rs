//! Trains of statements: all of them are sent before the first is answered, so that a train costs
//! one way to the server and back, whatever its length. Statements have no names and their
//! parameters' types are told, so that they work through poolers.

use std::{
    collections::BTreeMap, future::poll_fn, ops::RangeInclusive, pin::Pin, sync::atomic::Ordering,
    task::Poll,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, MaybeDone, maybe_done},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Error, Row,
    error::SqlState,
    types::{ToSql, Type},
};

use super::{
    connect::{PostgresOptions, Schema},
    failure::{Failure, Meaning},
    pool::Lent,
    tables,
};

/// Each key and its new value, or none to remove it.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What this process's commits are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// Whose turn it is: another holder has another one.
    pub(super) token: i64,
    /// How many commits there were.
    pub(super) commits: i64,
}

/// What is read at once.
pub(super) enum Read<'a> {
    /// The value of one key.
    One(&'a [u8]),
    /// Entries of one table, those that are there.
    Many(&'static str, Vec<&'a [u8]>),
    /// The first entries of a range.
    Range(&'a RangeInclusive<Vec<u8>>, i64),
}

impl Read<'_> {
    pub(super) async fn run(&self, client: &Client, schema: &Schema) -> Result<Vec<Row>, Error> {
        match self {
            Self::One(key) => {
                let sql = format!("SELECT value FROM {schema}.{} WHERE key = $1", tables::of(key));
                client.query_typed(&sql, &[(key, Type::BYTEA)]).await
            }
            Self::Many(table, keys) => {
                let sql = format!("SELECT key, value FROM {schema}.{table} WHERE key = ANY($1)");
                client.query_typed(&sql, &[(keys, Type::BYTEA_ARRAY)]).await
            }
            Self::Range(range, limit) => {
                let sql = range_sql(&tables::within(range), schema);
                let parameters: [(&(dyn ToSql + Sync), Type); 3] =
                    [(range.start(), Type::BYTEA), (range.end(), Type::BYTEA), (limit, Type::INT8)];
                client.query_typed(&sql, &parameters).await
            }
        }
    }
}

/// Each table is read by its own index, and no further than the limit.
fn range_sql(tables: &[&str], schema: &Schema) -> String {
    let of_one = |table: &&str| {
        format!(
            "(SELECT key, value FROM {schema}.{table} WHERE key BETWEEN $1 AND $2 \
             ORDER BY key LIMIT $3)"
        )
    };
    let all: Vec<String> = tables.iter().map(of_one).collect();
    format!("SELECT key, value FROM ({}) AS e ORDER BY key LIMIT $3", all.join(" UNION ALL "))
}

/// The keys of each table, in the order of the tables' bytes.
pub(super) fn by_table<'a>(
    keys: impl Iterator<Item = &'a [u8]>,
) -> Vec<(&'static str, Vec<&'a [u8]>)> {
    let mut sorted: Vec<&[u8]> = keys.collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut tables: Vec<(&'static str, Vec<&[u8]>)> = Vec::new();
    for key in sorted {
        let table = tables::of(key);
        match tables.iter_mut().find(|(name, _)| *name == table) {
            Some((_, keys)) => keys.push(key),
            None => tables.push((table, vec![key])),
        }
    }
    tables
}

/// Commits `writes` in one train. Where a connection is lent that has no transaction under way,
/// `begin` begins one.
pub(super) async fn commit(
    lent: &Lent,
    options: &PostgresOptions,
    begin: Option<&str>,
    fence: Option<Fence>,
    writes: &Writes,
) -> Result<(), Failure> {
    let schema = &options.schema;
    let connection = lent.connection();
    connection.doubt.store(false, Ordering::SeqCst);
    let client = &connection.client;
    let mut train: Vec<BoxFuture<'_, Result<u64, Error>>> = Vec::new();
    if let Some(begin) = begin {
        train.push(client.batch_execute(begin).map(|done| done.map(|()| 0)).boxed());
    }
    let fence_at = train.len();
    if let Some(fence) = fence {
        train.push(raise(client, schema, fence).boxed());
    }
    let puts = by_table(writes.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| &**key));
    for (table, keys) in puts {
        train.push(put(client, schema, table, keys, writes).boxed());
    }
    let gone = by_table(writes.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| &**key));
    for (table, keys) in gone {
        train.push(delete(client, schema, table, keys).boxed());
    }
    // A time-out that comes while the standby is waited for would end the wait, and the commit with
    // success.
    let before = "SET LOCAL statement_timeout = 0";
    train.push(client.batch_execute(before).map(|done| done.map(|()| 0)).boxed());
    train.push(client.batch_execute("COMMIT").map(|done| done.map(|()| 0)).boxed());
    let limit = options.answer_timeout();
    let Ok(answers) = timeout(limit, in_order(train)).await else {
        return Err(Failure::unknown("the commit was not answered in time"));
    };
    outcome(answers, fence.map(|_| fence_at))?;
    if connection.doubt.load(Ordering::SeqCst) {
        let text = "the server stopped waiting for the synchronous standby";
        return Err(Failure::unknown(text));
    }
    Ok(())
}

/// What a train that ends with a commit has come to. The commit of a transaction that has failed
/// is answered without an error: every answer counts.
fn outcome(answers: Vec<Result<u64, Error>>, fence_at: Option<usize>) -> Result<(), Failure> {
    let last = answers.len().saturating_sub(1);
    let Some((at, error)) =
        answers.into_iter().enumerate().find_map(|(at, answer)| Some((at, answer.err()?)))
    else {
        return Ok(());
    };
    let is_fence = fence_at == Some(at) && error.code() == Some(&SqlState::NOT_NULL_VIOLATION);
    let refused = error.code().map(|code| code.code().to_owned());
    let failure = Failure::from(error);
    let meaning = match refused {
        _ if is_fence => Meaning::Fenced,
        // The server said what it did not do.
        Some(_) if at < last => failure.meaning,
        Some(code) if code.starts_with("40") || code.starts_with("23") => failure.meaning,
        // The commit itself, or the way to the server, broke.
        Some(_) => Meaning::Unknown,
        None if failure.is_away() => Meaning::Unknown,
        None => failure.meaning,
    };
    Err(Failure { meaning, ..failure })
}

/// Fails where the token or the number is not what is there.
async fn raise(client: &Client, schema: &Schema, fence: Fence) -> Result<u64, Error> {
    let sql = format!(
        "UPDATE {schema}.fence SET commits = \
         CASE WHEN token = $1 AND commits = $2 THEN $2 + 1 END"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&fence.token, Type::INT8), (&fence.commits, Type::INT8)];
    client.execute_typed(&sql, &parameters).await
}

async fn put(
    client: &Client,
    schema: &Schema,
    table: &str,
    keys: Vec<&[u8]>,
    writes: &Writes,
) -> Result<u64, Error> {
    let values: Vec<&[u8]> = keys.iter().filter_map(|key| writes.get(*key)?.as_deref()).collect();
    let sql = format!(
        "INSERT INTO {schema}.{table} (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&keys, Type::BYTEA_ARRAY), (&values, Type::BYTEA_ARRAY)];
    client.execute_typed(&sql, &parameters).await
}

async fn delete(
    client: &Client,
    schema: &Schema,
    table: &str,
    keys: Vec<&[u8]>,
) -> Result<u64, Error> {
    let sql = format!("DELETE FROM {schema}.{table} WHERE key = ANY($1)");
    client.execute_typed(&sql, &[(&keys, Type::BYTEA_ARRAY)]).await
}

/// Runs them side by side. The first of them sends first, since each sends when it is first polled.
pub(super) async fn in_order<T: Send>(train: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut train: Vec<MaybeDone<BoxFuture<'_, T>>> = train.into_iter().map(maybe_done).collect();
    poll_fn(|cx| {
        let mut all = Poll::Ready(());
        for future in &mut train {
            if Pin::new(future).poll(cx).is_pending() {
                all = Poll::Pending;
            }
        }
        all
    })
    .await;
    train.iter_mut().filter_map(|future| Pin::new(future).take_output()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_into_tables() {
        let keys = [&b"r2"[..], b"a", b"r1", b"r2", b"\xffx"];
        let expected: Vec<(&str, Vec<&[u8]>)> = vec![
            ("app_state", vec![b"a"]),
            ("pending", vec![b"r1", b"r2"]),
            (tables::REST, vec![b"\xffx"]),
        ];
        assert_eq!(by_table(keys.into_iter()), expected);
    }

    #[test]
    fn a_range_of_several_tables_reads_no_further_in_each_than_its_limit() {
        let schema = Schema::new("s").unwrap();
        let sql = range_sql(&["page", "meta"], &schema);
        assert_eq!(sql.matches("LIMIT $3").count(), 3);
        assert_eq!(sql.matches("UNION ALL").count(), 1);
    }
}
