//! The simulation of fleets: several replicas over one store in memory, by the production code of the
//! queue, the leases, the life cycle and the carrying out. Only the ways to the store and upstream,
//! and the clocks, are the simulation's.
//!
//! All processes are tasks, which take turns that are drawn wherever they wait for something: for a
//! lock, an answer, a commit. So they meet, stop and die at every step of a batch's life. The store
//! ends transactions that nobody uses; what was asked to commit is committed, or not, or late.
//!
//! What is held against the promises: upstream's account (one job at a time, never within an
//! occupancy), the order of values by their sequences, that all which was accepted ends somewhere,
//! that tokens rise, that whoever sends a request has the lease, and that in the end what is counted
//! is what is there.
//!
//! `FLEET_SEEDS` says how many, `FLEET_FIRST` from which, `FLEET_SEED=123` replays one and tells all
//! that happens, with `FLEET_TROUBLES` as a failure prints them.

mod checker;
mod clients;
mod engine;
mod express;
mod facts;
mod fate;
mod gate;
mod replica;
mod sabotage;
mod scenario;
mod session;
mod tally;
mod turns;
mod world;

use std::{
    env,
    ops::Range,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::PoisonError,
    thread,
};

use userpilot_gateway::{clock, store::queue::Found};

use self::{
    sabotage::Sabotage,
    scenario::{FleetScenario, Trouble},
    tally::Tally,
    world::World,
};
use crate::{account::subject_of, number, process::at_once};

/// As many as take half a minute on two slow cores.
const SEEDS: u64 = 250;
/// Within so many seeds every planted bug is found.
const SEEDS_TO_FIND: u64 = 3_000;

/// Runs a scenario to its end.
fn run_to_the_end(scenario: &FleetScenario) -> Result<Tally, String> {
    let world = World::new(scenario.clone());
    let progress = clients::start(&world);
    turns::run(&world, || progress.is_over())?;
    facts::look_at_counts(&world)?;
    for app in 0..scenario.apps {
        let accepted = world.checker(app).accepted();
        for (number, user, sequence) in accepted {
            let observer = world.observer.lock().unwrap_or_else(PoisonError::into_inner);
            let subject = subject_of(user);
            let found = at_once(observer.reads.find(world.apps[app], &subject, sequence));
            let found = found.map_err(|error| error.to_string())?;
            if matches!(found, Found::Pending { .. } | Found::InFlight(_) | Found::InExpress) {
                return Err(format!("update {number} ended as {found:?}"));
            }
            if matches!(found, Found::Dead(_)) {
                world.checker(app).bury(number);
            }
            drop(observer);
            clients::judge(&world, (app, number), &found)?;
        }
        world.checker(app).finish()?;
    }
    let mut tally = world.inside().tally.clone();
    tally.virtual_seconds = world.time().as_secs();
    for app in 0..scenario.apps {
        tally.updates += world.checker(app).sent();
        tally.jobs += world.networks[app].inside().account.jobs.len() as u64;
    }
    Ok(tally)
}

/// The same; a panic is a failure like others.
fn run(scenario: &FleetScenario) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| run_to_the_end(scenario))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", words.unwrap_or("without words")))
    })
}

/// Takes away troubles one by one, as long as something still goes wrong.
fn shrink(scenario: &FleetScenario) -> (FleetScenario, String) {
    let mut least = FleetScenario { trace: false, ..scenario.clone() };
    let mut why = run(&least).err().unwrap_or_default();
    for trouble in least.troubles.clone() {
        let mut fewer = least.clone();
        fewer.troubles.remove(&trouble);
        if let Err(what) = run(&fewer) {
            (least, why) = (fewer, what);
        }
    }
    for fault in least.base.faults.clone() {
        let mut fewer = least.clone();
        fewer.base.faults.remove(&fault);
        if let Err(what) = run(&fewer) {
            (least, why) = (fewer, what);
        }
    }
    (least, why)
}

fn explain(scenario: &FleetScenario, what: &str) -> String {
    let (least, why) = shrink(scenario);
    let names: Vec<String> = least.troubles.iter().map(|it| format!("{it:?}")).collect();
    let faults: Vec<String> = least.base.faults.iter().map(|it| format!("{it:?}")).collect();
    format!(
        "fleet's seed {seed}: {what}\n\
         replay it with a trace: FLEET_SEED={seed} cargo nextest run --test sim --no-capture fleet_seed\n\
         the least that fails: {why}\n\
         replay that: FLEET_SEED={seed} FLEET_TROUBLES={names} FLEET_FAULTS={faults}",
        seed = scenario.seed,
        names = names.join(","),
        faults = faults.join(","),
    )
}

/// Runs the fleets of all these seeds, on as many cores as there are.
fn run_all(seeds: Range<u64>) -> Tally {
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let part = |first: u64| {
        let mut total = Tally::default();
        for seed in (first..seeds.end).step_by(usize::try_from(threads).unwrap()) {
            let mut scenario = FleetScenario::new(seed);
            scenario.trouble_percent = number("FLEET_PERCENT").unwrap_or(scenario.trouble_percent);
            match run(&scenario) {
                Ok(tally) => total.add(&tally),
                Err(what) => panic!("{}", explain(&scenario, &what)),
            }
        }
        total
    };
    let mut total = Tally::default();
    thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|n| scope.spawn(move || part(seeds.start + n))).collect();
        for part in parts {
            total.add(&part.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
    });
    total
}

/// Replays one seed, and tells all that happens.
fn replay(seed: u64) {
    let mut scenario = FleetScenario { trace: true, ..FleetScenario::new(seed) };
    if let Ok(names) = env::var("FLEET_TROUBLES") {
        let known = Trouble::EXPECTED.into_iter().chain([Trouble::StopBeforeSending]);
        let named = |it: &Trouble| names.split(',').any(|name| name == format!("{it:?}"));
        scenario.troubles = known.filter(named).collect();
    }
    if let Ok(names) = env::var("FLEET_FAULTS") {
        scenario.base.faults.retain(|it| names.split(',').any(|name| name == format!("{it:?}")));
    }
    if let Ok(name) = env::var("FLEET_SABOTAGE") {
        scenario.sabotage = Sabotage::ALL.into_iter().find(|it| format!("{it:?}") == name);
    }
    eprintln!("{scenario:#?}");
    let outcome = run(&scenario);
    eprintln!("{outcome:?}");
    outcome.unwrap();
}

#[test]
fn every_fleet_seed_keeps_the_promises() {
    if let Some(seed) = number("FLEET_SEED") {
        return replay(seed);
    }
    let first = number("FLEET_FIRST").unwrap_or(1);
    let seeds = number("FLEET_SEEDS").unwrap_or(SEEDS);
    let began = clock::now().instant;
    let total = run_all(first..first + seeds);
    let took = clock::now().instant.since(began);
    let rate = u128::from(seeds) * 1_000 / took.as_millis().max(1);
    eprintln!("{seeds} fleets in {took:.1?}, {rate} a second: {total:#?}");
}

#[test]
fn a_fleets_seed_is_the_same_run_each_time() {
    for seed in 1..=20 {
        let scenario = FleetScenario::new(seed);
        assert_eq!(run(&scenario), run(&scenario), "seed {seed}");
    }
}

#[test]
fn every_sabotage_of_a_fleet_is_found() {
    let mut missed = Vec::new();
    let only = env::var("FLEET_SABOTAGE").ok();
    let all = Sabotage::ALL.into_iter();
    for sabotage in all.filter(|it| only.as_ref().is_none_or(|name| *name == format!("{it:?}"))) {
        let planted = |seed| FleetScenario { sabotage: Some(sabotage), ..FleetScenario::new(seed) };
        match first_failure(planted) {
            Some((seed, what)) => eprintln!("{sabotage:?}: found by seed {seed}: {what}"),
            None => missed.push(sabotage),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_TO_FIND} seeds: {missed:?}");
}

#[test]
fn what_is_not_promised_of_fleets_is_known_by_name() {
    let beyond = |seed| {
        let mut scenario = FleetScenario::new(seed);
        scenario.troubles.insert(Trouble::StopBeforeSending);
        scenario.trouble_percent = 100;
        scenario
    };
    let (seed, what) = first_failure(beyond).expect("it does no harm any more");
    eprintln!("{:?}: seed {seed}: {what}", Trouble::StopBeforeSending);
}

/// The first seed whose fleet breaks a promise.
fn first_failure(scenario: impl Fn(u64) -> FleetScenario) -> Option<(u64, String)> {
    (1..=SEEDS_TO_FIND).find_map(|seed| Some((seed, run(&scenario(seed)).err()?)))
}
