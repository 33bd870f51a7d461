//! One durable, coalescing gateway between a company's services and Userpilot's bulk API.
//!
//! The modules stand in the order in which an update meets them; each imports only from
//! those below it. ARCHITECTURE.md walks an update through them.

pub mod cli;

pub mod config;

pub mod delivery;

pub mod store;

pub mod upstream;

pub mod simulator;

pub mod domain;

pub mod clock;

pub mod proto;
