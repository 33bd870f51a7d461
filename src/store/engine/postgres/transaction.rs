//! A transaction. Without locks its reads are each by themselves, and its writes are collected
//! until the commit, which then is one train. With locks it holds a connection until it ends.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;
use tokio_postgres::{Error, Row};

use super::{
    PostgresEngine,
    failure::Failure,
    flight::{Read, Writes, by_table, in_order},
    pool::Lent,
};
use crate::{
    domain::time::Timestamp,
    store::{
        engine::{
            ENTRY_BYTES_MAX, Engine as _, EngineError, Entries, Transaction, check_entry,
            guard::Guard,
        },
        keys,
    },
};

/// How many entries a scan reads that goes on where another has ended: most do so page by page.
const AHEAD: usize = 16;

/// A transaction over a [`PostgresEngine`].
pub struct PostgresTransaction {
    engine: PostgresEngine,
    /// What it holds its locks by.
    held: Option<Lent>,
    /// Whether it has locks, or has lost them with its connection.
    is_locked: bool,
    read: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// What comes next in scans, by where they end. Nobody changes it while it is locked.
    ahead: HashMap<Vec<u8>, Ahead>,
    writes: Writes,
    guard: Guard,
    time: Option<Timestamp>,
}

impl PostgresTransaction {
    pub(super) fn new(engine: PostgresEngine) -> Self {
        let guard = Guard::new(engine.sharing(), &[]);
        Self {
            engine,
            guard,
            held: None,
            is_locked: false,
            read: HashMap::new(),
            ahead: HashMap::new(),
            writes: Writes::new(),
            time: None,
        }
    }

    /// One that has these locks.
    pub(super) fn locked(
        engine: PostgresEngine,
        locks: &[Vec<u8>],
        held: Lent,
        time: Option<Timestamp>,
    ) -> Self {
        let guard = Guard::new(engine.sharing(), locks);
        Self { held: Some(held), is_locked: true, guard, time, ..Self::new(engine) }
    }

    /// The first entries of a range. Where that goes on from another, more are read than were asked
    /// for.
    async fn entries(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> Result<Entries<Vec<u8>>, EngineError> {
        let known = self.ahead.remove(range.end()).filter(|ahead| ahead.next == *range.start());
        let ahead = match known {
            Some(ahead) if ahead.is_all || ahead.entries.len() >= limit => ahead,
            known => {
                let asked = if known.is_some() { limit.max(AHEAD) } else { limit };
                let rows = self
                    .rows(&Read::Range(&range, i64::try_from(asked).unwrap_or(i64::MAX)))
                    .await?;
                let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
                Ahead { next: Vec::new(), entries, is_all: rows.len() < asked }
            }
        };
        let Ahead { mut entries, is_all, .. } = ahead;
        let found: Entries<Vec<u8>> = entries.drain(..limit.min(entries.len())).collect();
        if let Some((last, _)) = found.last().filter(|_| self.is_locked) {
            let ahead = Ahead { next: keys::after(last.clone()), entries, is_all };
            self.ahead.insert(range.into_inner().1, ahead);
        }
        Ok(found)
    }

    /// Keeps what was read of these keys. What is not there stays so for this transaction.
    pub(super) fn has_read(
        &mut self,
        keys: &[Vec<u8>],
        tables: &[Vec<Row>],
    ) -> Result<(), EngineError> {
        self.read.extend(keys.iter().map(|key| (key.clone(), None)));
        for row in tables.iter().flatten() {
            let (key, value) = entry(row)?;
            self.read.insert(key, Some(value));
        }
        Ok(())
    }

    async fn rows(&mut self, read: &Read<'_>) -> Result<Vec<Row>, EngineError> {
        if !self.is_locked {
            return self.engine.rows(read).await;
        }
        let done = self.on_held(std::slice::from_ref(read)).await?;
        Ok(done.into_iter().flatten().collect())
    }

    /// Reads by the connection that is held. After a failure that is gone, and the locks with it.
    async fn on_held(&mut self, reads: &[Read<'_>]) -> Result<Vec<Vec<Row>>, EngineError> {
        let Some(held) = self.held.take() else {
            return Err(EngineError::Away("the transaction has lost its connection".to_owned()));
        };
        let pool = self.engine.pool();
        let schema = &pool.options.schema;
        let train: Vec<BoxFuture<'_, Result<Vec<Row>, Error>>> =
            reads.iter().map(|read| read.run(held.client(), schema).boxed()).collect();
        let answers = timeout(pool.options.answer_timeout(), in_order(train)).await;
        let answers = match answers {
            Ok(answers) => answers.into_iter().collect::<Result<Vec<_>, _>>(),
            Err(_) => {
                pool.cancel(held.client());
                return Err(Failure::away("a read was not answered in time").into());
            }
        };
        match answers.map_err(Failure::from) {
            Ok(rows) => {
                self.held = Some(held);
                Ok(rows)
            }
            Err(failure) => {
                pool.learn(&failure);
                Err(failure.into())
            }
        }
    }
}

impl Transaction for PostgresTransaction {
    type Value = Vec<u8>;

    async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        if let Some(read) = self.read.get(key) {
            return Ok(read.clone());
        }
        let rows = self.rows(&Read::One(key)).await?;
        let value = rows.first().map(|row| row.try_get(0).map_err(Failure::from));
        Ok(value.transpose()?)
    }

    async fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> Result<Entries<Vec<u8>>, EngineError> {
        self.entries(range, limit).await
    }

    async fn prefetch(&mut self, keys: &[Vec<u8>]) -> Result<(), EngineError> {
        let new: Vec<Vec<u8>> =
            keys.iter().filter(|key| !self.read.contains_key(*key)).cloned().collect();
        let reads: Vec<Read<'_>> = by_table(new.iter().map(Vec::as_slice))
            .into_iter()
            .map(|(table, keys)| Read::Many(table, keys))
            .collect();
        if self.is_locked {
            let rows = self.on_held(&reads).await?;
            return self.has_read(&new, &rows);
        }
        let mut rows = Vec::new();
        for read in &reads {
            rows.push(self.engine.rows(read).await?);
        }
        self.has_read(&new, &rows)
    }

    fn time(&self) -> Option<Timestamp> {
        self.time
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.guard.watch(key);
        self.writes.insert(key.to_vec(), Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.guard.watch(key);
        self.writes.insert(key.to_vec(), None);
    }

    async fn commit(self) -> Result<(), EngineError> {
        let Self { engine, held, is_locked, writes, .. } = self;
        for (key, value) in &writes {
            let value_bytes = value.as_ref().map_or(0, Vec::len);
            check_entry(key.len() + value_bytes, ENTRY_BYTES_MAX)?;
        }
        match held {
            Some(held) => engine.commit_held(held, &writes).await,
            None if is_locked => {
                Err(EngineError::Away("the transaction has lost its connection".to_owned()))
            }
            None if writes.is_empty() => Ok(()),
            None => engine.commit(&writes).await,
        }
    }
}

/// What a scan comes to next.
struct Ahead {
    /// Where it goes on.
    next: Vec<u8>,
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// Nothing comes behind them.
    is_all: bool,
}

fn entry(row: &Row) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}
