//! `serve`: runs the gateway.

use std::path::PathBuf;

use anyhow::Context;

use crate::{
    config::{self, AuditConfig, Config},
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
    let (config, warnings) = Config::load(args.config.as_deref(), config::process_environment())?;
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
    let ended = Gateway::start(&config).await?.run(shutdown).await;
    ended.with_context(|| format!("the gateway of {} has ended", config.store.path.display()))
}
