//! The commands, one file each.

pub mod check_config;
pub mod check_key;
pub mod client;
pub mod dead_letters;
pub mod demo;
pub mod jobs;
pub mod plan;
pub mod print_default_config;
pub mod send;
pub mod serve;
pub mod shutdown;
pub mod simulate_userpilot;
pub mod status;
pub mod store;
pub mod token;
pub mod user;
