//! What stands between an engine and its server, and breaks the way when it is told to.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What the next commit meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The server never hears of it.
    BeforeCommit,
    /// The server does it, and its answer does not come through.
    AfterCommit,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    next: Arc<Mutex<Option<Break>>>,
    silent: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let next: Arc<Mutex<Option<Break>>> = Arc::default();
        let (breaks, mut tasks) = (next.clone(), JoinSet::new());
        let (silent, silences) = watch::channel(());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (breaks, mut silences) = (breaks.clone(), silences.clone());
                silences.mark_unchanged();
                connections.spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    carry(client, server, &breaks, silences).await;
                });
            }
        });
        Self { port, next, silent, _tasks: tasks }
    }

    /// The next commit that comes by is cut off.
    pub(super) fn break_at(&self, what: Break) {
        *self.next.lock().unwrap() = Some(what);
    }

    /// Nothing comes through any more by the connections that are there, and none is ended.
    pub(super) fn silence(&self) {
        self.silent.send_replace(());
    }

    /// Whether a commit has met its break.
    pub(super) fn has_broken(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    breaks: &Mutex<Option<Break>>,
    mut silences: watch::Receiver<()>,
) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            biased;
            Ok(()) = silences.changed() => return std::future::pending().await,
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let sent = &up[..length];
                let commits = sent.windows(7).any(|part| part == b"COMMIT\0");
                let met = if commits { breaks.lock().unwrap().take() } else { None };
                match met {
                    Some(Break::BeforeCommit) => return,
                    Some(Break::AfterCommit) => {
                        server.write_all(sent).await.unwrap();
                        // The server has answered the whole train once it is idle again.
                        loop {
                            let length = server.read(&mut down).await.unwrap();
                            if down[..length].ends_with(b"Z\0\0\0\x05I") {
                                return;
                            }
                        }
                    }
                    None => server.write_all(sent).await.unwrap(),
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
