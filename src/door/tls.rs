//! TLS of a listener: from a connection to a stream of which it is known what is spoken on it.

use std::{
    io::{self, Cursor},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rustls::{ServerConfig, server::danger::ClientCertVerifier};
use tokio::{
    io::{self as tokio_io, AsyncReadExt as _, Chain, Join, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{listener::HTTP2_PREFACE, peer::PeerIdentity};

/// Certificate, key and whom to trust.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What rustls needs to know.
    pub rustls: Arc<ServerConfig>,
    /// The same that it asks whether a client's certificate is right.
    pub clients: Arc<dyn ClientCertVerifier>,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// It may change: a connection goes on with the certificate that was in force when it was
    /// accepted, but whom to trust holds for those that stand, too.
    pub in_force: watch::Receiver<Tls>,
    /// For the handshake and the first words after it.
    pub handshake_timeout: Duration,
}

/// What is spoken after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection after its handshake.
pub(super) struct Secured {
    pub(super) stream: Join<Again, WriteHalf<Stream>>,
    pub(super) protocol: Protocol,
    pub(super) peer: PeerIdentity,
}

type Stream = TlsStream<TcpStream>;
/// Gives again what was read already, and then the rest.
type Again = Chain<Cursor<Vec<u8>>, ReadHalf<Stream>>;

impl ListenerTls {
    /// Who stalls is given up.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> io::Result<Secured> {
        let securing = secure(self.in_force.clone(), stream, address);
        tokio::time::timeout(self.handshake_timeout, securing).await?
    }
}

/// HTTP/2 is chosen by ALPN and begins with a preface, for which hyper has no time limit; for
/// the first request of HTTP/1.1 it has one.
async fn secure(
    in_force: watch::Receiver<Tls>,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<Secured> {
    let Tls { rustls, clients } = in_force.borrow().clone();
    let mut stream = TlsAcceptor::from(rustls).accept(stream).await?;
    let (_, session) = stream.get_ref();
    let peer = PeerIdentity::secured(address, session.peer_certificates(), clients, in_force);
    let (protocol, length) = match session.alpn_protocol() {
        Some(b"h2") => (Protocol::Http2, HTTP2_PREFACE.len()),
        Some(_) | None => (Protocol::Http1, 0),
    };
    let mut said = vec![0; length];
    stream.read_exact(&mut said).await?;
    let (read, write) = tokio_io::split(stream);
    let stream = tokio_io::join(Cursor::new(said).chain(read), write);
    Ok(Secured { stream, protocol, peer })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{
        body::{Bytes, Incoming},
        service::service_fn,
    };
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        server::WebPkiClientVerifier,
    };
    use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinSet};
    use tokio_rustls::TlsConnector;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        clock,
        door::listener::{self, ListenerLimits},
    };

    const TIMEOUT: Duration = Duration::from_millis(300);

    type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

    /// A listener with room for one connection, whose service answers with the peer's names.
    struct Stand {
        address: SocketAddr,
        roots: Arc<RootCertStore>,
        client: Shown,
        serving: JoinSet<()>,
        stop: CancellationToken,
    }

    async fn names(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let peer = request.extensions().get::<PeerIdentity>().unwrap();
        Ok(Response::new(Full::from(peer.sans().join(" "))))
    }

    impl Stand {
        async fn set_up() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let issue = |name: SanType| {
                let mut params = CertificateParams::default();
                params.subject_alt_names = vec![name];
                let key = KeyPair::generate().unwrap();
                let certificate = params.signed_by(&key, &ca).unwrap();
                (vec![certificate.der().clone()], PrivateKeyDer::from(key))
            };
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let provider = Arc::new(ring::default_provider());
            let clients =
                WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
            let clients = clients.allow_unauthenticated().build().unwrap();
            let (chain, key) = issue(SanType::DnsName("localhost".try_into().unwrap()));
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(clients.clone())
                .with_single_cert(chain, key)
                .unwrap();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let tls = ListenerTls {
                in_force: watch::channel(Tls { rustls: Arc::new(config), clients }).1,
                handshake_timeout: TIMEOUT,
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let limits = ListenerLimits {
                connections_max: 1,
                header_bytes_max: 8_192,
                preface_timeout: TIMEOUT,
                idle: Duration::from_secs(60),
            };
            let stop = CancellationToken::new();
            let service = service_fn(names);
            let serving = listener::serve(listener, service, limits, Some(tls), stop.clone());
            let client = issue(SanType::URI("spiffe://corp/billing".try_into().unwrap()));
            Self { address, roots, client, serving: JoinSet::from_iter([serving]), stop }
        }

        async fn connect(
            &self,
            alpn: &[u8],
            shows: bool,
        ) -> tokio_rustls::client::TlsStream<TcpStream> {
            let provider = Arc::new(ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(self.roots.clone());
            let mut config = if shows {
                let (chain, key) = &self.client;
                config.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
            } else {
                config.with_no_client_auth()
            };
            config.alpn_protocols = vec![alpn.to_vec()];
            let stream = TcpStream::connect(self.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
        }

        /// The body of an answer, over HTTP/1.1.
        async fn ask(&self, shows: bool) -> String {
            let mut stream = self.connect(b"http/1.1", shows).await;
            let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer.split_once("\r\n\r\n").unwrap().1.to_owned()
        }

        async fn end(mut self) {
            self.stop.cancel();
            while self.serving.join_next().await.is_some() {}
        }
    }

    #[tokio::test]
    async fn each_request_tells_the_names_that_its_client_has_shown() {
        let stand = Stand::set_up().await;
        assert_eq!(stand.ask(true).await, "spiffe://corp/billing");
        assert_eq!(stand.ask(false).await, "");
        stand.end().await;
    }

    /// How long the listener bears a client, who meanwhile has its only place.
    async fn bears(stand: &Stand, mut client: impl tokio::io::AsyncRead + Unpin) {
        let from = clock::now().instant;
        let mut answer = Vec::new();
        let (_, next) = tokio::join!(client.read_to_end(&mut answer), stand.ask(true));
        assert_eq!(answer, b"");
        assert_eq!(next, "spiffe://corp/billing");
        assert!(clock::now().instant.since(from) >= TIMEOUT / 2);
    }

    #[tokio::test]
    async fn who_stalls_is_closed_and_has_a_place_until_then() {
        let stand = Stand::set_up().await;
        let silent = TcpStream::connect(stand.address).await.unwrap();
        bears(&stand, silent).await;
        let mut half = TcpStream::connect(stand.address).await.unwrap();
        half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        bears(&stand, half).await;
        // HTTP/2 has been agreed on, and nothing more, or not enough, is said.
        let mute = stand.connect(b"h2", true).await;
        bears(&stand, mute).await;
        let mut slow = stand.connect(b"h2", true).await;
        slow.write_all(&HTTP2_PREFACE[..10]).await.unwrap();
        bears(&stand, slow).await;
        stand.end().await;
    }
}
