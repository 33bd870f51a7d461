//! An answer, for people.

use std::fmt::Write as _;

use crate::{
    cli::output::{Table, table},
    domain::update::Lane,
    plan::{Freshness, Plan, Report},
};

pub(super) fn text(plan: &Plan, report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    writeln!(
        text,
        "{} in virtual time, {} users a minute, {} besides for each job\n",
        { short(report.length_s) },
        plan.pace.users_per_minute,
        short(plan.pace.fixed_cost.as_secs_f64())
    )
    .ok();
    writeln!(text, "{}\n", figures(report)).ok();
    writeln!(text, "{}\n", freshness(report)).ok();
    writeln!(text, "{}", verdict(report)).ok();
    text
}

fn figures(report: &Report) -> Table {
    let mut table = table();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let mut updates =
        format!("{} accepted ({} coalesced)", report.accepted_updates, report.coalesced_updates);
    // Writing to a String does not fail.
    if report.suppressed_updates > 0 {
        write!(updates, ", of which {} said nothing new", report.suppressed_updates).ok();
    }
    if report.refused_updates > 0 {
        write!(updates, ", {} refused: more waited than may", report.refused_updates).ok();
    }
    row("updates", updates);
    row("rows", format!("{} sent, {:.3} for each update", report.rows, report.rows_per_update));
    row(
        "jobs",
        format!(
            "{}, of {} users in the middle and {} at the most",
            report.jobs, report.job_rows_p50, report.job_rows_max
        ),
    );
    let busy = report.utilisation_with_backlog.map_or(String::new(), |share| {
        format!(
            "; {:.1} % in the {} in which a backlog waited",
            share * 100.0,
            short(report.backlog_s)
        )
    });
    row("budget used", format!("{:.1} %{busy}", report.utilisation * 100.0));
    if report.express_records > 0 {
        let mut express =
            format!("{} sent, with {} updates", report.express_records, report.express_updates);
        if report.express_throttled > 0 {
            write!(express, "; {} more were too many", report.express_throttled).ok();
        }
        row("by express", express);
    }
    if report.conflicts + report.early_submissions > 0 {
        row(
            "trouble",
            format!(
                "{} submissions while a job ran, {} before their time",
                report.conflicts, report.early_submissions
            ),
        );
    }
    table
}

/// How long updates took. A class that is all of its lane is told once.
fn freshness(report: &Report) -> Table {
    let mut table = table();
    table.set_header(["freshness", "updates", "p50", "p95", "p99", "longest"]);
    for of in &report.freshness {
        let is_alone =
            |lane: &str| report.freshness.iter().filter(|other| other.lane == lane).count() == 2;
        if of.class.is_some() && is_alone(&of.lane) {
            continue;
        }
        table.add_row(freshness_row(of));
    }
    table.align_figures();
    table
}

fn freshness_row(of: &Freshness) -> [String; 6] {
    let name = match &of.class {
        Some(class) => format!("  {class} ({})", of.lane),
        None => format!("{} lane", of.lane),
    };
    let times = [of.p50_s, of.p95_s, of.p99_s, of.max_s].map(short);
    let [p50, p95, p99, max] = times;
    [name, of.updates.to_string(), p50, p95, p99, max]
}

fn verdict(report: &Report) -> String {
    let last = report.samples.last();
    let waits = last.map_or(0, |last| last.interactive_rows + last.bulk_rows);
    let since = match report.disturbed_until_s {
        0.0 => String::new(),
        until => format!(
            " ({} after the last backfill came or outage ended)",
            short_or_now(until, report.drained_at_s)
        ),
    };
    let sends_interactive = report.freshness(None, Lane::Interactive).is_some();
    match report.drained_at_s {
        Some(at) => {
            let first = match report.interactive_drained_at_s {
                Some(first) if first < at && sends_interactive => {
                    format!("; the interactive lane at {}", short(first))
                }
                Some(_) | None => String::new(),
            };
            format!("The backlog is drained at {}{since}{first}.", short(at))
        }
        None => format!(
            "The backlog is not drained within {}: {waits} users wait at the end{}.",
            short(report.length_s),
            match is_growing(report) {
                true => ", and it grows: more comes than the budget lets through",
                false => "",
            }
        ),
    }
}

fn short_or_now(from: f64, to: Option<f64>) -> String {
    short((to.unwrap_or(from) - from).max(0.0))
}

/// Whether more waits at the end than in the middle of the second half.
fn is_growing(report: &Report) -> bool {
    let waits =
        |place: usize| report.samples.get(place).map_or(0, |it| it.interactive_rows + it.bulk_rows);
    let count = report.samples.len();
    count > 4 && waits(count - 1) > waits(count * 3 / 4)
}

/// A time to three figures or so.
fn short(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6_000.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}
