//! Who is at the other end of a connection. The listener puts it into each request's extensions.

use std::{net::SocketAddr, sync::Arc};

use http::Request;
use hyper::service::Service;
use rustls::pki_types::CertificateDer;

/// The other end of the connection that a request came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its address.
    pub address: SocketAddr,
    /// The DNS names and URIs of the certificate that it has shown, for which a CA of
    /// `tls.client_ca_file` vouches. None where it has shown no certificate.
    pub sans: Arc<[String]>,
}

impl PeerIdentity {
    /// One that has shown `chain`, if any, which was verified.
    pub(super) fn new(address: SocketAddr, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let certificate = chain.and_then(|chain| chain.first());
        Self { address, sans: certificate.map(sans).unwrap_or_default() }
    }
}

/// What cannot be read names nobody.
fn sans(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Arc::default();
    };
    let names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
    names.map(str::to_owned).collect()
}

/// A service whose requests bear who sent them.
#[derive(Clone, Debug)]
pub(super) struct WithPeer<S> {
    pub(super) service: S,
    pub(super) peer: PeerIdentity,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn check(names: Vec<SanType>, expected: &[&str]) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let peer = PeerIdentity::new(address, Some(&[certificate.der().clone()]));
        assert_eq!(&*peer.sans, expected);
    }

    #[test]
    fn a_peer_is_called_by_the_dns_names_and_uris_of_its_certificate() {
        let dns = SanType::DnsName("billing.corp".try_into().unwrap());
        let uri = SanType::URI("spiffe://corp/billing".try_into().unwrap());
        let mail = SanType::Rfc822Name("a@corp".try_into().unwrap());
        let ip = SanType::IpAddress([127, 0, 0, 1].into());
        check(vec![uri.clone(), mail.clone(), dns], &["billing.corp", "spiffe://corp/billing"]);
        check(vec![uri], &["spiffe://corp/billing"]);
        check(vec![mail, ip], &[]);
        check(Vec::new(), &[]);
    }

    #[test]
    fn who_shows_no_certificate_has_no_name() {
        let address = "127.0.0.1:1".parse().unwrap();
        assert!(PeerIdentity::new(address, None).sans.is_empty());
        let rubbish = CertificateDer::from(vec![1, 2, 3]);
        assert!(PeerIdentity::new(address, Some(&[rubbish])).sans.is_empty());
    }
}
