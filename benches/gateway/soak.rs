//! The long run: half of the rate that the gateway reaches here, for as long as is asked for,
//! with a simulated Userpilot that takes what is delivered. What grows meanwhile, leaks.
//!
//! Unlike the other measurements this one judges, by bounds that are given below.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use userpilot_gateway::simulator::Snapshot;

use crate::{
    child::{self, Owned},
    gateway::{Delivery, Gateway, Subject},
    load::Seen,
    suite::{folder, mib, say},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How long the load lasts.
    #[arg(long, env = "SOAK_MINUTES", default_value_t = 30.0)]
    minutes: f64,
}

/// Few enough that all of them wait or are in flight all the time: so the queue has a plateau.
const USERS: u64 = 20_000;
/// 800 a second: jobs of 10,000 follow each other, and history is forgotten as fast as it grows.
const USERS_PER_MINUTE: u32 = 48_000;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 1_000;
const PEAK_SECONDS: f64 = 10.0;
/// Load comes in slices, each over new connections. What is sampled is what is left after one.
const SLICE_SECONDS: f64 = 10.0;
/// Of the samples, this part is warm-up: caches fill, and sled's file comes to its plateau.
const WARM_PART: f64 = 1.0 / 3.0;
const LINES_MAX: usize = 20;

/// Between the median of the first half of the samples after warm-up and that of the second
/// half, memory may grow by so much. In two minutes without a leak it went up and down by 20 MiB
/// around 125, and the medians differed by 10; in 30 minutes at 14,000 updates a second, a leak
/// of 4 bytes an update exceeds the bound.
const RSS_GROWTH: Growth = Growth { part: 0.10, bytes: 16 << 20 };
/// sled takes and frees whole segments, and cleans up behind its writer in bursts. In two minutes
/// the store stayed at 40 MiB.
const DISK_GROWTH: Growth = Growth { part: 0.25, bytes: 16 << 20 };
/// A connection to Userpilot may be open or not, and a file may be about to be deleted.
const DESCRIPTORS_MORE: u64 = 4;
/// Of a sample after calls that took longer, what waited in memory is no leak: the machine was too
/// busy with something else. It takes no part in the judgement.
const BUSY_P50_MS: f64 = 100.0;
/// So many samples there must be in each half.
const SAMPLES_MIN: usize = 3;
/// With less, the machine was too busy for this to be a test.
const ANSWERED_PART: f64 = 0.9;

#[derive(Clone, Copy, Debug)]
struct Growth {
    part: f64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    seen: Seen,
    rss: u64,
    disk: u64,
    descriptors: u64,
    waiting: u64,
}

pub fn run(args: &Args, subject: &Subject) -> anyhow::Result<()> {
    let folder = folder()?;
    let (upstream, url) = upstream(&subject.binary)?;
    let delivery = Delivery { base_url: url.clone(), users_per_minute: USERS_PER_MINUTE };
    let gateway = Gateway::delivering(subject, folder.path(), &delivery)?;
    say("the rate that the gateway reaches");
    let peak = child::role::<Seen>(&arguments(&format!(
        "unary --port {} --connections {CONNECTIONS} --users {USERS} --in-flight {IN_FLIGHT} \
         --seconds {PEAK_SECONDS} --warm-seconds 1 --seed 1",
        gateway.port()
    )))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    let rate = (peak.per_second / 2.0).max(1.0) as u32;
    say(&format!("{} minutes at half of {:.0} updates a second", args.minutes, peak.per_second));
    let samples = load(args, &gateway, rate)?;
    let upstream_seen = snapshot(&url)?;
    print(&samples, rate, &upstream_seen);
    gateway.stop()?;
    drop(upstream);
    let found = judge(&samples, rate, &upstream_seen);
    ensure!(found.is_empty(), "not as it should be:\n{}", found.join("\n"));
    println!("\nmemory and disk are flat, no descriptor leaks, no rule of Userpilot's was broken");
    Ok(())
}

fn load(args: &Args, gateway: &Gateway, rate: u32) -> anyhow::Result<Vec<Sample>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed().as_secs_f64() < args.minutes * 60.0 {
        let seen = child::role(&arguments(&format!(
            "paced --port {} --connections {CONNECTIONS} --users {USERS} --per-second {rate} \
             --seconds {SLICE_SECONDS} --many-threads --seed {}",
            gateway.port(),
            samples.len()
        )))?;
        samples.push(Sample {
            at: began.elapsed(),
            seen,
            rss: gateway.memory()?.0,
            disk: gateway.disk()?,
            descriptors: gateway.descriptors()?,
            waiting: gateway.waiting()?,
        });
    }
    Ok(samples)
}

/// A simulated Userpilot in a process of its own, and its address.
fn upstream(binary: &Path) -> anyhow::Result<(Owned, String)> {
    let mut command = Command::new(binary);
    command.args(["simulate-userpilot", "--listen", "127.0.0.1:0", "--fixed-cost-ms", "500"]);
    command.args(["--users-per-minute", &USERS_PER_MINUTE.to_string()]);
    command.env("SIMULATOR_API_KEY", crate::gateway::API_KEY);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Owned(command.spawn().context("cannot start the simulator")?);
    let stdout = child.0.stdout.take().context("no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    match line.trim().split(' ').next_back() {
        Some(url) if url.starts_with("http://127.0.0.1:") => Ok((child, url.to_owned())),
        Some(_) | None => bail!("the simulator says {line:?}"),
    }
}

fn snapshot(url: &str) -> anyhow::Result<Snapshot> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Another may have been installed before: any will do for a plain connection.
    drop(rustls::crypto::ring::default_provider().install_default());
    let get = async { reqwest::get(format!("{url}/_simulator/state")).await?.json().await };
    Ok(runtime.block_on(get)?)
}

fn print(samples: &[Sample], rate: u32, upstream: &Snapshot) {
    println!(
        "| after | updates/s of {rate} | errors | p50 ms | p99 ms | waiting | memory | disk | descriptors |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let step = samples.len().div_ceil(LINES_MAX).max(1);
    for sample in samples.iter().skip(step - 1).step_by(step) {
        let Sample { at, seen, rss, disk, descriptors, waiting } = sample;
        println!(
            "| {} s | {:.0} | {} | {:.1} | {:.1} | {waiting} | {} | {} | {descriptors} |",
            at.as_secs(),
            seen.per_second,
            seen.errors,
            seen.p50_ms,
            seen.p99_ms,
            mib(*rss),
            mib(*disk)
        );
    }
    let rows: usize = upstream.jobs.iter().map(|job| job.completed).sum();
    println!(
        "\n{} jobs took {rows} rows; {} violations",
        upstream.jobs.len(),
        upstream.violations_total
    );
}

/// What is wrong, in words.
fn judge(samples: &[Sample], rate: u32, upstream: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of some thousand samples"
    )]
    let warm = (samples.len() as f64 * WARM_PART).ceil() as usize;
    let calm = samples[warm..].iter().filter(|sample| sample.seen.p50_ms <= BUSY_P50_MS);
    let calm: Vec<Sample> = calm.copied().collect();
    let (first, second) = calm.split_at(calm.len() / 2);
    if first.len() < SAMPLES_MIN {
        let few = "too few samples to judge: SOAK_MINUTES is too small, or the machine too busy";
        return vec![few.to_owned()];
    }
    let median = |samples: &[Sample], figure: fn(&Sample) -> u64| {
        let mut figures: Vec<u64> = samples.iter().map(figure).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    let mut grows = |what: &str, figure: fn(&Sample) -> u64, growth: Growth| {
        let (before, after) = (median(first, figure), median(second, figure));
        #[expect(clippy::cast_precision_loss, reason = "less than a petabyte")]
        let bound = before as f64 * (1.0 + growth.part) + growth.bytes as f64;
        println!("{what}: median {} after warm-up, {} later", mib(before), mib(after));
        #[expect(clippy::cast_precision_loss, reason = "less than a petabyte")]
        let exceeds = after as f64 > bound;
        exceeds.then(|| found.push(format!("{what} grows from {} to {}", mib(before), mib(after))));
    };
    grows("memory", |it| it.rss, RSS_GROWTH);
    grows("disk", |it| it.disk, DISK_GROWTH);
    let descriptors = |samples| median(samples, |it| it.descriptors);
    let (before, after) = (descriptors(first), descriptors(second));
    println!("descriptors: median {before} after warm-up, {after} later");
    if after > before + DESCRIPTORS_MORE {
        found.push(format!("descriptors grow from {before} to {after}"));
    }
    let answered: f64 = samples.iter().map(|it| it.seen.per_second).sum();
    #[expect(clippy::cast_precision_loss, reason = "some thousand samples")]
    let due = f64::from(rate) * samples.len() as f64;
    if answered < due * ANSWERED_PART {
        found.push(format!("only {:.0} % of the updates were taken", answered / due * 100.0));
    }
    if upstream.jobs.iter().all(|job| job.completed == 0) {
        found.push("nothing was delivered".to_owned());
    }
    if upstream.violations_total > 0 {
        found.push(format!("rules of Userpilot's were broken: {:?}", upstream.violations));
    }
    found
}

fn arguments(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
