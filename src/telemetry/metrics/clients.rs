//! What is counted of clients: of those that are configured, so that there are not more.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::observed::one;
use crate::{
    admin::history::{History, Percentiles},
    clock,
    door::{auth::Callers, caller::Client, refusal::Reason},
    store::Store,
};

/// A number of each client's that has it: its name, its help, and where it is to be found.
type Number<'a> = (&'a str, &'a str, &'a dyn Fn(&Client) -> Option<u64>);

pub(super) struct ObservedClients {
    pub(super) callers: Callers,
    pub(super) history: History,
    pub(super) store: Store,
}

impl fmt::Debug for ObservedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObservedClients")
    }
}

impl Collector for ObservedClients {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let failures = ConstCounter::new(self.callers.failures());
        let help = "Requests for updates that had no valid credential";
        one(&mut encoder, "authentication_failures", help, &failures)?;
        let clients = self.callers.clients();
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
        self.encode_delivered(&mut encoder)?;
        self.encode_limits(&mut encoder, &clients)
    }
}

impl ObservedClients {
    /// What was delivered of each client's, and how fresh.
    fn encode_delivered(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = clock::now().instant;
        let clients: Vec<_> = self
            .callers
            .clients()
            .iter()
            .map(|client| (client.name.clone(), self.history.delivered(client.id, now)))
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

    /// What waits of each client's, and its limits, where it has any.
    fn encode_limits(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        clients: &[Arc<Client>],
    ) -> fmt::Result {
        let numbers: [Number<'_>; 3] = [
            ("client_pending_records", "Records of a client's own that wait", &|client| {
                Some(self.store.gauges().clients.of(client.id).waiting)
            }),
            ("client_pending_records_max", "As many of a client's own may wait", &|client| {
                client.terms.records_max
            }),
            ("client_updates_per_second_max", "As many a client may send a second", &|client| {
                client.rate.as_ref().map(|rate| rate.per_second().into())
            }),
        ];
        for (name, help, number) in numbers {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for client in clients {
                let Some(number) = number(client) else { continue };
                let gauge = ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&[("client", &*client.name)])?)?;
            }
        }
        Ok(())
    }
}
