//! The stream's yardstick: the queue on disk in groups of 256, with no gRPC before it.

use std::{path::PathBuf, sync::mpsc, thread, time::Instant};

use serde::{Deserialize, Serialize};
use userpilot_gateway::{
    clock,
    domain::{admission::QueueLimits, update::Update},
    store::{
        engine::{self, RedbEngine, RedbOptions, SledEngine, SledOptions},
        queue::Queue,
    },
};

use crate::{
    gateway::Engine,
    workload::{Template, user_in_turn},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[arg(long, value_enum)]
    engine: Engine,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    updates: u64,
    #[arg(long)]
    users: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Committed {
    pub per_second: f64,
}

const GROUP_UPDATES: u64 = 256;
/// Groups that are made ahead, so that making them takes no time from committing them.
const AHEAD: usize = 64;

pub async fn run(args: Args) -> anyhow::Result<Committed> {
    let (path, cache_bytes_max) = (args.folder.clone(), 512 << 20);
    match args.engine {
        Engine::Sled => {
            commit(SledEngine::open(&SledOptions { path, cache_bytes_max })?, args).await
        }
        Engine::Redb => {
            commit(RedbEngine::open(&RedbOptions { path, cache_bytes_max })?, args).await
        }
    }
}

async fn commit(engine: impl engine::Engine, args: Args) -> anyhow::Result<Committed> {
    let limits = QueueLimits {
        records_max: 5_000_000,
        bytes_max: 4 << 30,
        record_bytes_max: 65_536,
        record_properties_max: 1_000,
    };
    let mut queue = Queue::open(engine, limits, 1).await?;
    let app = queue.app("bench").await?;
    let (made, groups) = mpsc::sync_channel::<Vec<Update>>(AHEAD);
    let maker = thread::spawn(move || {
        let template = Template::new();
        let mut numbers = 0..args.updates;
        loop {
            let next = numbers.by_ref().take(usize::try_from(GROUP_UPDATES).unwrap_or(1));
            let group: Vec<Update> =
                next.map(|n| template.update(user_in_turn(n, args.users), app)).collect();
            if group.is_empty() || made.send(group).is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    for group in groups {
        for outcome in queue.accept(group, clock::now().wall).await? {
            outcome.map_err(|refusal| anyhow::anyhow!("refused: {refusal:?}"))?;
        }
    }
    let took = started.elapsed();
    maker.join().expect("the groups are made");
    #[expect(clippy::cast_precision_loss, reason = "a count of some millions")]
    Ok(Committed { per_second: args.updates as f64 / took.as_secs_f64() })
}
