//! Delivery: a driver for each app asks the life cycle what next, does it, and tells what
//! happened.

mod driver;
mod express;
mod lease;
mod operator;
mod told;
mod words;

use std::future::Future;

pub use driver::{DeliveredRow, Delivery, DeliveryEnd, Report};
pub use express::ExpressDelivery;
pub use lease::{LeaseWatch, Leased};
pub use operator::{Operation, Operator, Place, Ports};
pub use told::Told;

use crate::{
    domain::{
        batch::{Batch, Claimable, Settlement},
        lifecycle::{Command, Event},
        memory::Memory,
        update::AppId,
    },
    store::{Closed, Store, StoreError, queue::Settling},
    upstream::Upstream,
};

/// What delivery needs of the store.
pub trait Ledger: Send + Sync {
    /// What can go wrong.
    type Error: Send;

    /// Moves pending records of one kind into a new batch.
    fn claim(
        &self,
        claimable: Claimable,
    ) -> impl Future<Output = Result<Option<Box<Batch>>, Self::Error>> + Send;

    /// Makes the batch's new state and the memory durable.
    fn advance(
        &self,
        batch: Box<Batch>,
        memory: Memory,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Settles a chunk of the batch.
    fn settle(
        &self,
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
    ) -> impl Future<Output = Result<Settling, Self::Error>> + Send;

    /// The upload of the batch.
    fn upload(&self, batch: &Batch) -> impl Future<Output = Result<Vec<u8>, Self::Error>> + Send;
}

/// Carries one command out and says what came of it. The batch that is to be submitted is
/// `current`. `settled` hears of every chunk of rows that is settled.
pub async fn carry_out<L: Ledger>(
    command: Command,
    current: Option<&Batch>,
    ledger: &L,
    upstream: &impl Upstream,
    mut settled: impl FnMut(Settlement, Settling) + Send,
) -> Result<Event, L::Error> {
    Ok(match command {
        Command::Claim(claimable) => Event::Claimed(ledger.claim(*claimable).await?),
        Command::Advance(batch, memory) => {
            ledger.advance(batch, *memory).await?;
            Event::Advanced
        }
        Command::Submit(id) => {
            let batch = current.filter(|batch| batch.id == id).cloned();
            let batch = batch.expect("the life cycle submits the batch that it holds");
            let upload = ledger.upload(&batch).await?;
            Event::Submitted(upstream.submit(&batch, upload).await)
        }
        Command::Look => Event::Looked(upstream.jobs().await),
        Command::Poll(job_id) => Event::Polled(upstream.job(&job_id).await),
        Command::Settle(batch, settlement, memory) => loop {
            let mut chunk = ledger.settle(batch.clone(), settlement, *memory).await?;
            let (complete, next) = (chunk.complete, chunk.next.take());
            settled(settlement, chunk);
            if complete {
                break Event::Settled(next);
            }
        },
    })
}

/// One app's part of the store.
#[derive(Clone)]
pub struct AppLedger {
    /// The store.
    pub store: Store,
    /// The app.
    pub app: AppId,
}

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The writer has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A read failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger for AppLedger {
    type Error = LedgerError;

    async fn claim(&self, claimable: Claimable) -> Result<Option<Box<Batch>>, LedgerError> {
        Ok(self.store.claim(self.app, claimable).await?)
    }

    async fn advance(&self, batch: Box<Batch>, memory: Memory) -> Result<(), LedgerError> {
        Ok(self.store.advance(batch, memory).await?)
    }

    async fn settle(
        &self,
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
    ) -> Result<Settling, LedgerError> {
        Ok(self.store.settle(batch, settlement, memory).await?)
    }

    async fn upload(&self, batch: &Batch) -> Result<Vec<u8>, LedgerError> {
        Ok(self.store.upload(batch.clone()).await?)
    }
}
