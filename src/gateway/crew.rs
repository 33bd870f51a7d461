//! What each app is delivered with, and by whom.

use anyhow::Context;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Ended,
    fleet::{Chair, Keeper, Part, Seat},
    keys::{KeySource, KeyWatch},
    reload::Levers,
    settings,
};
use crate::{
    admin::status::App,
    config::{AppConfig, Config},
    delivery::{AppLedger, Delivery, DeliveryEnd, ExpressDelivery, LeaseWatch, Operator, Ports},
    domain::{
        express::ExpressSettings,
        lifecycle::{Recovered, Settings},
        row::RowValues,
        update::AppId,
    },
    door::http::PassThroughs,
    store::{RecoveredApps, Store},
    telemetry::{Metrics, Reporter},
    trace::Traces,
    upstream::HttpUpstream,
};

/// What an app is delivered with.
pub(super) struct Crew {
    pub(super) app: App,
    ledger: AppLedger,
    upstream: HttpUpstream,
    reporter: Reporter,
    settings: Settings,
    /// Where it has an express lane.
    express: Option<(ExpressSettings, RowValues)>,
    pub(super) ports: Ports,
}

type Driver = Delivery<HttpUpstream, Reporter>;
type ExpressDriver = ExpressDelivery<HttpUpstream, Reporter>;

impl Crew {
    /// Also who watches the app's key, and what has that look elsewhere.
    fn of(
        config: &AppConfig,
        store: &Store,
        (metrics, traces): (&Metrics, &Traces),
        id: AppId,
    ) -> anyhow::Result<(Self, KeyWatch, watch::Sender<KeySource>)> {
        let AppConfig { name, users_per_minute, .. } = config;
        let upstream = HttpUpstream::new(settings::upstream(config));
        let upstream = upstream.with_context(|| format!("app {name}"))?;
        let key = upstream.key();
        let express = settings::express(config);
        let (operator, ports) = Operator::new(express.is_some());
        let (keys, lever) = KeyWatch::new(config, key, operator.clone());
        let users_per_minute = *users_per_minute;
        let crew = Self {
            app: App { name: name.clone(), id, users_per_minute, operator },
            ledger: AppLedger { store: store.clone(), app: id },
            upstream,
            reporter: metrics.reporter((id, name), traces.clone()),
            settings: settings::lifecycle(config),
            express,
            ports,
        };
        Ok((crew, keys, lever))
    }

    /// Drivers that go on from what was recovered, as long as there is the lease.
    fn drivers(&self, recovered: Recovered, lease: &LeaseWatch) -> (Driver, Option<ExpressDriver>) {
        let named = || (self.app.name.clone(), self.ports.clone());
        let express = self.express.map(|express| {
            let ways = (self.upstream.clone(), lease.clone(), self.reporter.clone());
            ExpressDelivery::new(named(), self.ledger.clone(), ways, express, recovered.paused)
        });
        let ways = (self.upstream.clone(), lease.clone());
        let (reporter, settings) = (self.reporter.clone(), self.settings);
        let ledger = self.ledger.clone();
        (Delivery::new(named(), ledger, ways, reporter, settings, recovered), express)
    }

    /// Delivers until told to stop, or until one of the drivers fails: then the other is dropped as
    /// it is.
    pub(super) async fn session(
        &self,
        recovered: Recovered,
        lease: LeaseWatch,
        stop: &CancellationToken,
    ) -> DeliveryEnd {
        let (delivery, express) = self.drivers(recovered, &lease);
        let bulk = async { in_order(delivery.run(stop.clone()).await) };
        let express = async {
            match express {
                Some(express) => in_order(express.run(stop.clone()).await),
                None => Ok(()),
            }
        };
        match tokio::try_join!(bulk, express) {
            Ok(((), ())) => DeliveryEnd::Stopped,
            Err(end) => end,
        }
    }
}

fn in_order(end: DeliveryEnd) -> Result<(), DeliveryEnd> {
    match end {
        DeliveryEnd::Stopped => Ok(()),
        DeliveryEnd::LeaseLost | DeliveryEnd::Failed(_) => Err(end),
    }
}

/// Who is there of each app, as an opened store says.
pub(super) enum Roll {
    /// This gateway has the store alone, and goes on with all.
    Alone(RecoveredApps),
    /// It shares the store, and delivers what it comes to have the lease of.
    Shared(Vec<AppId>),
}

/// Sees to it that each app is delivered. Returns the apps as operators see them, and the ways past
/// the queue.
pub(super) fn deliver_all(
    config: &Config,
    store: &Store,
    told: (&Metrics, &Traces),
    roll: Roll,
    (tasks, levers, stop): (&mut JoinSet<Ended>, &mut Levers, &CancellationToken),
) -> anyhow::Result<(Vec<App>, PassThroughs)> {
    let (mut apps, mut pass_through) = (Vec::new(), PassThroughs::new());
    let mut crew_of = |app_config: &AppConfig, id| {
        let (crew, keys, lever) = Crew::of(app_config, store, told, id)?;
        levers.keys.insert(crew.app.name.clone(), lever);
        pass_through.insert(id, settings::pass_through(app_config, crew.upstream.clone()));
        apps.push(crew.app.clone());
        anyhow::Ok((crew, keys))
    };
    match roll {
        Roll::Alone(recovered) => {
            for (app_config, (id, recovered)) in config.apps.iter().zip(recovered) {
                let (crew, keys) = crew_of(app_config, id)?;
                let (delivery, express) = crew.drivers(recovered, &LeaseWatch::needless());
                let name = || crew.app.name.clone();
                tasks.spawn(drive(name(), delivery, keys, stop.clone()));
                if let Some(express) = express {
                    let (app, stop) = (name(), stop.clone());
                    tasks.spawn(async { Ended::Driver { app, end: express.run(stop).await } });
                }
            }
        }
        Roll::Shared(numbers) => {
            let mut chairs = Vec::new();
            for (app_config, id) in config.apps.iter().zip(numbers) {
                let (crew, keys) = crew_of(app_config, id)?;
                let seated = watch::Sender::new(false);
                let named = (id, crew.app.name.clone());
                let reached = (crew.app.operator.clone(), crew.ports.clone());
                let chair = Chair::new(named, reached, seated.subscribe());
                let seat = Seat {
                    store: store.clone(),
                    crew,
                    terms: settings::terms(app_config, config),
                    rows_max: app_config.job_users_max as u64,
                    held: chair.held.subscribe(),
                    leave: chair.leave.subscribe(),
                    seated,
                };
                chairs.push(chair);
                let stop = stop.clone();
                tasks.spawn(async {
                    tokio::select! {
                        ended = seat.sit(stop) => ended,
                        never = keys.watch() => match never {},
                    }
                });
            }
            let part = Part::of(&config.store.fleet);
            tasks.spawn(Keeper::new(part, store.clone(), chairs).keep(stop.clone()));
        }
    }
    Ok((apps, pass_through))
}

async fn drive(app: String, delivery: Driver, keys: KeyWatch, stop: CancellationToken) -> Ended {
    tokio::select! {
        end = delivery.run(stop) => Ended::Driver { app, end },
        never = keys.watch() => match never {},
    }
}
