//! How operators reach a gateway.

use super::client::{self, ADMIN_DEFAULT, AccessArgs, Connection};
use crate::proto::admin_service_client::AdminServiceClient;

/// The service for operators.
pub(super) type Admin = AdminServiceClient<Connection>;

/// Where the gateway is, and who asks.
#[derive(Clone, Debug, clap::Args)]
pub struct OperatorArgs {
    /// Where the gateway takes operators.
    #[arg(long, value_name = "URL", global = true, default_value = ADMIN_DEFAULT)]
    pub address: String,
    #[command(flatten)]
    access: AccessArgs,
}

impl OperatorArgs {
    /// Connects, or says where nobody answered.
    pub(super) async fn connect(&self) -> anyhow::Result<Admin> {
        Ok(Admin::new(client::connect(&self.address, &self.access).await?))
    }
}
