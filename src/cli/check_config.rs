//! `check-config`: reads and checks the configuration, and prints what is in force.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::configuration;

/// Check the configuration and print what is in force, without the API keys.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file; without it, gateway.toml if there is one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Fails with all the problems in one report. Warnings go to standard error.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (config, warnings) = configuration::load(args.config.as_deref())?;
    let mut stderr = io::stderr().lock();
    for warning in warnings {
        writeln!(stderr, "warning: {warning}")?;
    }
    io::stdout().lock().write_all(config.effective_toml().as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_wrong_configuration_is_a_report_of_all_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        fs::write(&path, "[stroe]\n[server]\nreflection = 1\n").unwrap();
        let report = run(Args { config: Some(path) }).unwrap_err().to_string();
        assert!(report.contains("\n  server.reflection: expected true or false"), "{report}");
        assert!(report.contains("\n  stroe: unknown table; did you mean store?"), "{report}");
    }
}
