//! Logs, the audit log, metrics, and the export of traces and metrics.

mod metrics;
pub mod otlp;
mod properties;

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use anyhow::Context;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, filter_fn},
    fmt::{MakeWriter, writer::BoxMakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

pub use metrics::{Freshness, Limits, Metrics, Reload, Reporter};

use crate::audit;

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
    begin(format, filter, io::stderr, None)
}

/// The same, with an audit log, which no filter thins out.
pub fn log_and_audit(format: LogFormat, filter: &str, audit: Audit) -> anyhow::Result<()> {
    let audit = match audit {
        Audit::Off => None,
        Audit::Stderr => Some(BoxMakeWriter::new(io::stderr)),
        Audit::File(path) => {
            let file = append_to(&path);
            let file =
                file.with_context(|| format!("cannot write the audit log {}", path.display()))?;
            let file = Arc::new(AuditFile { path, file: Mutex::new(file) });
            AUDIT_FILE.set(Arc::clone(&file)).ok();
            Some(BoxMakeWriter::new(file))
        }
    };
    begin(format, filter, io::stderr, audit)
}

/// Where the audit log goes.
#[derive(Clone, Debug)]
pub enum Audit {
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// A file that lines are added to.
    File(PathBuf),
}

/// The file of the audit log, where it goes to one: a process has one audit log.
static AUDIT_FILE: OnceLock<Arc<AuditFile>> = OnceLock::new();

struct AuditFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl Write for &AuditFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Others have no business in it; it names clients and addresses.
    options.append(true).create(true).mode(0o600).open(path)
}

/// Opens the audit log's file again, for whoever has moved the old one away.
pub fn reopen_audit() {
    let Some(audit) = AUDIT_FILE.get() else { return };
    match append_to(&audit.path) {
        Ok(file) => *audit.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
        Err(error) => {
            let path = audit.path.display();
            tracing::error!(%path, %error, "the audit log goes on in the old file");
        }
    }
}

/// Begins to log to a file.
pub fn log_to(format: LogFormat, filter: &str, file: File) -> anyhow::Result<()> {
    begin(format, filter, Mutex::new(file), None)
}

fn begin(
    format: LogFormat,
    filter: &str,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    audit: Option<BoxMakeWriter>,
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
    let lines = lines.with_filter(filter.and(filter_fn(|of| is_harmless(of) && !is_audit(of))));
    let audit = audit.map(|writer| {
        let lines = tracing_subscriber::fmt::layer().with_writer(writer).json();
        lines.flatten_event(true).with_filter(filter_fn(is_audit))
    });
    let registry = tracing_subscriber::registry().with(lines).with(audit);
    registry.try_init().context("logging has begun already")
}

fn is_audit(of: &Metadata<'_>) -> bool {
    of.target() == audit::TARGET
}

/// The engine traces what it writes: keys and property values. No filter may let that through.
fn is_harmless(of: &Metadata<'_>) -> bool {
    let is_of = |engine: &&str| {
        let rest = of.target().strip_prefix(engine);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    !["sled", "tokio_postgres"].iter().any(is_of) || *of.level() <= Level::INFO
}
