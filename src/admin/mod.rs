//! For who runs the gateway: the state of everything, and a few levers.

pub mod grpc;
pub mod status;
