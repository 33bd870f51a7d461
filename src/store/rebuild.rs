//! Writing an empty store anew: an engine's files do not shrink by themselves.

use std::path::Path;

use super::{
    directory::{Opening, REBUILD},
    engine::{Engine, EngineError, Transaction},
    file_system,
    queue::StoreError,
    records::{AppState, Stored},
    walk::{Kind, Walk},
};
use crate::domain::space::Footprint;

/// When a store is written anew.
#[derive(Clone, Copy, Debug)]
pub struct RebuildLimits {
    /// If its files take at least so much. 0: never.
    pub rebuild_bytes_min: u64,
    /// If so much stays free meanwhile.
    pub free_bytes_min: u64,
}

/// Writes the store anew if that pays, and returns the engine to go on with. `open` opens an
/// engine in a directory. Where the copy does not succeed, the store stays as it is.
pub async fn rebuild_if_worth<E: Engine>(
    opening: &Opening,
    engine: E,
    open: impl Fn(&Path) -> Result<E, EngineError>,
    limits: RebuildLimits,
) -> Result<E, StoreError> {
    let RebuildLimits { rebuild_bytes_min, free_bytes_min } = limits;
    if rebuild_bytes_min == 0 || engine.disk_bytes() < rebuild_bytes_min {
        return Ok(engine);
    }
    let footprint = survey(&engine, opening.path()).await?;
    if !footprint.is_worth_a_rebuild(rebuild_bytes_min, free_bytes_min) {
        return Ok(engine);
    }
    let bytes_before = footprint.disk_bytes;
    tracing::info!(bytes = bytes_before, "the store is empty and its files large: writes it anew");
    if let Err(error) = copy(&engine, opening, &open).await {
        tracing::warn!(%error, "the store cannot be written anew; it stays as it is");
        opening.finish().map_err(|error| moving_failed(opening, &error))?;
        return Ok(engine);
    }
    // Its files are about to move.
    drop(engine);
    opening.finish().map_err(|error| moving_failed(opening, &error))?;
    let engine = open(opening.path())?;
    tracing::info!(bytes_before, bytes = engine.disk_bytes(), "the store is written anew");
    Ok(engine)
}

fn moving_failed(opening: &Opening, error: &std::io::Error) -> EngineError {
    let reason = format!("{error}, while it was written anew; the next start goes on with that");
    EngineError::Open { path: opening.path().display().to_string(), reason }
}

async fn survey<E: Engine>(engine: &E, path: &Path) -> Result<Footprint, StoreError> {
    let mut footprint = Footprint {
        empty: true,
        live_bytes: 0,
        disk_bytes: engine.disk_bytes(),
        // Where that is not known, there is no room.
        free_bytes: file_system::free_bytes(path).unwrap_or(0),
    };
    let mut walk = Walk::through_all();
    loop {
        let entries = walk.next(engine).await?;
        if entries.is_empty() {
            return Ok(footprint);
        }
        for (key, value) in &entries {
            let value = value.as_ref();
            footprint.live_bytes += (key.len() + value.len()) as u64;
            footprint.empty &= waits_for_nothing(key, value);
        }
    }
}

/// Whether the entry is one that an empty store may have.
fn waits_for_nothing(key: &[u8], value: &[u8]) -> bool {
    match Kind::of(key) {
        Some(Kind::Pending | Kind::InFlight | Kind::PagesDamaged) | None => false,
        // One that does not decode is the queue's to complain of.
        Some(Kind::App) => AppState::decode(value).is_ok_and(|state| state.has_nothing_in_flight()),
        Some(
            Kind::Batch
            | Kind::Course
            | Kind::Delivery
            | Kind::Dead
            | Kind::DeadOf
            | Kind::Forgotten
            | Kind::Head
            | Kind::Held
            | Kind::Job
            | Kind::JobPage
            | Kind::Lease
            | Kind::Name
            | Kind::Page
            | Kind::Rescue
            | Kind::Quarantine
            | Kind::Engine,
        ) => true,
    }
}

/// Makes a copy that is whole and on the disk. Pages are left out: with no record, they lead
/// nowhere. So are the engine's own notes, of which the new one makes its own.
async fn copy<E: Engine>(
    engine: &E,
    opening: &Opening,
    open: impl Fn(&Path) -> Result<E, EngineError>,
) -> Result<(), EngineError> {
    let fresh = open(&opening.path().join(REBUILD))?;
    let mut walk = Walk::through_all();
    loop {
        let entries = walk.next(engine).await?;
        if entries.is_empty() {
            break;
        }
        let mut transaction = fresh.begin().await?;
        for (key, value) in entries {
            if !matches!(Kind::of(&key), Some(Kind::Page | Kind::Engine)) {
                transaction.put(&key, value.as_ref().to_vec());
            }
        }
        transaction.commit().await?;
    }
    drop(fresh);
    opening.declare_whole().map_err(|error| moving_failed(opening, &error))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        domain::{
            admission::QueueLimits,
            batch::{BatchLimits, Settlement},
            budget::Occupancy,
            memory::Memory,
            time::Timestamp,
            update::{AppId, ClientId, Lane, Subject, Update, Value},
        },
        store::{
            engine::{SledEngine, SledOptions},
            queue::{Claim, Found, Queue, Reads},
        },
    };

    const QUEUE: QueueLimits = QueueLimits {
        records_max: 1_000_000,
        bytes_max: 1 << 30,
        record_bytes_max: 1 << 16,
        record_properties_max: 1_000,
    };
    const LIMITS: RebuildLimits = RebuildLimits { rebuild_bytes_min: 24 << 20, free_bytes_min: 0 };

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("embedded engines answer at once")
    }

    fn open(path: &Path) -> Result<SledEngine, EngineError> {
        SledEngine::open(&SledOptions { path: path.to_owned(), cache_bytes_max: 16 << 20 })
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn update(app: AppId, user: usize) -> Update {
        Update {
            app,
            client: ClientId(0),
            subject: Subject::user(user.to_string()),
            company_id: None,
            properties: vec![("text".into(), Value::Text("x".repeat(8_000)))],
            occurred_at: None,
            lane: Lane::Interactive,
        }
    }

    /// A store through which 40 MB have gone. Where `all` are not delivered, one waits.
    fn churn(path: &Path, all: bool) -> SledEngine {
        let engine = open(path).unwrap();
        let mut queue = now(Queue::open(engine.clone(), QUEUE, 7)).unwrap();
        let app = now(queue.app("production")).unwrap();
        for round in 0..10 {
            let updates = (0..500).map(|user| update(app, user)).collect();
            now(queue.accept(updates, at(round))).unwrap();
            let limits = BatchLimits { rows_max: 10_000, bytes_max: 50_000_000 };
            let Claim::Complete(Some(batch)) =
                now(queue.claim(app, limits, None, at(round))).unwrap()
            else {
                panic!("500 records are one chunk")
            };
            let occupancy = Occupancy { until: at(99), ..Occupancy::default() };
            let memory = Memory { occupancy, ..Memory::default() };
            now(queue.settle(&batch, Settlement::Delivered, memory, at(round))).unwrap();
        }
        if !all {
            now(queue.accept(vec![update(app, 1)], at(11))).unwrap();
        }
        engine
    }

    fn rebuild(path: &Path, engine: SledEngine) -> SledEngine {
        let opening = Opening::begin(path, "sled").unwrap();
        now(rebuild_if_worth(&opening, engine, open, LIMITS)).unwrap()
    }

    #[test]
    fn an_empty_store_shrinks_and_remembers_all_that_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let engine = churn(folder.path(), true);
        let before = engine.disk_bytes();
        assert!(before > LIMITS.rebuild_bytes_min, "{before}");
        let engine = rebuild(folder.path(), engine);
        let after = engine.disk_bytes();
        assert!(after < before / 2, "{before} {after}");

        let mut queue = now(Queue::open(engine.clone(), QUEUE, 8)).unwrap();
        let app = now(queue.app("production")).unwrap();
        assert_eq!((queue.store(), queue.head().0), (7, 5_000));
        assert_eq!(now(queue.recover(app, at(12))).unwrap().memory.occupancy.until, at(99));
        let found = now(Reads::new(engine).find(app, &Subject::user("1"), 4_502)).unwrap();
        assert!(matches!(found, Found::Delivered { batch: Some(_), .. }), "{found:?}");
        let accepted = now(queue.accept(vec![update(app, 1)], at(12))).unwrap();
        assert_eq!(accepted[0].unwrap().sequence, 5_001);
    }

    #[test]
    fn a_store_in_which_something_waits_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let engine = churn(folder.path(), false);
        let before = engine.disk_bytes();
        let engine = rebuild(folder.path(), engine);
        assert!(engine.disk_bytes() >= before);
        let mut queue = now(Queue::open(engine, QUEUE, 8)).unwrap();
        let app = now(queue.app("production")).unwrap();
        assert_eq!(queue.depth(app).records, 1);
    }

    #[test]
    fn a_copy_that_fails_leaves_the_store_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let engine = churn(folder.path(), true);
        let opening = Opening::begin(folder.path(), "sled").unwrap();
        let fails = |path: &Path| match path.ends_with(REBUILD) {
            true => Err(EngineError::Failed("no space".into())),
            false => open(path),
        };
        let engine = now(rebuild_if_worth(&opening, engine, fails, LIMITS)).unwrap();
        let queue = now(Queue::open(engine, QUEUE, 8)).unwrap();
        assert_eq!(queue.head().0, 5_000);
    }
}
