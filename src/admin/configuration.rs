//! The configuration, for operators.

use super::{grpc::Admin, messages::timestamp};
use crate::{domain::time::Timestamp, proto};

/// The configuration in force, as it may be shown.
#[derive(Clone, Debug, Default)]
pub struct ShownConfig {
    /// As TOML, without secrets.
    pub toml: String,
    /// The file that it was read of; empty where there is none.
    pub file: String,
    /// When it was read.
    pub loaded_at: Timestamp,
}

impl Admin {
    pub(super) fn config(&self) -> proto::GetConfigResponse {
        let ShownConfig { toml, file, loaded_at } = self.observatory.config.borrow().clone();
        let problem = self.observatory.config_problem.borrow().clone().unwrap_or_default();
        proto::GetConfigResponse { toml, file, loaded_at: Some(timestamp(loaded_at)), problem }
    }
}
