//! Logs and metrics.

mod metrics;

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::{Level, Metadata};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt as _};

pub use metrics::{Freshness, Metrics, Reload, Reporter};

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
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Pretty => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_harmless));
    registry.with(lines).try_init().context("logging has begun already")
}

/// The engine traces what it writes: keys and property values. No filter may let that through.
fn is_harmless(of: &Metadata<'_>) -> bool {
    let engine = of.target().strip_prefix("sled");
    let engine = engine.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    !engine || *of.level() <= Level::INFO
}
