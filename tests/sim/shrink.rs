//! Makes of a failing seed the least that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    scenario::Scenario,
    world::{self, Tally},
};

/// Runs a scenario; a panic is a failure like others.
pub(crate) fn run(scenario: &Scenario) -> Result<Tally, String> {
    let scenario = scenario.clone();
    catch_unwind(AssertUnwindSafe(|| world::run(scenario))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", words.unwrap_or("without words")))
    })
}

/// Takes away faults one by one, then actions, as long as something still goes wrong.
pub(crate) fn shrink(scenario: &Scenario) -> (Scenario, String) {
    let mut least = Scenario { trace: false, ..scenario.clone() };
    let mut why = run(&least).err().unwrap_or_default();
    // Without one fault chance falls differently: one that was needed may not be any more.
    let mut before = usize::MAX;
    while least.faults.len() < before {
        before = least.faults.len();
        for fault in least.faults.clone() {
            let mut fewer = least.clone();
            fewer.faults.remove(&fault);
            if let Err(what) = run(&fewer) {
                (least, why) = (fewer, what);
            }
        }
    }
    for actions in 1..least.actions {
        let fewer = Scenario { actions, ..least.clone() };
        if let Err(what) = run(&fewer) {
            return (fewer, what);
        }
    }
    (least, why)
}

/// All there is to say about a seed that fails.
pub(crate) fn explain(scenario: &Scenario, what: &str) -> String {
    let (least, why) = shrink(scenario);
    format!(
        "seed {seed}: {what}\n\
         replay it with a trace: SIM_SEED={seed} cargo nextest run --test sim --no-capture\n\
         the least that fails: {actions} actions with the faults {faults:?}: {why}\n\
         replay that: SIM_SEED={seed} SIM_ACTIONS={actions} SIM_FAULTS={names}",
        seed = scenario.seed,
        actions = least.actions,
        faults = least.faults,
        names = least.faults.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(","),
    )
}
