//! What differs between two configurations, and which of it can take effect while the gateway
//! runs.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret as _;
use toml::{Table, Value};

use super::{AppConfig, Config, Problem, ServerConfig, TlsConfig, read_access};

/// The keys that differ, by their full paths, such as `apps[0].linger_ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect at once.
    pub live: BTreeSet<String>,
    /// Those that take effect at the next start.
    pub at_restart: BTreeSet<String>,
}

impl Config {
    /// What differs in `new`.
    pub fn changes(&self, new: &Self) -> Changes {
        let (old_keys, new_keys) = (self.flat(), new.flat());
        let mut changes = Changes::default();
        // Where apps come, go or change places, their keys stand for other apps than before.
        let same_apps = self.has_same_apps(new);
        let tls_stays_on_or_off = self.tls.server.is_some() == new.tls.server.is_some();
        for key in old_keys.keys().chain(new_keys.keys()) {
            if old_keys.get(key) == new_keys.get(key) {
                continue;
            }
            let live = match key.split_once('.') {
                Some(("tls", key)) => {
                    let of_listener = ["grpc", "http", "admin", "handshake_timeout_ms"];
                    tls_stays_on_or_off && !of_listener.contains(&key)
                }
                Some((table, _))
                    if table == "auth"
                        || table.starts_with("clients[")
                        || table.starts_with("admins[") =>
                {
                    true
                }
                Some((_, key)) => {
                    same_apps && (key.starts_with("api_key_") || key.starts_with("properties."))
                }
                None => false,
            };
            let keys = if live { &mut changes.live } else { &mut changes.at_restart };
            keys.insert(key.clone());
        }
        if let (Some(old), Some(new)) = (&self.tls.server, &new.tls.server)
            && old.has_other_certificates(new)
        {
            changes.live.insert("the certificates".to_owned());
        }
        let key_set = |config: &Self| config.auth.issuer.as_ref().and_then(|it| it.key_set.clone());
        if key_set(self) != key_set(new) {
            changes.live.insert("the keys of auth.jwks_file".to_owned());
        }
        let hash_key = |app: &AppConfig| {
            app.properties.hash_key.as_ref().map(|key| key.expose_secret().to_owned())
        };
        for (old, new) in self.apps.iter().zip(&new.apps).filter(|_| same_apps) {
            let file = &new.properties.hash_key_file;
            if old.properties.hash_key_file == *file && hash_key(old) != hash_key(new) {
                changes.live.insert(format!("the hash key of app {}", new.name));
            }
        }
        changes
    }

    /// What is in force once `new` was read by a gateway that has started with this.
    #[must_use]
    pub fn with_live(&self, new: &Self) -> Self {
        let mut config = self.clone();
        config.auth.clone_from(&new.auth);
        config.clients.clone_from(&new.clients);
        config.admins.clone_from(&new.admins);
        if self.tls.server.is_some() == new.tls.server.is_some() {
            let TlsConfig { grpc, http, admin, handshake_timeout_ms, .. } = self.tls;
            config.tls = TlsConfig { grpc, http, admin, handshake_timeout_ms, ..new.tls.clone() };
        }
        if self.has_same_apps(new) {
            for (app, new) in config.apps.iter_mut().zip(&new.apps) {
                app.api_key_source.clone_from(&new.api_key_source);
                app.properties.clone_from(&new.properties);
            }
        }
        config
    }

    /// Whether the apps are those of `other`, in the same order.
    pub fn has_same_apps(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|config| config.apps.iter().map(|app| &app.name));
        own.eq(others)
    }

    /// What would be open to anyone if its clients and admins were those of a gateway that listens
    /// where `server` says, and that should not be.
    pub fn left_open(&self, server: &ServerConfig) -> Vec<Problem> {
        let mut problems = Vec::new();
        read_access::check_open(self, server, &mut problems, &mut Vec::new());
        read_access::check_metrics(self, server, &mut problems, &mut Vec::new());
        problems
    }

    /// Each value by the full path of its key.
    fn flat(&self) -> BTreeMap<String, Value> {
        let mut flat = BTreeMap::new();
        let table: Table = self.effective_toml().parse().unwrap_or_default();
        for (section, value) in table {
            flatten(section, value, &mut flat);
        }
        flat
    }
}

fn flatten(path: String, value: Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(format!("{path}.{key}"), value, flat);
            }
        }
        Value::Array(values) if !values.is_empty() && values.iter().all(Value::is_table) => {
            for (index, value) in values.into_iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, flat);
            }
        }
        value @ (Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)) => {
            flat.insert(path, value);
        }
    }
}
