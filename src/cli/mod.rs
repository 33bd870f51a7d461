//! The commands, one file or folder each.

pub mod arguments;
pub mod check_config;
pub mod check_key;
pub mod client;
pub mod clients;
pub mod completions;
mod configuration;
pub mod dead_letters;
pub mod demo;
pub mod ended;
pub mod export;
pub mod flush;
mod health;
pub mod import;
pub mod jobs;
pub mod levers;
pub mod operator;
pub mod output;
pub mod plan;
pub mod print_default_config;
#[cfg(test)]
mod reference;
pub mod send;
pub mod serve;
pub mod shutdown;
pub mod simulate_userpilot;
pub mod status;
pub mod store;
mod stream;
pub mod token;
pub mod top;
mod updates;
pub mod user;
mod watch;
