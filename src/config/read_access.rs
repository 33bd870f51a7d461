//! Reads who may call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{self, Path},
};

use config::{Map, Value, ValueKind};
use jsonwebtoken::{Algorithm, jwk::JwkSet};

use super::{
    AdminConfig, AdminRole, AppConfig, AuthConfig, ClientCertificate, ClientConfig, ClientLane,
    Config, IssuerConfig, JwksSource, MetricsAuth, Problem, ServerConfig, Unauthenticated, Warning,
    read_apps::{may_pass, passed},
    reader::{Reader, text},
};

/// How many clients, and how many admins, there may be: each is compared with at each request.
const CALLERS_MAX: usize = 1_000;

const DAY_MS: u64 = 24 * 3_600_000;

/// All but those that take a shared secret, of which the public keys of an issuer are none.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

pub(super) fn auth(reader: &mut Reader<'_>, folder: &Path) -> AuthConfig {
    let bytes_max: usize = reader.number("jwks_bytes_max", 1_024..=16 << 20);
    AuthConfig {
        issuer: issuer(reader, folder, bytes_max),
        algorithms: algorithms(reader),
        leeway_ms: reader.number("leeway_ms", 0..=600_000),
        jwks_age_max_ms: reader.number("jwks_age_max_ms", 1_000..=7 * DAY_MS),
        jwks_interval_min_ms: reader.number("jwks_interval_min_ms", 100..=3_600_000),
        jwks_timeout_ms: reader.number("jwks_timeout_ms", 1..=600_000),
        jwks_bytes_max: bytes_max,
    }
}

fn algorithms(reader: &mut Reader<'_>) -> Vec<Algorithm> {
    let names = reader.list("algorithms");
    if names.is_empty() {
        reader.refuse("algorithms", "expected at least one".to_owned());
    }
    let mut algorithms = Vec::with_capacity(names.len());
    for name in names {
        match ALGORITHMS.iter().find(|(known, _)| *known == name) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => {
                let known = ALGORITHMS.map(|(name, _)| name).join(", ");
                reader.refuse("algorithms", format!("expected some of {known}"));
            }
        }
    }
    algorithms
}

fn issuer(reader: &mut Reader<'_>, folder: &Path, bytes_max: usize) -> Option<IssuerConfig> {
    let parts = ["audience", "jwks_file", "jwks_url"];
    if !reader.has("issuer") {
        if let Some(part) = parts.into_iter().find(|part| reader.has(part)) {
            reader.refuse(part, "means nothing without auth.issuer".to_owned());
        }
        return None;
    }
    let issuer = reader.optional("issuer")?.0;
    let (file, url) = (reader.has("jwks_file"), reader.has("jwks_url"));
    if !reader.has("audience") {
        reader
            .refuse("issuer", "needs auth.audience: other services' tokens are no use".to_owned());
    }
    if file == url {
        reader.refuse("issuer", "needs either auth.jwks_file or auth.jwks_url".to_owned());
        return None;
    }
    let (keys, key_set) = if file {
        let path = folder.join(reader.optional("jwks_file")?.0);
        let path = path::absolute(&path).unwrap_or(path);
        match read_keys(&path, bytes_max) {
            Ok(keys) => (JwksSource::File(path), Some(keys)),
            Err(message) => {
                reader.refuse("jwks_file", message);
                return None;
            }
        }
    } else {
        (JwksSource::Url(reader.jwks_url("jwks_url")?), None)
    };
    Some(IssuerConfig { issuer, audience: reader.optional("audience")?.0, keys, key_set })
}

fn read_keys(path: &Path, bytes_max: usize) -> Result<JwkSet, String> {
    let shown = path.display();
    let unreadable = |error| format!("cannot read the keys in {shown}: {error}");
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > bytes_max {
        return Err(format!("{shown} is over auth.jwks_bytes_max ({bytes_max}) bytes"));
    }
    // What the parser says could quote a private key that was put there by mistake.
    serde_json::from_slice(&text).map_err(|_| format!("{shown} is not a JSON web key set"))
}

/// The tables of a list that may be empty.
fn tables<'a>(
    values: &'a Map<String, Value>,
    list: &str,
    problems: &mut Vec<Problem>,
) -> Vec<&'a Map<String, Value>> {
    let tables = match values.get(list).map(|value| &value.kind) {
        Some(ValueKind::Array(tables)) => tables.as_slice(),
        _ => &[],
    };
    if tables.len() > CALLERS_MAX {
        let message = format!("expected up to {CALLERS_MAX} {list}, found {}", tables.len());
        problems.push(Problem { key: list.to_owned(), message, origin: None });
        return Vec::new();
    }
    let table = |value: &'a Value| {
        if let ValueKind::Table(table) = &value.kind { Some(table) } else { None }
    };
    tables.iter().filter_map(table).collect()
}

/// What two callers cannot both have: else nobody could tell which of them calls.
#[derive(Default)]
struct Taken(BTreeSet<(&'static str, String)>);

impl Taken {
    fn take(&mut self, reader: &mut Reader<'_>, key: &'static str, values: &[String]) {
        for value in values {
            if !value.is_empty() && !self.0.insert((key, value.clone())) {
                reader.refuse(key, "another one has the same".to_owned());
            }
        }
    }
}

pub(super) fn clients(
    values: &Map<String, Value>,
    apps: &[AppConfig],
    auth: &AuthConfig,
    problems: &mut Vec<Problem>,
) -> Vec<ClientConfig> {
    let named = names_of_apps(values);
    let mut taken = Taken::default();
    let mut clients = Vec::new();
    for (index, table) in tables(values, "clients", problems).into_iter().enumerate() {
        let mut reader = Reader::new(format!("clients[{index}]"), table, problems);
        let client = client(&mut reader);
        taken.take(&mut reader, "name", std::slice::from_ref(&client.name));
        taken.take(&mut reader, "token_sha256", &client.token_sha256);
        taken.take(&mut reader, "san", &client.san);
        taken.take(&mut reader, "jwt_subject", &client.jwt_subject);
        if client.name == crate::door::caller::ANYONE {
            reader.refuse("name", "is what callers without a credential are called".to_owned());
        }
        if !["token_sha256", "san", "jwt_subject"].iter().any(|key| reader.has(key)) {
            let message = "no credential: give token_sha256, san or jwt_subject".to_owned();
            reader.refuse("", message);
        }
        if !client.jwt_subject.is_empty() && auth.issuer.is_none() {
            reader.refuse("jwt_subject", "means nothing without auth.issuer".to_owned());
        }
        if client.apps.is_empty() {
            reader.refuse("apps", "expected the apps that it may use".to_owned());
        }
        if let Some(unknown) = client.apps.iter().find(|name| !named.contains(name.as_str())) {
            reader.refuse("apps", format!("no app is called {unknown:?}"));
        }
        // What is wrong with an app has been said, and follows from nothing here.
        let read = |name: &String| apps.iter().any(|app| app.name == *name);
        if client.apps.iter().all(read) {
            check_passed(&mut reader, &client, apps);
        }
        clients.push(client);
    }
    clients
}

/// What the apps are called, also those with which something is wrong.
fn names_of_apps(values: &Map<String, Value>) -> BTreeSet<&str> {
    let apps = match values.get("apps").map(|value| &value.kind) {
        Some(ValueKind::Array(apps)) => apps.as_slice(),
        _ => &[],
    };
    let tables = apps
        .iter()
        .filter_map(|app| if let ValueKind::Table(table) = &app.kind { Some(table) } else { None });
    tables.filter_map(|table| text(table.get("name")?).ok()).collect()
}

/// What none of its apps passes through cannot be granted.
fn check_passed(reader: &mut Reader<'_>, client: &ClientConfig, apps: &[AppConfig]) {
    let passes = |request: &String| {
        let mut own = apps.iter().filter(|app| client.apps.contains(&app.name));
        own.any(|app| app.pass_through.contains(request))
    };
    // Whatever is wrong with a request itself has been said.
    let readable = client.pass_through.iter().filter(|request| may_pass(request).is_ok());
    for request in readable.filter(|request| !passes(request)) {
        let message = format!("{request:?}: none of its apps has it in pass_through");
        reader.refuse("pass_through", message);
    }
}

fn client(reader: &mut Reader<'_>) -> ClientConfig {
    let lanes = [("interactive", ClientLane::Interactive), ("bulk", ClientLane::Bulk)];
    let pass_through = reader.list("pass_through");
    let pass_through = passed(reader, pass_through);
    ClientConfig {
        name: reader.name("name"),
        token_sha256: reader.hashes("token_sha256"),
        san: reader.list("san"),
        jwt_subject: reader.list("jwt_subject"),
        apps: reader.list("apps"),
        lane: reader.word("lane", lanes),
        updates_per_second_max: reader.number("updates_per_second_max", 0..=1_000_000),
        weight: reader.number("weight", 1..=1_000),
        pending_records_max: reader.number("pending_records_max", 0..=1_000_000_000),
        record_bytes_max: reader.number("record_bytes_max", 0..=65_536),
        properties: reader.has("properties").then(|| reader.list("properties")),
        pass_through,
    }
}

pub(super) fn admins(values: &Map<String, Value>, problems: &mut Vec<Problem>) -> Vec<AdminConfig> {
    let mut taken = Taken::default();
    let mut admins = Vec::new();
    for (index, table) in tables(values, "admins", problems).into_iter().enumerate() {
        let mut reader = Reader::new(format!("admins[{index}]"), table, problems);
        let roles = [("reader", AdminRole::Reader), ("operator", AdminRole::Operator)];
        let admin = AdminConfig {
            name: reader.name("name"),
            token_sha256: reader.hashes("token_sha256"),
            role: reader.word("role", roles),
        };
        taken.take(&mut reader, "name", std::slice::from_ref(&admin.name));
        taken.take(&mut reader, "token_sha256", &admin.token_sha256);
        if !reader.has("token_sha256") {
            reader.refuse("", "no credential: give token_sha256".to_owned());
        }
        admins.push(admin);
    }
    admins
}

/// Refuses listeners that others than this machine reach, where they would ask nobody who calls;
/// or, where somebody wants it so, warns of them.
pub(super) fn check_open(
    config: &Config,
    server: &ServerConfig,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) {
    let (clients, admins) = (config.clients.is_empty(), config.admins.is_empty());
    let listeners: BTreeMap<&'static str, (SocketAddr, bool, &str)> = BTreeMap::from([
        ("server.grpc_listen", (server.grpc_listen, clients, "clients")),
        ("server.http_listen", (server.http_listen, clients, "clients")),
        ("server.admin_listen", (server.admin_listen, admins, "admins")),
    ]);
    for (key, (listen, nobody, list)) in listeners {
        if listen.ip().is_loopback() || !nobody {
            continue;
        }
        match server.unauthenticated {
            Unauthenticated::Loopback => {
                let message = format!(
                    "{listen} is not a loopback address, and without [[{list}]] no credential is \
                     asked for: configure [[{list}]], or set server.unauthenticated = \
                     \"allow_anyone\" to let in whoever reaches it"
                );
                problems.push(Problem { key: key.to_owned(), message, origin: None });
            }
            Unauthenticated::AllowAnyone => {
                warnings.push(Warning::Open { key, listen, list: list.to_owned() })
            }
        }
    }
}

/// Refuses metrics that nobody could read, and warns of those that anybody can.
pub(super) fn check_metrics(
    config: &Config,
    server: &ServerConfig,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) {
    let listen = server.http_listen;
    let tls = &config.tls;
    let is_asked = tls.client_certificate == ClientCertificate::Required && tls.http;
    match server.metrics_auth {
        MetricsAuth::Admin if config.admins.is_empty() => {
            let message = "\"admin\" without [[admins]] lets nobody read the metrics: configure \
                           [[admins]], or set it to \"none\"";
            let key = "server.metrics_auth".to_owned();
            problems.push(Problem { key, message: message.to_owned(), origin: None });
        }
        MetricsAuth::None if !listen.ip().is_loopback() && !is_asked => {
            warnings.push(Warning::OpenMetrics { listen });
        }
        MetricsAuth::Admin | MetricsAuth::None => {}
    }
}

/// Warns of credentials that let nobody in as all else is configured.
pub(super) fn warn_of_idle(config: &Config, warnings: &mut Vec<Warning>) {
    let tls = &config.tls;
    let is_asked = tls.client_certificate != ClientCertificate::Off && (tls.grpc || tls.http);
    if !is_asked {
        let by_certificate = config.clients.iter().filter(|client| !client.san.is_empty());
        let idle = |client: &ClientConfig| Warning::IdleSan { client: client.name.clone() };
        warnings.extend(by_certificate.map(idle));
    }
    let by_token = config.clients.iter().any(|client| !client.jwt_subject.is_empty());
    if config.auth.issuer.is_some() && !by_token {
        warnings.push(Warning::IdleIssuer);
    }
}
