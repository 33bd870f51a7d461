//! The figures that each scenario is about.

use userpilot_gateway::plan::{Freshness, Report};

use super::{
    scenarios::{Outcome, SERVICES},
    table::Row,
};

pub(super) fn of_resync(outcome: &Outcome) -> Vec<Row> {
    let report = &outcome.gateway;
    let took = report.drained_at_s.map(|at| at - report.disturbed_until_s);
    vec![
        Row::of("users sent", outcome, |it| it.rows.to_string())
            .with("at most 10,500", report.rows * u64::from(outcome.part) <= 10_500),
        Row::of("applied after", outcome, drained)
            .with("under 6.5 min", took.is_some_and(|took| took * f64::from(outcome.part) < 390.0)),
        lost(outcome),
        rules(outcome),
    ]
}

pub(super) fn of_steady(outcome: &Outcome) -> Vec<Row> {
    let mut rows = vec![busy(outcome, 0.97)];
    rows.extend(spending(outcome));
    rows.push(fresh("freshness", outcome));
    rows.push(waiting(outcome));
    rows.push(lost(outcome));
    rows.push(rules(outcome));
    rows
}

pub(super) fn of_backfill(outcome: &Outcome) -> Vec<Row> {
    of_backfill_beside(outcome, 90.0)
}

pub(super) fn of_backfill_by_express(outcome: &Outcome) -> Vec<Row> {
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
    let got = |report: &Report| report.backfills.first().map_or(0.0, |got| got.share_of_the_rest);
    let share = Row::of("of the budget that the others leave, the backfill gets", outcome, |it| {
        percent(got(it))
    });
    vec![
        row.with(&format!("p99 at most {p99_max:.0} s"), p99 <= p99_max),
        share.with("at least 95 %", got(&outcome.gateway) >= 0.95),
        busy(outcome, 0.97),
        Row::of("the backfill is applied after", outcome, |report| {
            let got = report.backfills.first();
            maybe(got.and_then(|got| Some(got.applied_at_s? - got.came_at_s)))
        }),
        lost(outcome),
        rules(outcome),
    ]
}

pub(super) fn of_outage(outcome: &Outcome) -> Vec<Row> {
    let report = &outcome.gateway;
    let since = |at: Option<f64>| at.map(|at| at - report.disturbed_until_s);
    let (took, bound) = (since(report.drained_at_s), since(report.drain_bound_s));
    let over = took.zip(bound).map_or(f64::INFINITY, |(took, bound)| took / bound);
    let first = report.interactive_drained_at_s.zip(report.drained_at_s);
    let late = report.freshness.iter().filter_map(|of| of.over_a_minute_until_s);
    let late = late.fold(report.disturbed_until_s, f64::max) - report.disturbed_until_s;
    let is_back = bound.is_some_and(|bound| late <= bound * 1.05);
    let bound = format!("{}; the bound is {}", maybe(took), maybe(bound));
    let mut rows = vec![
        Row::beside("drained after its end", bound).with("within 5 % of the bound", over <= 1.05),
        Row::beside("from then on each update is applied within a minute", time(late))
            .with("within 5 % of the same bound", is_back),
        Row::beside(
            "the interactive lane is drained after",
            maybe(since(report.interactive_drained_at_s)),
        )
        .with("before the bulk lane", first.is_some_and(|(first, all)| first < all)),
        Row::of("drained after its end", outcome, drained),
    ];
    rows.push(fresh("freshness of the whole day", outcome));
    rows.push(lost(outcome));
    rows.push(rules(outcome));
    rows
}

pub(super) fn of_backlog(outcome: &Outcome) -> Vec<Row> {
    let used = outcome.gateway.utilisation;
    let row = Row::of("of the whole day's budget, used", outcome, |it| percent(it.utilisation));
    vec![
        row.with("at least 99 %", used >= 0.99),
        Row::of("rows sent", outcome, |report| report.rows.to_string()),
        Row::of("rows of a job, in the middle", outcome, |it| it.job_rows_p50.to_string()),
        lost(outcome),
        rules(outcome),
    ]
}

pub(super) fn of_hot(outcome: &Outcome) -> Vec<Row> {
    let mut rows = spending(outcome);
    rows.push(fresh("freshness", outcome));
    let longest = outcome.gateway.oldest_s();
    let row = Row::of("the longest that any update waited", outcome, |it| time(it.oldest_s()));
    rows.push(row.with("at most 10 min", longest <= 600.0));
    rows.push(waiting(outcome));
    rows.push(lost(outcome));
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
pub(super) fn of_services(report: &Report) -> Option<&Freshness> {
    report.freshness.iter().find(|of| of.class.as_deref() == Some(SERVICES))
}

fn waiting(outcome: &Outcome) -> Row {
    Row::of("updates that wait at the end", outcome, |report| {
        let of_all = report.waiting_updates as f64 / report.accepted_updates as f64;
        format!("{} ({} of all)", report.waiting_updates, percent(of_all))
    })
}

fn lost(outcome: &Outcome) -> Row {
    let lost = outcome.lost_updates;
    let row = Row::beside("updates of which upstream holds nothing in the end", lost.to_string());
    row.with("none", lost == 0)
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
