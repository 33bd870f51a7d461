//! Connections that wait to be used. None is ever shared, and one that is not given back in order
//! is closed: whatever its transaction was about to do is not done.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_postgres::{Client, NoTls};

use super::{
    connect::{Connection, PostgresOptions, connect},
    failure::{Failure, Meaning},
    tls::Tls,
};

pub(super) struct Pool {
    pub(super) options: PostgresOptions,
    /// Drives the connections, whatever the caller's runtime is busy with.
    runtime: Handle,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(u64, Connection)>>,
    /// Rises when all connections that are there are to be thrown away.
    generation: AtomicU64,
    /// Changes when all connections end that are there, those in use, too.
    forsaken: watch::Sender<()>,
}

impl Pool {
    pub(super) fn new(options: PostgresOptions, runtime: Handle) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(options.connections_max));
        let (idle, generation) = (Mutex::default(), AtomicU64::new(0));
        let forsaken = watch::Sender::new(());
        Arc::new(Self { options, runtime, permits, idle, generation, forsaken })
    }

    /// A connection that nobody else uses.
    pub(super) async fn lend(self: &Arc<Self>) -> Result<Lent, Failure> {
        let acquiring = self.permits.clone().acquire_owned();
        let Ok(Ok(permit)) = timeout(self.options.answer_timeout(), acquiring).await else {
            return Err(Failure::away("all connections are in use: raise connections_max"));
        };
        let generation = self.generation.load(Ordering::SeqCst);
        let connection = match self.rested(generation) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lent { connection: Some((generation, connection)), pool: self.clone(), _permit: permit })
    }

    fn rested(&self, generation: u64) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((made_in, connection)) = idle.pop() {
            if made_in == generation && !connection.client.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// A connection that does not count.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Connection, Failure> {
        let pool = self.clone();
        let mut forsaken = self.forsaken.subscribe();
        // Sockets belong to the runtime that they are made in.
        let connecting = self.runtime.spawn(async move {
            let (connection, driving) = connect(&pool.options).await?;
            pool.runtime.spawn(async move {
                tokio::select! {
                    () = driving => {}
                    // Whoever waits for an answer is told that there will be none.
                    Ok(()) = forsaken.changed() => {}
                }
            });
            Ok(connection)
        });
        connecting.await.unwrap_or_else(|_| Err(Failure::failed("the store has been closed")))
    }

    /// What is to be done about a failure, whoever met it.
    pub(super) fn learn(&self, failure: &Failure) {
        if failure.meaning == Meaning::AwayAll {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ends all connections that are there. One that the network has forgotten stays silent for
    /// ever, and so do those beside it.
    pub(super) fn forsake(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.forsaken.send_replace(());
    }

    /// Ends, at the server, what a client waits for no longer.
    pub(super) fn cancel(&self, client: &Client) {
        let (token, tls) = (client.cancel_token(), self.options.tls.clone());
        let limit = self.options.connect_timeout;
        self.runtime.spawn(async move {
            // Where it cannot be told, the statement's own time-out ends it.
            match tls {
                Some(tls) => drop(timeout(limit, token.cancel_query(Tls(tls))).await),
                None => drop(timeout(limit, token.cancel_query(NoTls)).await),
            }
        });
    }
}

/// A connection that is in use.
pub(super) struct Lent {
    connection: Option<(u64, Connection)>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    pub(super) fn connection(&self) -> &Connection {
        let (_, connection) = self.connection.as_ref().expect("it is given back only once");
        connection
    }

    pub(super) fn client(&self) -> &Client {
        &self.connection().client
    }

    /// Gives it back, with no transaction begun on it.
    pub(super) fn give_back(mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}
