//! The simulated Userpilot: a stand-in for the upstream's API, for tests and the demo.
//!
//! It is written from the public document alone and shares no type with the gateway's client,
//! so that it can catch the client's mistakes. What the document forbids is refused as the
//! document says *and* written down as a [`Violation`]; what the document leaves open, the
//! simulator settles strictly. Its state lives in memory and ends with the process, unless it is
//! given a file to keep it in (`journal`).
//!
//! A request comes in through `server`, meets the fault rules in `service`, and is read by
//! `http` and `body`. The [`Snapshot`] and the faults can be reached over `/_simulator` too.
//! The rules themselves are in `account`, which is told the time and never reads it.

mod account;
mod body;
mod clock;
mod config;
mod control;
mod fault_rule;
mod faults;
mod http;
mod jobs;
mod journal;
mod profiles;
mod random;
mod rate;
mod refusal;
mod server;
mod service;
mod shapes;
mod snapshot;
mod timeline;
mod violations;
mod world;

pub use account::{PoisonMode, SlotTaken};
pub use config::{JobShape, SimulatorConfig, StartError};
pub use fault_rule::{Fault, FaultPoint, FaultRule, InvalidRule};
pub use faults::ArmedRule;
pub use profiles::{Profile, Properties, Subjects};
pub use server::{RunningSimulator, Simulator};
pub use snapshot::{JobSnapshot, Snapshot};
pub use timeline::JobStatus;
pub use violations::{Rule, Violation};
