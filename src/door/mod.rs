//! Where services come in: parse once, refuse clearly, answer when it is durable.

pub mod auth;
pub mod caller;
mod found;
pub mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod gate;
pub mod grpc;
pub mod health;
pub mod http;
mod idle;
mod jwks;
pub mod jwt;
pub mod listener;
pub mod peer;
pub mod properties;
pub mod rate;
pub mod receipt;
pub mod refusal;
pub mod requests;
pub mod senders;
mod sent;
mod signature;
pub mod tally;
pub mod tls;
pub mod token;
pub mod watch;
pub mod wire;
