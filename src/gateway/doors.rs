//! Where the gateway listens, and what each listener serves.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use axum::{Router, middleware};
use hyper_util::service::TowerToHyperService;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{pb::health_server::HealthServer, server::HealthService};

use super::{Addresses, access::Doorkeeper, settings};
use crate::{
    admin::{
        access::{self, Admins},
        grpc::Admin,
        status::Observatory,
    },
    audit::Door,
    config::{Config, MetricsAuth},
    console,
    door::{
        auth::Callers,
        front::Front,
        grpc::Ingest,
        health::UntilStopped,
        http::{self, Api, HttpDoor, PassThroughs, Room},
        properties::Properties,
        receipt::Receipts,
        requests::{Measured, Requests},
        wire::Wire,
    },
    intake::Intake,
    proto::{
        self, admin_service_server::AdminServiceServer, ingest_service_server::IngestServiceServer,
    },
    store,
    telemetry::Metrics,
    trace::Traces,
};

pub(super) struct Listeners {
    pub(super) addresses: Addresses,
    pub(super) grpc: TcpListener,
    pub(super) http: TcpListener,
    pub(super) admin: TcpListener,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let server = &config.server;
        let bind = async |key: &str, address: SocketAddr| {
            let listener = TcpListener::bind(address).await;
            let listener =
                listener.with_context(|| format!("cannot listen on server.{key} = {address}"))?;
            let address = listener.local_addr()?;
            anyhow::Ok((listener, address))
        };
        let (grpc, grpc_address) = bind("grpc_listen", server.grpc_listen).await?;
        let (http, http_address) = bind("http_listen", server.http_listen).await?;
        let (admin, admin_address) = bind("admin_listen", server.admin_listen).await?;
        let addresses = Addresses { grpc: grpc_address, http: http_address, admin: admin_address };
        Ok(Self { addresses, grpc, http, admin })
    }
}

/// What each listener serves.
pub(super) struct Routers {
    pub(super) grpc: Measured<Front<IngestServiceServer<Ingest>>>,
    pub(super) admin: Measured<TowerToHyperService<Router>>,
    pub(super) api: Arc<Api>,
}

/// Health, readiness and metrics, which do not wait for the store; and Userpilot's API, which
/// does, until it is there.
pub(super) fn http(
    config: &Config,
    (not_ready, metrics): (watch::Receiver<Option<&'static str>>, Metrics),
    (api, traces): (Arc<OnceLock<Arc<Api>>>, Traces),
    admins: &Admins,
) -> Measured<TowerToHyperService<Router>> {
    let requests = metrics.requests();
    let metrics = Arc::new(move || metrics.page());
    let request_timeout = settings::http_timeout(config);
    let router = http::router(HttpDoor { not_ready, metrics, request_timeout, traces, api });
    let service = TowerToHyperService::new(match config.server.metrics_auth {
        MetricsAuth::None => router,
        MetricsAuth::Admin => {
            router.layer(middleware::from_fn_with_state(admins.clone(), access::guard_metrics))
        }
    });
    requests.measure(Door::Http, service)
}

pub(super) fn routers(
    config: &Config,
    (observatory, properties, traces, requests): (&Observatory, Properties, Traces, Requests),
    keeper: &Doorkeeper,
    (health, pass_through): (HealthService, PassThroughs),
    stop: &CancellationToken,
) -> anyhow::Result<Routers> {
    let (store, space) = (observatory.store.clone(), observatory.space.clone());
    let intake = Intake::new(store, traces.clone(), space, settings::intake(config));
    let wire = settings::wire(config, properties, &observatory.apps);
    let callers = keeper.callers.clone();
    let receipts = receipts(config, observatory)?;
    let parts = (callers, wire.clone(), intake.clone(), receipts);
    let ingest = ingest(config, observatory, parts, stop.clone());
    let service = Admin::new(observatory.clone(), keeper.callers.clone(), stop.clone());
    let mut grpc = Routes::new(HealthServer::new(UntilStopped { health, stop: stop.clone() }));
    let mut admin = Routes::new(AdminServiceServer::new(service.clone()));
    if config.server.reflection {
        grpc = reflect(grpc)?;
        admin = reflect(admin)?;
    }
    let grpc = Front::new(ingest, grpc.into_axum_router(), keeper.callers.clone(), traces);
    let grpc = requests.measure(Door::Grpc, grpc);
    let guard = middleware::from_fn_with_state(keeper.admins.clone(), access::guard);
    let mut admin = admin.into_axum_router().layer(guard);
    if config.console.enabled {
        let admins = keeper.admins.clone();
        admin = admin.merge(console::router(settings::console(config, service, admins, stop)));
    }
    let admin = requests.measure(Door::Admin, TowerToHyperService::new(admin));
    let api = Api {
        wire,
        intake,
        store: observatory.store.clone(),
        callers: keeper.callers.clone(),
        limits: settings::http(config),
        pass_through,
        buffers: Room::new(config.http.buffered_bytes_max, config.http.bulk_bytes_max),
        spools: Room::new(config.http.spooled_bytes_max, config.http.bulk_bytes_max),
        stop: stop.clone(),
    };
    Ok(Routers { grpc, admin, api: Arc::new(api) })
}

fn receipts(config: &Config, observatory: &Observatory) -> anyhow::Result<Receipts> {
    if let Some(key) = observatory.store.receipt_key() {
        return Ok(Receipts::new(observatory.store.id(), &key));
    }
    let folder = &config.store.path;
    let cannot = || format!("cannot read or make the key of receipts in {}", folder.display());
    let key = store::receipt_key(folder).with_context(cannot)?;
    Ok(Receipts::new(observatory.store.id(), &key))
}

fn ingest(
    config: &Config,
    observatory: &Observatory,
    (callers, wire, intake, receipts): (Callers, Wire, Intake, Receipts),
    stop: CancellationToken,
) -> IngestServiceServer<Ingest> {
    let operators = observatory.apps.iter().map(|app| (app.id, app.operator.clone())).collect();
    let ingest = Ingest::new(
        callers,
        wire,
        intake,
        (observatory.store.clone(), receipts),
        operators,
        config.limits.updates_per_request_max,
        stop,
    );
    IngestServiceServer::new(ingest).max_decoding_message_size(config.server.request_bytes_max)
}

/// Serves the descriptors, by the current protocol and by the one before.
fn reflect(routes: Routes) -> anyhow::Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
