//! The `[tls]` table, and the certificates and keys that it names. No message holds any of a key.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{self, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig as RustlsConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use secrecy::zeroize::Zeroizing;
use serde::{Serialize, Serializer};

use super::{Warning, reader::Reader};
use crate::{clock, domain::time::Timestamp};

/// No file of certificates is larger; a log or a device given by mistake is.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// How long before a certificate expires that is worth a warning.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// TLS of the listeners.
#[derive(Clone, Debug, Serialize)]
pub struct TlsConfig {
    /// The certificate and those that lead to its issuer; without it no listener speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_file")]
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_file")]
    pub key_file: Option<PathBuf>,
    /// Those who sign the certificates of clients.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_file")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificate: ClientCertificate,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// Whether the gRPC listener speaks TLS.
    pub grpc: bool,
    /// Whether the HTTP listener does.
    pub http: bool,
    /// Whether the admin listener does.
    pub admin: bool,
    /// How long a client may take until it has said what it wants to speak.
    pub handshake_timeout_ms: u64,
    /// What was made of the files.
    #[serde(skip)]
    pub server: Option<ServerTls>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// They are not asked.
    Off,
    /// They may.
    Optional,
    /// Who does not is not let in.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Certificate, key and what else listeners need, checked to fit together.
#[derive(Clone)]
pub struct ServerTls {
    /// What rustls needs to know.
    pub rustls: Arc<RustlsConfig>,
    /// Whom it asks whether a client's certificate is right.
    pub clients: Arc<dyn ClientCertVerifier>,
    /// When the certificate expires.
    pub expires_at: Timestamp,
    certificates: Vec<CertificateDer<'static>>,
    client_cas: Vec<CertificateDer<'static>>,
}

impl ServerTls {
    /// Whether other certificates are shown or trusted than by `other`.
    pub fn has_other_certificates(&self, other: &Self) -> bool {
        self.certificates != other.certificates || self.client_cas != other.client_cas
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

pub(super) fn tls(
    reader: &mut Reader<'_>,
    folder: &Path,
    warnings: &mut Vec<Warning>,
) -> TlsConfig {
    let mut file = |key: &str| {
        let (name, _) = reader.optional(key)?;
        let path = folder.join(name);
        Some(path::absolute(&path).unwrap_or(path))
    };
    let (cert_file, key_file) = (file("cert_file"), file("key_file"));
    let client_ca_file = file("client_ca_file");
    let client_certificate = reader.word(
        "client_certificate",
        [
            ("off", ClientCertificate::Off),
            ("optional", ClientCertificate::Optional),
            ("required", ClientCertificate::Required),
        ],
    );
    let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    let mut config = TlsConfig {
        cert_file,
        key_file,
        client_ca_file,
        client_certificate,
        min_version: reader.word("min_version", versions),
        grpc: reader.flag("grpc"),
        http: reader.flag("http"),
        admin: reader.flag("admin"),
        handshake_timeout_ms: reader.number("handshake_timeout_ms", 1..=600_000),
        server: None,
    };
    config.server = match server(&config, warnings) {
        Ok(server) => server,
        Err((key, message)) => {
            reader.refuse(key, message);
            None
        }
    };
    config
}

/// A key of the table, and what is wrong with it.
type Refused = (&'static str, String);

fn server(config: &TlsConfig, warnings: &mut Vec<Warning>) -> Result<Option<ServerTls>, Refused> {
    let (cert_file, key_file) = match (&config.cert_file, &config.key_file) {
        (Some(cert_file), Some(key_file)) => (cert_file, key_file),
        (Some(_), None) => return Err(("cert_file", "give key_file, too".to_owned())),
        (None, Some(_)) => return Err(("key_file", "give cert_file, too".to_owned())),
        (None, None) => {
            let asks = config.client_certificate != ClientCertificate::Off;
            let key = if asks { "client_certificate" } else { "client_ca_file" };
            let idle = asks || config.client_ca_file.is_some();
            let message = "without cert_file and key_file no listener speaks TLS".to_owned();
            return if idle { Err((key, message)) } else { Ok(None) };
        }
    };
    let certificates = certificates(cert_file).map_err(|message| ("cert_file", message))?;
    let expires_at = expiry(&certificates[0])
        .map_err(|error| ("cert_file", format!("{}: {error}", cert_file.display())))?;
    let key = private_key(key_file, warnings).map_err(|message| ("key_file", message))?;
    let (clients, client_cas) = verifier(config)?;
    let provider = Arc::new(ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match config.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let rustls = RustlsConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| ("min_version", error.to_string()))?
        .with_client_cert_verifier(clients.clone())
        .with_single_cert(certificates.clone(), key);
    let mut rustls = rustls.map_err(|error| {
        let (key, cert) = (key_file.display(), cert_file.display());
        let message = if matches!(error, rustls::Error::InconsistentKeys(_)) {
            format!("{key} is not the key of the certificate in {cert}")
        } else {
            // rustls shows no key in its errors: they are kinds.
            format!("{key} with {cert}: {error}")
        };
        ("key_file", message)
    })?;
    rustls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    warn_of_expiry(cert_file, expires_at, warnings);
    Ok(Some(ServerTls { rustls: Arc::new(rustls), clients, expires_at, certificates, client_cas }))
}

type Verifier = (Arc<dyn ClientCertVerifier>, Vec<CertificateDer<'static>>);

fn verifier(config: &TlsConfig) -> Result<Verifier, Refused> {
    let file = match (config.client_certificate, &config.client_ca_file) {
        (ClientCertificate::Off, None) => {
            return Ok((WebPkiClientVerifier::no_client_auth(), Vec::new()));
        }
        (ClientCertificate::Off, Some(_)) => {
            let message = "nobody is asked for a certificate: \
                           set client_certificate to \"optional\" or \"required\"";
            return Err(("client_ca_file", message.to_owned()));
        }
        (ClientCertificate::Optional | ClientCertificate::Required, None) => {
            let message = "give client_ca_file, too: who signs the certificates of clients";
            return Err(("client_certificate", message.to_owned()));
        }
        (ClientCertificate::Optional | ClientCertificate::Required, Some(file)) => file,
    };
    let cas = certificates(file).map_err(|message| ("client_ca_file", message))?;
    let refused = |error: &dyn fmt::Display| {
        ("client_ca_file", format!("{} holds what cannot be a CA: {error}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for ca in &cas {
        roots.add(ca.clone()).map_err(|error| refused(&error))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = match config.client_certificate {
        ClientCertificate::Off | ClientCertificate::Required => verifier,
        ClientCertificate::Optional => verifier.allow_unauthenticated(),
    };
    Ok((verifier.build().map_err(|error| refused(&error))?, cas))
}

/// At least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let (pem, _) = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{} holds no certificate in PEM", path.display())),
        Err(_) => Err(format!("{} is no PEM that can be read", path.display())),
    }
}

fn private_key(path: &Path, warnings: &mut Vec<Warning>) -> Result<PrivateKeyDer<'static>, String> {
    let (pem, readable_by_all) = read(path)?;
    // What the parser says may hold a line of the file.
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{} holds no private key in PEM", path.display()))?;
    if readable_by_all {
        warnings.push(Warning::TlsKeyReadableByAll { path: path.to_owned() });
    }
    Ok(key)
}

/// A file's content, and whether every user of the machine can read it.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, bool), String> {
    let unreadable = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // Its whole length at once: a buffer that grows would leave copies of the key behind.
    let length = metadata.len().min(PEM_BYTES_MAX);
    let mut pem = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem).map_err(unreadable)?;
    if pem.len() as u64 > PEM_BYTES_MAX {
        return Err(format!("{} is over {PEM_BYTES_MAX} bytes", path.display()));
    }
    Ok((pem, metadata.permissions().mode() & 0o004 != 0))
}

/// When a certificate expires. At the end of time every one has, and webpki says since when.
fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp, webpki::Error> {
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let certificate = webpki::EndEntityCert::try_from(certificate)?;
    let usage = webpki::KeyUsage::server_auth();
    let verified =
        certificate.verify_for_usage(&[], &[], &[], end_of_time, usage, None, None).err();
    match verified {
        Some(webpki::Error::CertExpired { not_after, .. }) => {
            Ok(Timestamp::default().plus(Duration::from_secs(not_after.as_secs())))
        }
        Some(error) => Err(error),
        None => Err(webpki::Error::InvalidCertValidity),
    }
}

fn warn_of_expiry(path: &Path, expires_at: Timestamp, warnings: &mut Vec<Warning>) {
    let (path, now) = (path.to_owned(), clock::now().wall);
    let at = jiff::Timestamp::from_microsecond(expires_at.as_micros()).unwrap_or_default();
    if expires_at <= now {
        warnings.push(Warning::CertificateExpired { path, at });
    } else if expires_at.since(now) < EXPIRY_WARNING {
        warnings.push(Warning::CertificateExpires { path, at });
    }
}

fn display_file<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => super::display_path(path, serializer),
        None => serializer.serialize_none(),
    }
}
