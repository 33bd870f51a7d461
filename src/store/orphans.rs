//! Apps that the store knows and nobody serves: renamed in the configuration, or removed.

use std::ops::RangeInclusive;

use super::{
    engine::{Engine, Transaction},
    keys::{self, NameSpace},
    names::{Name, names},
    queue::{StoreError, state_of},
    records::Stored,
};
use crate::domain::{batch::Batch, update::AppId};

const CHUNK: usize = 256;

/// An app that is not configured and has records all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The name that it was configured with.
    pub app: String,
    /// Its pending records.
    pub pending_records: u64,
    /// The rows of its unsettled batch, and what is under way by express.
    pub in_flight_records: u64,
}

/// The apps with pending records or rows in flight that are not among `configured`. Where a state
/// is damaged, they are counted. An app whose number is lost is passed over, with a word: nobody
/// can tell which records are its own.
pub async fn orphans<E: Engine>(
    engine: &E,
    configured: &[String],
) -> Result<Vec<Orphan>, StoreError> {
    let mut orphans = Vec::new();
    for Name { text, number, .. } in names(engine, NameSpace::App).await? {
        if configured.contains(&text) {
            continue;
        }
        let Some(number) = number else {
            tracing::error!(
                app = text,
                "an app that is not configured has an entry that is damaged: whether anything of \
                 it waits is not known; `store check` tells more"
            );
            continue;
        };
        let (pending_records, in_flight_records) = count(engine, AppId(number)).await?;
        if pending_records > 0 || in_flight_records > 0 {
            orphans.push(Orphan { app: text, pending_records, in_flight_records });
        }
    }
    Ok(orphans)
}

/// The records of an app that wait and that are in flight.
async fn count<E: Engine>(engine: &E, app: AppId) -> Result<(u64, u64), StoreError> {
    let mut transaction = engine.begin().await?;
    if let Some(state) = state_of(&mut transaction, app).await? {
        let Some(number) = state.unsettled else { return Ok((state.depth.records, 0)) };
        let batch = transaction.get(&keys::batch(app, number)).await?;
        if let Some(Ok(batch)) = batch.map(|bytes| Batch::decode(bytes.as_ref())) {
            return Ok((state.depth.records, batch.rows));
        }
    }
    let pending = keys::all_pending(app, None);
    let in_flight = keys::all_in_flight(app, None);
    Ok((count_in(engine, pending).await?, count_in(engine, in_flight).await?))
}

async fn count_in<E: Engine>(
    engine: &E,
    range: RangeInclusive<Vec<u8>>,
) -> Result<u64, StoreError> {
    let (mut from, end) = range.into_inner();
    let mut count = 0;
    loop {
        let entries = engine.begin().await?.scan(from..=end.clone(), CHUNK).await?;
        let Some((last, _)) = entries.last() else { return Ok(count) };
        from = keys::after(last.clone());
        count += entries.len() as u64;
    }
}
