//! The configuration, and the only reader of its files and of the environment, save for
//! `RUST_LOG`, which is `telemetry`'s.
//!
//! Three layers, the later wins: the compiled-in `config/default.toml`, which documents every
//! key; the user's file; environment variables such as `USERPILOT_GATEWAY__STORE__PATH`. What
//! is read here is checked here: past [`Config::load`] there is nothing left to doubt.

mod access;
mod api_key;
mod changes;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod known;
mod layers;
mod problem;
mod read;
mod read_access;
mod reader;
mod reference;
#[cfg(test)]
mod tests;
mod tls;
mod watched;

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::{Serialize, Serializer};
use url::Url;

pub use access::{
    AdminConfig, AdminRole, AuditConfig, AuthConfig, ClientConfig, ClientLane, IssuerConfig,
    JwksSource, Unauthenticated,
};
pub use changes::Changes;
pub use problem::{ConfigError, Problem, Warning};
pub use reference::reference_markdown;
pub use tls::{ClientCertificate, ServerTls, TlsConfig, TlsVersion};
pub use watched::Contents;

/// The default configuration file: every key, documented.
pub const DEFAULT_TOML: &str = include_str!("config/default.toml");

/// The file that is read when none is named, if there is one.
pub const DEFAULT_FILE: &str = "gateway.toml";

/// How many apps one gateway serves at most.
pub const APPS_MAX: usize = 64;

/// Everything that can be set, checked. `default.toml` says more about each key.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Where the gateway listens, and how much one caller may ask of it.
    pub server: ServerConfig,
    /// TLS of the listeners.
    pub tls: TlsConfig,
    /// Where accepted updates are kept until they are delivered.
    pub store: StoreConfig,
    /// What may wait in memory to become durable.
    pub intake: IntakeConfig,
    /// What one update may be.
    pub limits: LimitsConfig,
    /// What is remembered of updates and jobs that are over.
    pub history: HistoryConfig,
    /// Records that Userpilot will not take.
    pub dead_letters: DeadLettersConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Whose JSON web tokens are taken.
    pub auth: AuthConfig,
    /// The Userpilot environments to deliver to: at least one, each name once.
    pub apps: Vec<AppConfig>,
    /// The services that send updates. Without any, whoever reaches the gateway may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientConfig>,
    /// The operators. Without any, whoever reaches the gateway is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admins: Vec<AdminConfig>,
}

/// Where the gateway listens, and how much one caller may ask of it.
#[derive(Clone, Debug, Serialize)]
pub struct ServerConfig {
    /// Where services send their updates, over gRPC.
    pub grpc_listen: SocketAddr,
    /// Where health, readiness and metrics are answered over HTTP.
    pub http_listen: SocketAddr,
    /// Where operators look and steer.
    pub admin_listen: SocketAddr,
    /// How long a stop may take until connections are cut.
    pub shutdown_grace_ms: u64,
    /// The largest request that is read.
    pub request_bytes_max: usize,
    /// How many connections each listener holds open at once.
    pub connections_max: usize,
    /// Whether gRPC server reflection is on.
    pub reflection: bool,
    /// Who may call without a credential, where nobody who has one is configured.
    pub unauthenticated: Unauthenticated,
}

/// Where accepted updates are kept until they are delivered.
#[derive(Clone, Debug, Serialize)]
pub struct StoreConfig {
    /// What keeps them on disk.
    pub engine: EngineKind,
    /// The folder of the store, relative to the working directory.
    pub path: PathBuf,
    /// How much the engine's cache may hold.
    pub cache_bytes_max: u64,
    /// How many updates share one commit.
    pub group_updates_max: usize,
    /// How many pending records may wait, in each app's queue.
    pub pending_records_max: u64,
    /// How many bytes the pending records of each app may take.
    pub pending_bytes_max: u64,
    /// How many bytes are to stay free on the store's file system.
    pub free_bytes_min: u64,
    /// From how many bytes on an empty store is written anew.
    pub rebuild_bytes_min: u64,
}

/// What keeps the store on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The embedded engine sled.
    Sled,
    /// The embedded engine redb.
    Redb,
}

/// What may wait in memory to become durable.
#[derive(Clone, Debug, Serialize)]
pub struct IntakeConfig {
    /// How many updates may wait for their commit.
    pub waiting_updates_max: usize,
    /// How many bytes the updates that wait for their commit may take.
    pub waiting_bytes_max: usize,
}

/// What one update may be.
#[derive(Clone, Debug, Serialize)]
pub struct LimitsConfig {
    /// The longest `user_id`.
    pub user_id_bytes_max: usize,
    /// The longest `company_id`.
    pub company_id_bytes_max: usize,
    /// How many properties one record may have.
    pub properties_max: usize,
    /// The longest name of a property.
    pub property_name_bytes_max: usize,
    /// The largest record.
    pub record_bytes_max: usize,
    /// How many updates one `UpdateUsers` request may hold.
    pub updates_per_request_max: usize,
    /// How far ahead of the gateway's clock an `occurred_at` may be.
    pub occurred_at_ahead_max_ms: u64,
}

/// What is remembered of updates and jobs that are over.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryConfig {
    /// For how long it can be told when an update was delivered.
    pub delivered_hours: u64,
    /// How many finished jobs are remembered, per app.
    pub jobs_max: usize,
}

/// Records that Userpilot will not take.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLettersConfig {
    /// How many are kept, per app.
    pub records_max: u64,
    /// For how long.
    pub days: u64,
}

/// What is logged, and how.
#[derive(Clone, Debug, Serialize)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, in the directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// Where the audit log goes.
    pub audit: AuditConfig,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

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
    /// How many users one batch may hold.
    pub batch_users_max: usize,
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

impl Config {
    /// Reads and checks the file at `path` (without one, `gateway.toml` if it is there), under
    /// the environment `env`. Reports all the problems of a configuration together.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        Self::load_over(path.or(default.exists().then_some(default)), env.collect())
    }

    fn load_over(
        file: Option<&Path>,
        env: BTreeMap<String, String>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let text = file.map(layers::read).transpose()?;
        Self::read(file.zip(text.as_deref()), &env)
    }

    /// The same, once the file's text is there.
    fn read(
        file: Option<(&Path, &str)>,
        env: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let folder = file.and_then(|(path, _)| path.parent()).unwrap_or(Path::new(""));

        let mut problems = Vec::new();
        let values = layers::merge(file, env, &mut problems)?;
        let mut warnings = Vec::new();
        let config = read::config(&values, folder, env, &mut problems, &mut warnings);
        match config {
            Some(config) if problems.is_empty() => Ok((config, warnings)),
            Some(_) | None => Err(ConfigError::invalid(problems)),
        }
    }

    /// Reads what a store alone needs, by the same layers. The apps, and so their keys, are not
    /// looked at.
    pub fn load_store(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<(StoreConfig, LimitsConfig), ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let file = path.or(default.exists().then_some(default));
        let text = file.map(layers::read).transpose()?;
        let mut problems = Vec::new();
        let written = file.zip(text.as_deref());
        let values = layers::merge(written, &env.collect(), &mut problems)?;
        match read::store_alone(&values, &mut problems) {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(ConfigError::invalid(problems)),
        }
    }

    /// The configuration in force, as a file that would bring it about again. It says where each
    /// API key came from, never what it is.
    pub fn effective_toml(&self) -> String {
        let text = toml::to_string(self).expect("a configuration is plain tables and values");
        let mark = |line: &str| match line.starts_with("api_key_") {
            true => format!("{line} # the key read from there: <redacted>\n"),
            false => format!("{line}\n"),
        };
        text.lines().map(mark).collect()
    }
}

/// A path need not be UTF-8; showing it must not fail.
fn display_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn display_url<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(url)
}

/// The environment of this process, without variables that are not UTF-8.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
