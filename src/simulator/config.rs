//! What a simulated account is like, and the check that it can exist.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::fault_rule::{FaultRule, InvalidRule};
use super::timeline::Pace;

/// Which of the two documented job objects answers a submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum JobShape {
    /// `job_id`, `status` and `submitted_at`, nothing else.
    Short,
    /// Every documented field.
    #[default]
    Long,
}

/// The settings of one simulated account.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// Where to listen. The default is a free port of the loopback interface.
    pub listen: SocketAddr,
    /// The one API key that is right, until it is changed.
    pub api_key: String,
    /// How fast the account consumes rows, before `speed`.
    pub users_per_minute: u32,
    /// What every job costs besides its rows, before `speed`.
    pub fixed_cost: Duration,
    /// How many times faster than the real service the simulated one lives. It divides a
    /// job's fixed cost and its processing time, and the minute of the real-time limits.
    pub speed: f64,
    /// The job object that answers a submission.
    pub job_shape: JobShape,
    /// Whether the list of jobs echoes the names of uploaded files.
    pub list_filenames: bool,
    /// Decides job ids, request ids and which requests a fault with a probability hits.
    pub seed: u64,
    /// The faults that are armed from the start.
    pub faults: Vec<FaultRule>,
    /// The most rows a submission may hold.
    pub rows_max: usize,
    /// The most bytes a file or a JSON body may hold.
    pub file_bytes_max: usize,
    /// How many identify requests a minute are answered, and how many track requests.
    pub realtime_per_minute: usize,
    /// The file in which jobs, profiles and violations are kept over the end of the process.
    /// It grows with every job.
    pub state: Option<PathBuf>,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            api_key: "simulated-key".to_owned(),
            users_per_minute: 1_800,
            fixed_cost: Duration::from_secs(2),
            speed: 1.0,
            job_shape: JobShape::Long,
            list_filenames: true,
            seed: 0,
            faults: Vec::new(),
            rows_max: 10_000,
            file_bytes_max: 50_000_000,
            realtime_per_minute: 600,
            state: None,
        }
    }
}

impl SimulatorConfig {
    pub(super) fn pace(&self) -> Pace {
        Pace {
            users_per_minute: self.users_per_minute,
            fixed_cost: self.fixed_cost,
            speed: self.speed,
        }
    }

    pub(super) fn check(&self) -> Result<(), StartError> {
        if !(0.001..=1_000_000.0).contains(&self.speed) {
            return Err(StartError::Speed(self.speed));
        }
        if self.users_per_minute == 0 {
            return Err(StartError::UsersPerMinute);
        }
        if self.fixed_cost > Duration::from_secs(86_400) {
            return Err(StartError::FixedCost);
        }
        Ok(())
    }
}

/// Why a simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A speed that time cannot be divided by.
    #[error("speed must lie between 0.001 and 1000000, and is {0}")]
    Speed(f64),
    /// An account that never consumes anything.
    #[error("users_per_minute must be at least 1")]
    UsersPerMinute,
    /// A job that would take longer than a day before its first row.
    #[error("fixed_cost must be at most a day")]
    FixedCost,
    /// A fault rule that cannot be carried out.
    #[error(transparent)]
    Fault(#[from] InvalidRule),
    /// The file of the state cannot be used.
    #[error("cannot keep the state in {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The address is not to be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
}
