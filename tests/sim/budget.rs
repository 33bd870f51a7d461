//! A part of each scenario of `make bench-budget`: what the budget comes to, measured in virtual
//! time, meets what was aimed at. The whole ones take minutes.

#[path = "../../benches/budget/baselines.rs"]
mod baselines;
#[path = "../../benches/budget/figures.rs"]
mod figures;
#[path = "../../benches/budget/scenarios.rs"]
mod scenarios;
#[path = "../../benches/budget/table.rs"]
mod table;

use scenarios::Outcome;
use userpilot_gateway::plan::Report;

/// Runs such a part of the scenarios of a number.
fn check(number: u32, part: u32) {
    let scenarios = scenarios::all(1, part).into_iter().filter(|it| it.number == number);
    let mut missed = 0;
    let mut rows = Vec::new();
    for scenario in scenarios {
        let of_one = scenario.rows(&scenario.run().unwrap());
        missed += of_one.iter().filter(|row| row.is_missed()).count();
        rows.extend(of_one);
    }
    assert!(rows.len() > 3, "there is no scenario {number}");
    assert_eq!(missed, 0, "a part of 1/{part}:\n{}", table::markdown(&rows));
}

#[test]
fn steady_traffic_uses_the_budget_while_a_backlog_waits() {
    check(1, 24);
}

#[test]
fn a_backfill_by_one_service_leaves_the_others_fresh_and_gets_the_rest() {
    check(2, 16);
}

#[test]
fn of_a_nightly_resync_what_changed_alone_is_sent() {
    check(3, 8);
}

#[test]
fn an_outage_loses_nothing_and_is_over_when_the_budget_allows() {
    check(4, 4);
}

#[test]
fn a_backlog_alone_uses_all_of_the_budget() {
    check(5, 8);
}

#[test]
fn hot_users_starve_nobody() {
    check(6, 24);
}

/// The figures tell a spender that meets the targets from those that people write.
#[test]
fn who_spends_the_budget_badly_misses_the_targets() {
    for scenario in scenarios::all(1, 48).into_iter().filter(|it| [1, 2, 5].contains(&it.number)) {
        let missed = |gateway: Report, lost_updates: u64| {
            let outcome = Outcome { gateway, lost_updates, baselines: None, part: 48 };
            let rows = scenario.rows(&outcome);
            let table = table::markdown(&rows);
            let missed = rows.iter().filter(|row| row.is_missed()).count();
            assert_eq!(missed, table.matches("**not met**").count(), "{table}");
            (missed, table)
        };
        let (all, table) = missed(baselines::naive(&scenario.plan), 1);
        assert!(all > 2 && !table.contains("| met |"), "{table}");
        let (some, table) = missed(baselines::batching(&scenario.plan), 1);
        assert!(some > 0 && table.contains("| met |"), "{table}");
    }
}
