//! One durable, coalescing gateway between a company's services and Userpilot's bulk API.
//!
//! The modules stand in the order in which an update meets them; each imports only from
//! those below it. ARCHITECTURE.md walks an update through them.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

pub mod cli;

pub mod gateway;

pub mod config;

pub mod telemetry;

pub mod console;

pub mod admin;

pub mod door;

pub mod intake;

pub mod plan;

pub mod delivery;

pub mod store;

pub mod upstream;

pub mod simulator;

pub mod audit;

pub mod trace;

pub mod clock;

pub mod domain;

pub mod proto;
