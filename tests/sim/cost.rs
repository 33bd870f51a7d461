//! What it costs to isolate one bad row: docs/reliability.md has the figures.

use std::{collections::BTreeSet, time::Duration};

use userpilot_gateway::domain::batch::BatchLimits;

use crate::{
    scenario::{Fault, Poison, Scenario},
    world::{Halt, World},
};

const ROWS: u64 = 10_000;

/// What isolating one row among [`ROWS`] takes.
#[derive(Debug)]
struct Cost {
    /// Requests that submitted a batch, beyond the one that there would have been.
    extra_submissions: u64,
    /// Of these, jobs that upstream took.
    extra_jobs: u64,
    /// Users in all submissions, beyond one time each.
    users_sent_again: u64,
    /// Users in jobs that upstream took, beyond one time each: these take of the budget.
    users_of_budget_again: u64,
    took: Duration,
}

fn isolate_one(poison: Poison, seed: u64) -> Cost {
    let scenario = Scenario::large(seed);
    let mut settings = scenario.settings;
    settings.batch = BatchLimits { rows_max: ROWS, bytes_max: 50_000_000 };
    settings.job_users_min = ROWS;
    settings.users_per_minute = 1_800;
    settings.failed_jobs_max = 3;
    let mut world = World::new(Scenario {
        faults: BTreeSet::from([Fault::Poison]),
        // One update is bad: the second.
        poison_every: u64::MAX,
        poison,
        actions: 0,
        settings,
        ..scenario
    })
    .unwrap();
    world.send_one_of_each(ROWS).unwrap_or_else(|halt| panic!("{halt:?}"));
    loop {
        let turn = world.turn();
        world.watch().unwrap();
        match turn {
            Ok(true) => break,
            Ok(false) => {}
            Err(Halt::Died) => panic!("nothing dies here"),
            Err(Halt::Broken(what)) => panic!("{what}"),
        }
    }
    let (time, dead) = (world.time, world.process.depth().dead_letters);
    assert_eq!(dead, 1, "the bad row, and no other");
    let account = &world.network.inside().account;
    let rows: u64 = account.jobs.iter().map(|job| job.rows.len() as u64).sum();
    Cost {
        extra_submissions: account.submissions.saturating_sub(1),
        extra_jobs: (account.jobs.len() as u64).saturating_sub(1),
        users_sent_again: account.submitted_rows.saturating_sub(ROWS),
        users_of_budget_again: rows.saturating_sub(ROWS),
        took: time,
    }
}

#[test]
fn isolating_one_row_among_ten_thousand_is_bounded_and_cheap() {
    for poison in [Poison::Refused, Poison::Partial, Poison::Fails] {
        let costs: Vec<Cost> = (1..=4).map(|seed| isolate_one(poison, seed)).collect();
        let worst = costs.iter().max_by_key(|cost| cost.users_sent_again).unwrap();
        let Cost { extra_submissions, extra_jobs, users_sent_again, .. } = worst;
        let Cost { users_of_budget_again, took, .. } = worst;
        eprintln!(
            "{poison:?}: at the most {extra_submissions} submissions more, {extra_jobs} jobs more, \
             {users_sent_again} users sent again, {users_of_budget_again} of them of the budget; \
             {took:.0?} in all"
        );
        // Fourteen levels of halves; three tries of the whole and of the row where jobs fail.
        assert!(worst.extra_submissions <= 36, "{poison:?}: {worst:?}");
        let (rows_max, budget_max) = match poison {
            Poison::Refused => (3 * ROWS, 0),
            Poison::Partial => (2 * ROWS + 100, 2 * ROWS + 100),
            Poison::Fails => (5 * ROWS + 100, 5 * ROWS + 100),
        };
        assert!(worst.users_sent_again <= rows_max, "{poison:?}: {worst:?}");
        assert!(worst.users_of_budget_again <= budget_max, "{poison:?}: {worst:?}");
    }
}
