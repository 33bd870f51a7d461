//! What is read of the state of everything whenever the page is made.

use std::{fmt, sync::atomic::Ordering::Relaxed};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{
    admin::status::{AppStatus, Observatory},
    domain::lifecycle::Conflicts,
    proto::AppState,
    store::GroupCommits,
};

pub(super) struct Observed(pub(super) Observatory);

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

/// A number of each app's: its name, its help, and where it is to be found.
type Number = (&'static str, &'static str, fn(&AppStatus) -> u64);

const COUNTERS: [Number; 5] = [
    ("accepted_updates", "Updates that were accepted", |app| app.updates.0),
    ("coalesced_updates", "Updates that were merged into a waiting record", |app| app.updates.1),
    ("suppressed_updates", "Updates that upstream needed nothing of", |app| app.suppressed),
    ("refused_updates", "Updates that the queue refused", |app| app.updates.2),
    ("failed_attempts", "Requests to upstream that failed", |app| app.view.failed_attempts),
];

const GAUGES: [Number; 7] = [
    ("pending_companies", "Of the records that wait, those of companies", |app| {
        app.queue.depth.company_records
    }),
    ("pending_bytes", "Bytes of the records that wait, as stored", |app| app.queue.depth.bytes),
    ("in_flight_records", "Records in the batch that is in flight", |app| {
        app.view.batch.as_ref().map_or(0, |batch| batch.rows)
    }),
    ("dead_letters", "Dead letters that nobody has closed", |app| app.queue.depth.dead_letters),
    ("halted_kinds", "Kinds (users, companies) of which upstream refuses everything", |app| {
        u64::from(app.view.halted.users) + u64::from(app.view.halted.companies)
    }),
    ("paused", "Whether an operator has paused the app", |app| u64::from(app.view.paused)),
    ("users_per_minute", "The app's budget", |app| u64::from(app.users_per_minute)),
];

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let apps = self.0.apps();
        for (name, help, number) in COUNTERS {
            of_apps(&mut encoder, &apps, name, help, |app| ConstCounter::new(number(app)))?;
        }
        for (name, help, number) in GAUGES {
            of_apps(&mut encoder, &apps, name, help, |app| {
                ConstGauge::new(i64::try_from(number(app)).unwrap_or(i64::MAX))
            })?;
        }
        encode_conflicts(&mut encoder, &apps)?;
        encode_states(&mut encoder, &apps)?;
        of_apps(
            &mut encoder,
            &apps,
            "occupancy_remaining_seconds",
            "How long the last job still occupies the budget",
            |app| ConstGauge::new(app.occupancy_remaining.as_secs_f64()),
        )?;
        let store = self.0.store.gauges();
        let help = "Commits of groups of updates";
        let counter = ConstCounter::new(store.group_commits.total.load(Relaxed));
        one(&mut encoder, "group_commits", help, &counter)?;
        encode_commits(&mut encoder, &store.group_commits)?;
        let help = "Dead letters that were dropped, for their age or their number";
        let counter = ConstCounter::new(store.dead_lost.load(Relaxed));
        one(&mut encoder, "dead_letters_dropped", help, &counter)?;
        let ready = ConstGauge::new(i64::from(self.0.not_ready.borrow().is_none()));
        one(&mut encoder, "ready", "Whether the gateway takes updates", &ready)?;
        let disk = ConstGauge::new(i64::try_from(self.0.store.disk_bytes()).unwrap_or(i64::MAX));
        one(&mut encoder, "store_bytes", "What the store takes on disk", &disk)?;
        if let Some(free) = self.0.space.borrow().free_bytes {
            let free = ConstGauge::new(i64::try_from(free).unwrap_or(i64::MAX));
            one(&mut encoder, "store_free_bytes", "What is free on the store's disk", &free)?;
        }
        let quarantined =
            ConstGauge::new(i64::try_from(store.quarantined.load(Relaxed)).unwrap_or(i64::MAX));
        let help = "Stored entries that were damaged and set aside";
        one(&mut encoder, "quarantined_entries", help, &quarantined)
    }
}

/// Encodes one number of every app.
pub(super) fn of_apps<M: EncodeMetric + prometheus_client::metrics::TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    apps: &[AppStatus],
    name: &str,
    help: &str,
    metric: impl Fn(&AppStatus) -> M,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, M::TYPE)?;
    for app in apps {
        let label = [("app", &*app.name)];
        metric(app).encode(encoder.encode_family(&label)?)?;
    }
    Ok(())
}

/// How long group commits take, and how large they are.
fn encode_commits(encoder: &mut DescriptorEncoder<'_>, commits: &GroupCommits) -> fmt::Result {
    let help = "From when a group of updates was complete until it was durable";
    let kind = MetricType::Histogram;
    let seconds =
        encoder.encode_descriptor("group_commit_duration", help, Some(&Unit::Seconds), kind)?;
    commits.seconds.encode(seconds)?;
    let help = "Updates of the groups that were committed";
    let updates = encoder.encode_descriptor("group_commit_size_updates", help, None, kind)?;
    commits.updates.encode(updates)
}

fn encode_conflicts(encoder: &mut DescriptorEncoder<'_>, apps: &[AppStatus]) -> fmt::Result {
    let help = "Submissions that found the slot taken, by whose job held it";
    let kind = MetricType::Counter;
    let mut encoder = encoder.encode_descriptor("conflicts", help, None, kind)?;
    for app in apps {
        let Conflicts { gateway, other, unknown } = app.view.conflicts_with;
        for (whose, count) in [("gateway", gateway), ("other", other), ("unknown", unknown)] {
            let labels = [("app", &*app.name), ("whose", whose)];
            ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// A sample a state, of which one is 1.
fn encode_states(encoder: &mut DescriptorEncoder<'_>, apps: &[AppStatus]) -> fmt::Result {
    let help = "What the app is doing: 1 for that state, 0 for the others";
    let kind = MetricType::Gauge;
    let mut encoder = encoder.encode_descriptor("app_state", help, None, kind)?;
    for app in apps {
        let current = app.state();
        for state in (1..).map_while(|number| AppState::try_from(number).ok()) {
            let name = state.as_str_name().trim_start_matches("APP_STATE_").to_lowercase();
            let labels = [("app", &*app.name), ("state", &*name)];
            ConstGauge::new(i64::from(state == current)).encode(encoder.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

pub(super) fn one<M: EncodeMetric + prometheus_client::metrics::TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &M,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, M::TYPE)?)
}
