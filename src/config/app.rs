//! One Userpilot environment, as configured.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use secrecy::SecretString;
use serde::{Serialize, Serializer};
use url::Url;

use super::{PropertiesConfig, api_key, display_path, display_url};

/// One Userpilot environment.
#[derive(Clone, Debug, Serialize)]
pub struct AppConfig {
    /// How callers, logs and metrics call this app.
    pub name: String,
    /// The address of Userpilot's API.
    #[serde(serialize_with = "display_url")]
    pub base_url: Url,
    /// Where the API key came from.
    #[serde(flatten)]
    pub api_key_source: ApiKeySource,
    /// The API key; safe to stand in a header.
    #[serde(skip)]
    pub api_key: SecretString,
    /// How many users Userpilot takes from this app in a minute.
    pub users_per_minute: u32,
    /// How long the first update waits for others to share its job.
    pub linger_ms: u64,
    /// How a batch goes up.
    pub upload: Upload,
    /// The least that a job is made for, where as many wait.
    pub job_users_min: usize,
    /// What jobs may cost beyond their occupancy, as a share of it.
    pub overhead_target: f64,
    /// The share of every job that is the bulk lane's while it waits.
    pub bulk_share: f64,
    /// Whether it has an express lane.
    pub express: bool,
    /// How many requests of it Userpilot takes in a minute.
    pub express_per_minute: u32,
    /// How many of these may be under way at once.
    pub express_requests_max: u32,
    /// How many users one job may have.
    pub job_users_max: usize,
    /// How many bytes one batch may have.
    pub batch_bytes_max: usize,
    /// How long one request to Userpilot may take.
    pub request_timeout_ms: u64,
    /// How long connecting to Userpilot may take.
    pub connect_timeout_ms: u64,
    /// The largest answer of Userpilot that is read.
    pub answer_bytes_max: usize,
    /// The shortest time between two looks at a running job.
    pub poll_interval_min_ms: u64,
    /// The longest time between two looks at a running job.
    pub poll_interval_max_ms: u64,
    /// How long the first retry of a failed request waits, before jitter.
    pub backoff_initial_ms: u64,
    /// How long any retry of a failed request waits at most.
    pub backoff_max_ms: u64,
    /// How long a `Retry-After` is believed at most.
    pub retry_after_max_ms: u64,
    /// How long to wait where Userpilot refuses the API key, or everything.
    pub held_retry_ms: u64,
    /// How often a job may fail before its batch is split.
    pub failed_jobs_max: u32,
    /// What becomes of a batch of which a part was taken.
    pub on_partial: OnPartial,
    /// Whether numbers and booleans go up as strings.
    pub stringify_values: bool,
    /// Whether what Userpilot holds already is not sent again.
    pub suppress_unchanged: bool,
    /// After how long it is sent again all the same.
    pub refresh_after_hours: u64,
    /// What properties may be.
    pub properties: PropertiesConfig,
    /// What is passed through to Userpilot, such as `POST /v1/track`.
    pub pass_through: Vec<String>,
    /// How many requests are passed through in a minute.
    pub pass_through_per_minute: NonZeroU32,
}

/// Where an API key came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ApiKeySource {
    /// A file, by its absolute path.
    #[serde(rename = "api_key_file")]
    File(#[serde(serialize_with = "display_path")] PathBuf),
    /// A credential that systemd has put into `$CREDENTIALS_DIRECTORY`.
    #[serde(rename = "api_key_credential")]
    Credential(Credential),
    /// An environment variable, by its name.
    #[serde(rename = "api_key_env")]
    Env(String),
}

/// A credential of systemd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// As the unit calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl ApiKeySource {
    /// Reads the key again; `None` where it cannot have changed, since a process does not see
    /// its environment changed from outside. No message holds any of the key.
    pub fn read_again(&self) -> Option<Result<SecretString, String>> {
        match self {
            Self::File(_) | Self::Credential(_) => {
                Some(api_key::read(self, &BTreeMap::new()).map(|read| read.key))
            }
            Self::Env(_) => None,
        }
    }
}

/// What becomes of a batch of which Userpilot took a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPartial {
    /// It is split until the rows that are not taken stand alone.
    Isolate,
    /// It counts as delivered.
    Accept,
}

/// How a batch goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Upload {
    /// An NDJSON file named after the batch, which can be found again after a lost answer.
    File,
    /// The body of the request.
    Json,
}
