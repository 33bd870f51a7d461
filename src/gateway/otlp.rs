//! The export of traces and metrics, where the configuration wants any.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Ended;
use crate::{
    admin::status::Observatory,
    config::{Config, OtlpConfig},
    telemetry::{
        Metrics,
        otlp::{MetricsExport, OtlpSettings, TracesExport},
    },
    trace::Traces,
};

/// What is exported.
pub(super) struct Otlp {
    traces: Option<TracesExport>,
    metrics: Option<MetricsExport>,
}

impl Otlp {
    /// Makes ready to export. Nobody is connected to yet.
    pub(super) fn begin(config: &Config) -> anyhow::Result<Self> {
        let config = &config.otlp;
        let Some(settings) = settings(config) else {
            return Ok(Self { traces: None, metrics: None });
        };
        let interval = Duration::from_millis(config.metrics_interval_ms);
        let metrics = config.metrics.then(|| MetricsExport::new(settings.clone(), interval));
        let traces = config.traces.then(|| TracesExport::begin(&settings));
        Ok(Self { traces: traces.transpose()?, metrics: metrics.transpose()? })
    }

    /// Where doors and drivers tell what they do.
    pub(super) fn traces(&self) -> Traces {
        self.traces.as_ref().map(|export| export.traces.clone()).unwrap_or_default()
    }

    /// Exports until `stop`.
    pub(super) fn export(
        self,
        observatory: &Observatory,
        metrics: &Metrics,
        tasks: &mut JoinSet<Ended>,
        stop: &CancellationToken,
    ) {
        if let Some(export) = self.metrics {
            let exporting = export.run(metrics.clone(), stop.clone());
            tasks.spawn(exporting.map(|()| Ended::Housekeeper));
        }
        if let Some(export) = self.traces {
            let apps = observatory.apps.iter().map(|app| (app.id, app.name.clone())).collect();
            let linking = export.linker(observatory.store.clone(), apps).run(stop.clone());
            tasks.spawn(linking.map(|()| Ended::Housekeeper));
        }
    }
}

fn settings(config: &OtlpConfig) -> Option<OtlpSettings> {
    Some(OtlpSettings {
        endpoint: config.endpoint.as_ref()?.as_str().trim_end_matches('/').to_owned(),
        headers: config.headers.clone(),
        timeout: Duration::from_millis(config.timeout_ms),
        sample_share: config.traces_sample_share,
        linked_updates_max: config.linked_updates_max,
        links_max: config.links_max,
    })
}
