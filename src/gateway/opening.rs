//! Opening the store.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};

use super::{
    Addresses,
    crew::Roll,
    fleet::{anchored, lease_terms},
    settings,
};
use crate::{
    clock,
    config::{Config, EngineKind},
    domain::{
        backoff::{Backoff, BackoffLimits},
        time::Now,
        update::AppId,
    },
    store::{
        self, AppTerms, Orphan, Store, StoreError, Writer,
        directory::{Opening, REDB_FILE, SLED_FOLDER},
        engine::{
            Engine, EngineError, PostgresEngine, RedbEngine, SealedEngine, SledEngine, SledOptions,
        },
        file_system,
        queue::Queue,
        rebuild::rebuild_if_worth,
    },
};

/// How a database that does not answer is tried.
const AWAY: BackoffLimits =
    BackoffLimits { initial: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Says where the store is, and what the machine does not tell.
pub(super) fn announce(config: &Config, addresses: &Addresses) {
    if let Some(concern) = clock_concern(clock::now()) {
        tracing::warn!("{concern}");
    }
    let path = config.store.path.display();
    tracing::info!(http = %addresses.http, %path, "opens the store");
}

pub(super) async fn open(config: &Config) -> anyhow::Result<(Store, Writer, Roll)> {
    let opened = clock::now().instant;
    let (store, writer, roll) = match config.store.engine {
        EngineKind::Sled => start(told(open_sled(config).await?), config).await?,
        EngineKind::Redb => start(told(open_redb(config).await?), config).await?,
        EngineKind::Postgres => {
            let engine = told(open_postgres(config).await?);
            match config.store.fleet.enabled {
                true => share(engine, config).await?,
                false => start(engine, config).await?,
            }
        }
    };
    let took = clock::now().instant.since(opened);
    tracing::info!(
        engine = store.engine_name(),
        path = %config.store.path.display(),
        bytes = store.disk_bytes(),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "the store is open"
    );
    Ok((store, writer, roll))
}

/// From here on nobody needs to know which engine it is.
async fn start(
    engine: impl Engine + Clone,
    config: &Config,
) -> anyhow::Result<(Store, Writer, Roll)> {
    let damaged = || format!("cannot serve the store in {}", config.store.path.display());
    let limits = settings::queue(&config.store, &config.limits);
    let queue = Queue::open(engine, limits, rand::random()).await.with_context(damaged)?;
    let names: Vec<String> = config.apps.iter().map(|app| app.name.clone()).collect();
    refuse_to_forget(&store::orphans(queue.engine(), &names).await.with_context(damaged)?)?;
    let apps: Vec<AppTerms> = config.apps.iter().map(|app| settings::terms(app, config)).collect();
    let started = store::start(queue, &apps, settings::groups(config)).await;
    let (store, writer, recovered) = started.with_context(damaged)?;
    Ok((store, writer, Roll::Alone(recovered)))
}

/// The same where others share the store. What fails for a database that is away is tried again.
async fn share(
    engine: impl Engine + Clone,
    config: &Config,
) -> anyhow::Result<(Store, Writer, Roll)> {
    let mut backoff = Backoff::default();
    loop {
        match try_to_share(&engine, config).await {
            Ok((store, writer, apps)) => return Ok((store, writer, Roll::Shared(apps))),
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "the database is away: tries again");
            }
            Err(error) => return Err(error).context("cannot serve the store that is shared"),
        }
        tokio::time::sleep(backoff.fail(&AWAY, rand::random())).await;
    }
}

async fn try_to_share<E: Engine + Clone>(
    engine: &E,
    config: &Config,
) -> Result<(Store, Writer, Vec<AppId>), StoreError> {
    let fleet = &config.store.fleet;
    anchored(engine).await?;
    let limits = (settings::queue(&config.store, &config.limits), settings::groups(config));
    let apps: Vec<AppTerms> = config.apps.iter().map(|app| settings::terms(app, config)).collect();
    let terms = (fleet.writers, lease_terms(fleet));
    let shared = store::start_shared(engine.clone(), limits, &apps, terms).await?;
    let names: Vec<String> = config.apps.iter().map(|app| app.name.clone()).collect();
    for Orphan { app, pending_records, in_flight_records } in store::orphans(engine, &names).await?
    {
        tracing::warn!(
            app,
            pending_records,
            in_flight_records,
            "the store holds records of an app that is not configured here: a replica that has it \
             configured delivers them"
        );
    }
    Ok(shared)
}

/// Opens redb, which reads its whole file after a crash.
async fn open_redb(config: &Config) -> anyhow::Result<SealedEngine<RedbEngine>> {
    let options = settings::redb(&config.store);
    let keys = settings::keys(&config.store);
    let opening = tokio::task::spawn_blocking(move || {
        let _opening = Opening::begin(&options.path, REDB_FILE)?;
        warn_of_file_system(&options.path);
        let path = options.path.display().to_string();
        anyhow::Ok(SealedEngine::open(RedbEngine::open(&options)?, keys, &path)?)
    });
    opening.await?
}

/// Opens a database, which is waited for until it answers.
async fn open_postgres(config: &Config) -> anyhow::Result<SealedEngine<PostgresEngine>> {
    let options = settings::postgres(&config.store, true);
    let mut backoff = Backoff::default();
    loop {
        match PostgresEngine::open(&options).await {
            Ok(engine) => {
                let keys = settings::keys(&config.store);
                return Ok(SealedEngine::wrap(engine, keys, &options.place()).await?);
            }
            Err(EngineError::Away(reason)) => {
                tracing::warn!(reason, "the database is away: tries again");
            }
            Err(
                error @ (EngineError::InUse { .. }
                | EngineError::Open { .. }
                | EngineError::Failed(_)
                | EngineError::Unknown(_)),
            ) => return Err(error.into()),
        }
        tokio::time::sleep(backoff.fail(&AWAY, rand::random())).await;
    }
}

/// Opens sled, which reads its whole log, and writes the store anew if that pays.
async fn open_sled(config: &Config) -> anyhow::Result<SealedEngine<SledEngine>> {
    let options = settings::sled(&config.store);
    let keys = settings::keys(&config.store);
    let limits = settings::rebuild(&config.store);
    let runtime = tokio::runtime::Handle::current();
    let opening = tokio::task::spawn_blocking(move || {
        let opening = Opening::begin(&options.path, SLED_FOLDER)?;
        warn_of_file_system(&options.path);
        let open = |path: &Path| {
            let options = SledOptions { path: path.to_owned(), ..options.clone() };
            let place = path.display().to_string();
            SealedEngine::open(SledEngine::open(&options)?, keys.clone(), &place)
        };
        let engine = open(&options.path)?;
        anyhow::Ok(runtime.block_on(rebuild_if_worth(&opening, engine, open, limits))?)
    });
    opening.await?
}

/// Says where some values are not encrypted as new ones are.
fn told<E: Engine>(engine: SealedEngine<E>) -> SealedEngine<E> {
    if engine.is_mixed() {
        tracing::warn!(
            "some of the store's values are in clear or under an old key: `store reencrypt`, while \
             the gateway is stopped, rewrites them"
        );
    }
    engine
}

/// What is wrong with telling the time over a restart, on Linux, which can.
fn clock_concern(now: Now) -> Option<&'static str> {
    (cfg!(target_os = "linux") && now.uptime.is_none()).then_some(
        "/proc/sys/kernel/random/boot_id cannot be read (systemd's ProcSubset=pid hides it): over a \
         restart the wall clock alone tells how long the last job still occupies the budget, and if it \
         is set ahead meanwhile, the next job may come too early",
    )
}

fn warn_of_file_system(path: &Path) {
    if let Some((name, concern)) = file_system::concern(path) {
        let path = path.display();
        tracing::warn!(%path, file_system = name, "the store is on {name}: {}", concern.explanation());
    }
}

/// An app that was renamed or removed while it had updates would never deliver them.
fn refuse_to_forget(orphans: &[Orphan]) -> anyhow::Result<()> {
    if orphans.is_empty() {
        return Ok(());
    }
    let each = |Orphan { app, pending_records, in_flight_records }: &Orphan| {
        format!("app {app:?} ({pending_records} pending and {in_flight_records} in flight)")
    };
    bail!(
        "the store holds records of apps that are not configured: {}. Configure them again, under \
         these names, until they have drained; or, to give the records up, use another store.path",
        orphans.iter().map(each).collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_machine_whose_uptime_is_hidden_is_told_of() {
        assert_eq!(clock_concern(clock::now()), None);
        assert!(clock_concern(Now { uptime: None, ..clock::now() }).is_some());
    }
}
