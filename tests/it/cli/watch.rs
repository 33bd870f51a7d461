//! A gateway that goes away without a word, as a machine does that loses its power.

use std::{net::SocketAddr, process::Command};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::BINARY;
use crate::rig::{Process, Stage, until};

/// A way to a gateway on which what is under way can be lost: connections stay, and nothing comes
/// through any more. New ones are as good as any.
struct Way {
    address: SocketAddr,
    /// How many connections, from the first one on, are lost.
    lost: watch::Sender<usize>,
    _passing: JoinSet<()>,
}

impl Way {
    async fn to(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lost, told) = watch::channel(0);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(pass_on(stream, gateway, told.clone(), connections.len()));
            }
        });
        Self { address, lost, _passing: passing }
    }
}

async fn pass_on(
    mut stream: TcpStream,
    gateway: SocketAddr,
    mut lost: watch::Receiver<usize>,
    number: usize,
) {
    let mut inner = TcpStream::connect(gateway).await.unwrap();
    let is_lost = tokio::select! {
        _ = copy_bidirectional(&mut stream, &mut inner) => false,
        told = lost.wait_for(|lost| *lost > number) => told.is_ok(),
    };
    if is_lost {
        // Neither end hears of it.
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_connection_that_died_is_noticed_and_another_one_made() {
    let stage = Stage::start(100).await;
    let way = Way::to(stage.gateway.addresses.admin.parse().unwrap()).await;
    let mut command = Command::new(BINARY);
    command.args(["status", "--watch", "--output", "json", "--address"]);
    command.arg(format!("http://{}", way.address)).env_clear();
    let watching = Process::start(&mut command, "");
    let told = || watching.printed().len();
    until("a status", async || (told() > 0).then_some(())).await;
    way.lost.send_replace(1);
    until("that nobody answers", async || {
        watching.log().iter().any(|line| line.contains("no answer since")).then_some(())
    })
    .await;
    let before = told();
    until("the state by another connection", async || (told() > before).then_some(())).await;
}
