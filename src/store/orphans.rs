//! Apps that the store knows and nobody serves: renamed in the configuration, or removed.

use super::{
    engine::{Engine, Transaction},
    keys::{self, NameSpace},
    queue::StoreError,
    records::{AppState, Damage, Stored},
};
use crate::domain::{batch::Batch, update::AppId};

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

/// The apps with pending records or anything in flight that are not among `configured`.
pub async fn orphans<E: Engine>(
    engine: &E,
    configured: &[String],
) -> Result<Vec<Orphan>, StoreError> {
    let damaged = |what| move |damage: Damage| StoreError::Damaged { what, damage };
    let mut transaction = engine.begin().await?;
    let prefix = keys::name(NameSpace::App, "").len();
    let names = transaction.scan(keys::names(NameSpace::App), usize::from(u16::MAX)).await?;
    let mut orphans = Vec::new();
    for (key, number) in names {
        let name = String::from_utf8_lossy(&key[prefix..]).into_owned();
        if configured.contains(&name) {
            continue;
        }
        let app = AppId(u16::decode(number.as_ref()).map_err(damaged("list of names"))?);
        let Some(state) = transaction.get(&keys::app(app)).await? else { continue };
        let state = AppState::decode(state.as_ref()).map_err(damaged("app state"))?;
        let of_batch = match state.unsettled {
            Some(batch) => {
                let batch = transaction.get(&keys::batch(app, batch)).await?;
                let batch = batch.map(|batch| Batch::decode(batch.as_ref())).transpose();
                batch.map_err(damaged("unsettled batch"))?.map_or(0, |batch| batch.rows)
            }
            None => 0,
        };
        let in_flight_records = of_batch + state.express_in_flight;
        if state.depth.records > 0 || !state.has_nothing_in_flight() {
            orphans.push(Orphan {
                app: name,
                pending_records: state.depth.records,
                in_flight_records,
            });
        }
    }
    Ok(orphans)
}
