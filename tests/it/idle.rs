//! Connections on which nothing is asked for.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use userpilot_gateway::proto::{
    StreamUserUpdatesRequest, UpdateUserRequest, WatchStatusRequest, stream_user_updates_response,
};

use crate::rig::{Change, Stage, at_speed};

/// What HTTP/2 begins with: the preface and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const GOAWAY: u8 = 7;

/// The types of the frames that one who says nothing more is sent, until it is closed.
async fn frames(address: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes));
    read.await.expect("it is not closed").ok();
    let mut kinds = Vec::new();
    let mut rest = &bytes[..];
    while let [_, high, low, kind, _, _, _, _, _, after @ ..] = rest {
        kinds.push(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after.get(length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_silent_connection_is_ended_by_each_listener_and_a_silent_stream_by_none() {
    let settings = |site: crate::rig::Site| site.with("server.connection_idle_ms", 1_000);
    let stage = Stage::of(at_speed(100), settings).await;
    let change = |nth: u32| Change::new("ada", json!({ "nth": nth }));
    let (updates, taken) = mpsc::channel(4);
    let mut ingest = stage.gateway.ingest().await;
    let send = async |tag: u64| {
        let update = Some(change(1).update());
        let request = StreamUserUpdatesRequest { tag, update, ..Default::default() };
        updates.send(request).await.unwrap();
    };
    send(1).await;
    let answers = ingest.stream_user_updates(ReceiverStream::new(taken)).await.unwrap();
    let mut answers = answers.into_inner();
    let accepted = |answer: Option<stream_user_updates_response::Result>| {
        matches!(answer, Some(stream_user_updates_response::Result::Accepted(_)))
    };
    assert!(accepted(answers.message().await.unwrap().unwrap().result));
    let mut kept = stage.gateway.ingest().await;
    let request = || UpdateUserRequest { update: Some(change(2).update()) };
    kept.update_user(request()).await.unwrap();
    let mut admin = stage.gateway.admin().await;
    let watch =
        WatchStatusRequest { interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }) };
    let mut statuses = admin.watch_status(watch).await.unwrap().into_inner();
    statuses.message().await.unwrap().unwrap();

    let addresses = &stage.gateway.addresses;
    for address in [&addresses.grpc, &addresses.http, &addresses.admin] {
        let frames = frames(address).await;
        assert!(frames.contains(&GOAWAY), "{address}: {frames:?}");
    }
    // The stream was as silent for as long, and so was a client that noticed nothing.
    send(2).await;
    assert!(accepted(answers.message().await.unwrap().unwrap().result));
    kept.update_user(request()).await.unwrap();
    stage.delivers(&[change(2)]).await;
}
