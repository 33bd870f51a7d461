//! How commands reach a gateway that runs.

use std::{
    error::Error as StdError, fs::File, io, io::Read as _, net::IpAddr, path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use secrecy::zeroize::Zeroizing;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::ended::Exit;
use crate::{config, proto::SubjectKind};

/// Where the gateway takes updates, unless told otherwise.
pub const GRPC_DEFAULT: &str = "http://127.0.0.1:50051";
/// Where it takes operators, unless told otherwise.
pub const ADMIN_DEFAULT: &str = "http://127.0.0.1:50052";

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// While an answer is waited for: a gateway that says nothing for so long is asked whether it is
/// there, and given up after the same time again. The network does not tell of a machine that died.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How an https:// address is trusted, and how to show who asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsArgs {
    /// Who signs the gateway's certificate, PEM; without it, those whom this machine trusts. For
    /// https:// addresses.
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_file: Option<PathBuf>,
    /// The certificate to show to a gateway that asks for one, PEM.
    #[arg(long, value_name = "FILE", global = true, requires = "client_key_file")]
    pub client_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", global = true, requires = "client_cert_file")]
    pub client_key_file: Option<PathBuf>,
}

/// How to reach a gateway that asks who is there.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AccessArgs {
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    token: TokenArgs,
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
    /// Send the token also to an http:// address of another machine, where all on the way can read
    /// it.
    #[arg(long, global = true)]
    pub plaintext_token: bool,
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

/// Connects, or says where nobody answered, and what could be done.
pub async fn connect(address: &str, access: &AccessArgs) -> anyhow::Result<Connection> {
    let AccessArgs { tls, token } = access;
    let bearer = token.bearer()?;
    let endpoint = Endpoint::from_shared(address.to_owned())
        .with_context(|| format!("{address:?} is not an address such as {GRPC_DEFAULT}"))?;
    if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) {
        return Err(Exit::Usage.error(format!(
            "--address {address}: expected http:// or https:// before it, as in {GRPC_DEFAULT}"
        )));
    }
    let endpoint = match endpoint.uri().scheme_str() {
        Some("https") => {
            let endpoint = endpoint.tls_config(tls.config()?);
            endpoint.with_context(|| format!("cannot speak TLS with {address}"))?
        }
        Some(_) | None if tls.is_given() => {
            bail!("{address} is not an https:// address: certificates and keys have no use there")
        }
        Some(_) | None => endpoint,
    };
    if bearer.0.is_some() && !token.plaintext_token && !is_private(&endpoint) {
        return Err(Exit::Usage.error(format!(
            "the token would go to {address} in clear, for all on the way to read: use an https:// \
             address, or, where nobody else is on the way, --plaintext-token"
        )));
    }
    let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    let connected = endpoint.tcp_nodelay(true).connect().await;
    let channel = connected.map_err(|error| match advice(&error) {
        Some(advice) => Exit::Unreachable
            .error(format!("the gateway at {address} is not to be used so: {advice}")),
        None => {
            let message = format!(
                "no gateway answers at {address}; if it listens elsewhere, say where with --address"
            );
            Exit::Unreachable.because(error, message)
        }
    })?;
    Ok(InterceptedService::new(channel, bearer))
}

/// Whether nobody on the way can read what is sent.
fn is_private(endpoint: &Endpoint) -> bool {
    let uri = endpoint.uri();
    let host = uri.host().unwrap_or_default();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    uri.scheme_str() == Some("https")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// Why the gateway did not do as asked, in its words; where it said nothing, what could be done.
pub fn refused(status: Status) -> anyhow::Error {
    if status.code() == Code::Unimplemented {
        return anyhow::anyhow!("the gateway does not know this command: it is of another version");
    }
    if status.code() == Code::Unauthenticated {
        return Exit::Refused.error(format!(
            "{}: show a token, --token-file or {TOKEN_VARIABLE}, or a certificate, --client-cert-file. \
             One that was shown is not known there, or not to that listener: operators' ([[admins]]) \
             are for server.admin_listen, clients' ([[clients]]) for server.listen",
            status.message()
        ));
    }
    if status.message().contains("invalid compression flag") {
        return Exit::Unreachable.error(
            "what answers there does not speak gRPC: say with --address where the gateway has its \
             listener, server.listen for updates and server.admin_listen for operators",
        );
    }
    // What the gateway itself says has no other error behind it.
    let exit = match status.source() {
        Some(_) => Exit::Unreachable,
        None => exit(status.code()),
    };
    match advice(&status) {
        Some(advice) => exit.error(format!("the gateway has closed the connection: {advice}")),
        None => exit.error(status.message()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum: all else is a failure")]
fn exit(code: Code) -> Exit {
    match code {
        Code::PermissionDenied | Code::Unauthenticated => Exit::Refused,
        Code::Unavailable => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

impl TlsArgs {
    fn is_given(&self) -> bool {
        self.ca_file.is_some() || self.client_cert_file.is_some()
    }

    fn config(&self) -> anyhow::Result<ClientTlsConfig> {
        let read = |file: &PathBuf| {
            let pem = std::fs::read(file);
            pem.map(Zeroizing::new).with_context(|| format!("cannot read {}", file.display()))
        };
        let mut config = ClientTlsConfig::new().timeout(HANDSHAKE_TIMEOUT);
        config = match &self.ca_file {
            Some(file) => config.ca_certificate(Certificate::from_pem(read(file)?)),
            None => config.with_enabled_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.client_cert_file, &self.client_key_file) {
            config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(config)
    }
}

/// What to do about an error, where TLS, or its absence, is to blame.
fn advice(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    let mut broken = false;
    while let Some(error) = next {
        broken |= error.is::<hyper::Error>();
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inside.and_then(|inside| inside.downcast_ref::<TlsError>());
        if let Some(advice) = tls.or(error.downcast_ref()).and_then(of_tls) {
            return Some(advice);
        }
        next = inside.map(|inside| inside as _).or(error.source());
    }
    // What the gateway said at last, if anything, is lost on the way here.
    broken.then_some(
        "one that speaks TLS has an https:// address, one that does not, http://; one that asks \
         for a certificate needs --client-cert-file and --client-key-file",
    )
}

#[expect(clippy::wildcard_enum_match_arm, reason = "not our enums, and they grow")]
fn of_tls(error: &TlsError) -> Option<&'static str> {
    Some(match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "its certificate is signed by nobody who is trusted here; name the file of its \
                 CA with --ca-file"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for other names; use one of them in --address"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; renew it, or set this machine's clock"
            }
            _ => "its certificate cannot be used",
        },
        TlsError::InvalidMessage(_) => "it does not speak TLS; use an http:// address",
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a certificate; give --client-cert-file and --client-key-file"
        }
        TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::CertificateExpired,
        ) => "it does not take the certificate of --client-cert-file",
        _ => return None,
    })
}

/// What the rows of a job are.
pub fn kind_name(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Unspecified => "rows",
        SubjectKind::User => "users",
        SubjectKind::Company => "companies",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_clear_to_another_machine_can_be_read_on_the_way() {
        for (address, expected) in [
            ("https://gateway.example:50052", true),
            ("http://127.0.0.1:50052", true),
            ("http://127.8.0.1", true),
            ("http://[::1]:50052", true),
            ("http://[::ffff:127.0.0.1]:50052", true),
            ("http://LOCALHOST:50052", true),
            ("http://a.localhost.", true),
            ("http://gateway:50052", false),
            ("http://10.0.0.7:50052", false),
            ("http://[fe80::1]:50052", false),
            ("http://localhost.evil.example", false),
            ("gateway:50052", false),
        ] {
            let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
            assert_eq!(is_private(&endpoint), expected, "{address}");
        }
    }
}
