//! Capacity, answered before it hurts: the real queue and the real life cycle, run in virtual
//! time against a model of Userpilot's account.
//!
//! The queue is [`crate::store::queue::Queue`] over memory, the decisions are
//! [`Lifecycle`](crate::domain::lifecycle::Lifecycle)'s, and of the express lane
//! [`Express`](crate::domain::express::Express)'s, and commands are carried out by
//! [`crate::delivery::carry_out`], as in the gateway. What is left out is what takes no budget: sockets, the disk, and faults other than outages. Everything is
//! decided by the seed, so the same plan gives the same report.

mod account;
mod ages;
mod backfills;
pub mod chart;
mod ledger;
mod profiles;
mod report;
mod tally;
#[cfg(test)]
mod tests;
mod took;
pub mod trace;
pub mod traffic;
mod world;

use std::time::Duration;

pub use account::{Account, Answer, ExpressAnswer, Job, Pace};
pub use ages::Ages;
pub use report::{BackfillGot, Freshness, Report, Sample};
pub use tally::{Left, Tally};
pub use world::{disturbed_until, run, run_dry};

use crate::{
    domain::{
        admission::QueueLimits, delivered::Suppression, express::ExpressSettings,
        lifecycle::Settings,
    },
    store::StoreError,
};
use traffic::Source;

/// A question: this traffic, this account, these settings. What comes of it?
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who sends what.
    pub traffic: Vec<Source>,
    /// How the account works.
    pub pace: Pace,
    /// How the scheduler is set.
    pub settings: Settings,
    /// How the express lane is set. Without it, what is sent in it counts as interactive.
    pub express: Option<ExpressSettings>,
    /// How much may wait.
    pub queue: QueueLimits,
    /// Whether what upstream holds is not sent again.
    pub suppression: Option<Suppression>,
    /// For how long the world is watched.
    pub length: Duration,
    /// Decides every chance.
    pub seed: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The queue failed, which in memory is a bug.
    #[error(transparent)]
    Store(#[from] StoreError),
}
