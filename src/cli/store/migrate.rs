//! `store migrate`: makes the schema of a database, or brings it up to date.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::bail;

use super::explain;
use crate::{
    config::{self, Config, EngineKind},
    gateway::settings,
    store::engine::{Age, PostgresEngine, script},
};

/// Make the schema of a PostgreSQL store, or bring it up to date.
///
/// A start of the gateway does the same, where its role may. Run this as one that may, and let the
/// gateway's have no more than it needs: with USERPILOT_GATEWAY__STORE__POSTGRES__USER set to the
/// schema's owner, and --grant-to to the gateway's role.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file; without it, gateway.toml if there is one. Only its table
    /// store.postgres is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the SQL that makes the schema, and do nothing.
    #[arg(long)]
    print: bool,
    /// The role of the gateway: it gets the rights that it needs, and no others.
    #[arg(long, value_name = "ROLE")]
    grant_to: Option<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (file, env) = (args.config.as_deref(), config::process_environment());
    let (store, _) = Config::load_store(file, env, Some(EngineKind::Postgres))?;
    let options = settings::postgres(&store, true);
    let role = args.grant_to.as_deref();
    if args.print {
        let sql = script(&options.schema, role.unwrap_or(&options.user));
        write!(io::stdout(), "{sql}")?;
        return Ok(());
    }
    let said = match PostgresEngine::migrate(&options, role).await.map_err(explain)? {
        Age::Missing | Age::Old(0) => "made".to_owned(),
        Age::Old(version) => format!("brought up to date, from version {version}"),
        Age::Current => "up to date already".to_owned(),
        Age::Newer(version) => bail!(
            "{}: a newer version of this program made it (schema version {version}). Nothing was \
             changed",
            options.place()
        ),
    };
    writeln!(io::stdout(), "{}: {said}", options.place())?;
    Ok(())
}
