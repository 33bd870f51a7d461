//! Unary calls at a fixed rate, whatever the answers do: an open loop. The schedule is fixed
//! in advance, and latency counts from when a call was due, so a stall is seen by every call
//! that it delayed.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

use prost::Message;
use tokio::{sync::mpsc, task::JoinSet};
use tonic::client::Grpc;
use userpilot_gateway::proto::{UpdateUserRequest, UpdateUserResponse};

use super::{Seen, Target, unary};
use crate::{
    echo,
    workload::{TemplateCodec, random_user},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    per_second: u32,
    #[arg(long)]
    seconds: f64,
    /// Whether the server is the echo.
    #[arg(long)]
    echo: bool,
    /// Work with as many threads as there are cores, for a rate that one does not reach.
    #[arg(long)]
    pub many_threads: bool,
    /// Other users in every run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Not counted: connections and caches are cold.
const WARM: Duration = Duration::from_millis(500);

/// A sleep alone ends up to this much late: the rest of the time is spun away.
const SPIN: Duration = Duration::from_micros(120);

pub async fn run(args: Args) -> anyhow::Result<Seen> {
    if args.echo {
        load::<UpdateUserRequest>(args, echo::PATH).await
    } else {
        load::<UpdateUserResponse>(args, unary::UPDATE_USER).await
    }
}

async fn load<Answer: Message + Default + Clone + 'static>(
    args: Args,
    path: &'static str,
) -> anyhow::Result<Seen> {
    let channels = args.target.connect().await?;
    let (due, mut calls) = mpsc::channel(1 << 16);
    let total = WARM + Duration::from_secs_f64(args.seconds);
    // A thread sleeps more exactly than the runtime's timer, which counts milliseconds.
    let clock = thread::spawn(move || schedule(args.per_second, total, &due));
    let codec = TemplateCodec::<Answer>::new();
    let (mut answered, mut users, mut n) = (JoinSet::new(), args.seed, 0);
    let counted_from = Instant::now() + WARM;
    while let Some(due) = calls.recv().await {
        let channel = channels[n % channels.len()].clone();
        let codec = codec.clone();
        let user = random_user(&mut users, args.target.users);
        n += 1;
        answered.spawn(async move {
            let answer = unary::call(&mut Grpc::new(channel), &codec, path, user).await;
            (due, Instant::now(), answer.is_ok())
        });
    }
    clock.join().expect("the schedule ends");
    let (mut latencies, mut errors) = (Vec::new(), 0);
    while let Some(answer) = answered.join_next().await {
        let (due, now, ok) = answer?;
        match ok {
            true if due >= counted_from => latencies.push(now - due),
            true => {}
            false => errors += 1,
        }
    }
    Ok(Seen::new(&latencies, errors, Duration::from_secs_f64(args.seconds)))
}

fn schedule(per_second: u32, total: Duration, calls: &mpsc::Sender<Instant>) {
    let (start, interval) = (Instant::now(), Duration::from_secs(1) / per_second);
    let mut due = start;
    while due < start + total {
        thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(SPIN));
        while Instant::now() < due {
            hint::spin_loop();
        }
        if calls.blocking_send(due).is_err() {
            break;
        }
        due += interval;
    }
}
