//! What the rules for properties did, on the metrics page.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use crate::door::properties::{AppProperties, Properties};

#[derive(Debug)]
pub(super) struct ObservedProperties(pub(super) Properties);

/// The counters that every app has one of.
type Number = fn(&AppProperties) -> u64;
const NUMBERS: [(&str, &str, Number); 2] = [
    ("properties_hashed", "Values that were hashed at the door", AppProperties::hashed),
    (
        "property_names_similar",
        "Properties whose name differs from another only by case or spaces",
        AppProperties::similar,
    ),
];

impl Collector for ObservedProperties {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, number) in NUMBERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for app in self.0.apps() {
                let label = [("app", &*app.app)];
                ConstCounter::new(number(app)).encode(family.encode_family(&label)?)?;
            }
        }
        let help = "Properties that did not fit, by the reason and by what was done with them";
        let name = "properties_mismatched";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for app in self.0.apps() {
            for ((reason, outcome), count) in app.mismatched() {
                let labels = [("app", &*app.app), ("reason", reason), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
