//! What is counted of clients: of those that are configured, so that there are not more.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::observed::one;
use crate::{
    admin::history::{History, Percentiles},
    clock,
    door::{auth::Callers, refusal::Reason},
};

#[derive(Debug)]
pub(super) struct ObservedClients(pub(super) Callers, pub(super) History);

impl Collector for ObservedClients {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let failures = ConstCounter::new(self.0.failures());
        let help = "Requests for updates that had no valid credential";
        one(&mut encoder, "authentication_failures", help, &failures)?;
        let clients = self.0.clients();
        let kind = MetricType::Counter;
        let help = "Updates that were accepted, by client";
        let mut accepted =
            encoder.encode_descriptor("client_accepted_updates", help, None, kind)?;
        for client in &clients {
            let counter = ConstCounter::new(client.tally.accepted());
            counter.encode(accepted.encode_family(&[("client", &*client.name)])?)?;
        }
        let help = "Requests that were passed through to Userpilot, by client";
        let mut passed = encoder.encode_descriptor("client_passed_requests", help, None, kind)?;
        for client in &clients {
            let counter = ConstCounter::new(client.tally.passed());
            counter.encode(passed.encode_family(&[("client", &*client.name)])?)?;
        }
        let help = "Updates, and requests to be passed through, refused, by client and reason";
        let mut refused = encoder.encode_descriptor("client_refused_updates", help, None, kind)?;
        for client in &clients {
            for reason in Reason::ALL {
                let labels = [("client", &*client.name), ("reason", reason.name())];
                let counter = ConstCounter::new(client.tally.refused(reason));
                counter.encode(refused.encode_family(&labels)?)?;
            }
        }
        self.encode_delivered(&mut encoder)
    }
}

impl ObservedClients {
    /// What was delivered of each client's, and how fresh.
    fn encode_delivered(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = clock::now().instant;
        let clients: Vec<_> = self
            .0
            .clients()
            .iter()
            .map(|client| (client.name.clone(), self.1.delivered(client.id, now)))
            .collect();
        let help = "Rows that were delivered, by whose they were";
        let kind = MetricType::Counter;
        let mut rows = encoder.encode_descriptor("client_delivered_rows", help, None, kind)?;
        for (name, delivered) in &clients {
            let counter = ConstCounter::new(delivered.rows);
            counter.encode(rows.encode_family(&[("client", &**name)])?)?;
        }
        let of = "of a client's rows of the last hour";
        let median = format!("How fresh half {of} were at least");
        let p99 = format!("How fresh 99 of 100 {of} were at least");
        let names = ["client_freshness_median_seconds", "client_freshness_p99_seconds"];
        let quantiles: [fn(Percentiles) -> Duration; 2] = [|of| of.p50, |of| of.p99];
        for ((name, help), took) in names.into_iter().zip([median, p99]).zip(quantiles) {
            let kind = MetricType::Gauge;
            let mut fresh = encoder.encode_descriptor(name, &help, None, kind)?;
            for (name, delivered) in &clients {
                let Some(percentiles) = delivered.freshness else { continue };
                let gauge = ConstGauge::new(took(percentiles).as_secs_f64());
                gauge.encode(fresh.encode_family(&[("client", &**name)])?)?;
            }
        }
        Ok(())
    }
}
