//! `jobs`: the jobs of an app, newest first, or all that is known of one.

use std::io::{self, Write};

use super::{
    client::{self, refused},
    operator::{Admin, OperatorArgs},
    output::{self, Output, OutputArgs, Table},
};
use crate::proto::{GetJobRequest, Job, JobState, ListJobsRequest};

/// The gateway gives no more in one answer.
const PAGE_SIZE_MAX: usize = 1_000;

/// List jobs, newest first; with `show`, tell all that is known of one.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The app; may be left out where one is configured.
    #[arg(long, global = true, default_value = "")]
    app: String,
    /// How many.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Show one, and what happened to it when.
    Show {
        /// The batch's id, or the id that Userpilot gave the job.
        id: String,
    },
}

/// Prints a line a job, or a page about one.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { operator, output, app, limit, command } = args;
    let mut gateway = operator.connect().await?;
    let Some(Command::Show { id }) = command else {
        let (jobs, more) = newest(&mut gateway, app, usize::try_from(limit)?).await?;
        match output.output {
            Output::Json => output::print_json("Job", &jobs)?,
            Output::Table => writeln!(io::stdout(), "{}", list(&jobs))?,
        }
        if more {
            writeln!(io::stderr(), "there are more: see them with a larger --limit")?;
        }
        return Ok(());
    };
    let answer = gateway.get_job(GetJobRequest { app, id }).await.map_err(refused)?.into_inner();
    let job = answer.job.unwrap_or_default();
    match output.output {
        Output::Json => output::print_json("Job", &[job])?,
        Output::Table => writeln!(io::stdout(), "{}\n\n{}", details(&job), events(&job))?,
    }
    Ok(())
}

/// Page by page, and whether there are more.
async fn newest(
    gateway: &mut Admin,
    app: String,
    limit: usize,
) -> anyhow::Result<(Vec<Job>, bool)> {
    let mut jobs = Vec::new();
    let mut request = ListJobsRequest { app, ..ListJobsRequest::default() };
    loop {
        request.page_size = i32::try_from((limit - jobs.len()).min(PAGE_SIZE_MAX))?;
        let page = gateway.list_jobs(request.clone()).await.map_err(refused)?.into_inner();
        jobs.extend(page.jobs);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || jobs.len() >= limit {
            return Ok((jobs, !request.page_token.is_empty()));
        }
    }
}

fn list(jobs: &[Job]) -> Table {
    let mut table = output::table();
    table.set_header([
        "batch", "state", "kind", "rows", "updates", "bytes", "claimed", "took", "job",
    ]);
    for job in jobs {
        let claimed = job.claimed_at.and_then(|at| jiff::Timestamp::from_second(at.seconds).ok());
        table.add_row([
            job.batch_id.clone(),
            state(job),
            client::kind_name(job.kind()).to_owned(),
            job.rows.to_string(),
            job.updates.to_string(),
            job.bytes.to_string(),
            claimed.map(|at| at.to_string()).unwrap_or_default(),
            took(job),
            job.job_id.clone(),
        ]);
    }
    table
}

fn details(job: &Job) -> Table {
    let mut table = output::table();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
        }
    };
    row("batch", job.batch_id.clone());
    row("part of", job.parent_batch_id.clone());
    row("app", job.app.clone());
    row("job", job.job_id.clone());
    row("state", state(job));
    row("Userpilot says", job.upstream_status.clone());
    let kind = client::kind_name(job.kind());
    row("rows", format!("{} of {} {kind} done", job.completed_rows, job.rows));
    row("updates", job.updates.to_string());
    row("bytes", job.bytes.to_string());
    row("claimed", output::moment(job.claimed_at.as_ref()));
    row("submitted", output::moment(job.submitted_at.as_ref()));
    row("settled", output::moment(job.settled_at.as_ref()));
    row("took", took(job));
    row("submissions", job.submissions.to_string());
    row("request id", job.request_id.clone());
    row("occupancy", job.occupancy.map_or(String::new(), |time| output::short(Some(&time))));
    row("last error", job.last_error.clone());
    table
}

fn events(job: &Job) -> Table {
    let mut table = output::table();
    table.set_header(["when", "what", "request id", "more"]);
    for event in &job.events {
        table.add_row([
            output::moment(event.at.as_ref()),
            event.what.clone(),
            event.request_id.clone(),
            event.detail.clone(),
        ]);
    }
    table
}

fn state(job: &Job) -> String {
    let state = JobState::try_from(job.state).unwrap_or_default();
    output::word(state.as_str_name(), "JOB_STATE_")
}

fn took(job: &Job) -> String {
    match (job.claimed_at, job.settled_at) {
        (Some(from), Some(to)) => format!("{} s", to.seconds - from.seconds),
        _ => String::new(),
    }
}
