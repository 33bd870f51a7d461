//! Plans whose answers are known.

use std::{ops::Range, time::Duration};

use super::{
    Pace, Plan, Report, run,
    traffic::{Choice, Sends, Source, Users},
};
use crate::domain::{
    admission::QueueLimits,
    backoff::BackoffLimits,
    batch::BatchLimits,
    delivered::Suppression,
    lifecycle::{PartialPolicy, Settings},
    row::RowValues,
    update::Lane,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn plan(traffic: Vec<Source>) -> Plan {
    let seconds = Duration::from_secs;
    Plan {
        traffic,
        pace: Pace {
            users_per_minute: 1_800,
            fixed_cost: seconds(2),
            round_trip: Duration::from_millis(100),
            outages: Vec::new(),
        },
        settings: Settings {
            users_per_minute: 1_800,
            linger: seconds(1),
            batch: BatchLimits { rows_max: 10_000, bytes_max: 50_000_000 },
            job_users_min: 100,
            overhead_target: 0.03,
            bulk_share: 0.2,
            poll_interval: (Duration::from_millis(250), seconds(15)),
            backoff: BackoffLimits { initial: Duration::from_millis(500), max: seconds(60) },
            retry_after_max: HOUR,
            held_retry: seconds(180),
            failed_jobs_max: 3,
            partial: PartialPolicy::Isolate,
            values: RowValues::Primitive,
        },
        queue: QueueLimits {
            records_max: 5_000_000,
            bytes_max: u64::MAX,
            record_bytes_max: 65_536,
            record_properties_max: 100,
        },
        suppression: None,
        length: HOUR,
        seed: 7,
    }
}

fn source(client: &str, lane: Lane, sends: Sends) -> Source {
    Source { client: client.to_owned(), weight: 1, class: client.to_owned(), lane, sends }
}

fn flow(updates_per_second: f64, users: Range<u32>, length: Duration) -> Source {
    let users = Users { numbers: users, choice: Choice::Uniform };
    let sends = Sends::Flow { updates_per_second, users, during: Duration::ZERO..length };
    source("live", Lane::Interactive, sends)
}

fn backfill(users: Range<u32>, lane: Lane) -> Source {
    source("backfill", lane, Sends::Backfill { at: Duration::ZERO, users })
}

/// Whatever is planned: every update is somewhere, and no rule is broken.
fn check(plan: &Plan) -> Report {
    let report = run(plan).unwrap();
    let told: u64 =
        report.freshness.iter().filter(|of| of.class.is_some()).map(|of| of.updates).sum();
    assert_eq!(told, report.accepted_updates - report.suppressed_updates);
    assert_eq!((report.conflicts, report.early_submissions), (0, 0));
    report
}

#[test]
fn a_backlog_drains_at_the_pace_of_the_budget_and_what_each_job_costs() {
    let users = 45_000;
    let report = check(&plan(vec![backfill(0..users, Lane::Bulk)]));
    let at = report.drained_at_s.unwrap();
    let least = f64::from(users) / 30.0;
    // Of each job, two seconds and what it takes to notice; a second of linger before the first.
    let cost = report.jobs as f64 * 2.7 + 1.0;
    assert!((least + 1.0..=least + cost).contains(&at), "{at} of {least} and {cost}");
    assert_eq!((report.rows, report.waiting_updates), (u64::from(users), 0));
    assert!((report.utilisation - least / 3_600.0).abs() < 1e-9);
    assert_eq!(report.drain_bound_s, Some(least));
    assert!(report.utilisation_with_backlog.unwrap() > 0.98);
    assert_eq!(report.job_rows_max, 10_000);
    // The last row waits for all the others.
    let freshness = report.freshness(None, Lane::Bulk).unwrap();
    assert!((freshness.max_s - at).abs() < freshness.max_s * 0.001, "{freshness:?}");
    assert!((freshness.p50_s - at / 2.0).abs() < 60.0, "{freshness:?}");
}

#[test]
fn one_update_lingers_and_is_applied() {
    let one = Sends::Recorded(vec![(Duration::from_secs(60), 3)]);
    let report = check(&plan(vec![source("live", Lane::Interactive, one)]));
    // A second of linger, half the fixed cost, and a thirtieth for the row itself.
    let freshness = report.freshness(None, Lane::Interactive).unwrap();
    assert!((freshness.max_s - 2.033).abs() < 0.01, "{freshness:?}");
    assert_eq!((report.rows, report.jobs), (1, 1));
}

#[test]
fn updates_that_wait_together_go_as_one_row_and_each_counts_its_own_time() {
    let at = Duration::from_millis;
    let three = Sends::Recorded(vec![(at(0), 3), (at(400), 3), (at(900), 3)]);
    let report = check(&plan(vec![source("live", Lane::Interactive, three)]));
    assert_eq!((report.accepted_updates, report.coalesced_updates, report.rows), (3, 2, 1));
    let freshness = report.freshness(None, Lane::Interactive).unwrap();
    assert!((freshness.max_s - 2.033).abs() < 0.01, "{freshness:?}");
    assert!((freshness.p50_s - 1.633).abs() < 0.01, "{freshness:?}");
}

#[test]
fn after_an_outage_the_backlog_drains_as_computed() {
    let mut plan = plan(vec![flow(10.0, 0..1_000_000, HOUR * 3)]);
    plan.length = HOUR * 3;
    plan.pace.outages = vec![HOUR / 2..HOUR * 3 / 2];
    let report = check(&plan);
    // An hour's 36,000 updates, nearly all of users of their own, and ten a second more while
    // they drain at thirty: half an hour.
    let bound = report.drain_bound_s.unwrap() - report.disturbed_until_s;
    assert!((1_700.0..1_850.0).contains(&bound), "{bound}");
    let took = report.drained_at_s.unwrap() - report.disturbed_until_s;
    // Jobs cost their share, and the last retry of the outage may have been a minute before.
    assert!((bound..bound * 1.04 + 60.0).contains(&took), "{took} of {bound}");
    assert_eq!(report.refused_updates, 0);
    assert!(report.freshness(None, Lane::Interactive).unwrap().max_s < 5_500.0);
    assert!(report.samples.last().unwrap().oldest_s < 60.0);
}

#[test]
fn a_backfill_by_one_client_does_not_hold_up_the_others() {
    let traffic = vec![backfill(0..100_000, Lane::Interactive), flow(2.0, 500_000..600_000, HOUR)];
    let report = check(&plan(traffic));
    let live = report.freshness(Some("live"), Lane::Interactive).unwrap();
    // A job lasts as long as its fixed cost of two seconds, and no more to notice its end, allows.
    assert!(live.p99_s < 90.0, "{live:?}");
    assert!((2_000..2_600).contains(&report.job_rows_p50), "{}", report.job_rows_p50);
    assert!(report.utilisation_with_backlog.unwrap() >= 0.97, "{report:?}");
    assert!(report.freshness(Some("backfill"), Lane::Interactive).unwrap().max_s > 3_000.0);
}

#[test]
fn of_a_resync_only_what_changed_is_sent_where_that_is_asked_for() {
    let at = Duration::from_secs(60);
    let resync = Sends::Resync { at, users: 0..20_000, changed: 0.02 };
    let mut plan = plan(vec![source("sync", Lane::Bulk, resync)]);
    assert_eq!(check(&plan).rows, 20_000);
    plan.suppression = Some(Suppression { refresh_after: HOUR * 24, properties_max: 100 });
    let report = check(&plan);
    assert!((350..450).contains(&report.rows), "{report:?}");
    assert_eq!(
        (report.accepted_updates, report.suppressed_updates),
        (20_000, 20_000 - report.rows)
    );
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let mut plan = plan(vec![flow(40.0, 0..5_000, HOUR), backfill(0..20_000, Lane::Bulk)]);
    plan.pace.outages = vec![HOUR / 4..HOUR / 3];
    let report = check(&plan);
    assert_eq!(report, run(&plan).unwrap());
    plan.seed += 1;
    assert_ne!(report, run(&plan).unwrap());
}
