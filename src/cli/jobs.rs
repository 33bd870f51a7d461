//! `jobs`: the jobs of an app, newest first.

use std::io::{self, Write};

use comfy_table::{Table, presets::NOTHING};

use super::client::{self, ADMIN_DEFAULT, AccessArgs, refused};
use crate::proto::{JobState, ListJobsRequest, admin_service_client::AdminServiceClient};

/// List jobs, newest first.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the gateway takes operators.
    #[arg(long, value_name = "URL", default_value = ADMIN_DEFAULT)]
    pub address: String,
    #[command(flatten)]
    access: AccessArgs,
    /// The app; may be left out where one is configured.
    #[arg(long, default_value = "")]
    pub app: String,
    /// How many.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

/// Prints a table.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut client = AdminServiceClient::new(client::connect(&args.address, &args.access).await?);
    let Args { app, limit, .. } = args;
    let request = ListJobsRequest { app, page_size: limit, page_token: String::new() };
    let jobs = client.list_jobs(request).await.map_err(refused)?.into_inner().jobs;
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "batch", "state", "kind", "rows", "updates", "bytes", "claimed", "took", "job",
    ]);
    for job in jobs {
        let state = JobState::try_from(job.state).unwrap_or_default().as_str_name();
        let kind = client::kind_name(job.kind());
        let claimed = job.claimed_at.and_then(|at| jiff::Timestamp::from_second(at.seconds).ok());
        let took = match (job.claimed_at, job.settled_at) {
            (Some(from), Some(to)) => format!("{} s", to.seconds - from.seconds),
            _ => String::new(),
        };
        table.add_row([
            job.batch_id,
            state.trim_start_matches("JOB_STATE_").to_lowercase(),
            kind.to_owned(),
            job.rows.to_string(),
            job.updates.to_string(),
            job.bytes.to_string(),
            claimed.map(|at| at.to_string()).unwrap_or_default(),
            took,
            job.job_id,
        ]);
    }
    writeln!(io::stdout(), "{table}")?;
    Ok(())
}
