//! For who runs the gateway: the state of everything, and a few levers.

pub mod access;
mod dead_letters;
mod forget;
pub mod grpc;
pub mod status;
