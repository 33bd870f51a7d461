//! Where services come in: parse once, refuse clearly, answer when it is durable.

pub mod caller;
pub mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod grpc;
pub mod health;
pub mod http;
pub mod listener;
pub mod peer;
pub mod receipt;
pub mod refusal;
pub mod tls;
pub mod wire;
