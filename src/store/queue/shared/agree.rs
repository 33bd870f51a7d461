//! Whether a store is one gateway's own, or shared by several, stands in it from the first: both
//! keep their numbers elsewhere, and neither may take the other's for its own.

use super::{OF_NAMES, course};
use crate::store::{
    engine::{Engine, EngineError, Sharing, Transaction as _},
    keys,
    queue::{StoreError, Stored as _},
    records::Course,
};

/// Sees that the store is what the engine was opened for. One that is new becomes so: what says it
/// is there before the head is, so that whoever finds a head finds it.
pub(in crate::store::queue) async fn agree<E: Engine>(engine: &E) -> Result<(), StoreError> {
    let wanted = engine.sharing();
    let mut found = match is_new(engine).await? {
        true => None,
        false => Some(found(engine).await?),
    };
    if let (None, Sharing::Shared { stripes }) = (found, wanted) {
        // It is the lock of names, and gives no sequences: in their place it says how many stripes.
        let row = Course { last_sequence: stripes.into(), ..Course::default() };
        engine.put_if_absent(&course(OF_NAMES, 0), row.encode()).await?;
        found = Some(self::found(engine).await?);
    }
    match found {
        Some(found) if found != wanted => {
            Err(StoreError::Sharing { found: in_words(found), wanted: in_words(wanted) })
        }
        Some(_) | None => Ok(()),
    }
}

async fn is_new<E: Engine>(engine: &E) -> Result<bool, EngineError> {
    Ok(engine.begin().await?.get(keys::HEAD).await?.is_none())
}

async fn found<E: Engine>(engine: &E) -> Result<Sharing, StoreError> {
    let bytes = engine.begin().await?.get(&course(OF_NAMES, 0)).await?;
    let Some(bytes) = bytes else { return Ok(Sharing::Alone) };
    let row = Course::decode(bytes.as_ref());
    let row = row.map_err(|damage| StoreError::unreadable("whose it is (key c)", damage))?;
    Ok(Sharing::Shared { stripes: u16::try_from(row.last_sequence).unwrap_or(u16::MAX) })
}

fn in_words(sharing: Sharing) -> String {
    match sharing {
        Sharing::Alone => "one gateway's own".to_owned(),
        Sharing::Shared { stripes } => format!("shared by several, with {stripes} stripes an app"),
    }
}
