//! The metrics of the page, as OTLP has them.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    self as page, MetricFamily,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{OtlpSettings, SCOPE, SERVICE, headers, tls};
use crate::{clock, domain::time::Timestamp, telemetry::Metrics};

/// Exports metrics again and again.
#[derive(Debug)]
pub struct MetricsExport {
    client: MetricsServiceClient<Channel>,
    settings: OtlpSettings,
    interval: Duration,
    started_at: Timestamp,
}

impl MetricsExport {
    /// An export to come, each `interval`. Connects when it has to.
    pub fn new(settings: OtlpSettings, interval: Duration) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::from_shared(settings.endpoint.clone())?
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout);
        if let Some(tls) = tls(&settings.endpoint) {
            endpoint = endpoint.tls_config(tls)?;
        }
        let client = MetricsServiceClient::new(endpoint.connect_lazy());
        Ok(Self { client, settings, interval, started_at: clock::now().wall })
    }

    /// Exports `metrics` until `stop`, and once more then.
    pub async fn run(mut self, metrics: Metrics, stop: CancellationToken) {
        let mut fails = false;
        loop {
            let next = clock::now().instant.plus(self.interval);
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = clock::sleep_until(Some(next)) => false,
            };
            let exported = self.export(&metrics).await;
            match &exported {
                Ok(()) if fails => tracing::info!("metrics are exported again"),
                // Once: it goes on for as long as the collector is away.
                Err(status) if !fails => {
                    tracing::warn!(code = ?status.code(), "metrics cannot be exported");
                }
                Ok(()) | Err(_) => {}
            }
            fails = exported.is_err();
            if stopped {
                return;
            }
        }
    }

    async fn export(&mut self, metrics: &Metrics) -> Result<(), tonic::Status> {
        let request = message(&metrics.families(), self.started_at, clock::now().wall);
        let mut request = tonic::Request::new(request);
        request.metadata_mut().as_mut().extend(headers(&self.settings.headers));
        self.client.export(request).await.map(drop)
    }
}

/// All families, at one time.
fn message(
    families: &[MetricFamily],
    since: Timestamp,
    now: Timestamp,
) -> ExportMetricsServiceRequest {
    let times = Times { since: nanos(since), now: nanos(now) };
    let attributes = SERVICE.map(|(name, value)| attribute(name, value)).into();
    let scope = InstrumentationScope { name: SCOPE.to_owned(), ..Default::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics: families.iter().filter_map(|family| metric(family, times)).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

#[derive(Clone, Copy)]
struct Times {
    since: u64,
    now: u64,
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or_default().saturating_mul(1_000)
}

fn metric(family: &MetricFamily, times: Times) -> Option<Metric> {
    let numbers = |number: fn(&page::Metric) -> Option<f64>, since| {
        let point = |metric| Some(number_point(metric, number(metric)?, (since, times.now)));
        family.metric.iter().filter_map(point).collect()
    };
    let temporality = AggregationTemporality::Cumulative.into();
    let data = match page::MetricType::try_from(family.r#type).ok()? {
        page::MetricType::Counter => Data::Sum(Sum {
            data_points: numbers(|metric| Some(metric.counter.as_ref()?.value), times.since),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        page::MetricType::Gauge => Data::Gauge(Gauge {
            data_points: numbers(|metric| Some(metric.gauge.as_ref()?.value), 0),
        }),
        page::MetricType::Histogram => Data::Histogram(Histogram {
            data_points: family.metric.iter().filter_map(|it| distribution(it, times)).collect(),
            aggregation_temporality: temporality,
        }),
        page::MetricType::Summary
        | page::MetricType::Untyped
        | page::MetricType::GaugeHistogram => return None,
    };
    Some(Metric {
        name: family.name.clone(),
        description: family.help.clone(),
        unit: unit(&family.unit).to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    })
}

/// Units of UCUM, as OTLP has them, of those of OpenMetrics.
fn unit(unit: &str) -> &str {
    match unit {
        "seconds" => "s",
        "bytes" => "By",
        other => other,
    }
}

fn number_point(metric: &page::Metric, value: f64, (since, now): (u64, u64)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(metric),
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..Default::default()
    }
}

/// The page counts up to each bound, OTLP between two.
fn distribution(metric: &page::Metric, times: Times) -> Option<HistogramDataPoint> {
    let histogram = metric.histogram.as_ref()?;
    let bounds = histogram.bucket.iter().map(|bucket| bucket.upper_bound);
    let explicit_bounds: Vec<f64> =
        bounds.filter(|bound| bound.is_finite() && *bound < f64::MAX).collect();
    let mut below = 0;
    let mut bucket_counts = Vec::with_capacity(explicit_bounds.len() + 1);
    for bucket in histogram.bucket.iter().take(explicit_bounds.len()) {
        bucket_counts.push(bucket.cumulative_count.saturating_sub(below));
        below = bucket.cumulative_count;
    }
    bucket_counts.push(histogram.sample_count.saturating_sub(below));
    Some(HistogramDataPoint {
        attributes: attributes(metric),
        start_time_unix_nano: times.since,
        time_unix_nano: times.now,
        count: histogram.sample_count,
        sum: Some(histogram.sample_sum),
        bucket_counts,
        explicit_bounds,
        ..Default::default()
    })
}

fn attributes(metric: &page::Metric) -> Vec<KeyValue> {
    metric.label.iter().map(|label| attribute(&label.name, &label.value)).collect()
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: name.to_owned(), value: Some(value), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::{
        encoding::prometheus_protobuf,
        metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn what_is_on_the_page_is_exported_whole() {
        let mut registry = Registry::with_prefix("gateway");
        let counter = Family::<Vec<(String, String)>, Counter>::default();
        registry.register("jobs", "Jobs", counter.clone());
        counter.get_or_create(&vec![("app".to_owned(), "a".to_owned())]).inc_by(3);
        let gauge: Gauge = Gauge::default();
        registry.register("pending", "What waits", gauge.clone());
        gauge.set(-7);
        let histogram = Histogram::new([1.0, 5.0]);
        registry.register_with_unit("freshness", "How fresh", Unit::Seconds, histogram.clone());
        for seconds in [0.5, 0.7, 2.0, 60.0] {
            histogram.observe(seconds);
        }

        let families = prometheus_protobuf::encode(&registry).unwrap();
        let since = Timestamp::default().plus(Duration::from_secs(5));
        let message = message(&families, since, since.plus(Duration::from_secs(1)));
        let resource = message.resource_metrics.into_iter().next().unwrap();
        let metrics = resource.scope_metrics.into_iter().next().unwrap().metrics;
        let data = |name: &str| {
            let found = metrics.iter().find(|metric| metric.name == name).unwrap();
            (found.unit.clone(), found.data.clone().unwrap())
        };
        let (_, Data::Sum(sum)) = data("gateway_jobs_total") else { panic!("{metrics:?}") };
        assert!(sum.is_monotonic);
        assert_eq!(sum.data_points[0].attributes, [attribute("app", "a")]);
        let value = |point: &NumberDataPoint| point.value.unwrap();
        assert_eq!(value(&sum.data_points[0]), number_data_point::Value::AsDouble(3.0));
        assert_eq!(sum.data_points[0].start_time_unix_nano, 5_000_000_000);
        assert_eq!(sum.data_points[0].time_unix_nano, 6_000_000_000);
        let (_, Data::Gauge(gauge)) = data("gateway_pending") else { panic!("{metrics:?}") };
        assert_eq!(value(&gauge.data_points[0]), number_data_point::Value::AsDouble(-7.0));
        let (unit, Data::Histogram(histogram)) = data("gateway_freshness_seconds") else {
            panic!("{metrics:?}")
        };
        let point = &histogram.data_points[0];
        assert_eq!((&*unit, &*point.explicit_bounds), ("s", &[1.0, 5.0][..]));
        assert_eq!((point.count, &*point.bucket_counts), (4, &[2, 1, 1][..]));
        assert_eq!(point.sum, Some(63.2));
    }
}
