//! The sockets: a loop that accepts, a task a connection, all owned by one handle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::account::{PoisonMode, SlotTaken};
use super::config::{SimulatorConfig, StartError};
use super::fault_rule::{FaultRule, InvalidRule};
use super::faults::ArmedRule;
use super::profiles::{Profile, Properties};
use super::service::Doors;
use super::snapshot::Snapshot;
use super::world::World;
use super::{control, http, service};

/// How many connections are served at once; the next waits to be accepted.
const CONNECTIONS_MAX: usize = 1_024;
/// How long requests that are being answered may take when the simulator stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a failure to accept, such as too many open files, is let pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The simulated Userpilot, not yet running.
pub struct Simulator;

impl Simulator {
    /// Listens, and serves until the handle is stopped or dropped.
    pub async fn start(config: SimulatorConfig) -> Result<RunningSimulator, StartError> {
        let asked = config.listen;
        let world = Arc::new(World::new(config)?);
        let listen = |source| StartError::Listen { address: asked, source };
        let listener = TcpListener::bind(asked).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&world), stopping.clone()));
        Ok(RunningSimulator { address, world, stopping, tasks })
    }
}

/// A simulated Userpilot that serves requests. Dropping it closes every connection at once.
pub struct RunningSimulator {
    address: SocketAddr,
    world: Arc<World>,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl RunningSimulator {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for a client, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The state by now, but for the profiles.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.world.snapshot()
    }

    /// Every user's profile by now, by user id.
    #[must_use]
    pub fn profiles(&self) -> BTreeMap<String, Profile> {
        self.world.profiles()
    }

    /// One user's profile by now.
    #[must_use]
    pub fn profile(&self, user_id: &str) -> Option<Profile> {
        self.world.profile(user_id)
    }

    /// Every company's properties by now, by company id.
    #[must_use]
    pub fn companies(&self) -> BTreeMap<String, Properties> {
        self.world.companies()
    }

    /// Arms fault rules besides those that are armed: all of them or, when one is invalid,
    /// none.
    pub fn arm_faults(&self, rules: Vec<FaultRule>) -> Result<(), InvalidRule> {
        self.world.now().0.faults.arm(rules)
    }

    /// The fault rules that are armed, and how often each struck.
    #[must_use]
    pub fn faults(&self) -> Vec<ArmedRule> {
        self.world.now().0.faults.armed()
    }

    /// Disarms every fault rule.
    pub fn clear_faults(&self) {
        self.world.now().0.faults.clear();
    }

    /// Makes the rows of these users bad from now on.
    pub fn poison(&self, user_ids: Vec<String>, mode: PoisonMode) {
        self.world.poison(user_ids, mode);
    }

    /// Makes every user's row good again.
    pub fn clear_poison(&self) {
        self.world.now().0.account.poison.clear();
    }

    /// Revokes the key that was right and makes this one right.
    pub fn change_api_key(&self, api_key: String) {
        self.world.now().0.api_key = api_key;
    }

    /// Starts a job of somebody else's and returns its id.
    pub fn start_foreign_job(
        &self,
        rows: u32,
        filename: Option<String>,
    ) -> Result<String, SlotTaken> {
        self.world.start_foreign_job(rows, filename)
    }

    /// Stops accepting, lets the requests that are being answered finish for a second, and
    /// closes the rest.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn serve(listener: TcpListener, world: Arc<World>, stopping: CancellationToken) {
    let doors = Doors {
        api: http::routes(Arc::clone(&world)),
        control: control::routes(Arc::clone(&world)),
    };
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let connection =
                        converse(stream, Arc::clone(&world), doors.clone(), stopping.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "the simulator cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, drained).await.is_err() {
        connections.shutdown().await;
    }
}

/// Serves one connection. HTTP/1 only: there, a service that fails closes the connection,
/// while HTTP/2 would end one stream of it.
async fn converse(stream: TcpStream, world: Arc<World>, doors: Doors, stopping: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the simulator cannot set TCP_NODELAY");
    }
    let service =
        service_fn(move |request| service::answer(Arc::clone(&world), doors.clone(), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the simulator ended early");
    }
}
