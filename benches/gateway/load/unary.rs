//! Unary calls, a fixed number in flight.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::{sync::Barrier, task::JoinSet};
use tonic::{Request, client::Grpc, transport::Channel};
use userpilot_gateway::proto::{UpdateUserRequest, UpdateUserResponse};

use super::{Seen, Target};
use crate::{
    echo,
    workload::{Outgoing, TemplateCodec, random_user},
};

pub const UPDATE_USER: &str = "/userpilot_gateway.v1.IngestService/UpdateUser";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    seconds: f64,
    /// Not counted, before that.
    #[arg(long)]
    warm_seconds: f64,
    /// Whether the server is the echo.
    #[arg(long)]
    echo: bool,
    /// Other users in every round.
    #[arg(long)]
    seed: u64,
}

pub async fn run(args: Args) -> anyhow::Result<Seen> {
    if args.echo {
        load::<UpdateUserRequest>(args, echo::PATH).await
    } else {
        load::<UpdateUserResponse>(args, UPDATE_USER).await
    }
}

async fn load<Answer: Message + Default + Clone + 'static>(
    args: Args,
    path: &'static str,
) -> anyhow::Result<Seen> {
    let channels = args.target.connect().await?;
    let barrier = Arc::new(Barrier::new(args.in_flight));
    let mut callers = JoinSet::new();
    for caller in 0..args.in_flight {
        let channel = channels[caller % channels.len()].clone();
        let mut users = args.seed * 1_000_003 + caller as u64;
        let (args, barrier) = (args.clone(), barrier.clone());
        callers.spawn(async move {
            let mut grpc = Grpc::new(channel);
            let codec = TemplateCodec::<Answer>::new();
            barrier.wait().await;
            let from = Instant::now() + Duration::from_secs_f64(args.warm_seconds);
            let until = from + Duration::from_secs_f64(args.seconds);
            let (mut latencies, mut errors) = (Vec::with_capacity(1_024), 0);
            loop {
                let sent = Instant::now();
                let user = random_user(&mut users, args.target.users);
                let answer = call(&mut grpc, &codec, path, user).await;
                let now = Instant::now();
                if now >= until {
                    break (latencies, errors);
                }
                match answer {
                    Err(_) => errors += 1,
                    Ok(()) if now >= from => latencies.push(now - sent),
                    Ok(()) => {}
                }
            }
        });
    }
    let (mut latencies, mut errors) = (Vec::new(), 0);
    while let Some(caller) = callers.join_next().await {
        let (own, failed) = caller?;
        latencies.extend(own);
        errors += failed;
    }
    Ok(Seen::new(&latencies, errors, Duration::from_secs_f64(args.seconds)))
}

/// One call, until its answer.
pub async fn call<Answer: Message + Default + Clone + 'static>(
    grpc: &mut Grpc<Channel>,
    codec: &TemplateCodec<Answer>,
    path: &'static str,
    user: u64,
) -> Result<(), tonic::Status> {
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let request = Request::new(Outgoing { tag: None, user });
    grpc.unary(request, PathAndQuery::from_static(path), codec.clone()).await.map(drop)
}
