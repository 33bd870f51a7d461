//! The commands, one file each.

pub mod check_config;
pub mod print_default_config;
pub mod simulate_userpilot;
