//! A configuration that changes while the gateway runs. A new one is taken whole or not at all:
//! one that has a problem is refused, and the old one stays in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use tokio::{signal::unix::Signal, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{Ended, access::Doorkeeper, keys::KeySource, settings};
use crate::{
    admin::ShownConfig,
    audit, clock,
    config::{self, Config, ConfigError, Contents, Warning},
    door::{properties::Properties, tls::Tls},
    telemetry::{self, Metrics, Reload},
};

const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What of a gateway that runs can be changed.
pub(super) struct Levers {
    /// What listeners go by, where there is TLS.
    pub(super) tls: Option<watch::Sender<Tls>>,
    /// Where each app's key comes from.
    pub(super) keys: BTreeMap<String, watch::Sender<KeySource>>,
    /// Each app's rules for properties.
    pub(super) properties: Properties,
}

impl Levers {
    /// Of a gateway that starts with this configuration. Those of the apps are to come.
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Self {
        let tls = config.tls.server.as_ref().map(|server| {
            metrics.certificate_expires(server.expires_at);
            watch::Sender::new(settings::in_force(server))
        });
        Self { tls, keys: BTreeMap::new(), properties: Properties::default() }
    }

    /// Cannot fail: what could, the reading of the configuration has done. Where `config` has other
    /// apps than the gateway, their rules wait for the next start with them.
    fn apply(&self, config: &Config, same_apps: bool) {
        if let (Some(lever), Some(server)) = (&self.tls, &config.tls.server) {
            lever.send_replace(settings::in_force(server));
        }
        for app in self.properties.apps().filter(|_| same_apps) {
            let configured = config.apps.iter().find(|configured| configured.name == app.app);
            if let Some(configured) = configured {
                app.replace(settings::rules(&configured.properties));
            }
        }
        for app in &config.apps {
            let source = KeySource::of(app);
            if let Some(lever) = self.keys.get(&app.name) {
                lever.send_if_modified(|standing| {
                    let changes = standing.place != source.place;
                    if changes {
                        *standing = source;
                    }
                    changes
                });
            }
        }
    }
}

/// Reads the configuration again when its files change, and when it is told to.
pub(super) struct Reloader {
    /// The configuration file, where there is one.
    pub(super) file: Option<PathBuf>,
    /// As the process was started.
    pub(super) started: Config,
    /// As it is now, as far as it can change.
    pub(super) in_force: Config,
    pub(super) levers: Levers,
    pub(super) keeper: Doorkeeper,
    pub(super) metrics: Metrics,
    /// Why the files as they are now are not in force.
    pub(super) problem: watch::Sender<Option<String>>,
    /// What is in force, as operators see it.
    pub(super) shown: watch::Sender<ShownConfig>,
    /// What was said to need a restart.
    pub(super) told: BTreeSet<String>,
}

impl Reloader {
    pub(super) async fn run(mut self, mut hangups: Signal, stop: CancellationToken) -> Ended {
        // Nothing has been seen yet: what changed while the gateway started is found, too.
        let mut sightings = Sightings::default();
        loop {
            let next = clock::now().instant.plus(LOOK_INTERVAL);
            let told = tokio::select! {
                () = stop.cancelled() => return Ended::Housekeeper,
                Some(()) = hangups.recv() => true,
                () = clock::sleep_until(Some(next)) => false,
            };
            if told {
                blocking(telemetry::reopen_audit).await;
            }
            let mut files = self.in_force.files();
            files.extend(self.file.clone());
            let Some(contents) = blocking(move || Contents::of(files)).await else { continue };
            if sightings.is_news(contents) || told {
                let file = self.file.clone();
                let load = move || Config::load(file.as_deref(), config::process_environment());
                if let Some(loaded) = blocking(load).await {
                    self.take(loaded, told).await;
                }
                // What a database that is away has no answer to is tried again.
                if !(self.keeper.is_store_away() && self.problem.borrow().is_some()) {
                    sightings.heed();
                }
            }
        }
    }

    async fn take(&mut self, loaded: Result<(Config, Vec<Warning>), ConfigError>, told: bool) {
        let (config, warnings) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(error.to_string()),
        };
        let live = self.in_force.changes(&config).live;
        let at_restart = self.started.changes(&config).at_restart;
        if live.is_empty() && at_restart == self.told && !told {
            self.problem.send_replace(None);
            return;
        }
        if let Err(problem) = self.let_in(&config).await {
            return self.refuse(problem);
        }
        self.problem.send_replace(None);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        self.levers.apply(&config, self.started.has_same_apps(&config));
        if let Some(server) = &config.tls.server {
            self.metrics.certificate_expires(server.expires_at);
        }
        let (changed, keys) = (list(&live), list(&at_restart));
        tracing::info!(changed, "the configuration was read again, and is in force");
        if !at_restart.is_empty() {
            tracing::warn!(keys, "these have changed and need a restart; the old values stay");
        }
        audit::config_reloaded(&changed, &keys);
        self.metrics.reloaded(Reload::Applied);
        let in_force = self.started.with_live(&config);
        self.shown.send_replace(settings::shown(&in_force, self.file.as_deref()));
        self.told = at_restart;
        self.in_force = config;
    }

    /// Lets in those whom `config` names, the first thing to take effect, as it can fail. The
    /// listeners are where they were, whatever it says of them.
    async fn let_in(&self, config: &Config) -> Result<(), String> {
        if let Some(problem) = config.left_open(&self.started.server).first() {
            return Err(problem.to_string());
        }
        self.keeper.let_in(config).await.map_err(|error| format!("{error:#}"))
    }

    fn refuse(&self, problem: String) {
        tracing::warn!(problem, "the new configuration is refused: the old one stays");
        audit::config_refused(&problem);
        self.metrics.reloaded(Reload::Refused);
        self.problem.send_replace(Some(problem));
    }
}

fn list(keys: &BTreeSet<String>) -> String {
    keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Files may be slow. A panic of the reading ends nothing: it is read again.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(read).await.ok()
}

/// What files were seen to hold. One may be seen while it is being written, or before the one
/// that belongs to it: what counts is seen twice.
#[derive(Default)]
struct Sightings {
    heeded: Contents,
    last: Contents,
}

impl Sightings {
    /// Whether this is another state than the one that was heeded last, and stands.
    fn is_news(&mut self, contents: Contents) -> bool {
        let stands = contents == self.last;
        self.last = contents;
        stands && self.last != self.heeded
    }

    /// What was seen last is being read.
    fn heed(&mut self) {
        self.heeded = self.last.clone();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_counts_once_it_was_seen_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let see = || Contents::of([path.clone()]);
        let mut sightings = Sightings::default();
        let mut check = |expected: bool| {
            let news = sightings.is_news(see());
            assert_eq!(news, expected);
            if news {
                sightings.heed();
            }
        };
        fs::write(&path, "one").unwrap();
        check(false);
        check(true);
        check(false);
        fs::write(&path, "tw").unwrap();
        check(false);
        fs::write(&path, "two").unwrap();
        check(false);
        check(true);
        fs::remove_file(&path).unwrap();
        check(false);
        check(true);
        // It was away for a moment only.
        fs::write(&path, "three").unwrap();
        check(false);
        fs::remove_file(&path).unwrap();
        check(false);
        check(false);
    }
}
