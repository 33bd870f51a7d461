//! What can be wrong with a configuration, in words for the one who wrote it.
//!
//! No value of a key that might be a secret ever stands in these texts.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The configuration file is not TOML. The offending line is not shown: it may hold a key.
    #[error("{} is not TOML: line {line}, column {column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// Where in the line, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// The configuration was read and is wrong.
    #[error("the configuration has {}", list(.0))]
    Invalid(
        /// All that is wrong, by key. Never empty.
        Vec<Problem>,
    ),
}

impl ConfigError {
    pub(super) fn invalid(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        Self::Invalid(problems)
    }
}

fn list(problems: &[Problem]) -> String {
    let head = match problems.len() {
        1 => "a problem:".to_owned(),
        count => format!("{count} problems:"),
    };
    problems.iter().fold(head, |text, problem| format!("{text}\n  {problem}"))
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The full path of the key, such as `apps[0].linger_ms`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// The file or the environment variable that said so.
    pub origin: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " (set by {origin})"),
            None => Ok(()),
        }
    }
}

/// What works, but should not stay so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Everybody on the machine can read an API key.
    #[error("app {app}: every user of this machine can read the API key in {}; chmod 600 it", path.display())]
    KeyFileReadableByAll {
        /// The app.
        app: String,
        /// The file of its key.
        path: PathBuf,
    },
    /// Everybody on the machine can read the key that values are hashed under.
    #[error("app {app}: every user of this machine can read the hash key in {}; chmod 600 it", path.display())]
    HashKeyReadableByAll {
        /// The app.
        app: String,
        /// The file of the key.
        path: PathBuf,
    },
    /// Everybody on the machine can read the key of the certificate.
    #[error("tls.key_file: every user of this machine can read the key in {}; chmod 600 it", path.display())]
    TlsKeyReadableByAll {
        /// Its file.
        path: PathBuf,
    },
    /// Clients will refuse the certificate.
    #[error("tls.cert_file: the certificate in {} has expired, on {at}; clients refuse it", path.display())]
    CertificateExpired {
        /// Its file.
        path: PathBuf,
        /// Since when.
        at: jiff::Timestamp,
    },
    /// Clients will soon refuse the certificate.
    #[error("tls.cert_file: the certificate in {} expires soon, on {at}; renew it", path.display())]
    CertificateExpires {
        /// Its file.
        path: PathBuf,
        /// From when on.
        at: jiff::Timestamp,
    },
    /// A client cannot be known by its certificate.
    #[error(
        "client {client}: no listener for updates asks for certificates, so its san lets nobody in; set tls.client_certificate to \"optional\" or \"required\""
    )]
    IdleSan {
        /// The client.
        client: String,
    },
    /// No client can be known by the tokens of the issuer.
    #[error("auth.issuer: none of [[clients]] has a jwt_subject, so its tokens let nobody in")]
    IdleIssuer,
    /// Whoever reaches the HTTP listener sees the metrics.
    #[error(
        "server.metrics_auth: {listen} is not a loopback address, and whoever reaches it can read the metrics, which name apps and clients; set it to \"admin\" to ask for the token of an admin"
    )]
    OpenMetrics {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// Whoever reaches a listener may use it.
    #[error(
        "{key}: {listen} is not a loopback address, and without [[{list}]] whoever reaches it is let in"
    )]
    Open {
        /// The listener's key.
        key: &'static str,
        /// Where it listens.
        listen: SocketAddr,
        /// What would close it.
        list: String,
    },
}
