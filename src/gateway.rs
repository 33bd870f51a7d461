//! The gateway as a whole: builds every part, owns every task, and decides the order of
//! stopping. The only file that sees everything.

mod doors;
mod settings;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow, bail};
use futures_util::FutureExt as _;
use hyper_util::service::TowerToHyperService;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use self::doors::{Listeners, Routers};
use crate::{
    admin::status::{App, Observatory},
    clock,
    config::{AppConfig, Config},
    delivery::{AppLedger, Delivery, DeliveryEnd},
    domain::lifecycle::Recovered,
    door::listener,
    store::{
        self, Orphan, Store, StoreError, Writer,
        engine::SledEngine,
        queue::{Queue, Retention},
    },
    telemetry::{Freshness, Metrics, Reporter},
    upstream::HttpUpstream,
};

/// A gateway that runs.
pub struct Gateway {
    addresses: Addresses,
    observatory: Observatory,
    freshness: Freshness,
    tasks: JoinSet<Ended>,
    writer: Writer,
    stop_doors: CancellationToken,
    stop_drivers: CancellationToken,
    not_ready: watch::Sender<Option<&'static str>>,
    health: HealthReporter,
    grace: Duration,
}

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Where services send updates by gRPC.
    pub grpc: SocketAddr,
    /// Health, readiness and metrics.
    pub http: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
}

/// A task that ended. Unless the gateway is stopping, none should.
enum Ended {
    Listener(&'static str),
    Driver { app: String, end: DeliveryEnd },
    Housekeeper,
}

const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// What the health service knows besides the whole server (the empty name).
const INGEST: &str = "userpilot_gateway.v1.IngestService";

impl Gateway {
    /// Opens the store, recovers, and serves.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        // One TLS stack. A second gateway in the process finds it installed.
        rustls::crypto::ring::default_provider().install_default().ok();
        let listeners = Listeners::bind(config).await?;
        let (store, writer, recovered) = open_store(config).await?;
        let metrics = Metrics::default();
        let stop_doors = CancellationToken::new();
        let stop_drivers = CancellationToken::new();
        let (not_ready, readiness) = watch::channel(None);

        let mut tasks = JoinSet::new();
        let mut apps = Vec::new();
        for (app_config, (id, recovered)) in config.apps.iter().zip(recovered) {
            let ledger = AppLedger { store: store.clone(), app: id };
            let reporter = metrics.reporter(&app_config.name);
            let (delivery, app) = deliver(app_config, ledger, reporter, recovered)?;
            tasks.spawn(drive(app.name.clone(), delivery, stop_drivers.clone()));
            apps.push(app);
        }
        let observatory = Observatory {
            started_at: clock::now().wall,
            not_ready: readiness,
            store: store.clone(),
            apps: apps.into(),
        };
        metrics.observe(observatory.clone());
        let freshness = metrics.freshness();
        tasks.spawn(keep_house(store, settings::retention(config), stop_drivers.clone()));

        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status(INGEST, ServingStatus::Serving).await;
        let Routers { grpc, admin, http } =
            doors::routers(config, &observatory, health_service, metrics, &stop_doors)?;
        let addresses = listeners.addresses;
        let (limits, stop) = (settings::listener(config), &stop_doors);
        let ended = |name| move |()| Ended::Listener(name);
        let serving = listener::serve(listeners.grpc, grpc, limits, stop.clone());
        tasks.spawn(serving.map(ended("grpc")));
        for (name, at, router) in
            [("admin", listeners.admin, admin), ("http", listeners.http, http)]
        {
            let service = TowerToHyperService::new(router);
            tasks.spawn(listener::serve(at, service, limits, stop.clone()).map(ended(name)));
        }
        tracing::info!(
            grpc = %addresses.grpc,
            http = %addresses.http,
            admin = %addresses.admin,
            apps = config.apps.len(),
            "the gateway serves"
        );
        let grace = Duration::from_millis(config.server.shutdown_grace_ms);
        Ok(Self {
            addresses,
            observatory,
            freshness,
            tasks,
            writer,
            stop_doors,
            stop_drivers,
            not_ready,
            health,
            grace,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Who knows its state.
    pub fn observatory(&self) -> &Observatory {
        &self.observatory
    }

    /// How fresh the rows were that were delivered last.
    pub fn freshness(&self) -> Freshness {
        self.freshness.clone()
    }

    /// Runs until `shutdown` completes, then stops within the grace. Any task that ends by
    /// itself stops the gateway with an error: better restarted than half alive.
    pub async fn run(mut self, shutdown: impl Future) -> anyhow::Result<()> {
        let uninvited = tokio::select! {
            _ = shutdown => None,
            Some(ended) = self.tasks.join_next() => Some(explain(ended.context("a task panicked")?)),
            ended = &mut self.writer => Some(explain_writer(ended.ok())),
        };
        if let Some(error) = uninvited {
            self.not_ready.send_replace(Some("the gateway has failed and is ending"));
            return Err(error);
        }
        self.stop().await
    }

    /// Doors close and finish what they took, drivers finish their step, the writer ends.
    async fn stop(mut self) -> anyhow::Result<()> {
        tracing::info!(grace_ms = self.grace.as_millis(), "stopping");
        self.not_ready.send_replace(Some("the gateway is stopping"));
        self.health.set_service_status(INGEST, ServingStatus::NotServing).await;
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.stop_doors.cancel();
        let deadline = Some(clock::now().instant.plus(self.grace));
        let politely = async {
            let mut doors = 3;
            while doors > 0 {
                match self.tasks.join_next().await {
                    Some(Ok(Ended::Listener(_))) => doors -= 1,
                    Some(Ok(ended @ (Ended::Driver { .. } | Ended::Housekeeper))) => {
                        return Err(explain(ended));
                    }
                    Some(Err(error)) => return Err(error).context("a task panicked"),
                    None => break,
                }
            }
            self.stop_drivers.cancel();
            while self.tasks.join_next().await.is_some() {}
            Ok(())
        };
        tokio::select! {
            ended = politely => ended?,
            // Whatever is under way is durable as far as it got.
            () = clock::sleep_until(deadline) => tracing::warn!("the grace is over"),
        }
        self.tasks.shutdown().await;
        self.observatory.store.close().await;
        match self.writer.await {
            Ok(Ok(())) => {
                tracing::info!("stopped");
                Ok(())
            }
            ended => Err(explain_writer(ended.ok())),
        }
    }
}

async fn open_store(config: &Config) -> anyhow::Result<(Store, Writer, store::RecoveredApps)> {
    let opened = clock::now().instant;
    let options = settings::sled(config);
    // Opening reads the whole log.
    let engine = tokio::task::spawn_blocking(move || SledEngine::open(&options)).await??;
    let queue = Queue::open(engine, settings::queue(config), rand::random()).await?;
    let names: Vec<String> = config.apps.iter().map(|app| app.name.clone()).collect();
    refuse_to_forget(&store::orphans(queue.engine(), &names).await?)?;
    let (store, writer, recovered) = store::start(queue, &names, settings::groups(config)).await?;
    let took = clock::now().instant.since(opened);
    tracing::info!(
        path = %config.store.path.display(),
        bytes = store.disk_bytes(),
        took_ms = took.as_millis(),
        "the store is open"
    );
    Ok((store, writer, recovered))
}

/// An app that was renamed or removed while it had updates would never deliver them.
fn refuse_to_forget(orphans: &[Orphan]) -> anyhow::Result<()> {
    if orphans.is_empty() {
        return Ok(());
    }
    let each = |Orphan { app, pending_records, in_flight_records }: &Orphan| {
        format!("app {app:?} ({pending_records} pending and {in_flight_records} in flight)")
    };
    bail!(
        "the store holds records of apps that are not configured: {}. Configure them again, under \
         these names, until they have drained; or, to give the records up, use another store.path",
        orphans.iter().map(each).collect::<Vec<_>>().join(", ")
    )
}

/// An app's driver, and the app as operators see it.
fn deliver(
    config: &AppConfig,
    ledger: AppLedger,
    reporter: Reporter,
    recovered: Recovered,
) -> anyhow::Result<(Delivery<HttpUpstream, Reporter>, App)> {
    let AppConfig { name, users_per_minute, .. } = config;
    let upstream = HttpUpstream::new(settings::upstream(config));
    let upstream = upstream.with_context(|| format!("app {name}"))?;
    let id = ledger.app;
    let settings = settings::lifecycle(config);
    let (delivery, operator) =
        Delivery::new(name.clone(), ledger, upstream, reporter, settings, recovered);
    let app = App { name: name.clone(), id, users_per_minute: *users_per_minute, operator };
    Ok((delivery, app))
}

async fn drive(
    app: String,
    delivery: Delivery<HttpUpstream, Reporter>,
    stop: CancellationToken,
) -> Ended {
    Ended::Driver { app, end: delivery.run(stop).await }
}

/// Forgets history that is old enough, a little at a time.
async fn keep_house(
    store: Store,
    (keep, batches_max): (Duration, u64),
    stop: CancellationToken,
) -> Ended {
    let mut from = None;
    while !stop.is_cancelled() {
        let now = clock::now();
        let retention = Retention { before: now.wall.minus(keep), batches_max };
        match store.prune(from, retention).await {
            Ok(next) => from = next,
            Err(store::Closed) => break,
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep_until(Some(now.instant.plus(HOUSEKEEPING_INTERVAL))) => {}
        }
    }
    Ended::Housekeeper
}

fn explain(ended: Ended) -> anyhow::Error {
    match ended {
        Ended::Listener(name) => anyhow!("the {name} listener ended"),
        Ended::Driver { app, end: DeliveryEnd::Stopped } => anyhow!("the driver of {app} ended"),
        Ended::Driver { app, end: DeliveryEnd::Failed(error) } => {
            anyhow!(error).context(format!("the driver of {app} failed"))
        }
        Ended::Housekeeper => anyhow!("housekeeping ended"),
    }
}

fn explain_writer(ended: Option<Result<(), StoreError>>) -> anyhow::Error {
    match ended {
        Some(Err(error)) => anyhow!(error).context("the store failed"),
        Some(Ok(())) => anyhow!("the store's writer ended"),
        None => anyhow!("the store's writer panicked"),
    }
}
