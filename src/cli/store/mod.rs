//! `store`: a store, while no gateway runs.

mod check;
mod export;
mod import;
mod migrate;
mod reencrypt;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};

use crate::{
    config::{self, Config, EngineKind, LimitsConfig, StoreConfig},
    gateway::settings,
    store::{
        directory::{Opening, REDB_FILE, SLED_FOLDER, holds_store},
        engine::{
            Engine, EngineError, PostgresEngine, RedbEngine, SealedEngine, Sharing, SledEngine,
        },
        replicas_there,
    },
};

/// Check a store, or move what waits in it. The gateway has to be stopped.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Check(check::Args),
    Export(export::Args),
    Import(import::Args),
    Migrate(migrate::Args),
    Reencrypt(reencrypt::Args),
}

/// Which store.
#[derive(Clone, Debug, clap::Args)]
struct Place {
    /// The directory of the store; without it, store.path of the configuration. Where a database is
    /// the store, the gateway's own directory all the same.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// The engine of the store; without it, store.engine of the configuration.
    #[arg(long, value_enum)]
    engine: Option<EngineKind>,
    /// The configuration file; without it, gateway.toml if there is one. Only its tables store,
    /// store.postgres, store.fleet and limits are read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command to its end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Check(args) => check::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Reencrypt(args) => reencrypt::run(args).await,
    }
}

/// What is done with a store, of whichever engine.
trait Work {
    async fn on<E: Engine + Clone>(
        self,
        engine: SealedEngine<E>,
        store: &Opened,
    ) -> anyhow::Result<()>;
}

/// A store that is open.
struct Opened {
    config: StoreConfig,
    limits: LimitsConfig,
    /// Where it is, in words.
    place: String,
}

/// Whether a store that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

impl Place {
    fn read(&self) -> anyhow::Result<Opened> {
        let file = self.config.as_deref();
        let env = config::process_environment();
        let (mut config, limits) = Config::load_store(file, env, self.engine)?;
        if let Some(path) = &self.path {
            config.path.clone_from(path);
        }
        let place = match config.engine {
            EngineKind::Sled | EngineKind::Redb => config.path.display().to_string(),
            EngineKind::Postgres => settings::postgres(&config, false).place(),
        };
        Ok(Opened { config, limits, place })
    }

    /// Opens the store, and does the work on it.
    async fn work(&self, missing: Missing, work: impl Work) -> anyhow::Result<()> {
        let store = self.read()?;
        let done = match store.config.engine {
            EngineKind::Sled => {
                let opening = begin(&store, missing, "sled", SLED_FOLDER)?;
                let engine = SledEngine::open(&settings::sled(&store.config)).map_err(explain)?;
                let engine = sealed(engine, &store).await.map_err(explain)?;
                drop(opening);
                work.on(engine, &store).await
            }
            EngineKind::Redb => {
                let opening = begin(&store, missing, "redb", REDB_FILE)?;
                let engine = RedbEngine::open(&settings::redb(&store.config)).map_err(explain)?;
                let engine = sealed(engine, &store).await.map_err(explain)?;
                drop(opening);
                work.on(engine, &store).await
            }
            EngineKind::Postgres => {
                let options = settings::postgres(&store.config, missing == Missing::Make);
                let engine = PostgresEngine::open(&options).await.map_err(explain)?;
                let engine = sealed(engine, &store).await.map_err(explain)?;
                refuse_while_shared(&engine, &store).await?;
                work.on(engine, &store).await
            }
        };
        done.with_context(|| format!("the store in {}", store.place))
    }
}

/// Begins to open an embedded store, if it is there or may be made.
fn begin(
    store: &Opened,
    missing: Missing,
    engine: &str,
    folder: &'static str,
) -> anyhow::Result<Opening> {
    let path = &store.config.path;
    if missing == Missing::Refuse && !holds_store(path, folder) {
        bail!("{} holds no {engine} store: give its directory with --path", path.display());
    }
    Opening::begin(path, folder).map_err(explain)
}

async fn sealed<E: Engine>(engine: E, store: &Opened) -> Result<SealedEngine<E>, EngineError> {
    SealedEngine::wrap(engine, settings::keys(&store.config), &store.place).await
}

/// Nothing keeps a command away from a store that replicas share: it is seen to that none runs.
async fn refuse_while_shared<E: Engine>(engine: &E, store: &Opened) -> anyhow::Result<()> {
    if engine.sharing() == Sharing::Alone {
        return Ok(());
    }
    let length = Duration::from_millis(store.config.fleet.lease_ms);
    let there = replicas_there(engine, length).await?;
    if there > 0 {
        bail!(
            "{there} gateways that share the store were there within the last {} s: stop all of them \
             first",
            length.as_secs()
        );
    }
    Ok(())
}

fn explain(error: EngineError) -> anyhow::Error {
    let in_use = matches!(error, EngineError::InUse { .. });
    let error = anyhow::Error::new(error);
    if in_use { error.context("stop the gateway first") } else { error }
}
