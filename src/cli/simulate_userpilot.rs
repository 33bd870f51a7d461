//! `simulate-userpilot`: the simulated Userpilot as a process of its own.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::simulator::{FaultRule, JobShape, Simulator, SimulatorConfig};

/// Run a simulated Userpilot. It keeps everything in memory and forgets it when it ends, unless
/// it is given a file for its state.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// Where to listen. Whoever can reach it can read its profiles and arm its faults.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,

    /// How many times faster than the real service it lives.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f64,

    /// How many rows a minute it consumes, before the speed.
    #[arg(long, value_name = "ROWS", default_value_t = 1_800)]
    pub users_per_minute: u32,

    /// What every job costs besides its rows, before the speed.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    pub fixed_cost_ms: u64,

    /// The one API key that is right.
    #[arg(
        long,
        value_name = "KEY",
        env = "SIMULATOR_API_KEY",
        hide_env_values = true,
        default_value = "simulated-key"
    )]
    pub api_key: String,

    /// The job object that answers a submission.
    #[arg(long, value_enum, default_value_t = JobShape::Long)]
    pub job_shape: JobShape,

    /// Do not echo the names of uploaded files in the list of jobs.
    #[arg(long)]
    pub no_filenames: bool,

    /// Decides job ids, and which requests a fault with a probability strikes.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,

    /// A file of fault rules to arm from the start: a JSON list.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,

    /// Keep jobs, profiles and broken rules in FILE, which grows with every job. They are there
    /// again when it starts anew, even after SIGKILL; to be given the same speed then. Armed
    /// faults, poison and a changed key are not kept.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
}

/// Serves until `shutdown` completes. Once it listens, it prints its address as a line.
pub async fn run(args: Args, shutdown: impl Future) -> anyhow::Result<()> {
    let simulator = Simulator::start(config(args)?).await?;
    if !simulator.address().ip().is_loopback() {
        tracing::warn!(
            address = %simulator.address(),
            "the simulator listens beyond this machine, and its control pages need no key"
        );
    }
    writeln!(io::stdout(), "simulated Userpilot listens on {}", simulator.url())
        .context("cannot say where the simulator listens")?;
    shutdown.await;
    simulator.stop().await;
    Ok(())
}

fn config(args: Args) -> anyhow::Result<SimulatorConfig> {
    let faults = args.faults.as_deref().map(read_faults).transpose()?;
    Ok(SimulatorConfig {
        listen: args.listen,
        api_key: args.api_key,
        users_per_minute: args.users_per_minute,
        fixed_cost: Duration::from_millis(args.fixed_cost_ms),
        speed: args.speed,
        job_shape: args.job_shape,
        list_filenames: !args.no_filenames,
        seed: args.seed,
        faults: faults.unwrap_or_default(),
        state: args.state,
        ..SimulatorConfig::default()
    })
}

fn read_faults(path: &Path) -> anyhow::Result<Vec<FaultRule>> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a list of fault rules", path.display()))
}
