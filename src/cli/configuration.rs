//! The configuration, for commands that look at it by hand.

use std::path::Path;

use anyhow::anyhow;

use crate::config::{self, Config, ConfigError, DEFAULT_FILE, Warning};

/// Reads it. Where no file was named and none is there, a refusal says so.
pub(super) fn load(file: Option<&Path>) -> anyhow::Result<(Config, Vec<Warning>)> {
    Config::load(file, config::process_environment())
        .map_err(|error| explain(error, file.is_none() && !Path::new(DEFAULT_FILE).exists()))
}

fn explain(error: ConfigError, of_defaults: bool) -> anyhow::Error {
    match error {
        ConfigError::Invalid(_) if of_defaults => anyhow!(
            "{error}\n  No --config was given, and there is no {DEFAULT_FILE} in this folder, so these \
             are the defaults: name the file that the gateway reads, such as --config \
             /etc/userpilot-gateway/gateway.toml"
        ),
        ConfigError::Invalid(_) | ConfigError::Unreadable { .. } | ConfigError::Syntax { .. } => {
            error.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_named_no_file_is_told_of_it() {
        let error = || Config::load(Some(Path::new("/nowhere")), std::iter::empty()).unwrap_err();
        assert!(!explain(error(), true).to_string().contains("--config"));
        let invalid = || ConfigError::Invalid(Vec::new());
        assert!(explain(invalid(), true).to_string().contains("name the file"));
        assert!(!explain(invalid(), false).to_string().contains("name the file"));
    }
}
