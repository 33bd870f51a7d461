//! Where traces and metrics are exported to.

use std::{collections::BTreeMap, ops::RangeInclusive};

use secrecy::SecretString;
use serde::{Serialize, Serializer};
use url::Url;

use super::reader::{Reader, text};

/// Where traces and metrics are exported to by OTLP, and how.
#[derive(Clone, Debug, Serialize)]
pub struct OtlpConfig {
    /// The collector, by gRPC; `None` where nothing is exported.
    #[serde(serialize_with = "display_endpoint")]
    pub endpoint: Option<Url>,
    /// Whether traces are exported.
    pub traces: bool,
    /// Whether metrics are exported.
    pub metrics: bool,
    /// The share of requests without a trace of their own that begin one.
    pub traces_sample_share: f64,
    /// Between two exports of metrics.
    pub metrics_interval_ms: u64,
    /// For one export.
    pub timeout_ms: u64,
    /// Updates of which it is remembered which trace they came with.
    pub linked_updates_max: usize,
    /// Links of one job.
    pub links_max: usize,
    /// What the collector wants to be told, as `name=value,...`.
    #[serde(skip)]
    pub headers: SecretString,
}

const OFF: &str = "off";
const INTERVAL_MS: RangeInclusive<u64> = 1_000..=3_600_000;

/// Where OpenTelemetry's exporters look for headers.
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

pub(super) fn otlp(reader: &mut Reader<'_>, env: &BTreeMap<String, String>) -> OtlpConfig {
    OtlpConfig {
        endpoint: reader.read("endpoint", |value| endpoint(text(value)?)).flatten(),
        traces: reader.flag("traces"),
        metrics: reader.flag("metrics"),
        traces_sample_share: reader.share("traces_sample_share", 0.0..=1.0),
        metrics_interval_ms: reader.number("metrics_interval_ms", INTERVAL_MS),
        timeout_ms: reader.number("timeout_ms", 1..=600_000),
        linked_updates_max: reader.number("linked_updates_max", 1..=1_000_000),
        links_max: reader.number("links_max", 1..=10_000),
        headers: env.get(HEADERS).map(String::as_str).unwrap_or_default().into(),
    }
}

fn endpoint(text: &str) -> Result<Option<Url>, String> {
    if text == OFF {
        return Ok(None);
    }
    let expected = || format!("expected \"{OFF}\" or a URL such as \"http://127.0.0.1:4317\"");
    let url = Url::parse(text).map_err(|_| expected())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(expected());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("expected no credentials: they go into {HEADERS}"));
    }
    Ok(Some(url))
}

fn display_endpoint<S: Serializer>(url: &Option<Url>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_ref().map_or(OFF, Url::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_off_or_a_url_without_credentials() {
        assert_eq!(endpoint("off"), Ok(None));
        let url = |text: &str| endpoint(text).unwrap().unwrap().to_string();
        assert_eq!(url("http://collector:4317"), "http://collector:4317/");
        for text in ["", "collector:4317", "ftp://collector", "http://", "http://a:hush@b"] {
            let message = endpoint(text).unwrap_err();
            assert!(!message.contains("hush"), "{text}: {message}");
        }
    }
}
