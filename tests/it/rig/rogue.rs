//! A server before the simulated Userpilot that misbehaves below what HTTP allows, as it is
//! told, and otherwise lets everything through.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// How it treats whoever connects.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Passes everything on.
    Honest,
    /// Speaks TLS, and passes everything on.
    Tls(Arc<ServerConfig>),
    /// Says this as soon as something is heard, and nothing more.
    Says(String),
    /// Says `first`, and then `again` for ever, with this pause.
    Repeats { first: String, again: String, pause: Duration },
}

impl Manner {
    /// Takes whatever comes, and never says anything.
    pub(crate) fn silent() -> Self {
        Self::Says(String::new())
    }
}

/// Such a server. Ends when it is dropped.
pub(crate) struct Rogue {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    tally: Arc<Tally>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Tally {
    connections: AtomicU64,
    /// The most bytes that one connection took.
    said_max: AtomicU64,
}

impl Rogue {
    /// Before the server at `upstream`.
    pub(crate) async fn before(upstream: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, told) = watch::channel(manner);
        let tally = Arc::<Tally>::default();
        let serving = listen(listener, upstream, told, Arc::clone(&tally));
        let serving = JoinSet::from_iter([serving]);
        Self { address, manner, tally, _serving: serving }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes its ways. The connections that there are end.
    pub(crate) fn turn(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> u64 {
        self.tally.connections.load(Ordering::Relaxed)
    }

    /// The most bytes that one connection took of what was said.
    pub(crate) fn said_max(&self) -> u64 {
        self.tally.said_max.load(Ordering::Relaxed)
    }
}

async fn listen(
    listener: TcpListener,
    upstream: SocketAddr,
    manner: watch::Receiver<Manner>,
    tally: Arc<Tally>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tally.connections.fetch_add(1, Ordering::Relaxed);
        let (mut manner, tally) = (manner.clone(), Arc::clone(&tally));
        connections.spawn(async move {
            let now = manner.borrow_and_update().clone();
            tokio::select! {
                _ = manner.changed() => {}
                () = treat(stream, now, upstream, &tally) => {}
            }
        });
    }
}

async fn treat(stream: TcpStream, manner: Manner, upstream: SocketAddr, tally: &Tally) {
    match manner {
        Manner::Honest => pass_on(stream, upstream).await,
        Manner::Tls(config) => {
            // Who does not trust the certificate goes away.
            let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
            pass_on(stream, upstream).await;
        }
        Manner::Says(words) => say(stream, words, None, tally).await,
        Manner::Repeats { first, again, pause } => {
            say(stream, first, Some((again, pause)), tally).await;
        }
    }
}

async fn pass_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, upstream: SocketAddr) {
    // Either side may go at any time.
    if let Ok(mut upstream) = TcpStream::connect(upstream).await {
        copy_bidirectional(&mut stream, &mut upstream).await.ok();
    }
}

/// Says it, until the other side goes. All that it says is heard, and forgotten.
async fn say(stream: TcpStream, first: String, then: Option<(String, Duration)>, tally: &Tally) {
    let (mut reader, mut writer) = stream.into_split();
    let mut heard = [0];
    if reader.read(&mut heard).await.is_err() {
        return;
    }
    let speak = async {
        writer.write_all(first.as_bytes()).await?;
        let Some((again, pause)) = then else { return std::future::pending().await };
        let mut said = 0;
        loop {
            writer.write_all(again.as_bytes()).await?;
            said += again.len() as u64;
            tally.said_max.fetch_max(said, Ordering::Relaxed);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    };
    let mut forgotten = sink();
    // Each ends when the other side has gone, whichever notices first.
    tokio::select! {
        _ = copy(&mut reader, &mut forgotten) => {}
        Err::<(), io::Error>(_) = speak => {}
    }
}
