//! What waits, by lane.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{admin::status::Observatory, domain::update::Lane};

pub(super) struct Lanes(pub(super) Observatory);

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lanes")
    }
}

impl Collector for Lanes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Records (users and companies) that wait, by their lane";
        let kind = MetricType::Gauge;
        let mut family = encoder.encode_descriptor("pending_records", help, None, kind)?;
        for app in self.0.apps.iter() {
            let Some(gauges) = self.0.store.app(app.id) else { continue };
            let depth = gauges.queue.borrow().depth;
            for lane in Lane::ALL {
                let labels = [("app", &*app.name), ("lane", &*lane.to_string())];
                let records = i64::try_from(depth.of_lane(lane)).unwrap_or(i64::MAX);
                ConstGauge::new(records).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
