//! PostgreSQL: a table for each kind of key, and the entries' bytes as they are.
//!
//! Connections are driven by a thread of the engine's own, and statements keep to what works through
//! poolers in transaction mode: no names, no settings that outlive a transaction, no session locks.
//!
//! Where the store is one process's alone, [`owner`] sees to that, and its transactions ride out a
//! database that is away for a while. Where it is shared, whoever asks is told, and locks are what
//! keeps transactions apart.

mod connect;
mod failure;
mod flight;
mod folder;
mod lease;
mod locked;
mod owner;
mod pool;
mod schema;
mod tables;
#[cfg(test)]
pub(in crate::store) mod tests;
mod tls;
mod transaction;

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_postgres::{Client, Row, types::Type};
use tokio_util::sync::CancellationToken;

pub use self::{
    connect::{Host, PostgresOptions, Schema},
    schema::{Age, script},
    transaction::PostgresTransaction,
};
use self::{
    failure::Failure,
    flight::{Read, Writes},
    owner::Owner,
    pool::{Lent, Pool},
};
use super::{Engine, EngineError, Sharing};
use crate::domain::{backoff::Backoff, time::Timestamp};

/// The engine's name in the configuration.
const NAME: &str = "postgres";
/// How often it is asked how large the tables are.
const SIZE_INTERVAL: Duration = Duration::from_secs(30);
/// For how long closing waits until the lease is given up.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A store in a PostgreSQL database. Clones are the same one.
#[derive(Clone)]
pub struct PostgresEngine {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Arc<Pool>,
    owner: Option<Arc<Owner>>,
    disk_bytes: Arc<AtomicU64>,
    stop: CancellationToken,
    /// Hears when the lease has been given up.
    released: std::sync::Mutex<mpsc::Receiver<()>>,
    _worker: Worker,
    /// Held for as long as the store is open.
    _lock: File,
}

/// The thread that drives the connections. It may be dropped anywhere.
struct Worker(Option<Runtime>);

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Ok(released) = self.released.lock() {
            // Where it is not given up, whoever comes next waits for its end.
            released.recv_timeout(RELEASE_TIMEOUT).ok();
        }
    }
}

impl PostgresEngine {
    /// Opens the store, once its schema is current and nobody else has it.
    pub async fn open(options: &PostgresOptions) -> Result<Self, EngineError> {
        let (lock, proof) = folder::take(&options.folder, NAME)?;
        let worker = worker()?;
        let Some(runtime) = worker.0.as_ref().map(Runtime::handle).cloned() else {
            return Err(EngineError::Failed("the store has been closed".to_owned()));
        };
        let pool = Pool::new(options.clone(), runtime.clone());
        prepare(&pool).await?;
        let stop = CancellationToken::new();
        let (releases, released) = mpsc::sync_channel(1);
        let owner = match options.sharing {
            Sharing::Shared { .. } => None,
            Sharing::Alone => {
                let (owner, until) = Owner::take(&pool, &proof).await?;
                let keeping = owner.clone().keep(until, stop.clone());
                runtime.spawn(async move {
                    keeping.await;
                    releases.send(()).ok();
                });
                Some(owner)
            }
        };
        let disk_bytes = Arc::new(AtomicU64::new(0));
        runtime.spawn(measure(pool.clone(), disk_bytes.clone(), stop.clone()));
        let released = std::sync::Mutex::new(released);
        let shared =
            Shared { pool, owner, disk_bytes, stop, released, _worker: worker, _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Brings the schema up to date, unless it is newer, and gives `role` what the gateway needs.
    /// Returns how old the schema was.
    pub async fn migrate(
        options: &PostgresOptions,
        role: Option<&str>,
    ) -> Result<Age, EngineError> {
        let worker = worker()?;
        let Some(runtime) = worker.0.as_ref().map(Runtime::handle).cloned() else {
            return Err(EngineError::Failed("the store has been closed".to_owned()));
        };
        let pool = Pool::new(options.clone(), runtime);
        let lent = pool.lend().await.map_err(|failure| cannot_open(&pool, failure))?;
        let migrated = schema::migrate(lent.client(), &options.schema, role).await;
        migrated.map_err(|failure| cannot_open(&pool, failure))
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }

    /// Reads past any transaction. Where the store is this process's alone, a database that is away
    /// is waited for.
    async fn rows(&self, read: &Read<'_>) -> Result<Vec<Row>, EngineError> {
        let mut backoff = Backoff::default();
        loop {
            let failure = match self.try_rows(read).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            self.pool().learn(&failure);
            match &self.shared.owner {
                Some(owner) => owner.wait(failure, &mut backoff).await?,
                None => return Err(failure.into()),
            }
        }
    }

    async fn try_rows(&self, read: &Read<'_>) -> Result<Vec<Row>, Failure> {
        let pool = self.pool();
        let lent = pool.lend().await?;
        let reading = read.run(lent.client(), &pool.options.schema);
        match timeout(pool.options.statement_timeout, reading).await {
            Ok(rows) => {
                let rows = rows?;
                lent.give_back();
                Ok(rows)
            }
            Err(_) => {
                pool.cancel(lent.client());
                Err(Failure::away("a read was not answered in time"))
            }
        }
    }

    async fn commit(&self, writes: &Writes) -> Result<(), EngineError> {
        if let Some(owner) = &self.shared.owner {
            return owner.commit(writes).await;
        }
        let lent = self.pool().lend().await?;
        let begin = self.pool().options.begin();
        self.commit_on(lent, Some(&begin), writes).await
    }

    /// Commits a transaction that has begun.
    async fn commit_held(&self, lent: Lent, writes: &Writes) -> Result<(), EngineError> {
        self.commit_on(lent, None, writes).await
    }

    async fn commit_on(
        &self,
        lent: Lent,
        begin: Option<&str>,
        writes: &Writes,
    ) -> Result<(), EngineError> {
        match flight::commit(&lent, &self.pool().options, begin, None, writes).await {
            Ok(()) => {
                lent.give_back();
                Ok(())
            }
            Err(failure) => {
                self.pool().learn(&failure);
                Err(failure.into())
            }
        }
    }
}

fn worker() -> Result<Worker, EngineError> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("postgres").enable_all();
    let runtime = builder.build().map_err(|error| EngineError::Failed(error.to_string()))?;
    Ok(Worker(Some(runtime)))
}

/// Sees that commits are what they are taken for, and that the schema is there.
async fn prepare(pool: &Arc<Pool>) -> Result<(), EngineError> {
    let lent = pool.lend().await.map_err(|failure| cannot_open(pool, failure))?;
    let (client, options) = (lent.client(), &pool.options);
    let look = async {
        refuse_unsafe(client).await?;
        schema::age(client, &options.schema).await
    };
    let age = look.await.map_err(|failure| cannot_open(pool, failure))?;
    let refused = |reason: String| Err(EngineError::Open { path: options.place(), reason });
    match age {
        Age::Current => {}
        Age::Newer(version) => {
            return refused(format!(
                "a newer version of this program made it (schema version {version}): use that one. \
                 Nothing was changed"
            ));
        }
        Age::Missing if !options.makes_schema => {
            return refused("there is no store: `store migrate` makes one".to_owned());
        }
        Age::Missing | Age::Old(_) => {
            let migrated = schema::migrate(client, &options.schema, None).await;
            if let Age::Newer(version) =
                migrated.map_err(|failure| cannot_migrate(pool, failure))?
            {
                return refused(format!("it is of a newer version ({version})"));
            }
        }
    }
    lent.give_back();
    Ok(())
}

async fn refuse_unsafe(client: &Client) -> Result<(), Failure> {
    let settings = "SELECT current_setting('fsync', true), \
                    current_setting('full_page_writes', true)";
    let row = client.query_typed_one(settings, &[]).await?;
    for (index, name) in ["fsync", "full_page_writes"].into_iter().enumerate() {
        if row.try_get::<_, Option<&str>>(index)? == Some("off") {
            return Err(Failure::failed(format!(
                "the server runs with {name} = off, and would lose what it has confirmed when its \
                 power goes: turn it on"
            )));
        }
    }
    Ok(())
}

/// What is worth trying again stays so.
fn cannot_open(pool: &Pool, failure: Failure) -> EngineError {
    match failure.is_away() {
        true => failure.into(),
        false => EngineError::Open { path: pool.options.place(), reason: failure.text },
    }
}

fn cannot_migrate(pool: &Pool, failure: Failure) -> EngineError {
    let advice = "`store migrate`, as a user that may make tables, brings the schema up to date";
    let text = format!("{}: {advice}", failure.text);
    cannot_open(pool, Failure { text, ..failure })
}

/// Keeps count of what the tables take.
async fn measure(pool: Arc<Pool>, disk_bytes: Arc<AtomicU64>, stop: CancellationToken) {
    let sql = "SELECT coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::int8 \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind = 'r'";
    loop {
        let schema = pool.options.schema.name();
        let size = async {
            let lent = pool.lend().await?;
            let row = lent.client().query_typed_one(sql, &[(&schema, Type::TEXT)]).await?;
            lent.give_back();
            Ok::<i64, Failure>(row.try_get(0)?)
        };
        if let Ok(Ok(bytes)) = timeout(pool.options.answer_timeout(), size).await {
            disk_bytes.store(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SIZE_INTERVAL) => {}
        }
    }
}

impl Engine for PostgresEngine {
    type Transaction = PostgresTransaction;

    fn begin(&self) -> impl Future<Output = Result<PostgresTransaction, EngineError>> + Send {
        std::future::ready(Ok(PostgresTransaction::new(self.clone())))
    }

    fn sharing(&self) -> Sharing {
        self.pool().options.sharing
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        reads: &[Vec<u8>],
    ) -> Result<PostgresTransaction, EngineError> {
        match &self.shared.owner {
            Some(_) => self.begin().await,
            None => locked::begin(self, locks, reads).await,
        }
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        locked::put_if_absent(self, key, value).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, EngineError> {
        locked::time(self).await
    }

    async fn lost(&self) -> EngineError {
        match &self.shared.owner {
            Some(owner) => owner.lost().await,
            None => std::future::pending().await,
        }
    }

    fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        NAME
    }
}
