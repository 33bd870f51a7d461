//! Logs and metrics.

mod metrics;

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

pub use metrics::{Freshness, Metrics, Reporter};

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// For people where they look on, JSON otherwise.
    pub fn fitting() -> Self {
        if io::stderr().is_terminal() { Self::Pretty } else { Self::Json }
    }
}

/// Begins to log to standard error. `RUST_LOG`, where it is set, goes before `filter`.
pub fn log(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    begin(format, filter, io::stderr)
}

/// The same, to a file.
pub fn log_to(format: LogFormat, filter: &str, file: std::fs::File) -> anyhow::Result<()> {
    begin(format, filter, std::sync::Mutex::new(file))
}

fn begin(
    format: LogFormat,
    filter: &str,
    writer: impl for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(set) if !set.is_empty() => set,
        Ok(_) | Err(_) => filter.to_owned(),
    };
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("the log filter {filter:?} cannot be read"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Pretty => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!(error))
    .context("logging has begun already")
}
