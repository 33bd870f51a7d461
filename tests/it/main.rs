//! The integration tests, as one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod apps;
mod at_rest;
mod auth;
mod cli;
mod commands;
mod companies;
mod console;
mod crashes;
mod custody;
mod dead_letters;
mod delivery;
mod deploy;
mod directories;
mod disk;
mod exposed;
mod express;
mod fleet;
mod http_door;
mod idle;
mod keys;
mod lifecycle;
mod metrics;
mod node;
mod otlp;
mod plan;
mod postgres;
mod python;
mod refusals;
mod reload;
mod rig;
mod rogues;
mod simulator;
mod store;
mod tls;
mod troubles;
mod unchanged;
mod upgrades;
