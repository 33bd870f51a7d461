//! What is decided, as plain functions of values and time. Nothing here awaits, logs, reads
//! a clock or draws a random number: time and randomness are passed in.

pub mod admission;
pub mod ageing;
pub mod backoff;
pub mod batch;
pub mod budget;
pub mod delivered;
pub mod express;
pub mod lease;
pub mod lifecycle;
pub mod memory;
pub mod merge;
pub mod property;
pub mod row;
pub mod share;
pub mod sizing;
pub mod space;
pub mod spread;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod turns;
pub mod update;
pub mod verdict;
