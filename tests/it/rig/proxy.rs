//! What stands between a gateway and a server, and lets nothing through when it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use userpilot_gateway::{clock, domain::time::Instant};

/// Such a proxy. Ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    way: watch::Sender<Way>,
    heard: Arc<Mutex<Option<Instant>>>,
    _serving: JoinSet<()>,
}

/// Whether anything gets through.
#[derive(Clone, Copy)]
struct Way {
    is_open: bool,
    /// Connections of an earlier age are forgotten: nothing gets through them any more.
    age: u64,
}

impl Proxy {
    /// Before the server at `server`.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, ways) = watch::channel(Way { is_open: true, age: 0 });
        let heard = Arc::<Mutex<Option<Instant>>>::default();
        let mut serving = JoinSet::new();
        let hears = heard.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, server, ways.clone(), hears.clone()));
            }
        });
        Self { port, way, heard, _serving: serving }
    }

    /// From now on nothing gets through, in either direction, and no connection is ended.
    pub(crate) fn cut(&self) {
        self.way.send_modify(|way| way.is_open = false);
    }

    /// What comes from now on gets through, by connections that are made from now on. What was on
    /// its way is lost, and those from before are silent for ever, as a firewall has them that has
    /// forgotten them.
    pub(crate) fn heal(&self) {
        self.way.send_modify(|way| *way = Way { is_open: true, age: way.age + 1 });
    }

    /// What was on its way gets through late, as what is sent again does, and all goes on.
    pub(crate) fn resume(&self) {
        self.way.send_modify(|way| way.is_open = true);
    }

    /// When something was last passed on to the server.
    pub(crate) fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap()
    }
}

/// One connection. While the way is cut, the server does not hear of it.
async fn carry(
    client: TcpStream,
    server: SocketAddr,
    mut way: watch::Receiver<Way>,
    heard: Arc<Mutex<Option<Instant>>>,
) {
    let age = way.borrow().age;
    let (mut from_client, to_client) = client.into_split();
    if !passes(&mut way, age).await {
        copy(&mut from_client, &mut sink()).await.ok();
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_server, to_server) = server.into_split();
    let hear = move || *heard.lock().unwrap() = Some(clock::instant());
    let up = pass_on(from_client, to_server, way.clone(), age, hear);
    let down = pass_on(from_server, to_client, way, age, || {});
    tokio::join!(up, down);
}

/// One direction, to its end.
async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    age: u64,
    hear: impl Fn(),
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if !passes(&mut way, age).await {
            continue;
        }
        hear();
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
    // So does the end.
    passes(&mut way, age).await;
    to.shutdown().await.ok();
}

/// Whether something gets through, once anything does.
async fn passes(way: &mut watch::Receiver<Way>, age: u64) -> bool {
    way.wait_for(|way| way.is_open).await.is_ok_and(|way| way.age == age)
}
