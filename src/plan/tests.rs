//! Plans whose answers are known.

use std::{ops::Range, time::Duration};

use super::{
    Pace, Plan, Report, run, run_dry,
    traffic::{Choice, Sends, Source, Users},
};
use crate::domain::{
    admission::QueueLimits,
    backoff::BackoffLimits,
    batch::BatchLimits,
    delivered::Suppression,
    express::ExpressSettings,
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
            express_round_trip: Duration::from_millis(200),
            express_per_minute: 600,
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
        express: None,
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
    let (report, lost) = run_dry(plan).unwrap();
    assert_eq!(lost, 0);
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
    plan.suppression =
        Some(Suppression { refresh_after: HOUR * 24, properties_max: 100, account: 0 });
    let report = check(&plan);
    assert!((350..450).contains(&report.rows), "{report:?}");
    assert_eq!(
        (report.accepted_updates, report.suppressed_updates),
        (20_000, 20_000 - report.rows)
    );
}

/// A plan with an express lane.
fn with_express(traffic: Vec<Source>) -> Plan {
    let plan = plan(traffic);
    let Settings { backoff, retry_after_max, held_retry, .. } = plan.settings;
    let (per_minute, requests_max) = (600, 16);
    let express =
        ExpressSettings { per_minute, requests_max, backoff, retry_after_max, held_retry };
    Plan { express: Some(express), ..plan }
}

/// Updates of one user each, at these times, in the express lane.
fn wishes(at: impl Iterator<Item = Duration>) -> Source {
    let recorded = at.zip(700_000..).collect();
    source("wishes", Lane::Express, Sends::Recorded(recorded))
}

#[test]
fn express_goes_past_the_backlog_at_once_and_takes_nothing_of_the_budget() {
    let wishes = wishes((60..900).map(Duration::from_secs));
    let mut plan = with_express(vec![backfill(0..40_000, Lane::Interactive), wishes]);
    let report = check(&plan);
    let of_wishes = report.freshness(Some("wishes"), Lane::Express).unwrap();
    assert_eq!((of_wishes.updates, report.express_records), (840, 840));
    assert_eq!(of_wishes.max_s, 0.2, "a request");
    assert_eq!((report.express_throttled, report.rows_per_update), (0, 1.0));
    // Without the lane they are interactive, and wait for a job.
    plan.express = None;
    let report = check(&plan);
    let of_wishes = report.freshness(Some("wishes"), Lane::Express).unwrap();
    assert!(of_wishes.p50_s > 20.0 && report.express_records == 0, "{of_wishes:?}");
}

#[test]
fn what_is_over_the_pace_of_express_goes_at_the_head_of_a_job() {
    // Twenty a second for a minute, where ten may go.
    let wishes = wishes((0..1_200).map(|place| Duration::from_millis(place * 50)));
    let report = check(&with_express(vec![backfill(0..50_000, Lane::Interactive), wishes]));
    let of_wishes = report.freshness(Some("wishes"), Lane::Express).unwrap();
    assert!((500..700).contains(&report.express_records), "{report:?}");
    assert_eq!((report.rows + report.express_records, report.waiting_updates), (51_200, 0));
    assert!(of_wishes.max_s < 180.0, "{of_wishes:?}");
}

#[test]
fn after_an_outage_express_goes_on() {
    let wishes = wishes((0..1_200).map(Duration::from_secs));
    let mut plan = with_express(vec![wishes]);
    plan.pace.outages = vec![HOUR / 12..HOUR / 6];
    let report = check(&plan);
    assert_eq!((report.accepted_updates, report.waiting_updates), (1_200, 0));
    assert!(report.express_records > 600 && report.rows > 100, "{report:?}");
    assert_eq!(report.freshness(None, Lane::Express).unwrap().p50_s, 0.2);
}

#[test]
fn an_express_update_waits_for_the_job_that_carries_its_user() {
    let seconds = Duration::from_secs;
    let one = source("wishes", Lane::Express, Sends::Recorded(vec![(seconds(10), 7)]));
    let report = check(&with_express(vec![backfill(0..600, Lane::Bulk), one]));
    let of_wishes = report.freshness(Some("wishes"), Lane::Express).unwrap();
    // A second of linger, twenty for the rows, two of fixed cost, and the poll that sees the end.
    // By then it has waited for so long that it goes at the head of the next job.
    assert!((13.0..16.0).contains(&of_wishes.max_s), "{of_wishes:?}");
    assert_eq!((report.rows, report.express_records), (601, 0));
}

#[test]
fn a_client_gets_of_a_job_by_its_weight() {
    let backfill = |client: &str, users, weight| Source {
        weight,
        ..source(client, Lane::Interactive, Sends::Backfill { at: Duration::ZERO, users })
    };
    let traffic = vec![backfill("light", 0..40_000, 1), backfill("heavy", 50_000..90_000, 3)];
    let report = check(&plan(traffic));
    let p50 = |class| report.freshness(Some(class), Lane::Interactive).unwrap().p50_s;
    // Half of the heavy one is through when three quarters of so many are sent.
    assert!((p50("heavy") / (20_000.0 / 22.5) - 1.0).abs() < 0.1, "{report:?}");
    assert!(p50("light") > 1.5 * p50("heavy"));
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
