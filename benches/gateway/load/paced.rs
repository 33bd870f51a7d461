//! Unary calls at a fixed rate, whatever the answers do: an open loop. The schedule is fixed
//! in advance, and latency counts from when a call was due, so a stall is seen by every call
//! that it delayed.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet};
use tonic::client::Grpc;
use userpilot_gateway::proto::UpdateUserResponse;

use super::{Seen, Target, unary};
use crate::workload::{TemplateCodec, random_user};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    per_second: u32,
    #[arg(long)]
    seconds: f64,
}

/// Not counted: connections and caches are cold.
const WARM: Duration = Duration::from_millis(500);

pub async fn run(args: Args) -> anyhow::Result<Seen> {
    let channels = args.target.connect().await?;
    let (due, mut calls) = mpsc::channel(1 << 16);
    let total = WARM + Duration::from_secs_f64(args.seconds);
    // A thread sleeps more exactly than the runtime's timer, which counts milliseconds.
    let clock = thread::spawn(move || schedule(args.per_second, total, &due));
    let codec = TemplateCodec::<UpdateUserResponse>::new();
    let (mut answered, mut users, mut n) = (JoinSet::new(), 1, 0);
    let counted_from = Instant::now() + WARM;
    while let Some(due) = calls.recv().await {
        let channel = channels[n % channels.len()].clone();
        let codec = codec.clone();
        let user = random_user(&mut users, args.target.users);
        n += 1;
        answered.spawn(async move {
            let answer =
                unary::call(&mut Grpc::new(channel), &codec, unary::UPDATE_USER, user).await;
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
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if calls.blocking_send(due).is_err() {
            break;
        }
        due += interval;
    }
}
