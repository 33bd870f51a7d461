//! How commands reach a gateway that runs.

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};

use crate::proto::SubjectKind;

/// Where the gateway takes updates, unless told otherwise.
pub const GRPC_DEFAULT: &str = "http://127.0.0.1:50051";
/// Where it takes operators, unless told otherwise.
pub const ADMIN_DEFAULT: &str = "http://127.0.0.1:50052";

/// Connects, or says where nobody answered.
pub async fn connect(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .with_context(|| format!("{address:?} is not an address such as {GRPC_DEFAULT}"))?;
    let connected = endpoint.tcp_nodelay(true).connect().await;
    connected.with_context(|| format!("no gateway answers at {address}"))
}

/// Why the gateway did not do as asked, in its words.
pub fn refused(status: tonic::Status) -> anyhow::Error {
    if status.code() == tonic::Code::Unimplemented {
        return anyhow::anyhow!("the gateway does not know this command: it is of another version");
    }
    anyhow::anyhow!("{}", status.message())
}

/// What the rows of a job are.
pub fn kind_name(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Unspecified => "rows",
        SubjectKind::User => "users",
        SubjectKind::Company => "companies",
    }
}
