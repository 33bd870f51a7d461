//! For who runs the gateway: the state of everything, and a few levers.

pub mod access;
mod charts;
mod clients;
mod configuration;
mod dead_letters;
mod draining;
mod forget;
pub mod grpc;
pub mod history;
mod messages;
pub mod status;
mod subjects;

pub use configuration::ShownConfig;
