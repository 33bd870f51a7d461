//! The configuration, and the only reader of its files and of the environment, save for
//! `RUST_LOG`, which is `telemetry`'s.
//!
//! Three layers, the later wins: the compiled-in `config/default.toml`, which documents every
//! key; the user's file; environment variables such as `USERPILOT_GATEWAY__STORE__PATH`. What
//! is read here is checked here: past [`Config::load`] there is nothing left to doubt.

mod access;
mod api_key;
mod app;
mod changes;
mod encryption;
mod fleet;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod known;
mod layers;
mod otlp;
mod postgres;
mod problem;
mod properties;
mod read;
mod read_access;
mod read_apps;
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

use serde::{Serialize, Serializer};
use url::Url;

pub use access::{
    AdminConfig, AdminRole, AuditConfig, AuthConfig, ClientConfig, ClientLane, IssuerConfig,
    JwksSource, MetricsAuth, Unauthenticated,
};
pub use app::{ApiKeySource, AppConfig, Credential, OnPartial, Upload};
pub use changes::Changes;
pub use encryption::{EncryptionConfig, StoreKeyBytes};
pub use fleet::FleetConfig;
pub use otlp::OtlpConfig;
pub use postgres::{PostgresConfig, PostgresHost, PostgresTls};
pub use problem::{ConfigError, Problem, Warning};
pub use properties::{FormatWord, MismatchWord, PropertiesConfig, PropertyTypeConfig, TypeWord};
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
    /// The web pages for operators.
    pub console: ConsoleConfig,
    /// What the HTTP door takes.
    pub http: HttpConfig,
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
    /// Where traces and metrics are exported to.
    pub otlp: OtlpConfig,
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
    /// The largest headers that are read.
    pub header_bytes_max: u32,
    /// How many connections each listener holds open at once.
    pub connections_max: usize,
    /// How long a connection lives on which nothing is asked for.
    pub connection_idle_ms: u64,
    /// Whether gRPC server reflection is on.
    pub reflection: bool,
    /// Who may call without a credential, where nobody who has one is configured.
    pub unauthenticated: Unauthenticated,
    /// Who may read the metrics.
    pub metrics_auth: MetricsAuth,
}

/// The web pages for operators.
#[derive(Clone, Debug, Serialize)]
pub struct ConsoleConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// How long a session lives in which nothing is asked for.
    pub session_idle_ms: u64,
    /// How long any session lives.
    pub session_max_ms: u64,
    /// How many sessions there are at once.
    pub sessions_max: usize,
}

/// What the HTTP door takes.
#[derive(Clone, Debug, Serialize)]
pub struct HttpConfig {
    /// For how long one small request may take, its body and its answer included, and a bulk
    /// request for each part of its body.
    pub request_timeout_ms: u64,
    /// How large that part is.
    pub bulk_progress_bytes_min: usize,
    /// How many bytes a bulk request may have.
    pub bulk_bytes_max: usize,
    /// How many rows it may have.
    pub bulk_rows_max: usize,
    /// How many bytes of JSON bodies are held in memory at once.
    pub buffered_bytes_max: usize,
    /// What becomes of a file with bad rows.
    pub bad_rows: BadRows,
    /// How many bytes of files are kept on disk at once while they are checked.
    pub spooled_bytes_max: usize,
    /// How many jobs are kept, per app.
    pub jobs_max: usize,
    /// How many of them the list shows.
    pub listed_jobs_max: usize,
}

/// What becomes of a file with bad rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRows {
    /// The others are taken, and the job names the bad ones.
    SkipRows,
    /// It is refused, and nothing of it is taken.
    RejectFile,
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
    /// What its values are encrypted under.
    #[serde(flatten)]
    pub encryption: EncryptionConfig,
    /// The database of the engine `postgres`.
    pub postgres: PostgresConfig,
    /// Whether several gateways share it.
    pub fleet: FleetConfig,
}

/// What keeps the store on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The embedded engine sled.
    Sled,
    /// The embedded engine redb.
    Redb,
    /// A PostgreSQL database.
    Postgres,
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

    /// The defaults, for who asks what they come to. There is no API key behind them.
    pub fn defaults() -> Self {
        let env = BTreeMap::from([("USERPILOT_API_KEY".to_owned(), "there-is-none".to_owned())]);
        Self::load_over(None, env).expect("the defaults are valid").0
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
    /// looked at. `engine`, where there is one, wins.
    pub fn load_store(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        engine: Option<EngineKind>,
    ) -> Result<(StoreConfig, LimitsConfig), ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let file = path.or(default.exists().then_some(default));
        let text = file.map(layers::read).transpose()?;
        let mut problems = Vec::new();
        let written = file.zip(text.as_deref());
        let env = env.collect();
        let values = layers::merge(written, &env, &mut problems)?;
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        match read::store_alone(&values, folder, (&env, engine), &mut problems) {
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

    /// The same, without what tokens are known by.
    pub fn shown_toml(&self) -> String {
        let shown = |line: &str| match line.starts_with("token_sha256 = ") {
            true => "token_sha256 = \"[redacted]\"\n".to_owned(),
            false => format!("{line}\n"),
        };
        self.effective_toml().lines().map(shown).collect()
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
