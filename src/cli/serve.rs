//! `serve`: runs the gateway.

use std::{path::PathBuf, pin::pin};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::shutdown;
use crate::{
    config::{self, AuditConfig, Config, DEFAULT_FILE},
    gateway::Gateway,
    telemetry::{self, Audit, LogFormat},
};

/// Run the gateway.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file; without it, gateway.toml if there is one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Serves until `shutdown` completes.
pub async fn run(args: Args, shutdown: impl Future) -> anyhow::Result<()> {
    keep_no_cores()?;
    let hangups = shutdown::hangups()?;
    // A file that is there now must be there at each reload: without it the defaults would hold.
    let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
    let file = args.config.or_else(default);
    let (config, warnings) = Config::load(file.as_deref(), config::process_environment())?;
    let format = match config.log.format {
        config::LogFormat::Auto => LogFormat::fitting(),
        config::LogFormat::Pretty => LogFormat::Pretty,
        config::LogFormat::Json => LogFormat::Json,
    };
    let audit = match &config.log.audit {
        AuditConfig::Stderr => Audit::Stderr,
        AuditConfig::Off => Audit::Off,
        AuditConfig::File(path) => Audit::File(path.clone()),
    };
    telemetry::log_and_audit(format, &config.log.filter, audit)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let store = config.store.path.clone();
    let mut shutdown = pin!(shutdown);
    let started = tokio::select! {
        started = Gateway::start(&config) => started?,
        // A database that does not answer is waited for. Nothing was taken yet.
        _ = &mut shutdown => {
            tracing::info!("stopped before the store was open");
            return Ok(());
        }
    };
    let ended = started.reloading(config, file, hangups).run(shutdown).await;
    ended.with_context(|| format!("the gateway of {} has ended", store.display()))
}

/// A core file would hold keys, tokens and what is known of users.
fn keep_no_cores() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("core files cannot be turned off")
}
