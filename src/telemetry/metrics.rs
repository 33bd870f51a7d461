//! Metrics, in the OpenMetrics text format. docs/metrics.md lists them.

mod clients;
mod lanes;
mod observed;
mod process;
mod reporter;
mod spending;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clients::ObservedClients;
use lanes::Lanes;
use observed::Observed;
use process::Process;
use prometheus_client::{
    collector::Collector,
    encoding::{
        EncodeLabelSet,
        prometheus_protobuf::{self, prometheus_data_model::MetricFamily},
        text,
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use spending::Spending;

pub use self::{reporter::Reporter, spending::Limits};
use super::properties::ObservedProperties;
use crate::{
    admin::{history::History, status::Observatory},
    domain::{
        batch::DeadReason,
        time::Timestamp,
        update::{AppId, Lane},
    },
    door::{auth::Callers, properties::Properties, requests::Requests},
    store::Store,
    trace::Traces,
};

/// What the names begin with of all that is the gateway's own.
const PREFIX: &str = "userpilot_gateway";

/// From 50 ms to a day: an idle gateway's freshness to that of a backfill.
const SECONDS: [f64; 20] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 2_400.0,
    5_400.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0,
];

/// From a row that is tried alone to as many as Userpilot takes.
const ROWS: [f64; 10] =
    [1.0, 10.0, 100.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 5_000.0, 7_500.0, 10_000.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfApp {
    app: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLane {
    app: String,
    lane: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfJob {
    app: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfDeath {
    app: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfReload {
    outcome: &'static str,
}

/// What became of a configuration that was read while the gateway ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied,
    /// It had a problem, and the old one stayed.
    Refused,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics of the process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    freshness: Family<OfLane, Histogram>,
    express_freshness: Family<OfApp, Histogram>,
    express_requests: Family<OfJob, Counter>,
    jobs: Family<OfJob, Counter>,
    job_rows: Family<OfJob, Counter>,
    dead_rows: Family<OfDeath, Counter>,
    job_duration: Family<OfApp, Histogram>,
    job_size: Family<OfApp, Histogram>,
    oldest_pending: Family<OfLane, Seconds>,
    requests: Requests,
    last_delivery: Family<OfApp, Seconds>,
    last_freshness: Freshness,
    history: History,
    reloads: Family<OfReload, Counter>,
    certificate_expiry: Family<Vec<(String, String)>, Seconds>,
}

/// How fresh the rows were that were delivered last, on average.
#[derive(Clone, Debug, Default)]
pub struct Freshness(Arc<AtomicU64>);

impl Freshness {
    /// `None` before the first delivery.
    pub fn last(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(SECONDS);
        let freshness = Family::new_with_constructor(histogram as fn() -> Histogram);
        let job_duration = Family::new_with_constructor(histogram as fn() -> Histogram);
        let (jobs, job_rows, dead_rows) = Default::default();
        let mut whole = Registry::default();
        whole.register_collector(Box::new(Process));
        let registry = whole.sub_registry_with_prefix(PREFIX);
        registry.register_with_unit(
            "freshness",
            "From a record's first update until the profile upstream held it, by its lane",
            Unit::Seconds,
            freshness.clone(),
        );
        registry.register_with_unit(
            "job_duration",
            "From a batch's last submission, or claim, until it was settled",
            Unit::Seconds,
            job_duration.clone(),
        );
        registry.register("jobs", "Batches that were settled, by outcome", Family::clone(&jobs));
        let help = "Rows of settled batches, by outcome";
        registry.register("job_rows", help, Family::clone(&job_rows));
        let help = "Rows that became dead letters, by reason";
        registry.register("dead_rows", help, Family::clone(&dead_rows));
        let (oldest_pending, last_delivery) = times(registry);
        let requests = requests(registry);
        let (reloads, certificate_expiry) = Default::default();
        let help = "Configurations that were read while the gateway ran, by outcome";
        registry.register("config_reloads", help, Family::clone(&reloads));
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "When the certificate of the listeners expires",
            Unit::Seconds,
            Family::clone(&certificate_expiry),
        );
        let (express_freshness, express_requests) = express(registry);
        let job_size = job_size(registry);
        let registry = Arc::new(Mutex::new(whole));
        let last_freshness = Freshness::default();
        Self {
            registry,
            freshness,
            express_freshness,
            express_requests,
            jobs,
            job_rows,
            dead_rows,
            job_duration,
            job_size,
            oldest_pending,
            requests,
            last_delivery,
            last_freshness,
            history: History::default(),
            reloads,
            certificate_expiry,
        }
    }
}

/// For how long anything waits, and when something was last delivered.
fn times(registry: &mut Registry) -> (Family<OfLane, Seconds>, Family<OfApp, Seconds>) {
    let oldest_pending = Family::default();
    let last_delivery = Family::default();
    registry.register_with_unit(
        "oldest_pending_age",
        "For how long the longest waiting record of a lane has waited",
        Unit::Seconds,
        Family::clone(&oldest_pending),
    );
    registry.register_with_unit(
        "last_delivery_timestamp",
        "When a job was last completed",
        Unit::Seconds,
        Family::clone(&last_delivery),
    );
    (oldest_pending, last_delivery)
}

/// How long requests take.
fn requests(registry: &mut Registry) -> Requests {
    let requests = Requests::default();
    let help = "From when a request was read until it was answered to the end, by door and method; a \
                stream counts once, when it ends";
    registry.register_with_unit(
        "request_duration",
        help,
        Unit::Seconds,
        requests.seconds().clone(),
    );
    requests
}

/// How large jobs are.
fn job_size(registry: &mut Registry) -> Family<OfApp, Histogram> {
    let sizes = Family::new_with_constructor((|| Histogram::new(ROWS)) as fn() -> Histogram);
    registry.register("job_size_rows", "Rows of the batches that were settled", sizes.clone());
    sizes
}

/// What is told of the express lane.
fn express(registry: &mut Registry) -> (Family<OfApp, Histogram>, Family<OfJob, Counter>) {
    let histogram = || Histogram::new(SECONDS);
    let freshness = Family::new_with_constructor(histogram as fn() -> Histogram);
    let help = "From a record's first update until it had gone by express, of those that did";
    registry.register_with_unit(
        "express_freshness",
        help,
        Unit::Seconds,
        Family::clone(&freshness),
    );
    let requests = Family::default();
    let help = "Records that went by express, by outcome";
    registry.register("express_records_sent", help, Family::clone(&requests));
    (freshness, requests)
}

impl Metrics {
    /// Has what `observatory` sees on the page, too, and what it is measured by.
    pub fn observe(&self, observatory: Observatory, limits: Limits) {
        self.collect(Spending(observatory.clone(), limits));
        self.collect(Lanes(observatory.clone()));
        self.collect(Observed(observatory));
    }

    /// Has what is done with properties on the page, too.
    pub fn watched(&self, properties: Properties) -> Properties {
        self.collect(ObservedProperties(properties.clone()));
        properties
    }

    /// Has what is counted of clients on the page, too.
    pub fn observe_clients(&self, callers: Callers, store: Store) {
        self.collect(ObservedClients { callers, history: self.history.clone(), store });
    }

    fn collect(&self, collector: impl Collector) {
        let mut registry = self.registry();
        registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(collector));
    }

    /// Says for how long the longest waiting record of an app's lane has waited.
    pub fn oldest_pending(&self, app: &str, lane: Lane, age: Duration) {
        let of_lane = OfLane { app: app.to_owned(), lane: lane.to_string() };
        self.oldest_pending.get_or_create(&of_lane).set(age.as_secs_f64());
    }

    /// Where doors count their requests.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// What the driver of an app of this number and name reports to.
    pub fn reporter(&self, (id, app): (AppId, &str), traces: Traces) -> Reporter {
        let history = self.history.recorder(id);
        self.begin_at_zero(app);
        Reporter { metrics: self.clone(), id, app: app.to_owned(), history, traces }
    }

    /// Has everything of an app that may happen on the page before it does: what comes up from
    /// nothing is not seen to rise.
    fn begin_at_zero(&self, app: &str) {
        for outcome in ["delivered", "requeued", "split", "dead"] {
            let of = OfJob { app: app.to_owned(), outcome };
            drop(self.jobs.get_or_create(&of));
            drop(self.job_rows.get_or_create(&of));
        }
        for outcome in ["delivered", "requeued", "refused"] {
            let of = OfJob { app: app.to_owned(), outcome };
            drop(self.express_requests.get_or_create(&of));
        }
        drop(self.freshness_of_lanes(app));
        for reason in DeadReason::ALL {
            let of = OfDeath { app: app.to_owned(), reason: reason.to_string() };
            drop(self.dead_rows.get_or_create(&of));
        }
        for outcome in ["applied", "refused"] {
            drop(self.reloads.get_or_create(&OfReload { outcome }));
        }
    }

    /// The freshness of each of an app's lanes.
    fn freshness_of_lanes(&self, app: &str) -> [(Lane, Histogram); Lane::ALL.len()] {
        Lane::ALL.map(|lane| {
            let of_lane = OfLane { app: app.to_owned(), lane: lane.to_string() };
            (lane, self.freshness.get_or_create_owned(&of_lane))
        })
    }

    /// How the apps have done of late.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// How fresh the rows were that were delivered last.
    pub fn freshness(&self) -> Freshness {
        self.last_freshness.clone()
    }

    /// Counts a configuration that was read while the gateway ran.
    pub fn reloaded(&self, reload: Reload) {
        let outcome = match reload {
            Reload::Applied => "applied",
            Reload::Refused => "refused",
        };
        self.reloads.get_or_create(&OfReload { outcome }).inc();
    }

    /// The certificate of the listeners expires then.
    pub fn certificate_expires(&self, at: Timestamp) {
        let seconds = at.since(Timestamp::default()).as_secs_f64();
        self.certificate_expiry.get_or_create(&Vec::new()).set(seconds);
    }

    /// The metrics page.
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a String does not fail.
        text::encode(&mut page, &self.registry()).ok();
        page
    }

    /// What is on the page, family by family.
    pub fn families(&self) -> Vec<MetricFamily> {
        prometheus_protobuf::encode(&self.registry()).unwrap_or_default()
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_fresh_a_backfill_of_hours_is_can_be_told() {
        let metrics = Metrics::default();
        for (_, histogram) in metrics.freshness_of_lanes("an app") {
            histogram.observe(50_000.0);
        }
        let page = metrics.page();
        for (bound, count) in [("43200.0", 0), ("86400.0", 1)] {
            let labels = format!("le=\"{bound}\",app=\"an app\",lane=\"bulk\"");
            let sample =
                format!("userpilot_gateway_freshness_seconds_bucket{{{labels}}} {count}\n");
            assert!(page.contains(&sample), "{sample}{page}");
        }
    }
}
