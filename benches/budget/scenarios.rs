//! The scenarios, and the figures that each is about.

use std::{ops::Range, time::Duration};

use userpilot_gateway::{
    cli::plan::{express, suppression, with_defaults},
    domain::update::Lane,
    plan::{
        Freshness, Plan, Report,
        traffic::{Choice, Sends, Source, Users},
    },
};

use crate::table::Row;

/// One of them.
pub struct Scenario {
    pub number: u32,
    pub name: &'static str,
    pub plan: Plan,
    pub figures: fn(&Outcome) -> Vec<Row>,
}

/// What came of it.
pub struct Outcome {
    pub gateway: Report,
    pub naive: Report,
    pub batching: Report,
}

const BACKFILL: &str = "a backfill of 1,000,000 users into the interactive lane, others send 5 \
                        updates/s about other users";
const AMONG: &str = "the same, but the others' users are the last of the million";
const EXPRESS: &str = "the same, with other users, and the others' updates go by express";
const EXPRESS_AMONG: &str = "the same by express, and the users are the last of the million";

/// The class of the services' updates.
const SERVICES: &str = "services";

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// All scenarios.
pub fn all(seed: u64) -> Vec<Scenario> {
    let of = |number, name, traffic: Vec<Source>, length, figures: fn(&Outcome) -> Vec<Row>| {
        let plan = Plan { traffic, length, seed, ..with_defaults() };
        Scenario { number, name, plan, figures }
    };
    let zipf = Choice::Zipf(1.1);
    let of_two = |name, others, figures| {
        let services = services(49, 5.0, others, zipf, DAY / 2);
        let backfill = backfill(0..1_000_000, HOUR / 2, Lane::Interactive);
        of(2, name, [services, vec![backfill]].concat(), DAY / 2, figures)
    };
    let mut outage = of(
        4,
        "an outage of 4 h under 15 updates/s over 200,000 users, and a backfill of 150,000 others in bulk",
        [
            services(50, 15.0, 0..200_000, Choice::Uniform, DAY),
            vec![backfill(200_000..350_000, 2 * HOUR, Lane::Bulk)],
        ]
        .concat(),
        DAY,
        of_outage,
    );
    outage.plan.pace.outages = vec![2 * HOUR..6 * HOUR];
    vec![
        of(
            1,
            "steady: 50 services, 100 updates/s over 200,000 users, Zipf 1.1, 24 h",
            services(50, 100.0, 0..200_000, zipf, DAY),
            DAY,
            of_steady,
        ),
        of_two(BACKFILL, 1_000_000..1_200_000, of_backfill),
        of_two(AMONG, 800_000..1_000_000, of_backfill),
        by_express(of_two(EXPRESS, 1_000_000..1_200_000, of_backfill_by_express)),
        by_express(of_two(EXPRESS_AMONG, 800_000..1_000_000, of_backfill_by_express)),
        nightly_resync(seed),
        outage,
        of(
            5,
            "nothing but a backlog of 3,000,000 users, 24 h",
            vec![backfill(0..3_000_000, Duration::ZERO, Lane::Bulk)],
            DAY,
            of_backlog,
        ),
        of(
            6,
            "hot users: 1 % of 200,000 get 90 % of 100 updates/s, 24 h",
            services(50, 100.0, 0..200_000, Choice::Hot { users: 0.01, updates: 0.9 }, DAY),
            DAY,
            of_hot,
        ),
    ]
}

/// The same, with the services' updates in the express lane.
fn by_express(mut scenario: Scenario) -> Scenario {
    scenario.plan.express = Some(express());
    for source in scenario.plan.traffic.iter_mut().filter(|source| source.class == SERVICES) {
        source.lane = Lane::Express;
    }
    scenario
}

fn services(
    count: u32,
    rate: f64,
    users: Range<u32>,
    choice: Choice,
    length: Duration,
) -> Vec<Source> {
    let service = |number| Source {
        client: format!("service-{number}"),
        weight: 1,
        class: SERVICES.to_owned(),
        lane: Lane::Interactive,
        sends: Sends::Flow {
            updates_per_second: rate / f64::from(count),
            users: Users { numbers: users.clone(), choice },
            during: Duration::ZERO..length,
        },
    };
    (0..count).map(service).collect()
}

fn backfill(users: Range<u32>, at: Duration, lane: Lane) -> Source {
    Source {
        client: "backfill".to_owned(),
        weight: 1,
        class: "backfill".to_owned(),
        lane,
        sends: Sends::Backfill { at, users },
    }
}

fn nightly_resync(seed: u64) -> Scenario {
    let resync = Source {
        client: "crm".to_owned(),
        weight: 1,
        class: "resync".to_owned(),
        lane: Lane::Bulk,
        sends: Sends::Resync { at: HOUR, users: 0..500_000, changed: 0.02 },
    };
    let suppression = Some(suppression());
    let plan =
        Plan { traffic: vec![resync], suppression, length: DAY / 2, seed, ..with_defaults() };
    let name = "a nightly resync of 500,000 users that are upstream already, 2 % changed, \
                with suppress_unchanged";
    Scenario { number: 3, name, plan, figures: of_resync }
}

fn of_resync(outcome: &Outcome) -> Vec<Row> {
    let report = &outcome.gateway;
    let took = report.drained_at_s.map(|at| at - report.disturbed_until_s);
    vec![
        Row::of("users sent", outcome, |it| it.rows.to_string())
            .with("at most 10,500", report.rows <= 10_500),
        Row::of("applied after", outcome, drained)
            .with("under 6.5 min", took.is_some_and(|took| took < 390.0)),
        rules(outcome),
    ]
}

fn of_steady(outcome: &Outcome) -> Vec<Row> {
    let mut rows = vec![busy(outcome, 0.97)];
    rows.extend(spending(outcome));
    rows.push(fresh("freshness", outcome));
    rows.push(waiting(outcome));
    rows.push(rules(outcome));
    rows
}

fn of_backfill(outcome: &Outcome) -> Vec<Row> {
    of_backfill_beside(outcome, 90.0)
}

fn of_backfill_by_express(outcome: &Outcome) -> Vec<Row> {
    let mut rows = of_backfill_beside(outcome, 5.0);
    let report = &outcome.gateway;
    let sent = format!(
        "{} records with {} updates, {} too many",
        report.express_records, report.express_updates, report.express_throttled
    );
    rows.insert(1, Row::beside("sent by express", sent));
    rows
}

fn of_backfill_beside(outcome: &Outcome, p99_max: f64) -> Vec<Row> {
    let p99 = of_services(&outcome.gateway).map_or(f64::INFINITY, |of| of.p99_s);
    let row = fresh("freshness of the others", outcome);
    // What the others leave: the budget from the backfill's arrival to its end, less their rows.
    let got = backfill_got(&outcome.gateway);
    let share = Row::beside("of what the others leave, the backfill gets", percent(got));
    vec![
        row.with(&format!("p99 at most {p99_max:.0} s"), p99 <= p99_max),
        share.with("at least 95 %", got >= 0.95),
        busy(outcome, 0.97),
        Row::of("the backfill is applied after", outcome, drained),
        rules(outcome),
    ]
}

/// The backfill's rows by the time that it was drained, as a share of the budget less the others'
/// rows, which are at most their updates.
fn backfill_got(report: &Report) -> f64 {
    const BACKFILL: f64 = 1_000_000.0;
    let Some(at) = report.drained_at_s else { return 0.0 };
    let took = at - report.disturbed_until_s;
    let others = (report.rows as f64 - BACKFILL).max(0.0) * took / report.length_s;
    BACKFILL / (30.0 * took - others)
}

fn of_outage(outcome: &Outcome) -> Vec<Row> {
    let report = &outcome.gateway;
    let since = |at: Option<f64>| at.map(|at| at - report.disturbed_until_s);
    let (took, bound) = (since(report.drained_at_s), since(report.drain_bound_s));
    let over = took.zip(bound).map_or(f64::INFINITY, |(took, bound)| took / bound);
    let lost = report.accepted_updates
        - report.freshness.iter().filter(|of| of.class.is_some()).map(|of| of.updates).sum::<u64>();
    let first = report.interactive_drained_at_s.zip(report.drained_at_s);
    let back = report.drained_at_s.map(|at| {
        let later = report.samples.iter().filter(|sample| sample.at_s > at + 300.0);
        later.map(|sample| sample.oldest_s).fold(0.0, f64::max)
    });
    let bound = format!("{}; the bound is {}", maybe(took), maybe(bound));
    let mut rows = vec![
        Row::beside("drained after its end", bound).with("within 5 % of the bound", over <= 1.05),
        Row::beside("updates lost", lost.to_string()).with("none", lost == 0),
        Row::beside(
            "the interactive lane is drained after",
            maybe(since(report.interactive_drained_at_s)),
        )
        .with("before the bulk lane", first.is_some_and(|(first, all)| first < all)),
        Row::beside("oldest update from five minutes after that on", maybe(back))
            .with("at most 60 s", back.is_some_and(|oldest| oldest <= 60.0)),
        Row::of("drained after its end", outcome, drained),
    ];
    rows.push(fresh("freshness of the whole day", outcome));
    rows.push(rules(outcome));
    rows
}

fn of_backlog(outcome: &Outcome) -> Vec<Row> {
    let used = outcome.gateway.utilisation;
    let row = Row::of("of the whole day's budget, used", outcome, |it| percent(it.utilisation));
    vec![
        row.with("at least 99 %", used >= 0.99),
        Row::of("rows sent", outcome, |report| report.rows.to_string()),
        Row::of("rows of a job, in the middle", outcome, |it| it.job_rows_p50.to_string()),
        rules(outcome),
    ]
}

fn of_hot(outcome: &Outcome) -> Vec<Row> {
    let mut rows = spending(outcome);
    rows.push(fresh("freshness", outcome));
    rows.push(Row::of("the longest that any update waited", outcome, |it| time(it.oldest_s())));
    rows.push(waiting(outcome));
    rows.push(rules(outcome));
    rows
}

fn busy(outcome: &Outcome, least: f64) -> Row {
    let of = |report: &Report| report.utilisation_with_backlog;
    let row = Row::of("budget used while a backlog waits", outcome, |report| {
        of(report).map_or("no backlog".to_owned(), percent)
    });
    let target = format!("at least {:.0} %", least * 100.0);
    row.with(&target, of(&outcome.gateway).is_some_and(|used| used >= least))
}

fn spending(outcome: &Outcome) -> Vec<Row> {
    vec![
        Row::of("budget used", outcome, |report| percent(report.utilisation)),
        Row::of("rows sent for each update", outcome, |it| format!("{:.3}", it.rows_per_update)),
    ]
}

fn fresh(what: &str, outcome: &Outcome) -> Row {
    Row::of(what, outcome, |report| freshness(of_services(report)))
}

/// How long the services' updates took, in whatever lane.
fn of_services(report: &Report) -> Option<&Freshness> {
    report.freshness.iter().find(|of| of.class.as_deref() == Some(SERVICES))
}

fn waiting(outcome: &Outcome) -> Row {
    Row::of("updates that wait at the end", outcome, |report| {
        let of_all = report.waiting_updates as f64 / report.accepted_updates as f64;
        format!("{} ({} of all)", report.waiting_updates, percent(of_all))
    })
}

fn rules(outcome: &Outcome) -> Row {
    let of = |report: &Report| {
        format!("{} conflicts, {} early", report.conflicts, report.early_submissions)
    };
    let kept = outcome.gateway.conflicts + outcome.gateway.early_submissions == 0;
    Row::of("submissions against the rules", outcome, of).with("none", kept)
}

fn drained(report: &Report) -> String {
    maybe(report.drained_at_s.map(|at| at - report.disturbed_until_s))
}

fn freshness(of: Option<&Freshness>) -> String {
    of.map_or_else(String::new, |of| {
        let [p50, p95, p99] = [of.p50_s, of.p95_s, of.p99_s].map(time);
        format!("p50 {p50}, p95 {p95}, p99 {p99}")
    })
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn maybe(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "not within it".to_owned(), time)
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 600.0 => format!("{s:.1} s"),
        s if s < 6_000.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.2} h", s / 3_600.0),
    }
}
