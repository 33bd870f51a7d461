//! Who is at the other end of a connection. The listener puts it into each request's extensions.

use std::{fmt, future, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::Request;
use hyper::service::Service;
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio::sync::watch;

use super::tls::Tls;
use crate::clock;

/// The other end of the connection that a request came by.
#[derive(Clone)]
pub struct PeerIdentity {
    /// Its address.
    pub address: SocketAddr,
    /// Where it speaks TLS.
    secured: Option<Arc<Secured>>,
}

/// What a peer has shown in its handshake, and whom to trust by now.
struct Secured {
    chain: Vec<CertificateDer<'static>>,
    in_force: watch::Receiver<Tls>,
    judged: ArcSwap<Judgement>,
}

/// What is thought of a peer by those who vouched, or did not.
struct Judgement {
    by: Arc<dyn ClientCertVerifier>,
    /// Whether it would be let in if it came now.
    is_welcome: bool,
    sans: Arc<[String]>,
}

impl PeerIdentity {
    /// One that does not speak TLS.
    pub(super) fn plain(address: SocketAddr) -> Self {
        Self { address, secured: None }
    }

    /// One that has shown `chain`, if any, which `by` has verified. What comes to be `in_force`
    /// holds for it, too.
    pub(super) fn secured(
        address: SocketAddr,
        chain: Option<&[CertificateDer<'_>]>,
        by: Arc<dyn ClientCertVerifier>,
        in_force: watch::Receiver<Tls>,
    ) -> Self {
        let chain: Vec<_> =
            chain.unwrap_or_default().iter().map(|it| it.clone().into_owned()).collect();
        let sans = chain.first().map(sans).unwrap_or_default();
        let judged = ArcSwap::from_pointee(Judgement { by, is_welcome: true, sans });
        Self { address, secured: Some(Arc::new(Secured { chain, in_force, judged })) }
    }

    /// The DNS names and URIs of the certificate that it has shown, for which a CA of
    /// `tls.client_ca_file` vouches as that is now. None where it has shown no certificate, or one
    /// of a CA that is not trusted any more.
    pub fn sans(&self) -> Arc<[String]> {
        self.secured.as_ref().map(|it| it.judge().sans.clone()).unwrap_or_default()
    }

    /// Returns once a reload has made it one that would not be let in if it came anew.
    pub(super) async fn has_outstayed(&self) {
        let Some(secured) = &self.secured else { return future::pending().await };
        let mut in_force = secured.in_force.clone();
        while secured.judge().is_welcome {
            if in_force.changed().await.is_err() {
                return future::pending().await;
            }
        }
    }
}

impl Secured {
    /// Whoever was judged by others than those of now is judged again.
    fn judge(&self) -> Arc<Judgement> {
        let judged = self.judged.load_full();
        let by = self.in_force.borrow().clients.clone();
        if Arc::ptr_eq(&judged.by, &by) {
            return judged;
        }
        let judgement = Arc::new(Judgement::new(&self.chain, by));
        self.judged.store(judgement.clone());
        judgement
    }
}

impl Judgement {
    /// As a handshake would judge.
    fn new(chain: &[CertificateDer<'_>], by: Arc<dyn ClientCertVerifier>) -> Self {
        let since_epoch = u64::try_from(clock::now().wall.as_micros()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_micros(since_epoch));
        let (is_welcome, sans) = match chain.split_first() {
            None => (!by.client_auth_mandatory(), Arc::default()),
            // Nobody is asked for a certificate.
            Some(_) if !by.offer_client_auth() => (true, Arc::default()),
            Some((own, others)) => match by.verify_client_cert(own, others, now) {
                Ok(_) => (true, sans(own)),
                Err(_) => (false, Arc::default()),
            },
        };
        Self { by, is_welcome, sans }
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity").field("address", &self.address).finish_non_exhaustive()
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

/// CAs of clients, for tests.
#[cfg(test)]
pub(super) mod testing {
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};

    use super::*;

    pub(in crate::door) struct Ca(CertifiedIssuer<'static, KeyPair>);

    impl Ca {
        pub(in crate::door) fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        pub(in crate::door) fn issue(&self, names: Vec<SanType>) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names;
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &self.0).unwrap().der().clone()
        }

        /// A certificate for one URI.
        pub(in crate::door) fn client(&self, uri: &str) -> CertificateDer<'static> {
            self.issue(vec![SanType::URI(uri.try_into().unwrap())])
        }
    }

    /// What a listener goes by that trusts these.
    pub(in crate::door) fn trusting(cas: &[&Ca], is_mandatory: bool) -> Tls {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ca in cas {
            roots.add(ca.0.der().clone()).unwrap();
        }
        let clients: Arc<dyn ClientCertVerifier> = if cas.is_empty() {
            WebPkiClientVerifier::no_client_auth()
        } else {
            let clients =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
            let clients = if is_mandatory { clients } else { clients.allow_unauthenticated() };
            clients.build().unwrap()
        };
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().der().clone();
        let rustls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.clone())
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        Tls { rustls: rustls.into(), clients }
    }

    /// A peer that was let in with `chain`, and what changes whom to trust.
    pub(in crate::door) fn peer(
        chain: Option<&[CertificateDer<'_>]>,
        tls: Tls,
    ) -> (PeerIdentity, watch::Sender<Tls>) {
        let (by, in_force) = (tls.clients.clone(), watch::Sender::new(tls));
        let address = "127.0.0.1:1".parse().unwrap();
        (PeerIdentity::secured(address, chain, by, in_force.subscribe()), in_force)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use rcgen::SanType;

    use super::{
        testing::{Ca, peer, trusting},
        *,
    };

    const BILLING: &str = "spiffe://corp/billing";

    fn check(names: Vec<SanType>, expected: &[&str]) {
        let ca = Ca::new();
        let (peer, _in_force) = peer(Some(&[ca.issue(names)]), trusting(&[&ca], true));
        assert_eq!(&*peer.sans(), expected);
    }

    #[test]
    fn a_peer_is_called_by_the_dns_names_and_uris_of_its_certificate() {
        let dns = SanType::DnsName("billing.corp".try_into().unwrap());
        let uri = SanType::URI(BILLING.try_into().unwrap());
        let mail = SanType::Rfc822Name("a@corp".try_into().unwrap());
        let ip = SanType::IpAddress([127, 0, 0, 1].into());
        check(vec![uri.clone(), mail.clone(), dns], &["billing.corp", BILLING]);
        check(vec![uri], &[BILLING]);
        check(vec![mail, ip], &[]);
        check(Vec::new(), &[]);
    }

    #[test]
    fn who_shows_no_certificate_has_no_name() {
        let address = "127.0.0.1:1".parse().unwrap();
        assert!(PeerIdentity::plain(address).sans().is_empty());
        let rubbish = CertificateDer::from(vec![1, 2, 3]);
        let tls = trusting(&[&Ca::new()], false);
        assert!(peer(None, tls.clone()).0.sans().is_empty());
        assert!(peer(Some(&[rubbish]), tls).0.sans().is_empty());
    }

    #[test]
    fn whoever_is_connected_is_judged_by_whom_is_trusted_now() {
        let (old, new) = (Ca::new(), Ca::new());
        let certificate = [old.client(BILLING)];
        // Whom is trusted, whether a certificate must be shown, what becomes of one who has shown
        // that of the old CA, and of one who has shown none.
        let check = |cas: &[&Ca], is_mandatory, known: bool, with: bool, without: bool| {
            for (chain, stays) in [(Some(&certificate[..]), with), (None, without)] {
                let (peer, in_force) = peer(chain, trusting(&[&old], false));
                assert_eq!(peer.sans().len(), usize::from(chain.is_some()));
                assert_eq!(peer.has_outstayed().now_or_never(), None);
                in_force.send_replace(trusting(cas, is_mandatory));
                assert_eq!(peer.sans().len(), usize::from(known && chain.is_some()));
                assert_eq!(peer.has_outstayed().now_or_never().is_none(), stays);
            }
        };
        check(&[&old], false, true, true, true);
        check(&[&old, &new], false, true, true, true);
        check(&[&old], true, true, true, false);
        check(&[&new], false, false, false, true);
        check(&[&new], true, false, false, false);
        check(&[], false, false, true, true);
    }

    #[test]
    fn who_is_trusted_again_is_known_again() {
        let (old, new) = (Ca::new(), Ca::new());
        let (peer, in_force) = peer(Some(&[old.client(BILLING)]), trusting(&[&old], false));
        in_force.send_replace(trusting(&[&new], false));
        assert!(peer.sans().is_empty());
        in_force.send_replace(trusting(&[&new, &old], false));
        assert_eq!(&*peer.sans(), [BILLING]);
    }
}
