//! `make bench-budget`: how well the budget is spent, in virtual time.
//!
//! The gateway's scheduler, the real one, and two that people really write, each on the same
//! traffic and the same account. The table says what was aimed at, what came out, and whether that
//! meets it; where it does not, the program fails. `make test` runs a part of each scenario
//! (tests/sim/budget.rs).

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a program that measures: it reads the clock and prints"
)]

mod baselines;
mod figures;
mod scenarios;
#[path = "../shared/mod.rs"]
mod shared;
mod table;

use std::time::Instant;

use clap::Parser;

use crate::{
    scenarios::{Outcome, Scenario},
    table::Row,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shows how well the budget is spent. Ends by itself after some minutes.
#[derive(Parser)]
struct Args {
    /// Write the table to docs/budget.md.
    #[arg(long, env = "BENCH_WRITE")]
    write: bool,
    /// Only these scenarios, by their numbers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Decides every chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut rows: Vec<Row> = Vec::new();
    for scenario in scenarios::all(args.seed, 1) {
        if args.only.is_empty() || args.only.contains(&scenario.number) {
            rows.extend(measure(&scenario)?);
        }
    }
    let command = match args.seed {
        1 => "make bench-budget ARGS=--write".to_owned(),
        seed => format!("make bench-budget ARGS=\"--write --seed {seed}\""),
    };
    let text = shared::facts(&command, &shared::machine()) + "\n" + &table::markdown(&rows);
    println!("{text}");
    if args.write {
        shared::write("docs/budget.md", &text)?;
    }
    let missed = rows.iter().filter(|row| row.is_missed()).count();
    anyhow::ensure!(missed == 0, "{missed} targets are not met: see the table");
    Ok(())
}

fn measure(scenario: &Scenario) -> anyhow::Result<Vec<Row>> {
    let began = Instant::now();
    let outcome = scenario.run()?;
    let took = began.elapsed();
    eprintln!(
        "{}. {}: {:.0} h with {} updates in {:.1} s",
        scenario.number,
        scenario.name,
        outcome.gateway.length_s / 3_600.0,
        outcome.gateway.accepted_updates,
        took.as_secs_f64(),
    );
    let baselines = [baselines::naive(&scenario.plan), baselines::batching(&scenario.plan)];
    let outcome = Outcome { baselines: Some(baselines), ..outcome };
    let mut rows = scenario.rows(&outcome);
    rows.push(Row::beside("simulated in", format!("{:.1} s", took.as_secs_f64())));
    Ok(rows)
}
