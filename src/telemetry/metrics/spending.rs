//! How the budget is spent, and what the limits are that alerts compare with.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::observed::{of_apps, one};
use crate::{
    admin::status::{AppStatus, Observatory},
    domain::{time::Timestamp, update::SubjectKind},
};

/// What the configuration allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pending records, of an app.
    pub pending_records_max: u64,
    /// Their bytes.
    pub pending_bytes_max: u64,
    /// What is to stay free on the store's disk.
    pub free_bytes_min: u64,
}

pub(super) struct Spending(pub(super) Observatory, pub(super) Limits);

impl fmt::Debug for Spending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spending")
    }
}

impl Collector for Spending {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(observatory, limits) = self;
        let apps = observatory.apps();
        let help = "The share of the budget that was used in the last hour, or since the start";
        of_apps(&mut encoder, &apps, "utilisation_ratio", help, |app| {
            ConstGauge::new(app.utilisation)
        })?;
        let help = "How many rows a job is made for now, by kind";
        of_kinds(&mut encoder, &apps, ("job_target_rows", help), |app, kind| {
            *app.view.job_users.of(kind) as f64
        })?;
        let help = "What a job is taken to cost beyond its occupancy, by kind";
        of_kinds(&mut encoder, &apps, ("job_fixed_cost_seconds", help), |app, kind| {
            app.view.fixed_cost.of(kind).as_secs_f64()
        })?;
        let gauge = |number: u64| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        for (name, help, number) in [
            ("pending_records_max", "As many may wait, of an app", limits.pending_records_max),
            ("pending_bytes_max", "So many bytes may wait, of an app", limits.pending_bytes_max),
            ("store_free_bytes_min", "Below it updates are refused", limits.free_bytes_min),
        ] {
            one(&mut encoder, name, help, &gauge(number))?;
        }
        let refused = ConstGauge::new(i64::from(observatory.config_problem.borrow().is_some()));
        let help =
            "Whether the configuration as its files are is refused, and an older one in force";
        one(&mut encoder, "config_refused", help, &refused)?;
        let started = observatory.started_at.since(Timestamp::default()).as_secs_f64();
        let help = "When the process started";
        one(&mut encoder, "start_timestamp_seconds", help, &ConstGauge::new(started))
    }
}

/// Encodes one number of each kind of every app.
fn of_kinds(
    encoder: &mut DescriptorEncoder<'_>,
    apps: &[AppStatus],
    (name, help): (&str, &str),
    number: impl Fn(&AppStatus, SubjectKind) -> f64,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for app in apps {
        for kind in SubjectKind::ALL {
            let labels = [("app", &*app.name), ("kind", &*kind.to_string())];
            ConstGauge::new(number(app, kind)).encode(encoder.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
