//! Streams of updates, each with a window of updates that are not answered yet.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{Request, client::Grpc, transport::Channel};
use userpilot_gateway::proto::{
    StreamUserUpdatesResponse, stream_user_updates_response::Result as Answer,
};

use super::{Seen, Target};
use crate::workload::{Outgoing, TemplateCodec, user_in_turn};

const STREAM_USER_UPDATES: &str = "/userpilot_gateway.v1.IngestService/StreamUserUpdates";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// One stream on each connection.
    #[command(flatten)]
    target: Target,
    /// Updates to send, over all streams: each user in turn.
    #[arg(long)]
    updates: u64,
    /// Updates of a stream that may be under way.
    #[arg(long)]
    window: u32,
    /// Where in the turn to begin.
    #[arg(long)]
    first: u64,
}

/// Places in the window come free in this many parts, so that sender and receiver do not
/// wake each other for every update.
const PARTS: u32 = 16;

pub async fn run(args: Args) -> anyhow::Result<Seen> {
    let channels = args.target.connect().await?;
    let streams = channels.len() as u64;
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for (stream, channel) in (0..streams).zip(channels) {
        let numbers = (stream..args.updates).step_by(args.target.connections);
        let (first, users) = (args.first, args.target.users);
        let messages =
            numbers.map(move |n| Outgoing { tag: Some(n), user: user_in_turn(first + n, users) });
        senders.spawn(send(channel, messages, args.window));
    }
    let (mut latencies, mut errors) = (Vec::new(), 0);
    let sent = args.updates;
    while let Some(sender) = senders.join_next().await {
        let (own, failed) = sender??;
        latencies.extend(own);
        errors += failed;
    }
    let took = start.elapsed();
    // A stream that ended early answered too little.
    errors += sent - (latencies.len() as u64 + errors);
    Ok(Seen::new(&latencies, errors, took))
}

type Sent = Arc<Mutex<VecDeque<(u64, Instant)>>>;

async fn send(
    channel: Channel,
    messages: impl Iterator<Item = Outgoing> + Send + 'static,
    window: u32,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let part = (window / PARTS).max(1);
    let places = Arc::new(Semaphore::new(window as usize));
    let sent = Sent::default();
    let outgoing = outgoing(messages, part, places.clone(), sent.clone());
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::from_static(STREAM_USER_UPDATES);
    let codec = TemplateCodec::<StreamUserUpdatesResponse>::new();
    let answers = grpc.streaming(Request::new(outgoing), path, codec).await?;
    let mut answers = answers.into_inner();
    let (mut latencies, mut errors, mut free) = (Vec::new(), 0, 0);
    while let Some(answer) = answers.message().await? {
        let at = sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let (tag, at) = at.ok_or_else(|| anyhow::anyhow!("an answer to nothing"))?;
        anyhow::ensure!(tag == answer.tag, "answers do not come in order");
        match answer.result {
            Some(Answer::Accepted(_)) => latencies.push(at.elapsed()),
            Some(Answer::Error(_)) | None => errors += 1,
        }
        free += 1;
        if free == part {
            places.add_permits(mem::take(&mut free) as usize);
        }
    }
    Ok((latencies, errors))
}

/// The messages, `part` by `part` as the window has room for them.
fn outgoing(
    messages: impl Iterator<Item = Outgoing> + Send + 'static,
    part: u32,
    places: Arc<Semaphore>,
    sent: Sent,
) -> impl Stream<Item = Outgoing> + Send + 'static {
    let parts = stream::unfold(messages, move |mut messages| {
        let (places, sent) = (places.clone(), sent.clone());
        async move {
            places.acquire_many(part).await.ok()?.forget();
            let now = Instant::now();
            let next: Vec<_> = messages.by_ref().take(part as usize).collect();
            let tags = next.iter().filter_map(|message| Some((message.tag?, now)));
            sent.lock().unwrap_or_else(PoisonError::into_inner).extend(tags);
            (!next.is_empty()).then_some((stream::iter(next), messages))
        }
    });
    parts.flatten()
}
