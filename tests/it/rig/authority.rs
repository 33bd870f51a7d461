//! Certificates that a test makes up.

use std::{fs, os::unix::fs::PermissionsExt as _};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

use super::Site;

/// One who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a gateway on the loopback address.
    pub(crate) fn gateway(&self) -> Issued {
        self.issue(vec![
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::DnsName("localhost".try_into().unwrap()),
        ])
    }

    /// A certificate for a client of that name.
    pub(crate) fn client(&self, uri: &str) -> Issued {
        self.issue(vec![SanType::URI(uri.try_into().unwrap())])
    }

    fn issue(&self, names: Vec<SanType>) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }
}

impl Site {
    /// With a certificate of this authority on every listener.
    pub(crate) fn secured_by(self, authority: &Authority) -> Self {
        self.show(&authority.gateway());
        fs::write(self.path("ca.crt"), authority.pem()).unwrap();
        self.with("tls.cert_file", "tls.crt").with("tls.key_file", "tls.key")
    }

    /// With TLS on the gRPC listener only, so that the rest of the rig finds the others.
    pub(crate) fn with_plain_admin(self) -> Self {
        self.with("tls.admin", false).with("tls.http", false)
    }

    /// Puts another certificate into the place of the gateway's.
    pub(crate) fn show(&self, issued: &Issued) {
        fs::write(self.path("tls.key"), &issued.key).unwrap();
        fs::set_permissions(self.path("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(self.path("tls.crt"), &issued.cert).unwrap();
    }
}

/// A connection to a listener whose certificate is of one of these authorities.
pub(crate) async fn secured(
    address: &str,
    authorities: &[&Authority],
    client: Option<&Issued>,
) -> Result<Channel, Error> {
    let cas = authorities.iter().map(|authority| Certificate::from_pem(authority.pem()));
    let mut tls = ClientTlsConfig::new().ca_certificates(cas);
    if let Some(Issued { cert, key }) = client {
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls)?.connect().await
}
