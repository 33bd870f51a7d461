//! `status`: the state of everything, once or again and again.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::{
    client::{self, refused},
    ended::Exit,
    health,
    operator::OperatorArgs,
    output::{self, Output, OutputArgs, Table, human, printable},
    watch::{Seen, Watch},
};
use crate::proto::{self, GatewayStatus, GetStatusRequest};

/// Show the state of everything.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Go on showing it, every second, over restarts of the gateway.
    #[arg(long)]
    watch: bool,
    /// End with exit code 3 where the gateway takes no updates: for scripts and health checks. Without
    /// it the exit code says only whether a gateway answers.
    #[arg(long, conflicts_with = "watch")]
    ready: bool,
}

/// Clears the screen and goes to its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the state until `shutdown` completes, or once.
pub async fn run(args: Args, shutdown: impl Future) -> anyhow::Result<()> {
    let mut client = args.operator.connect().await?;
    let output = args.output.output;
    if !args.watch {
        let answer = client.get_status(GetStatusRequest {}).await.map_err(refused)?;
        let status = answer.into_inner().status.unwrap_or_default();
        show(&status, output, "")?;
        return match args.ready && !status.ready {
            true => {
                Err(Exit::Partly
                    .error(format!("no updates are taken: {}", status.not_ready_reason)))
            }
            false => Ok(()),
        };
    }
    let mut watch = Watch::begin(client).await?;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            _ = &mut shutdown => return Ok(()),
            seen = watch.next() => match seen? {
                Seen::Status(status) => show(&status, output, CLEAR)?,
                // What was seen last stays on the screen.
                Seen::Lost(why) => writeln!(io::stderr(), "{}", printable(&why))?,
            },
        }
    }
}

fn show(status: &GatewayStatus, output: Output, before: &str) -> anyhow::Result<()> {
    match output {
        Output::Table => write!(io::stdout(), "{before}{}", page(status))?,
        Output::Json => io::stdout().write_all(&output::json_line("GatewayStatus", status)?)?,
    }
    Ok(())
}

fn page(status: &GatewayStatus) -> String {
    let mut page = format!("userpilot-gateway {}: ", status.version);
    let reason = printable(&status.not_ready_reason);
    page += if status.ready { "ready" } else { &reason };
    if let Some(store) = &status.store {
        // Writing to a String does not fail.
        writeln!(
            page,
            "; {} store of {}{}, last sequence {}",
            store.engine,
            indicatif::HumanBytes(store.disk_bytes),
            free(store.free_bytes),
            store.last_sequence
        )
        .ok();
        if store.quarantined_records > 0 {
            writeln!(page, "{} stored records are damaged", store.quarantined_records).ok();
        }
    }
    if !status.config_problem.is_empty() {
        let problem = output::printable_lines(&status.config_problem);
        writeln!(page, "the new configuration is refused, the old one stays: {problem}").ok();
    }
    for app in &status.apps {
        let sentence = health::sentence(app, status);
        write!(page, "\n{}: {sentence}\n{}\n", app.app, app_table(app)).ok();
    }
    page
}

fn free(bytes: Option<u64>) -> String {
    bytes
        .map_or(String::new(), |bytes| format!(", {} free beside it", indicatif::HumanBytes(bytes)))
}

fn app_table(app: &proto::AppStatus) -> Table {
    let mut table = output::table();
    let totals = app.totals.unwrap_or_default();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let oldest = match &app.oldest_pending_age {
        Some(age) => format!(", the longest for {}", human(age)),
        None => String::new(),
    };
    let users = app.pending_records.saturating_sub(app.pending_companies);
    let companies = match app.pending_companies {
        0 => String::new(),
        companies => format!(" and {companies} companies"),
    };
    row("waiting", format!("{users} users{companies}{oldest}"));
    if let Some((name, value)) = health::drained(app, human) {
        row(name, value);
    }
    if let Some(job) = &app.current_job {
        let job_id = if job.job_id.is_empty() { "not taken yet" } else { &job.job_id };
        let kind = client::kind_name(job.kind());
        row("job", format!("{} of {} {kind} done ({job_id})", job.completed_rows, job.rows));
    }
    if let Some(holder) = &app.slot_holder {
        let proto::SlotHolder { job_id, filename, is_gateway } = holder;
        let whose = if *is_gateway { "another gateway's" } else { "somebody else's" };
        row("slot", format!("held by {whose} job {job_id} (file {filename:?})"));
    }
    let halted: Vec<_> = app.halted_kinds().map(client::kind_name).collect();
    if !halted.is_empty() {
        let kinds = halted.join(" and ");
        row("halted", format!("{kinds}: what waits is kept, and tried now and then"));
    }
    row("budget", format!("{} users a minute", app.users_per_minute));
    row(
        "accepted",
        format!(
            "{} updates, {} coalesced, {} refused",
            totals.accepted_updates, totals.coalesced_updates, totals.refused_updates
        ),
    );
    row("delivered", format!("{} rows in {} jobs", totals.delivered_rows, totals.completed_jobs));
    if app.dead_letters > 0 {
        let see = format!("userpilot-gateway dead-letters list --app {}", app.app);
        row("dead letters", format!("{} rows; see them with: {see}", app.dead_letters));
    }
    if totals.failed_attempts + totals.conflicts > 0 {
        row(
            "trouble",
            format!("{} failed attempts, {} conflicts", totals.failed_attempts, totals.conflicts),
        );
    }
    if !app.last_error.is_empty() {
        row("last error", app.last_error.clone());
    }
    if let Some(since) = &app.failing_since
        && let Ok(since) = jiff::Timestamp::new(since.seconds, 0)
    {
        row("failing since", since.to_string());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_whose_updates_are_refused_is_not_told_to_be_well() {
        let app = proto::AppStatus {
            app: "production".into(),
            summary: "Nothing waits.".into(),
            ..proto::AppStatus::default()
        };
        let reason = "the disk is nearly full".to_owned();
        let status =
            GatewayStatus { not_ready_reason: reason, apps: vec![app], ..GatewayStatus::default() };
        let page = page(&status);
        let line = "\nproduction: Updates are refused: the disk is nearly full. Nothing waits.\n";
        assert!(page.contains(line), "{page}");
    }
}
