//! `print-default-config`: a configuration file with every key documented, to start from.

use std::io::{self, Write};

use crate::config;

/// Print a configuration file with every key at its default, documented.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Prints the compiled-in file as it is.
pub fn run(Args {}: Args) -> anyhow::Result<()> {
    io::stdout().lock().write_all(config::DEFAULT_TOML.as_bytes())?;
    Ok(())
}
