//! The place that one gateway lives in: a folder of its own with its configuration, its key and
//! its store.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use tempfile::TempDir;
use toml::{Table, Value};

use super::{Gateway, Process};

/// The key that the simulator takes, unless told otherwise.
pub(crate) const API_KEY: &str = "simulated-key";

/// A folder for one gateway.
pub(crate) struct Site {
    folder: TempDir,
    config: Table,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Site {
    /// For a gateway that delivers to `upstream`, which lives `speed` times faster than the
    /// real one. What waits for seconds elsewhere waits for milliseconds here.
    pub(crate) fn new(upstream: &str, speed: f64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("userpilot.key");
        fs::write(&key, API_KEY).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            r#"
            [server]
            grpc_listen = "127.0.0.1:0"
            http_listen = "127.0.0.1:0"
            admin_listen = "127.0.0.1:0"
            [store]
            path = "data"
            cache_bytes_max = 67108864
            [log]
            format = "json"
            [[apps]]
            name = "production"
            base_url = "{upstream}"
            api_key_file = "userpilot.key"
            users_per_minute = {:.0}
            linger_ms = 20
            poll_interval_min_ms = 10
            poll_interval_max_ms = 100
            backoff_initial_ms = 10
            backoff_max_ms = 100
            "#,
            1_800.0 * speed
        );
        Self { folder, config: config.parse().unwrap(), environment: Vec::new() }
    }

    /// With another value of a key, such as `store.path` or `store.fleet.enabled`; the app's keys
    /// begin with `app`.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (tables, key) = key.rsplit_once('.').unwrap();
        let table = match tables {
            "app" => self.config["apps"][0].as_table_mut().unwrap(),
            tables => tables.split('.').fold(&mut self.config, |table, name| {
                let inner = table.entry(name).or_insert_with(|| Table::new().into());
                inner.as_table_mut().unwrap()
            }),
        };
        table.insert(key.to_owned(), value.into());
        self
    }

    /// With a file of its folder that a variable of the environment names.
    pub(crate) fn with_file(mut self, variable: &'static str, name: &str, content: &str) -> Self {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.environment.push((variable, path));
        self
    }

    /// Without a key that it would have.
    pub(crate) fn without(mut self, key: &str) -> Self {
        let (table, key) = key.split_once('.').unwrap();
        let table = match table {
            "app" => self.config["apps"].get_mut(0).unwrap(),
            table => &mut self.config[table],
        };
        table.as_table_mut().unwrap().remove(key).unwrap();
        self
    }

    /// With more tables, such as `[[clients]]`, as TOML.
    pub(crate) fn and(mut self, tables: &str) -> Self {
        for (name, more) in tables.parse::<Table>().unwrap() {
            match (self.config.get_mut(&name), more) {
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                (_, more) => drop(self.config.insert(name, more)),
            }
        }
        self
    }

    /// With a second app, which delivers elsewhere.
    pub(crate) fn and_app(mut self, name: &str, upstream: &str) -> Self {
        let apps = self.config["apps"].as_array_mut().unwrap();
        let mut app = apps[0].clone();
        app["name"] = name.into();
        app["base_url"] = upstream.into();
        apps.push(app);
        self
    }

    /// With a key of its own for one of the apps.
    pub(crate) fn with_key_of(mut self, app: usize, key: &str) -> Self {
        let name = format!("userpilot-{app}.key");
        let path = self.path(&name);
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.config["apps"].as_array_mut().unwrap()[app]["api_key_file"] = name.into();
        self
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        let path = self.path("gateway.toml");
        fs::write(&path, self.config.to_string()).unwrap();
        path
    }

    /// Starts a gateway, and does not wait for it.
    pub(crate) fn launch(&self) -> Process {
        self.launch_with(&[])
    }

    fn launch_with(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
        command.args(["serve", "--config"]).arg(self.config());
        command.env_clear().envs(self.environment.clone()).envs(environment.iter().copied());
        Process::start(command.current_dir(&self.folder), "")
    }

    /// Starts a gateway that serves, with these variables in its environment.
    pub(crate) async fn serve_with(&self, environment: &[(&str, &str)]) -> Gateway {
        Gateway::of(self.launch_with(environment)).await
    }

    /// Starts a gateway that serves.
    pub(crate) async fn serve(&self) -> Gateway {
        Gateway::of(self.launch()).await
    }
}
