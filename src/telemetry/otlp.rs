//! Traces and metrics, exported by OTLP to a collector.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>

mod jobs;
mod metrics;

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SamplingResult, SdkTracerProvider, ShouldSample, SpanLimits},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{metadata::MetadataMap, transport::ClientTlsConfig};

use crate::{
    domain::update::AppId,
    store::Store,
    trace::{EndedWork, Traces},
};

pub use self::{jobs::Linker, metrics::MetricsExport};

/// How this service is called, and of which version it is.
const SERVICE: [(&str, &str); 2] =
    [("service.name", "userpilot-gateway"), ("service.version", env!("CARGO_PKG_VERSION"))];

/// The scope of what is exported.
const SCOPE: &str = "userpilot_gateway";

/// Where it is exported to, and how.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// The collector: a URL, by gRPC.
    pub endpoint: String,
    /// Headers that it wants, as `name=value,...`.
    pub headers: SecretString,
    /// For one export.
    pub timeout: Duration,
    /// The share of requests without a trace of their own that begin one.
    pub sample_share: f64,
    /// Updates of which it is remembered which trace they came with.
    pub linked_updates_max: usize,
    /// Links of one job.
    pub links_max: usize,
}

/// The export of traces.
#[derive(Debug)]
pub struct TracesExport {
    /// What doors and drivers tell.
    pub traces: Traces,
    work: EndedWork,
    provider: SdkTracerProvider,
}

impl TracesExport {
    /// Begins to export. Nothing is connected to before there is a span.
    pub fn begin(settings: &OtlpSettings) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&*settings.endpoint)
            .with_timeout(settings.timeout)
            .with_metadata(MetadataMap::from_headers(headers(&settings.headers)));
        let exporter = match tls(&settings.endpoint) {
            Some(tls) => exporter.with_tls_config(tls),
            None => exporter,
        };
        let exporter = exporter.build().context("traces cannot be exported to otlp.endpoint")?;
        let links = u32::try_from(settings.links_max).unwrap_or(u32::MAX);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .with_sampler(JobsAlways(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                settings.sample_share,
            )))))
            .with_span_limits(SpanLimits { max_links_per_span: links, ..SpanLimits::default() })
            .build();
        let (traces, work) = Traces::new(provider.tracer(SCOPE), settings.linked_updates_max);
        Ok(Self { traces, work, provider })
    }

    /// Who makes spans of what ends.
    pub fn linker(self, store: Store, apps: Vec<(AppId, String)>) -> Linker {
        let Self { traces, work, provider } = self;
        Linker { traces, work, store, apps, provider }
    }
}

/// Whom a collector behind `https:` has to be certified by: those whom the system trusts, or
/// `SSL_CERT_FILE` names. The exporter by itself would trust nobody.
fn tls(endpoint: &str) -> Option<ClientTlsConfig> {
    endpoint.starts_with("https:").then(|| ClientTlsConfig::new().with_native_roots())
}

/// Headers as the specification writes them; what cannot be read is left out.
fn headers(text: &SecretString) -> HeaderMap {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim().parse::<HeaderName>().ok()?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    text.expose_secret().split(',').filter_map(header).collect()
}

fn resource() -> Resource {
    let attributes = SERVICE.map(|(name, value)| KeyValue::new(name, value));
    Resource::builder().with_attributes(attributes).build()
}

/// Jobs are few, and what a caller's trace leads to: all are sampled. Others as the sampler says.
#[derive(Clone, Debug)]
struct JobsAlways(Sampler);

impl ShouldSample for JobsAlways {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = match kind {
            SpanKind::Client => &Sampler::AlwaysOn,
            SpanKind::Server | SpanKind::Producer | SpanKind::Consumer | SpanKind::Internal => {
                &self.0
            }
        };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}
