//! Where the database is, and one connection to it.

use std::{
    fmt,
    future::poll_fn,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection as Driving, NoTls,
    config::{SslMode, TargetSessionAttrs},
    error::{DbError, Severity, SqlState},
};

use super::{
    failure::{Failure, Meaning},
    tls::Tls,
};
use crate::store::engine::Sharing;

/// How to open a store in a PostgreSQL database.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The servers. The first that takes writes is used.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// As whom.
    pub user: String,
    /// With which password, if any is asked for.
    pub password: Option<SecretString>,
    /// The schema of the store's tables.
    pub schema: Schema,
    /// How TLS is spoken; in clear without it, and over Unix sockets.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// How many connections there may be.
    pub connections_max: usize,
    /// How long a connection may take to be made, to each server.
    pub connect_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// Who may write.
    pub sharing: Sharing,
    /// For how long the store stays this process's after it was last heard of.
    pub lease: Duration,
    /// A folder of this gateway's own: who has it need not wait for its own lease to end.
    pub folder: PathBuf,
    /// Whether a schema that is missing is made.
    pub makes_schema: bool,
}

/// A server, or the folder of its Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name or address; a path where it is a folder.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl Host {
    fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// The name of a schema. As text it is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// That of this name: up to 63 of a-z, 0-9 and "_", without a digit first.
    pub fn new(name: &str) -> Option<Self> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        let allowed = begins && name.len() <= 63 && name.bytes().all(is_allowed);
        // Those are PostgreSQL's own.
        (allowed && !name.starts_with("pg_")).then(|| Self(name.to_owned()))
    }

    /// Its name, unquoted.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl PostgresOptions {
    /// Where the store is, in words.
    pub fn place(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let (database, schema) = (&self.database, self.schema.name());
        format!("schema {schema} of database {database} at {}", hosts.join(", "))
    }

    /// What each transaction begins with. Nothing of it outlives the transaction, so that it works
    /// through poolers.
    pub(super) fn begin(&self) -> String {
        let statement = self.statement_timeout.as_millis();
        // Who sleeps in a transaction is thrown out before those that wait for it give up; so is who
        // does not take what it has asked for: the server waits for it, and is not idle then.
        let (lock, idle) = (statement * 3 / 4, statement / 2);
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {statement}; \
             SET LOCAL lock_timeout = {lock}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}; \
             SET LOCAL tcp_user_timeout = {idle}; \
             SET LOCAL synchronous_commit = on"
        )
    }

    /// How long a train of statements may take, as seen from here: a server that is gone does not
    /// answer.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.statement_timeout * 2 + Duration::from_secs(1)
    }
}

/// A connection, and what was heard on it.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Whether the server warned of a commit: that it is not on the standby.
    pub(super) doubt: Arc<AtomicBool>,
}

/// Connects to the first server that takes writes. What is returned second has to be driven.
pub(super) async fn connect(
    options: &PostgresOptions,
) -> Result<(Connection, BoxFuture<'static, ()>), Failure> {
    let mut failures = Vec::new();
    for host in &options.hosts {
        let failure = match timeout(options.connect_timeout, connect_to(host, options)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::away("no answer in time"),
        };
        failures.push((host, failure));
    }
    // Where one may come back, it is worth trying again.
    let away = failures.iter().any(|(_, failure)| failure.is_away());
    let meaning = if away { Meaning::Away } else { Meaning::Failed };
    let texts: Vec<String> =
        failures.iter().map(|(host, failure)| format!("{host}: {}", failure.text)).collect();
    Err(Failure { meaning, text: texts.join("; ") })
}

async fn connect_to(
    host: &Host,
    options: &PostgresOptions,
) -> Result<(Connection, BoxFuture<'static, ()>), Failure> {
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .application_name("userpilot-gateway")
        .port(host.port)
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(options.connect_timeout)
        .keepalives_idle(Duration::from_secs(30))
        .tcp_user_timeout(options.answer_timeout());
    if let Some(password) = &options.password {
        config.password(password.expose_secret());
    }
    match host.is_socket() {
        true => config.host_path(&host.name),
        false => config.host(&host.name),
    };
    match options.tls.as_ref().filter(|_| !host.is_socket()) {
        Some(tls) => {
            let (client, driving) =
                config.ssl_mode(SslMode::Require).connect(Tls(tls.clone())).await?;
            Ok(driven(client, driving))
        }
        None => {
            let (client, driving) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
            Ok(driven(client, driving))
        }
    }
}

fn driven<S, T>(client: Client, mut driving: Driving<S, T>) -> (Connection, BoxFuture<'static, ()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let doubt = Arc::new(AtomicBool::new(false));
    let heard = doubt.clone();
    let drive = async move {
        while let Some(Ok(message)) = poll_fn(|cx| driving.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && is_doubt(&notice)
            {
                heard.store(true, Ordering::SeqCst);
            }
        }
    };
    (Connection { client, doubt }, Box::pin(drive))
}

/// A wait for the synchronous standby that is cut short ends the commit with success, and with a
/// warning. Its words depend on the server's language, its code does not.
fn is_doubt(notice: &DbError) -> bool {
    notice.parsed_severity() == Some(Severity::Warning) && *notice.code() == SqlState::WARNING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_schema_needs_no_escape() {
        assert_eq!(Schema::new("userpilot_gateway").unwrap().to_string(), "\"userpilot_gateway\"");
        for name in ["", "1a", "A", "a-b", "a\"b", "pg_a", &"a".repeat(64)] {
            assert_eq!(Schema::new(name), None, "{name}");
        }
    }
}
