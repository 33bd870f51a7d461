//! The durable queue: what is accepted here survives the death of the process and a loss of
//! power.
//!
//! - An accepted update is part of its subject's pending record, in flight, delivered or set
//!   aside with a report; there is no moment at which it is none of these.
//! - Every transition is one atomic commit that is on disk before anybody hears of it.
//! - One writer makes all of them, or several of which each locks what it changes; reads go past them.

pub mod check;
mod committer;
pub mod directory;
pub mod engine;
pub mod exchange;
pub mod file_system;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod handle;
mod keys;
mod mention;
mod names;
mod orphans;
pub mod private;
pub mod queue;
pub mod rebuild;
mod receipt_key;
mod records;
mod walk;

pub use committer::{
    ClientCounts, ClientGauges, Gauges, GroupCommits, Outcomes, QueueView, StoreGauges,
};
pub use engine::EngineError;
pub use handle::{
    AppTerms, Closed, Erased, GroupLimits, RecoveredApps, Store, Writer, start, start_shared,
};
pub use keys::jobs::JobId;
pub use mention::Traces;
pub use orphans::{Orphan, orphans};
pub use queue::{Accepted, Disposition, StoreError, jobs::JobPlace, lease::replicas_there};
pub use receipt_key::{ReceiptKey, receipt_key};
pub use records::{
    Closing, Death,
    jobs::{Job, JobRow, RowError},
};
