//! The gateway as a whole: builds every part, owns every task, and decides the order of
//! stopping. The only file that sees everything.

mod access;
mod crew;
mod doors;
mod ending;
mod fleet;
mod housekeeping;
mod keys;
mod opening;
mod otlp;
mod reload;
pub(crate) mod settings;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::Router;
use futures_util::FutureExt as _;
use hyper_util::service::TowerToHyperService;
use tokio::{net::TcpListener, signal::unix::Signal, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, HealthService},
};

use self::{
    access::Doorkeeper,
    crew::{Crew, deliver_all},
    doors::{Listeners, Routers},
    housekeeping::House,
    otlp::Otlp,
    reload::{Levers, Reloader},
};
use crate::{
    admin::{ShownConfig, access::Admins, status::Observatory},
    clock,
    config::Config,
    delivery::DeliveryEnd,
    domain::space::Space,
    door::{
        listener::{self, ListenerLimits},
        requests::Measured,
        tls::ListenerTls,
    },
    store::Writer,
    telemetry::{Freshness, Metrics},
};

/// A gateway that runs.
pub struct Gateway {
    addresses: Addresses,
    observatory: Observatory,
    freshness: Freshness,
    tasks: JoinSet<Ended>,
    /// The HTTP door, which tells of readiness from before the others open until after they
    /// have closed.
    http: JoinSet<Ended>,
    writer: Writer,
    stop_doors: CancellationToken,
    stop_http: CancellationToken,
    stop_drivers: CancellationToken,
    not_ready: watch::Sender<Option<&'static str>>,
    health: HealthReporter,
    grace: Duration,
    /// What is there for a reload of the configuration, until there is one who does it.
    reloads: Option<Reloads>,
}

struct Reloads {
    levers: Levers,
    keeper: Doorkeeper,
    metrics: Metrics,
    problem: watch::Sender<Option<String>>,
    shown: watch::Sender<ShownConfig>,
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

/// What the health service knows besides the whole server (the empty name).
const INGEST: &str = "userpilot_gateway.v1.IngestService";

impl Gateway {
    /// Opens the store, recovers, and serves.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        // One TLS stack. A second gateway in the process finds it installed.
        rustls::crypto::ring::default_provider().install_default().ok();
        let Listeners { addresses, grpc, http, admin } = Listeners::bind(config).await?;
        let limits = settings::listener(config);
        let metrics = Metrics::default();
        let otlp = Otlp::begin(config)?;
        let traces = otlp.traces();
        let [stop_doors, stop_http, stop_drivers] = Default::default();
        let (not_ready, readiness) = watch::channel(Some("the store is being opened"));
        let mut levers = Levers::new(config, &metrics);
        let [grpc_tls, http_tls, admin_tls] = settings::tls(config, levers.tls.as_ref());

        let api = Arc::new(OnceLock::new());
        let admins = access::admins(config);
        let seen = (readiness.clone(), metrics.clone());
        let router = doors::http(config, seen, (Arc::clone(&api), traces.clone()), &admins);
        let http = serve_http((http, http_tls), router, limits, &stop_http);
        let mut tasks = JoinSet::new();
        opening::announce(config, &addresses);
        let (store, writer, roll) = Box::pin(opening::open(config)).await?;
        let watermark = settings::watermark(&config.store);
        let (space, seen) = watch::channel(watermark.look(Space::default()).await);
        let starting = (&mut tasks, &mut levers, &stop_drivers);
        let told = (&metrics, &traces);
        let (apps, pass_through) = deliver_all(config, &store, told, roll, starting)?;
        let (problem, config_problem) = watch::channel(None);
        let (shown, config_shown) = watch::channel(settings::shown(config, None));
        let observatory = Observatory {
            started_at: clock::now().wall,
            not_ready: readiness,
            config_problem,
            config: config_shown,
            limits: settings::queue(&config.store, &config.limits),
            history: metrics.history(),
            space: seen,
            store,
            apps: apps.into(),
        };
        metrics.observe(observatory.clone(), settings::limits(&config.store));
        otlp.export(&observatory, &metrics, &mut tasks, &stop_drivers);
        let properties = metrics.watched(settings::properties(config, &observatory.apps));
        levers.properties = properties.clone();
        let health = health().await;
        let house = house(config, (&observatory, &metrics), (&not_ready, &health), &stop_drivers);
        house.keep(&mut tasks, watermark, space);
        let watched = HealthService::from_health_reporter(health.clone());
        let keeper = keeper(config, &observatory, admins, &metrics).await?;
        tasks.spawn(keeper.clone().keep_keys(stop_drivers.clone()));
        let seen = (&observatory, properties, traces, metrics.requests());
        let routers = doors::routers(config, seen, &keeper, (watched, pass_through), &stop_doors)?;
        // Nobody else sets it.
        api.get_or_init(|| routers.api.clone());
        let doors = [(grpc, grpc_tls), (admin, admin_tls)];
        open_doors(&mut tasks, doors, routers, limits, &stop_doors);
        announce(config, &addresses);
        Ok(Self {
            addresses,
            observatory,
            freshness: metrics.freshness(),
            tasks,
            http,
            writer,
            stop_doors,
            stop_http,
            stop_drivers,
            not_ready,
            health,
            grace: Duration::from_millis(config.server.shutdown_grace_ms),
            reloads: Some(Reloads { levers, keeper, metrics, problem, shown }),
        })
    }

    /// From now on the configuration is read again when a file of it changes, and at each of
    /// `hangups`. It is `config`, which was read of `file`.
    #[must_use]
    pub fn reloading(mut self, config: Config, file: Option<PathBuf>, hangups: Signal) -> Self {
        if let Some(Reloads { levers, keeper, metrics, problem, shown }) = self.reloads.take() {
            shown.send_replace(settings::shown(&config, file.as_deref()));
            let (started, in_force, told) = (config.clone(), config, BTreeSet::new());
            let reloader =
                Reloader { file, started, in_force, levers, keeper, metrics, problem, shown, told };
            self.tasks.spawn(reloader.run(hangups, self.stop_drivers.clone()));
        }
        self
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
}

/// Answers over HTTP from before the store is open.
fn serve_http(
    (listener, tls): (TcpListener, Option<ListenerTls>),
    router: Measured<TowerToHyperService<Router>>,
    limits: ListenerLimits,
    stop: &CancellationToken,
) -> JoinSet<Ended> {
    let serving = listener::serve(listener, router, limits, tls, stop.clone());
    JoinSet::from_iter([serving.map(|()| Ended::Listener("http"))])
}

/// Lets services and operators in.
fn open_doors(
    tasks: &mut JoinSet<Ended>,
    [(grpc, grpc_tls), (admin, admin_tls)]: [(TcpListener, Option<ListenerTls>); 2],
    routers: Routers,
    limits: ListenerLimits,
    stop: &CancellationToken,
) {
    let serving = listener::serve(grpc, routers.grpc, limits, grpc_tls, stop.clone());
    tasks.spawn(serving.map(|()| Ended::Listener("grpc")));
    let serving = listener::serve(admin, routers.admin, limits, admin_tls, stop.clone());
    tasks.spawn(serving.map(|()| Ended::Listener("admin")));
}

/// Who does what is done now and then.
fn house(
    config: &Config,
    (observatory, metrics): (&Observatory, &Metrics),
    (not_ready, health): (&watch::Sender<Option<&'static str>>, &HealthReporter),
    stop: &CancellationToken,
) -> House {
    House {
        observatory: observatory.clone(),
        metrics: metrics.clone(),
        keeping: settings::keeping(config),
        not_ready: not_ready.clone(),
        health: health.clone(),
        stop: stop.clone(),
    }
}

/// Who tells that updates are taken.
async fn health() -> HealthReporter {
    let health = HealthReporter::new();
    health.set_service_status(INGEST, ServingStatus::Serving).await;
    health
}

/// Who lets in those whom the configuration names.
async fn keeper(
    config: &Config,
    observatory: &Observatory,
    admins: Admins,
    metrics: &Metrics,
) -> anyhow::Result<Doorkeeper> {
    let apps = observatory.apps.iter().map(|app| (app.name.clone(), app.id)).collect();
    let keeper = Doorkeeper::new(observatory.store.clone(), apps, admins);
    keeper.let_in(config).await?;
    metrics.observe_clients(keeper.callers.clone(), observatory.store.clone());
    if let Some(issuer) = keeper.callers.issuer() {
        issuer.refresh().await;
    }
    Ok(keeper)
}

fn announce(config: &Config, addresses: &Addresses) {
    tracing::info!(
        grpc = %addresses.grpc,
        http = %addresses.http,
        admin = %addresses.admin,
        apps = config.apps.len(),
        "the gateway serves"
    );
}
