//! The `[store.postgres]` table, and the password and the certificates that it names. No message
//! holds any of the password.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{self, Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};

use super::{EngineKind, api_key, reader::Reader, tls};

const PORT: u16 = 5432;

/// The PostgreSQL database of a store.
#[derive(Clone, Debug, Serialize)]
pub struct PostgresConfig {
    /// The servers. The first that takes writes is used.
    #[serde(serialize_with = "display_hosts")]
    pub hosts: Vec<PostgresHost>,
    /// The database.
    pub database: String,
    /// As whom.
    pub user: String,
    /// The file of the password.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_file")]
    pub password_file: Option<PathBuf>,
    /// The environment variable of the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// The schema of the store's tables.
    pub schema: String,
    /// Whether and how TLS is spoken.
    pub tls: PostgresTls,
    /// Those who sign the server's certificate; the system's without it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_file")]
    pub ca_file: Option<PathBuf>,
    /// How many connections there may be.
    pub connections_max: usize,
    /// How long a connection may take to be made, to each server.
    pub connect_timeout_ms: u64,
    /// How long a statement may take.
    pub statement_timeout_ms: u64,
    /// For how long the store stays this gateway's after it was last heard of.
    pub lease_ms: u64,
    /// What was read of the password.
    #[serde(skip)]
    pub password: Option<SecretString>,
    /// What was made of `tls` and `ca_file`, where this is the engine.
    #[serde(skip)]
    pub rustls: Option<Arc<ClientConfig>>,
}

/// A server, or the folder of its Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresHost {
    /// Its name or address, or the folder's path.
    pub name: String,
    /// Its port.
    pub port: u16,
}

/// Whether and how TLS is spoken to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PostgresTls {
    /// Always, and the server's certificate is checked, with its name.
    #[serde(rename = "verify-full")]
    VerifyFull,
    /// Never.
    #[serde(rename = "disable")]
    Disable,
}

pub(super) fn postgres(
    reader: &mut Reader<'_>,
    folder: &Path,
    env: &BTreeMap<String, String>,
    engine: EngineKind,
) -> PostgresConfig {
    let mut file = |key: &str| {
        let (name, _) = reader.has(key).then(|| reader.optional(key)).flatten()?;
        let path = folder.join(name);
        Some(path::absolute(&path).unwrap_or(path))
    };
    let (password_file, ca_file) = (file("password_file"), file("ca_file"));
    let has_env = reader.has("password_env");
    let password_env = has_env.then(|| reader.optional("password_env")).flatten();
    let mut config = PostgresConfig {
        hosts: hosts(reader),
        database: reader.text("database"),
        user: reader.text("user"),
        password_file,
        password_env: password_env.map(|(variable, _)| variable),
        schema: schema(reader),
        tls: reader.word(
            "tls",
            [("verify-full", PostgresTls::VerifyFull), ("disable", PostgresTls::Disable)],
        ),
        ca_file,
        connections_max: reader.number("connections_max", 3..=100),
        connect_timeout_ms: reader.number("connect_timeout_ms", 100..=60_000),
        statement_timeout_ms: reader.number("statement_timeout_ms", 100..=600_000),
        lease_ms: reader.number("lease_ms", 3_000..=600_000),
        password: None,
        rustls: None,
    };
    match password(&config, env) {
        Ok(password) => config.password = password,
        Err((key, message)) => reader.refuse(key, message),
    }
    check_tls(&config, reader);
    // The files of who is trusted are read only where they are needed.
    if engine == EngineKind::Postgres && config.tls == PostgresTls::VerifyFull {
        match rustls_of(config.ca_file.as_deref()) {
            Ok(rustls) => config.rustls = Some(Arc::new(rustls)),
            Err(message) => reader.refuse("ca_file", message),
        }
    }
    config
}

fn hosts(reader: &mut Reader<'_>) -> Vec<PostgresHost> {
    let texts = reader.list("hosts");
    let hosts: Option<Vec<PostgresHost>> = texts.iter().map(|text| host(text)).collect();
    match hosts {
        Some(hosts) if !hosts.is_empty() => hosts,
        Some(_) | None => {
            // A URL may hold a password: it is not repeated.
            let message = "expected servers such as \"db.example.com\", \"10.0.0.1:5432\" or \
                           \"[::1]:5432\", or the folder of a Unix socket";
            reader.refuse("hosts", message.to_owned());
            Vec::new()
        }
    }
}

/// A name, an address, or a path; with a port behind a colon, if it is another than PostgreSQL's.
fn host(text: &str) -> Option<PostgresHost> {
    if text.parse::<IpAddr>().is_ok() {
        return Some(PostgresHost { name: text.to_owned(), port: PORT });
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, PORT),
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name = inner.unwrap_or(name);
    let is_path = name.starts_with('/');
    let is_address = name.parse::<IpAddr>().is_ok();
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (is_path || is_address || is_name).then(|| PostgresHost { name: name.to_owned(), port })
}

impl PostgresHost {
    /// Whether what is said to it does not leave the machine.
    fn is_local(&self) -> bool {
        let is_loopback = self.name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        self.name.starts_with('/') || self.name == "localhost" || is_loopback
    }
}

fn schema(reader: &mut Reader<'_>) -> String {
    let name = reader.text("schema");
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    let is_right = begins && name.len() <= 63 && name.bytes().all(is_allowed);
    if !name.is_empty() && (!is_right || name.starts_with("pg_")) {
        let message = "expected 1 to 63 of a-z, 0-9 and \"_\", without a digit or \"pg_\" first";
        reader.refuse("schema", message.to_owned());
    }
    name
}

/// A key of the table, and what is wrong with it.
type Refused = (&'static str, String);

fn password(
    config: &PostgresConfig,
    env: &BTreeMap<String, String>,
) -> Result<Option<SecretString>, Refused> {
    match (&config.password_file, &config.password_env) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(("password_env", "give either this or password_file".to_owned())),
        (Some(path), None) => of_file(path).map(Some).map_err(|message| ("password_file", message)),
        (None, Some(variable)) => {
            let is_name =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if !variable.bytes().all(is_name) {
                // Somebody may have put the password itself here: say nothing of it.
                let message = "expected the name of a variable, of A-Z, 0-9 and \"_\"";
                return Err(("password_env", message.to_owned()));
            }
            match env.get(variable).filter(|text| !text.is_empty()) {
                Some(text) => Ok(Some(SecretString::from(text.as_str()))),
                None => {
                    Err(("password_env", format!("the environment variable {variable} is not set")))
                }
            }
        }
    }
}

/// All of the file but a line's end.
fn of_file(path: &Path) -> Result<SecretString, String> {
    let place = path.display();
    match api_key::read_file(path) {
        Ok((_, true)) => Err(format!(
            "every user of this machine can read the password in {place}: chmod 600 it"
        )),
        Ok((text, false)) => {
            let password = text.expose_secret().trim_end_matches(['\r', '\n']);
            match password.is_empty() || password.contains('\0') {
                true => Err(format!("the password in {place} is empty, or holds a zero byte")),
                false => Ok(SecretString::from(password)),
            }
        }
        Err(error) => Err(format!("cannot read the password in {place}: {error}")),
    }
}

/// Passwords and records do not go through a network in clear.
fn check_tls(config: &PostgresConfig, reader: &mut Reader<'_>) {
    if config.tls == PostgresTls::VerifyFull {
        return;
    }
    if config.hosts.iter().any(|host| !host.is_local()) {
        let message = "\"disable\" is for loopback addresses and Unix sockets alone";
        reader.refuse("tls", message.to_owned());
    }
    if config.ca_file.is_some() {
        reader.refuse("ca_file", "tls is \"disable\": no certificate is looked at".to_owned());
    }
}

fn rustls_of(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for ca in tls::certificates(file)? {
                roots.add(ca).map_err(|error| {
                    format!("{} holds what cannot be a CA: {error}", file.display())
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(
                    "the system trusts nobody: name who signs the server's certificate".to_owned()
                );
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn display_hosts<S: Serializer>(hosts: &[PostgresHost], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(hosts.iter().map(
        |PostgresHost { name, port }| match name.contains(':') {
            true => format!("[{name}]:{port}"),
            false => format!("{name}:{port}"),
        },
    ))
}

fn display_file<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => super::display_path(path, serializer),
        None => serializer.serialize_none(),
    }
}
