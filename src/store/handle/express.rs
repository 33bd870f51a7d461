//! What the express lane asks of the store.

use super::{Closed, Op, Store, StoreError};
use crate::{
    domain::{
        express::ExpressEnd,
        row::RowValues,
        update::{AppId, Subject},
    },
    store::queue::{SettledRow, TakenExpress},
};

impl Store {
    /// Moves up to `max` records of the express lane in flight.
    pub async fn take_express(&self, app: AppId, max: u64) -> Result<TakenExpress, Closed> {
        self.ask(|reply| Op::TakeExpress { app, max, reply }).await
    }

    /// Settles what went by express. Says which records were delivered.
    pub async fn settle_express(
        &self,
        app: AppId,
        ends: Vec<(Subject, ExpressEnd)>,
    ) -> Result<Vec<SettledRow>, Closed> {
        self.ask(|reply| Op::SettleExpress { app, ends, reply }).await
    }

    /// The body of the request that a subject's record in flight goes by; `None` where nothing of
    /// it is to be sent any more.
    pub async fn express_body(
        &self,
        app: AppId,
        subject: Subject,
        values: RowValues,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |reads| reads.express_body(app, subject, values)).await
    }
}
