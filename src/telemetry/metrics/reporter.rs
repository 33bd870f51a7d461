//! What an app's driver reports, as metrics and as history.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Metrics, OfApp, OfDeath, OfJob};
use crate::{
    admin::history::AppRecorder,
    clock,
    delivery::{DeliveredRow, Report},
    domain::{
        batch::{Batch, Settlement},
        express::ExpressEnd,
        time::Timestamp,
        update::{AppId, Subject},
    },
    trace::{Ended, Traces},
};

/// What one app's driver reports to.
#[derive(Clone)]
pub struct Reporter {
    pub(super) metrics: Metrics,
    pub(super) id: AppId,
    pub(super) app: String,
    pub(super) history: AppRecorder,
    pub(super) traces: Traces,
}

impl Report for Reporter {
    fn delivered(&self, rows: &mut dyn Iterator<Item = DeliveredRow>) {
        let of_lanes = self.metrics.freshness_of_lanes(&self.app);
        let (mut sum, mut count) = (Duration::ZERO, 0);
        self.history.delivered(&mut rows.map(|DeliveredRow { client, lane, took }| {
            for (_, histogram) in of_lanes.iter().filter(|(of, _)| *of == lane) {
                histogram.observe(took.as_secs_f64());
            }
            sum += took;
            count += 1;
            (client, took)
        }));
        if let Some(mean) = sum.checked_div(count) {
            let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX);
            self.metrics.last_freshness.0.store(micros.max(1), Relaxed);
        }
    }

    fn express_ended(&self, end: ExpressEnd) {
        let outcome = match end {
            ExpressEnd::Delivered => "delivered",
            ExpressEnd::Back | ExpressEnd::Unknown => "requeued",
            ExpressEnd::Refused => "refused",
        };
        let of = OfJob { app: self.app.clone(), outcome };
        self.metrics.express_requests.get_or_create(&of).inc();
    }

    fn delivered_by_express(
        &self,
        subjects: Vec<Subject>,
        rows: &mut dyn Iterator<Item = DeliveredRow>,
    ) {
        let of_app = OfApp { app: self.app.clone() };
        let by_express = self.metrics.express_freshness.get_or_create_owned(&of_app);
        let rows = rows.inspect(|row| by_express.observe(row.took.as_secs_f64()));
        self.delivered(&mut { rows });
        self.traces.ended(self.id, || Ended::Express(subjects));
    }

    fn job_ended(&self, batch: &Batch, settlement: Settlement, took: Duration) {
        self.traces.ended(self.id, || Ended::Job(Box::new(batch.clone()), settlement));
        let outcome = match settlement {
            Settlement::Delivered => "delivered",
            Settlement::Requeued => "requeued",
            Settlement::Split(_) => "split",
            Settlement::Dead(_) => "dead",
        };
        let of_job = OfJob { app: self.app.clone(), outcome };
        self.metrics.jobs.get_or_create(&of_job).inc();
        self.metrics.job_rows.get_or_create(&of_job).inc_by(batch.rows);
        let of_app = OfApp { app: self.app.clone() };
        if let Settlement::Dead(reason) = settlement {
            let of_death = OfDeath { app: self.app.clone(), reason: reason.to_string() };
            self.metrics.dead_rows.get_or_create(&of_death).inc_by(batch.rows);
        }
        if settlement == Settlement::Delivered {
            let now = clock::now().wall.since(Timestamp::default());
            self.metrics.last_delivery.get_or_create(&of_app).set(now.as_secs_f64());
        }
        self.metrics.job_size.get_or_create(&of_app).observe(batch.rows as f64);
        self.metrics.job_duration.get_or_create(&of_app).observe(took.as_secs_f64());
    }
}
