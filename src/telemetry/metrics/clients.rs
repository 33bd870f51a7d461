//! What is counted of clients: of those that are configured, so that there are not more.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use super::observed::one;
use crate::door::{auth::Callers, refusal::Reason};

#[derive(Debug)]
pub(super) struct ObservedClients(pub(super) Callers);

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
        Ok(())
    }
}
