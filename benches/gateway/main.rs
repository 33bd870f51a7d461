//! `make bench`: how fast the gateway is, next to what it could be at the most.
//!
//! Every measurement is a ratio or a latency with its yardstick beside it, taken in the same
//! run on the same machine, since absolute figures drift from machine to machine. Nothing is
//! asserted: the table says what was aimed at and what was measured. The gateway is the real
//! binary; the load, the bare echo server and the store alone are other roles of this one,
//! each in a process of its own. All of it happens on the loopback interface.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a program that measures: it reads the clock and prints"
)]

mod child;
mod compare;
mod disk;
mod echo;
mod gateway;
mod load;
mod machine;
mod million;
mod remembered;
mod report;
#[path = "../shared/mod.rs"]
mod shared;
mod soak;
mod store_alone;
mod suite;
mod tls;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::gateway::Subject;

/// The allocator of the gateway, for all roles.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the gateway. Ends by itself after some minutes.
#[derive(Parser)]
struct Args {
    /// A short run, to see that everything works. Its figures say little.
    #[arg(long)]
    quick: bool,
    /// Write the table to docs/performance.md.
    #[arg(long, env = "BENCH_WRITE")]
    write: bool,
    /// Only these measurements.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<suite::Measurement>,
    /// Another gateway binary to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_userpilot-gateway"))]
    gateway: PathBuf,
    /// The engine of the store.
    #[arg(long, value_enum, default_value = "sled")]
    engine: gateway::Engine,
    /// Compare two gateways, in turns, and nothing else: `--gateway` and this binary.
    #[arg(long)]
    against: Option<PathBuf>,
    /// The same, with this engine where `--gateway` has `--engine`.
    #[arg(long, value_enum)]
    against_engine: Option<gateway::Engine>,
    /// Rounds of each measurement that is taken in turns.
    #[arg(long)]
    rounds: Option<usize>,
    /// Cargo says so.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a child does; and the long run, which is a program of its own.
#[derive(Subcommand)]
enum Role {
    /// The long run at half of the rate that the gateway reaches: `make soak`.
    Soak(soak::Args),
    /// What `suppress_unchanged` takes, for each user that is remembered.
    Remembered(remembered::Args),
    #[command(hide = true)]
    Echo,
    #[command(hide = true)]
    Unary(load::unary::Args),
    #[command(hide = true)]
    Paced(load::paced::Args),
    #[command(hide = true)]
    Stream(load::stream::Args),
    #[command(hide = true)]
    StoreAlone(store_alone::Args),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut runtime = match args.role {
        // One thread, which the schedule wakes and nobody else: what the load itself adds to a
        // latency stays small.
        Some(Role::Paced(ref args)) if !args.many_threads => {
            tokio::runtime::Builder::new_current_thread()
        }
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    match args.role {
        Some(Role::Soak(soak)) => {
            soak::run(&soak, &Subject { binary: args.gateway, engine: args.engine })
        }
        Some(Role::Remembered(of)) => runtime.block_on(remembered::run(of, args.engine)),
        Some(Role::Echo) => runtime.block_on(echo::serve()),
        Some(Role::Unary(args)) => child::report(&runtime.block_on(load::unary::run(args))?),
        Some(Role::Paced(args)) => child::report(&runtime.block_on(load::paced::run(args))?),
        Some(Role::Stream(args)) => child::report(&runtime.block_on(load::stream::run(args))?),
        Some(Role::StoreAlone(args)) => child::report(&runtime.block_on(store_alone::run(args))?),
        None => suite::run(&plan(args)),
    }
}

fn plan(args: Args) -> suite::Plan {
    let subject = Subject { binary: args.gateway, engine: args.engine };
    let compared = args.against.is_some() || args.against_engine.is_some();
    let against = compared.then(|| Subject {
        binary: args.against.unwrap_or_else(|| subject.binary.clone()),
        engine: args.against_engine.unwrap_or(subject.engine),
    });
    let Args { quick, write, only, rounds, .. } = args;
    suite::Plan { quick, write, only, subject, against, rounds }
}
