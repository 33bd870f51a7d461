//! How large jobs become.

use super::*;

const RESPONSIVE: Settings =
    Settings { job_users_min: 100, overhead_target: 0.03, bulk_share: 0.2, ..SETTINGS };

/// Since the gateway started, in a world in which more waits than any job can hold.
struct Jobs {
    bench: Bench,
    urgent_updates: u64,
}

impl Jobs {
    fn new(recovered: Recovered) -> Self {
        let now = at(1_000);
        let machine = Lifecycle::new(RESPONSIVE, recovered, now);
        Self { bench: Bench { machine, now }, urgent_updates: 0 }
    }

    /// A job as large as it may be ends so long after its occupancy. Returns its rows, and how
    /// many are kept for the bulk lane; and what is remembered after it.
    fn job(&mut self, beyond_ms: u64) -> (u64, u64, Memory) {
        let bench = &mut self.bench;
        let records = ByKind { users: 1_000_000, companies: 0 };
        let (since, urgent_updates) = (Some(bench.now.instant), self.urgent_updates);
        bench.on(Event::Waiting(Waiting { records, since, urgent_updates }));
        bench.sleep();
        let Command::Claim(claimable) = bench.command() else { panic!("does not claim") };
        let limits = claimable.users.expect("users may be claimed");
        let rows = limits.batch.rows_max;
        bench.on(Event::Claimed(Some(Box::new(batch(rows)))));
        bench.resubmit();
        bench.accept();
        let length = crate::domain::budget::occupancy(rows, RESPONSIVE.users_per_minute);
        let length = length + Duration::from_millis(beyond_ms);
        bench.now.instant = bench.now.instant.plus(length);
        bench.now.wall = bench.now.wall.plus(length);
        bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
        let Command::Settle(_, _, memory) = bench.command() else { panic!("does not settle") };
        bench.settle(Settlement::Delivered);
        (rows, limits.for_bulk.rows_max, *memory)
    }
}

#[test]
fn a_job_is_as_large_as_its_fixed_cost_is_worth_while_updates_come() {
    let mut jobs = Jobs::new(Recovered::default());
    // Before any has ended, a job is taken to cost 2 s. Of its rows, a fifth is for bulk.
    let (mut rows, mut for_bulk) = (0, 0);
    for expected in [2_000, 500, 500, 500] {
        jobs.urgent_updates += 1;
        (rows, for_bulk, _) = jobs.job(500);
        assert_eq!(rows, expected);
    }
    assert_eq!(for_bulk, rows / 5);
    // One slow job changes nothing; the median does.
    for (beyond_ms, expected) in [(60_000, 500), (4_000, 500), (4_000, 500), (4_000, 500)] {
        jobs.urgent_updates += 1;
        assert_eq!(jobs.job(beyond_ms).0, expected);
    }
    jobs.urgent_updates += 1;
    assert_eq!(jobs.job(4_000).0, 4_000);
}

#[test]
fn while_nothing_new_comes_jobs_grow_and_shrink_again_with_the_first_that_does() {
    let mut jobs = Jobs::new(Recovered::default());
    for expected in [4_000, 8_000, 10_000, 10_000] {
        assert_eq!(jobs.job(2_000).0, expected);
    }
    jobs.urgent_updates += 1;
    assert_eq!(jobs.job(2_000).0, 2_000);
}

#[test]
fn what_jobs_cost_is_known_after_a_restart() {
    let mut jobs = Jobs::new(Recovered::default());
    jobs.urgent_updates += 1;
    let (_, _, memory) = jobs.job(500);
    let mut jobs = Jobs::new(Recovered { memory, ..Recovered::default() });
    jobs.urgent_updates += 1;
    assert_eq!(jobs.job(500).0, 500);
}

#[test]
fn a_job_that_something_went_wrong_with_teaches_nothing() {
    let mut jobs = Jobs::new(Recovered::default());
    jobs.urgent_updates += 1;
    let bench = &mut jobs.bench;
    bench.wait_for_records(5);
    bench.sleep();
    bench.on(Event::Claimed(Some(Box::new(batch(5)))));
    bench.resubmit();
    bench.on(Event::Submitted(Err(failure(FailureKind::Unknown))));
    bench.look_in_vain();
    bench.resubmit();
    bench.accept();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    let Command::Settle(_, _, memory) = bench.command() else { panic!("does not settle") };
    assert_eq!(memory.kinds.users.cost, Default::default());
}
