//! What remembering takes where an app has `suppress_unchanged`: on the disk and in memory, for
//! each user, with the real queue over the real engine.
//!
//! Filling and using are children, so that the memory of each is its own.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use userpilot_gateway::{
    clock,
    domain::{
        admission::QueueLimits,
        batch::{BatchLimits, Settlement},
        delivered::Suppression,
        memory::Memory,
        time::Timestamp,
        update::{AppId, ClientId, Lane, Subject, Update, Value},
    },
    store::{
        check::check,
        engine::{Engine as StoreEngine, RedbEngine, RedbOptions, SledEngine, SledOptions},
        queue::{Claim, Disposition, PruneCursor, Queue, Retention},
    },
};

use crate::{
    child::{self, role},
    gateway::Engine,
    shared,
    suite::{folder, mib},
    workload::random_user,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many users are remembered.
    #[arg(long, default_value_t = 5_000_000)]
    users: u64,
    /// How many properties of each.
    #[arg(long, default_value_t = 5)]
    properties: u64,
    /// After so many minutes no more are filled in: it is measured for those that are there.
    #[arg(long, default_value_t = 60)]
    minutes_max: u64,
    /// A child's part of it.
    #[arg(long, hide = true)]
    part: Option<Part>,
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Fill,
    Use,
}

/// What a part saw, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    rss_before: u64,
    rss: u64,
    rss_peak: u64,
    disk: u64,
    disk_peak: u64,
    /// Of what is remembered, keys and values.
    entries: u64,
    entry_bytes: u64,
    seconds: f64,
}

/// Users that are delivered together.
const BLOCK: u64 = 10_000;
/// Updates of a commit.
const GROUP: u64 = 2_500;
const CACHE_BYTES: u64 = 512 << 20;
/// It ends before it fills a disk.
const DISK_MAX: u64 = 14 << 30;
/// Repeats that are asked for in the end.
const REPEATS: u64 = 200_000;

/// Fills a store, and uses it; or is the child that does the one or the other.
pub async fn run(args: Args, engine: Engine) -> anyhow::Result<()> {
    match (args.part, &args.folder) {
        (Some(part), Some(path)) => {
            let (path, cache_bytes_max) = (path.clone(), CACHE_BYTES);
            let seen = match engine {
                Engine::Sled => {
                    let options = SledOptions { path, cache_bytes_max };
                    play(part, || SledEngine::open(&options), &args).await?
                }
                Engine::Redb => {
                    let options = RedbOptions { path, cache_bytes_max };
                    play(part, || RedbEngine::open(&options), &args).await?
                }
            };
            child::report(&seen)
        }
        _ => measure(&args, engine),
    }
}

fn measure(args: &Args, engine: Engine) -> anyhow::Result<()> {
    let Args { users, properties, minutes_max, .. } = *args;
    let folder = folder()?;
    let child = |part: &str, users: u64| {
        let path = folder.path().display();
        let line = format!(
            "--engine {} remembered --part {part} --folder {path} --users {users} \
             --properties {properties} --minutes-max {minutes_max}",
            engine.name()
        );
        role::<Seen>(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let fill = child("fill", users)?;
    if fill.entries < users {
        println!("After {minutes_max} minutes there were {} of {users} users.\n", fill.entries);
    }
    let used = child("use", fill.entries)?;
    let command = format!(
        "cargo bench --bench gateway -- --engine {} remembered --users {users} --properties \
         {properties}",
        engine.name()
    );
    println!("{}", shared::facts(&command, &shared::machine()));
    let each = |bytes: u64| bytes as f64 / fill.entries.max(1) as f64;
    println!("| {} | for each of {} | all |\n|---|---|---|", engine.name(), fill.entries);
    let row =
        |what: &str, bytes: u64| println!("| {what} | {:.1} B | {} |", each(bytes), mib(bytes));
    row("entries: key and value", fill.entry_bytes);
    row("files, filled", fill.disk);
    row("files, at the most meanwhile", fill.disk_peak);
    row("files, after another start and its use", used.disk);
    row("memory, filled", fill.rss.saturating_sub(fill.rss_before));
    row("memory, at another start", used.rss_before);
    row("memory, after its use", used.rss);
    println!(
        "\nFilled in {:.0} s; {REPEATS} repeats of users at random, found unchanged, in {:.1} s.",
        fill.seconds, used.seconds
    );
    Ok(())
}

async fn play<E: StoreEngine + Clone, F: std::fmt::Display>(
    part: Part,
    open: impl FnOnce() -> Result<E, F>,
    args: &Args,
) -> anyhow::Result<Seen> {
    let (before, _) = resident()?;
    let engine = open().map_err(|error| anyhow::anyhow!("cannot open the store: {error}"))?;
    let limits = QueueLimits {
        records_max: 5_000_000,
        bytes_max: 4 << 30,
        record_bytes_max: 65_536,
        record_properties_max: 1_000,
    };
    let mut queue = Queue::open(engine.clone(), limits, 1).await?;
    let app = queue.app("bench").await?;
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    queue
        .suppress(app, Some(Suppression { refresh_after: week, properties_max: 100, account: 0 }))
        .await?;
    let (opened, _) = resident()?;
    let started = Instant::now();
    let mut disk_peak = 0;
    match part {
        Part::Fill => {
            let time_max = Duration::from_secs(args.minutes_max * 60);
            for first in (0..args.users).step_by(usize::try_from(BLOCK)?) {
                if started.elapsed() >= time_max {
                    break;
                }
                let block = first..(first + BLOCK).min(args.users);
                deliver(&mut queue, app, block, args.properties).await?;
                disk_peak = disk_peak.max(engine.disk_bytes());
                ensure!(disk_peak < DISK_MAX, "the store takes {}: too much", mib(disk_peak));
                if first % 500_000 == 0 {
                    eprintln!("{first} users, {}, {:.0?}", mib(disk_peak), started.elapsed());
                }
            }
        }
        Part::Use => repeat(&mut queue, app, args).await?,
    }
    let seconds = started.elapsed().as_secs_f64();
    let (rss, rss_peak) = resident()?;
    let (mut entries, mut entry_bytes) = (0, 0);
    if part == Part::Fill {
        let found = check(&engine).await?;
        ensure!(found.problems.is_empty(), "the store is not whole: {:?}", found.problems);
        for kind in found.kinds.iter().filter(|kind| kind.byte == b'v') {
            (entries, entry_bytes) = (kind.entries, kind.bytes);
        }
    }
    let rss_before = if part == Part::Fill { before } else { opened };
    let disk = engine.disk_bytes();
    Ok(Seen { rss_before, rss, rss_peak, disk, disk_peak, entries, entry_bytes, seconds })
}

/// Some users go all the way: accepted, claimed, delivered, and forgotten by history.
async fn deliver<E: StoreEngine>(
    queue: &mut Queue<E>,
    app: AppId,
    users: std::ops::Range<u64>,
    properties: u64,
) -> anyhow::Result<()> {
    for first in users.clone().step_by(usize::try_from(GROUP)?) {
        let group = first..(first + GROUP).min(users.end);
        let updates = group.map(|user| update(app, user, properties)).collect();
        for outcome in queue.accept(updates, wall()).await? {
            outcome.map_err(|refusal| anyhow::anyhow!("refused: {refusal:?}"))?;
        }
    }
    let limits = BatchLimits { rows_max: BLOCK, bytes_max: 50_000_000 };
    let mut continued = None;
    let mut batch = loop {
        match queue.claim(app, limits, continued, wall()).await? {
            Claim::Continues(number) => continued = Some(number),
            Claim::Complete(batch) => break batch.context("nothing waits")?,
        }
    };
    batch.completed_rows = batch.rows;
    while !queue.settle(&batch, Settlement::Delivered, Memory::default(), wall()).await?.complete {}
    let before = wall().plus(Duration::from_secs(1));
    let retention = Retention { before, batches_max: 1, ..Retention::default() };
    let mut from = PruneCursor::default();
    loop {
        from = queue.prune(from, retention).await?;
        if from == PruneCursor::default() {
            return Ok(());
        }
    }
}

/// Users at random say again what they have said.
async fn repeat<E: StoreEngine>(
    queue: &mut Queue<E>,
    app: AppId,
    args: &Args,
) -> anyhow::Result<()> {
    let mut state = 1;
    for _ in 0..REPEATS / GROUP {
        let users = (0..GROUP).map(|_| random_user(&mut state, args.users));
        let updates = users.map(|user| update(app, user, args.properties)).collect();
        for outcome in queue.accept(updates, wall()).await? {
            let accepted = outcome.map_err(|refusal| anyhow::anyhow!("refused: {refusal:?}"))?;
            ensure!(accepted.disposition == Disposition::Unchanged, "{accepted:?}");
        }
    }
    Ok(())
}

fn update(app: AppId, user: u64, properties: u64) -> Update {
    let property = |n| (format!("property_{n}"), Value::Text(format!("value {n} of {user}")));
    Update {
        app,
        client: ClientId(0),
        subject: Subject::user(format!("user-{user:09}")),
        company_id: None,
        properties: (0..properties).map(property).collect(),
        occurred_at: None,
        lane: Lane::Bulk,
    }
}

fn wall() -> Timestamp {
    clock::now().wall
}

/// What this process holds in memory, and at the most so far, in bytes.
fn resident() -> anyhow::Result<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1_024).with_context(|| format!("no {key} in /proc"))
    };
    Ok((bytes("VmRSS:")?, bytes("VmHWM:")?))
}
