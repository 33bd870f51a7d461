//! Who may call, as configured: clients, admins, and the issuer of JSON web tokens.

use std::path::PathBuf;

use jsonwebtoken::{Algorithm, jwk::JwkSet};
use serde::Serialize;
use url::Url;

use super::{display_path, display_url};

/// Who may call without a credential, where nobody who has one is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unauthenticated {
    /// Callers of loopback listeners alone; there are no others.
    Loopback,
    /// Whoever reaches a listener.
    AllowAnyone,
}

/// Who may read the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAuth {
    /// Whoever reaches the listener.
    None,
    /// Operators, of whatever role.
    Admin,
}

/// Where the audit log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditConfig {
    /// Standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// A file that lines are added to.
    File(PathBuf),
}

impl Serialize for AuditConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stderr => serializer.serialize_str("stderr"),
            Self::Off => serializer.serialize_str("off"),
            Self::File(path) => display_path(path, serializer),
        }
    }
}

/// Whose JSON web tokens are taken.
#[derive(Clone, Debug, Serialize)]
pub struct AuthConfig {
    /// The issuer; without one, nobody's.
    #[serde(flatten)]
    pub issuer: Option<IssuerConfig>,
    /// With which algorithms a token may be signed. All are asymmetric.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be off.
    pub leeway_ms: u64,
    /// How old fetched keys may become.
    pub jwks_age_max_ms: u64,
    /// The shortest time between two fetches.
    pub jwks_interval_min_ms: u64,
    /// How long a fetch may take.
    pub jwks_timeout_ms: u64,
    /// The largest key set that is read.
    pub jwks_bytes_max: usize,
}

/// An issuer of JSON web tokens.
#[derive(Clone, Debug, Serialize)]
pub struct IssuerConfig {
    /// What the `iss` of a token must be.
    pub issuer: String,
    /// What the `aud` of a token must be, or hold.
    pub audience: String,
    /// Where its keys are.
    #[serde(flatten)]
    pub keys: JwksSource,
    /// What the file of its keys held, where there is one.
    #[serde(skip)]
    pub key_set: Option<JwkSet>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum JwksSource {
    /// A file, by its absolute path.
    #[serde(rename = "jwks_file")]
    File(#[serde(serialize_with = "display_path")] PathBuf),
    /// Where the issuer publishes them.
    #[serde(rename = "jwks_url")]
    Url(#[serde(serialize_with = "display_url")] Url),
}

/// A service that sends updates.
#[derive(Clone, Debug, Serialize)]
pub struct ClientConfig {
    /// How logs and metrics call it.
    pub name: String,
    /// The SHA-256 of its tokens, in lower-case hex.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_sha256: Vec<String>,
    /// Names in its certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub san: Vec<String>,
    /// The subjects of its JSON web tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jwt_subject: Vec<String>,
    /// The apps that it may use, by name: at least one, each configured.
    pub apps: Vec<String>,
    /// The lane of its updates that name none, and the most urgent one that it may name.
    pub lane: ClientLane,
    /// How many updates it may send in a second; 0 is as many as it likes.
    pub updates_per_second_max: u32,
    /// How many rows of its own go into a job in its turn.
    pub weight: u32,
    /// How many pending records of its own may wait; 0 is as many as there is room for.
    pub pending_records_max: u64,
    /// The largest update that it may send; 0 is as large as any.
    pub record_bytes_max: usize,
    /// The properties that it may write; without it, any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Vec<String>>,
    /// What of Userpilot's API is passed through for it: methods and paths that its apps allow.
    pub pass_through: Vec<String>,
}

/// The lane of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientLane {
    /// Live traffic.
    Interactive,
    /// Backfills.
    Bulk,
}

/// An operator, or a tool of one.
#[derive(Clone, Debug, Serialize)]
pub struct AdminConfig {
    /// How the audit log calls it.
    pub name: String,
    /// The SHA-256 of its tokens, in lower-case hex: at least one.
    pub token_sha256: Vec<String>,
    /// What it may do.
    pub role: AdminRole,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminRole {
    /// See the state, jobs and lists.
    Reader,
    /// See everything, and change it.
    Operator,
}
