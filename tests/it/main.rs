//! The integration tests, as one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod simulator;
