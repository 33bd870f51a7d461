//! A listener: accepts connections up to a limit and serves HTTP/1.1 and HTTP/2 on them, over TLS
//! where it is told how.

use std::{
    convert::Infallible, error::Error, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    idle::Activity,
    peer::{PeerIdentity, WithPeer},
    tls::{ListenerTls, Protocol, Secured},
    watch::Watched,
};
use crate::audit;

/// What a listener bears.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Connections at once. Further ones wait to be accepted.
    pub connections_max: usize,
    /// Bytes of the headers of one request. At least 8192.
    pub header_bytes_max: u32,
    /// For a connection to say which protocol it speaks. It is closed if it has not by then.
    pub preface_timeout: Duration,
    /// A connection on which nothing was asked for, and nothing was under way, for so long is ended, as
    /// at a stop: over HTTP/2 its client is told first. Up to a quarter longer may pass.
    pub idle: Duration,
}

/// Requests under way on one HTTP/2 connection. A client that wants more opens another.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// Enough for a fast stream of small messages not to wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What an HTTP/2 client says first.
pub(super) const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed after these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After accepting failed (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a client to take its leave that is told that its connection ends, and has nothing under way.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `service` until `stop`, then lets requests that are under way finish. Every request's
/// extensions hold a [`PeerIdentity`].
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    limits: ListenerLimits,
    tls: Option<ListenerTls>,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let builders = Arc::new(Builders::new(limits));
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, address, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        let builders = builders.clone();
        let tls = tls.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            let opened = tokio::select! {
                biased;
                opened = open(stream, address, limits, tls) => opened,
                () = stop.cancelled() => return,
            };
            match opened {
                Ok(Opened::Plain(stream)) => {
                    let service = WithPeer { service, peer: PeerIdentity::plain(address) };
                    converse(&builders.either, stream, service, limits, &stop).await;
                }
                Ok(Opened::Secured(Secured { stream, protocol, peer })) => {
                    let service = WithPeer { service, peer };
                    converse(builders.of(protocol), stream, service, limits, &stop).await;
                }
                Err(error) => explain(&error, address),
            }
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection of which it is known what is spoken on it. Only from then on do hyper's own time
/// limits hold.
enum Opened {
    Plain(TcpStream),
    Secured(Secured),
}

async fn open(
    stream: TcpStream,
    address: SocketAddr,
    limits: ListenerLimits,
    tls: Option<ListenerTls>,
) -> io::Result<Opened> {
    match tls {
        Some(tls) => Ok(Opened::Secured(tls.secure(stream, address).await?)),
        None => {
            tokio::time::timeout(limits.preface_timeout, has_spoken(&stream)).await??;
            Ok(Opened::Plain(stream))
        }
    }
}

/// Until the client has enough, has asked for nothing for long, or is not trusted any more, or the
/// listener stops: then what is under way is still answered.
async fn converse<I, S, B>(
    builder: &Builder,
    stream: I,
    service: WithPeer<S>,
    limits: ListenerLimits,
    stop: &CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let peer = service.peer.clone();
    let activity = Activity::default();
    let service = Watched { service, watch: activity.clone() };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = peer.has_outstayed() => None,
        () = activity.has_ceased(limits.idle) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = activity.has_ceased(LEAVE_TIMEOUT.min(limits.idle)) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}

/// Somebody who is not trusted, or does not trust us, is worth a line; one who says nothing is
/// not: whoever looks whether the port is open does that.
fn explain(error: &io::Error, peer: SocketAddr) {
    if error.kind() == io::ErrorKind::InvalidData {
        audit::handshake_failed(peer, error);
    } else {
        tracing::debug!(%peer, %error, "a connection says nothing and is closed");
    }
}

/// Returns once it can be told whether the client speaks HTTP/1.1 or HTTP/2.
async fn has_spoken(stream: &TcpStream) -> io::Result<()> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == first.len() || first[..length] != HTTP2_PREFACE[..length] {
            return Ok(());
        }
        // The rest is on its way: a preface is one packet as a rule.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true)?;
    Ok((stream, address, place))
}

type Builder = auto::Builder<TokioExecutor>;

/// For what was negotiated, or for whatever the client begins with.
struct Builders {
    http1: Builder,
    http2: Builder,
    either: Builder,
}

impl Builders {
    fn new(limits: ListenerLimits) -> Self {
        let (http1, http2) = (builder(limits).http1_only(), builder(limits).http2_only());
        Self { http1, http2, either: builder(limits) }
    }

    fn of(&self, protocol: Protocol) -> &Builder {
        match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        }
    }
}

fn builder(limits: ListenerLimits) -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // What is read of a connection before it is known to be headers is bounded by its buffer.
    let header_bytes_max = usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes_max)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::Empty;
    use hyper::{body::Bytes, service::service_fn};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::clock;

    const TIMEOUT: Duration = Duration::from_millis(100);
    const HEADER_BYTES: u32 = 8_192;
    const IDLE: Duration = Duration::from_secs(60);

    fn limits(connections_max: usize, idle: Duration) -> ListenerLimits {
        let header_bytes_max = HEADER_BYTES;
        ListenerLimits { connections_max, header_bytes_max, preface_timeout: TIMEOUT, idle }
    }

    /// What the listener's only place answers to one who says `first`, and for how long it
    /// let them wait.
    async fn answer_to(first: &[u8]) -> (String, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = service_fn(|_| async { Ok(Response::new(Empty::<Bytes>::new())) });
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, service, limits(1, IDLE), None, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(first).await.unwrap();
        let from = clock::now().instant;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.ok();
        let waited = clock::now().instant.since(from);
        stop.cancel();
        serving.join_all().await;
        (String::from_utf8_lossy(&answer).into_owned(), waited)
    }

    #[tokio::test]
    async fn who_says_nothing_to_the_purpose_is_closed() {
        for first in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
            let (answer, waited) = answer_to(first).await;
            assert!(answer.is_empty(), "{first:?}: {answer}");
            assert!(waited >= TIMEOUT, "{first:?}: {waited:?}");
        }
    }

    /// The types of frames (RFC 9113, section 6) that one is sent who says `first`, until the end of the
    /// connection or what `enough` says. They are acknowledged where that is asked for, and wanted.
    async fn frames(client: &mut TcpStream, acknowledges: bool, enough: Option<u8>) -> Vec<u8> {
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while kinds.last().is_none_or(|kind| Some(*kind) != enough) {
            if client.read_exact(&mut head).await.is_err() {
                break;
            }
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut rest = vec![0; length];
            client.read_exact(&mut rest).await.unwrap();
            kinds.push(head[3]);
            if head[3] == PING && acknowledges {
                head[4] = 1;
                client.write_all(&[&head[..], &rest].concat()).await.unwrap();
            }
        }
        kinds
    }

    const HEADERS: u8 = 1;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    #[tokio::test]
    async fn a_connection_over_http_2_ends_when_nothing_is_asked_for_and_not_before() {
        let idle = Duration::from_millis(200);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Semaphore::new(0));
        let waited_for = answer.clone();
        let service = service_fn(move |_| {
            let answer = waited_for.clone();
            async move {
                drop(answer.acquire().await);
                Ok(Response::new(Empty::<Bytes>::new()))
            }
        });
        let stop = CancellationToken::new();
        let connect = async |first: &[u8]| {
            let mut client = TcpStream::connect(address).await.unwrap();
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let said = [&HTTP2_PREFACE[..], &settings, first].concat();
            client.write_all(&said).await.unwrap();
            client
        };
        let clients = async {
            // GET / http, on stream 1: HPACK's static table has all of it.
            let mut asks = connect(&[0, 0, 3, HEADERS, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]).await;
            for acknowledges in [true, false] {
                let from = clock::now().instant;
                let frames = frames(&mut connect(&[]).await, acknowledges, None).await;
                assert!(frames.contains(&GOAWAY), "{frames:?}");
                assert!(clock::now().instant.since(from) >= idle);
            }
            // Others came and were ended meanwhile.
            answer.add_permits(1);
            let until_answer = frames(&mut asks, true, Some(HEADERS)).await;
            assert!(!until_answer.contains(&GOAWAY), "{until_answer:?}");
            assert!(frames(&mut asks, true, None).await.contains(&GOAWAY));
            stop.cancel();
        };
        let served = serve(listener, service, limits(9, idle), None, stop.clone());
        let both = async { tokio::join!(served, clients) };
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("all are ended");
    }

    #[tokio::test]
    async fn who_asks_is_answered() {
        let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
        assert!(answer_to(request).await.0.starts_with("HTTP/1.1 200"));
    }
}
