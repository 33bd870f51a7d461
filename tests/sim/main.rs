//! The deterministic simulation: the real queue over the engine in memory, the real life
//! cycle and the real carrying out, against a model of upstream, in virtual time, on one
//! thread, all chance from one seed.
//!
//! A seed makes a [`scenario::Scenario`]: how many users there are, what may go wrong, how
//! often. The [`world::World`] plays it: clients send, operators meddle, processes die,
//! upstream misbehaves. The [`checker::Checker`] knows what was acknowledged and what upstream
//! saw, and holds that against the promises, step by step and at the end.
//!
//! `SIM_SEEDS=100000` runs so many seeds, `SIM_FIRST` says from which; `SIM_SEED=123` replays
//! one (of the large worlds: with `SIM_LARGE=1`) and tells all that happens, with `SIM_ACTIONS` and `SIM_FAULTS` as a failure prints them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "figures and traces are for who runs it")]

mod account;
mod actors;
mod budget;
mod checker;
mod cost;
mod death;
mod express;
mod fault;
mod fleet;
mod forgetting;
mod ledger;
mod process;
mod random;
mod remembering;
mod sabotage;
mod scenario;
mod senders;
mod shrink;
mod upstream;
mod world;

use std::{env, ops::Range, panic, thread};

use sabotage::Sabotage;
use scenario::{Fault, Scenario};
use userpilot_gateway::clock;
use world::Tally;

/// As many as take a minute or two on two cores.
const SEEDS: u64 = 100_000;
/// Large worlds take a hundred times as long.
const LARGE_SEEDS: u64 = 60;
/// Within so many seeds every planted bug is found.
const SEEDS_TO_FIND: u64 = 3_000;

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("SIM_SEED") {
        return replay(seed);
    }
    let first = number("SIM_FIRST").unwrap_or(1);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let began = clock::now().instant;
    let total = run_all(first..first + seeds);
    let took = clock::now().instant.since(began);
    let rate = u128::from(seeds) * 1_000 / took.as_millis().max(1);
    eprintln!("{seeds} seeds in {took:.1?}, {rate} a second: {total:?}");
}

/// Runs the worlds of all these seeds, on as many cores as there are.
fn run_all(seeds: Range<u64>) -> Tally {
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let run = |first: u64| {
        let mut total = Tally::default();
        for seed in (first..seeds.end).step_by(usize::try_from(threads).unwrap()) {
            let scenario = Scenario::new(seed);
            match shrink::run(&scenario) {
                Ok(tally) => total.add(tally),
                Err(what) => panic!("{}", shrink::explain(&scenario, &what)),
            }
        }
        total
    };
    let mut total = Tally::default();
    thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|n| scope.spawn(move || run(seeds.start + n))).collect();
        for part in parts {
            total.add(part.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
    });
    total
}

#[test]
fn batches_that_take_several_commits_keep_the_promises() {
    let mut total = Tally::default();
    for seed in 1..=LARGE_SEEDS {
        let scenario = Scenario::large(seed);
        match shrink::run(&scenario) {
            Ok(tally) => total.add(tally),
            Err(what) => panic!("SIM_LARGE=1 {}", shrink::explain(&scenario, &what)),
        }
    }
    eprintln!("{LARGE_SEEDS} large worlds: {total:?}");
    assert!(total.between > 0, "nobody sent between two commits");
}

/// Replays one seed, and tells all that happens.
fn replay(seed: u64) {
    let large = env::var_os("SIM_LARGE").is_some();
    let scenario = if large { Scenario::large(seed) } else { Scenario::new(seed) };
    let mut scenario = Scenario { trace: true, ..scenario };
    if let Some(actions) = number("SIM_ACTIONS") {
        scenario.actions = actions;
    }
    if let Ok(names) = env::var("SIM_FAULTS") {
        let known = Fault::EXPECTED.into_iter().chain(Fault::BEYOND);
        scenario.faults = known
            .filter(|fault| names.split(',').any(|name| name == format!("{fault:?}")))
            .collect();
    }
    eprintln!("{scenario:#?}");
    let outcome = shrink::run(&scenario);
    eprintln!("{outcome:?}");
    outcome.unwrap();
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 1..=200 {
        let scenario = Scenario::new(seed);
        assert_eq!(shrink::run(&scenario), shrink::run(&scenario), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for sabotage in Sabotage::ALL {
        let planted = |seed| Scenario { sabotage: Some(sabotage), ..Scenario::new(seed) };
        match first_failure(planted) {
            Some((seed, what)) => eprintln!("{sabotage:?}: found by seed {seed}: {what}"),
            None => missed.push(sabotage),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_TO_FIND} seeds: {missed:?}");
}

#[test]
fn what_is_not_promised_is_known_by_name() {
    for fault in Fault::BEYOND {
        let beyond = |seed| {
            let mut scenario = Scenario::new(seed);
            scenario.faults.extend([fault, Fault::Kill, Fault::PowerCut]);
            scenario.fault_percent = 40;
            scenario.settings.users_per_minute = 20;
            scenario
        };
        let found = first_failure(beyond);
        let (seed, what) = found.unwrap_or_else(|| panic!("{fault:?} does no harm any more"));
        eprintln!("{fault:?}: seed {seed}: {what}");
    }
}

/// The first seed whose world breaks a promise.
fn first_failure(scenario: impl Fn(u64) -> Scenario) -> Option<(u64, String)> {
    (1..=SEEDS_TO_FIND).find_map(|seed| Some((seed, shrink::run(&scenario(seed)).err()?)))
}
