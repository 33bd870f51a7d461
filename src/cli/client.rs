//! How commands reach a gateway that runs.

use std::{fs::File, io::Read, path::PathBuf};

use anyhow::{Context, bail};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::config;

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

/// The variable that holds the token, where no file is named.
pub const TOKEN_VARIABLE: &str = "USERPILOT_GATEWAY_TOKEN";

/// No token is longer; a log or a device given by mistake is.
const TOKEN_BYTES_MAX: u64 = 16_384;

/// Where the token is that the gateway asks for. Not in an argument, which others can see.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TokenArgs {
    /// The file that holds the token that the gateway asks for. Without it, the token is what
    /// the variable USERPILOT_GATEWAY_TOKEN holds, if it is set.
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
}

/// A connection whose requests bear a token.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Bears a token, if there is one.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl TokenArgs {
    /// Reads the token. No error holds any of it.
    fn bearer(&self) -> anyhow::Result<Bearer> {
        let (text, place) = match &self.token_file {
            Some(path) => {
                let place = path.display().to_string();
                let mut text = String::new();
                let read = File::open(path)
                    .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
                read.with_context(|| format!("cannot read the token in {place}"))?;
                (text, place)
            }
            None => {
                let mut variables = config::process_environment();
                let set = variables.find(|(name, _)| name == TOKEN_VARIABLE);
                let Some((name, text)) = set else { return Ok(Bearer(None)) };
                (text, name)
            }
        };
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("what {place} holds is not a token");
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

/// Connects with a token, or says where nobody answered.
pub async fn connect_as(address: &str, token: &TokenArgs) -> anyhow::Result<Connection> {
    let bearer = token.bearer()?;
    Ok(InterceptedService::new(connect(address).await?, bearer))
}

/// Why the gateway did not do as asked, in its words.
pub fn refused(status: Status) -> anyhow::Error {
    if status.code() == tonic::Code::Unimplemented {
        return anyhow::anyhow!("the gateway does not know this command: it is of another version");
    }
    if status.code() == tonic::Code::Unauthenticated {
        return anyhow::anyhow!(
            "the gateway asks for a token: --token-file, or {TOKEN_VARIABLE} ({})",
            status.message()
        );
    }
    anyhow::anyhow!("{}", status.message())
}
