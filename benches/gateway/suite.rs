//! What is measured, in which turns.

use tempfile::TempDir;

use crate::{
    child, compare, disk,
    gateway::{Gateway, Subject},
    load::Seen,
    machine, million,
    report::{self, Row},
    store_alone::Committed,
    tls,
    workload::{Template, USERS},
};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Measurement {
    /// Unary calls against the bare echo.
    Unary,
    /// Streams against the store alone.
    Stream,
    /// Latency at a fixed rate.
    Latency,
    /// A million users that wait.
    Million,
    /// The loads over TLS against those in clear.
    Tls,
}

/// What this run is to do.
pub struct Plan {
    pub quick: bool,
    pub write: bool,
    pub only: Vec<Measurement>,
    pub subject: Subject,
    pub against: Option<Subject>,
    pub rounds: Option<usize>,
}

/// How long, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub rounds: usize,
    pub seconds: f64,
    pub warm_seconds: f64,
    pub latency_seconds: f64,
    /// Each of the 200,000 users this often.
    pub stream_turns: u64,
    pub million: u64,
}

const FULL: Scale = Scale {
    rounds: 3,
    seconds: 5.0,
    warm_seconds: 1.0,
    latency_seconds: 10.0,
    stream_turns: 2,
    million: 1_000_000,
};
const QUICK: Scale = Scale {
    rounds: 1,
    seconds: 1.0,
    warm_seconds: 0.3,
    latency_seconds: 2.0,
    stream_turns: 1,
    million: 100_000,
};

const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 1_000;
const STREAMS: usize = 4;
const STREAM_WINDOW: usize = 4_096;
const IDLE_FDATASYNCS: u32 = 300;
const LATENCY_CONNECTIONS: usize = 4;

pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let scale = if plan.quick { QUICK } else { FULL };
    let scale = Scale { rounds: plan.rounds.unwrap_or(scale.rounds), ..scale };
    if let Some(other) = &plan.against {
        return compare::run(&plan.subject, other, scale);
    }
    let folder = folder()?;
    let machine = machine::describe(folder.path(), disk::idle(folder.path(), IDLE_FDATASYNCS)?);
    drop(folder);
    let bytes = Template::new().bytes();
    let mut rows = vec![
        Row::beside("engine of the store", plan.subject.engine.name()),
        Row::beside("bytes of an update, encoded", bytes.to_string()),
    ];
    let wanted = |it| plan.only.is_empty() || plan.only.contains(&it);
    let subject = &plan.subject;
    if wanted(Measurement::Unary) {
        say("unary calls and the bare echo, in turns");
        rows.extend(unary(subject, scale)?);
    }
    if wanted(Measurement::Stream) {
        say("streams and the store alone, in turns");
        rows.extend(streams(subject, scale)?);
    }
    if wanted(Measurement::Latency) {
        say("latency at a fixed rate");
        rows.extend(latency(subject, scale)?);
    }
    if wanted(Measurement::Million) {
        say("a store with many users that wait");
        rows.extend(million::run(subject, scale)?);
    }
    if wanted(Measurement::Tls) {
        say("TLS and plain text, in turns");
        rows.extend(tls::run(subject, scale)?);
    }
    let command = if plan.quick { "make bench ARGS=--quick" } else { "make bench" };
    let table = report::markdown(&machine, command, &rows);
    println!("{table}");
    if plan.write { report::write(&table) } else { Ok(()) }
}

pub fn say(what: &str) {
    eprintln!("measuring {what} …");
}

/// A folder on the disk that the project is on, not in memory.
pub fn folder() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn unary(subject: &Subject, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let folder = folder()?;
    let gateway = Gateway::start(subject, folder.path())?;
    let (echo, echo_port) = child::echo()?;
    let (mut echoes, mut durable) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        echoes.push(load_unary(echo_port, USERS, scale, round, true)?);
        durable.push(load_unary(gateway.port(), USERS, scale, round, false)?);
    }
    drop(echo);
    let rss = mib(gateway.memory()?.0);
    gateway.stop()?;
    let (echo, durable) = (middle(&echoes), middle(&durable));
    let ratio = durable.per_second / echo.per_second;
    let load = "8 connections, 1,000 in flight";
    Ok(vec![
        Row::at_least("unary, durable / bare echo", ratio, 0.5, 0.7, load),
        Row::beside("unary, durable", line(&durable)),
        Row::beside("bare echo of the same message", line(&echo)),
        Row::beside("memory of the gateway after that", rss),
    ])
}

/// Closed-loop unary calls.
pub fn load_unary(
    port: u16,
    users: u64,
    scale: Scale,
    round: usize,
    echo: bool,
) -> anyhow::Result<Seen> {
    let mut arguments = unary_arguments(port, users, scale, round);
    arguments.extend(echo.then(|| "--echo".to_owned()));
    child::role(&arguments)
}

/// What the role of unary calls is told.
pub fn unary_arguments(port: u16, users: u64, scale: Scale, round: usize) -> Vec<String> {
    arguments(&format!(
        "unary --port {port} --connections {CONNECTIONS} --users {users} --in-flight {IN_FLIGHT} \
         --seconds {} --warm-seconds {} --seed {round}",
        scale.seconds, scale.warm_seconds
    ))
}

fn streams(subject: &Subject, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (mut alone, mut streamed) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        alone.push(store_alone(subject, scale)?.per_second);
        // A new store each time, as the store alone has.
        let folder = folder()?;
        let gateway = Gateway::start(subject, folder.path())?;
        streamed.push(load_stream(gateway.port(), USERS, USERS * scale.stream_turns, 0)?);
        gateway.stop()?;
    }
    alone.sort_by(f64::total_cmp);
    let (alone, streamed) = (alone[alone.len() / 2], middle(&streamed));
    let ratio = streamed.per_second / alone;
    Ok(vec![
        Row::at_least("stream, durable / the store alone", ratio, 0.8, 0.8, "4 streams"),
        Row::beside("stream, durable", line(&streamed)),
        Row::beside("the store alone, groups of 256", format!("{alone:.0}/s")),
    ])
}

fn store_alone(subject: &Subject, scale: Scale) -> anyhow::Result<Committed> {
    let folder = folder()?;
    let mut arguments = arguments(&format!(
        "store-alone --engine {} --users {USERS} --updates {}",
        subject.engine.name(),
        USERS * scale.stream_turns
    ));
    arguments.extend(["--folder".to_owned(), folder.path().display().to_string()]);
    child::role(&arguments)
}

/// `updates` updates over streams, from the `first` on.
pub fn load_stream(port: u16, users: u64, updates: u64, first: u64) -> anyhow::Result<Seen> {
    child::role(&stream_arguments(port, users, updates, first))
}

/// What the role of streams is told.
pub fn stream_arguments(port: u16, users: u64, updates: u64, first: u64) -> Vec<String> {
    arguments(&format!(
        "stream --port {port} --connections {STREAMS} --users {users} --window {STREAM_WINDOW} \
         --updates {updates} --first {first}"
    ))
}

fn latency(subject: &Subject, scale: Scale) -> anyhow::Result<Vec<Row>> {
    let folder = folder()?;
    let gateway = Gateway::start(subject, folder.path())?;
    let (echo, echo_port) = child::echo()?;
    let mut rows = Vec::new();
    for (rate, p50_max, p99_max) in [(500, 0.6, 3.0), (1_000, 1.0, 5.0)] {
        let paced = |port, echo| {
            let mut arguments = arguments(&format!(
                "paced --port {port} --connections {LATENCY_CONNECTIONS} --users {USERS} \
                 --per-second {rate} --seconds {}",
                scale.latency_seconds
            ));
            if echo {
                arguments.push("--echo".to_owned());
            }
            child::role::<Seen>(&arguments)
        };
        let bare = paced(echo_port, true)?;
        let (seen, disk) = disk::beside(folder.path(), || paced(gateway.port(), false))?;
        let what = format!("latency at {rate}/s, open loop");
        let figures = [("p50", seen.p50_ms, p50_max), ("p99", seen.p99_ms, p99_max)];
        rows.push(Row::at_most(&what, &figures, "ms"));
        let beside = format!(
            "fdatasync p50 {:.2} ms, p99 {:.2} ms; longest answer {:.1} ms, {} errors",
            disk.p50_ms, disk.p99_ms, seen.max_ms, seen.errors
        );
        rows.push(Row::beside("the disk meanwhile", beside));
        let beside = format!("p50 {:.2} ms, p99 {:.2} ms", bare.p50_ms, bare.p99_ms);
        rows.push(Row::beside("bare echo under the same load", beside));
    }
    drop(echo);
    gateway.stop()?;
    Ok(rows)
}

/// The round with the median throughput.
pub fn middle(rounds: &[Seen]) -> Seen {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds[rounds.len() / 2]
}

/// What a load saw, in a line.
pub fn line(seen: &Seen) -> String {
    let Seen { per_second, p50_ms, p99_ms, errors, .. } = seen;
    let errors = if *errors == 0 { String::new() } else { format!(", {errors} **errors**") };
    format!("{per_second:.0}/s, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms{errors}")
}

pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn arguments(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
