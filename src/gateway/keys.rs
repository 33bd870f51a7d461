//! API keys that change while the gateway runs: a file that holds another key is noticed, and
//! the next request bears it.

use std::{convert::Infallible, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use crate::{
    audit, clock,
    config::{ApiKeySource, AppConfig},
    delivery::{Operation, Operator},
    upstream::ApiKey,
};

/// A key counts once it is read twice: within a second, and that with something to spare.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// Where a key comes from, and what was read there.
#[derive(Clone)]
pub(super) struct KeySource {
    pub(super) place: ApiKeySource,
    key: SecretString,
}

impl KeySource {
    pub(super) fn of(config: &AppConfig) -> Self {
        Self { place: config.api_key_source.clone(), key: config.api_key.clone() }
    }
}

/// Watches where an app's key comes from.
pub(super) struct KeyWatch {
    app: String,
    source: watch::Receiver<KeySource>,
    key: ApiKey,
    operator: Operator,
    readings: Readings,
}

impl KeyWatch {
    /// Of an app whose requests bear `key`. Another source may be put in the place of the first.
    pub(super) fn new(
        config: &AppConfig,
        key: ApiKey,
        operator: Operator,
    ) -> (Self, watch::Sender<KeySource>) {
        let (lever, source) = watch::channel(KeySource::of(config));
        let readings = Readings::new(config.api_key.clone());
        (Self { app: config.name.clone(), source, key, operator, readings }, lever)
    }

    /// Looks now and then, for ever.
    pub(super) async fn watch(mut self) -> Infallible {
        loop {
            let next = clock::now().instant.plus(LOOK_INTERVAL);
            tokio::select! {
                () = clock::sleep_until(Some(next)) => {}
                Ok(()) = self.source.changed() => {
                    let key = self.source.borrow_and_update().key.clone();
                    if self.readings.turn_to(&key) {
                        self.replace(key).await;
                    }
                    continue;
                }
            }
            let place = self.source.borrow().place.clone();
            // A panic of the reading ends nothing: it is read again.
            let read = tokio::task::spawn_blocking(move || place.read_again()).await;
            if let Ok(Some(reading)) = read {
                self.read(reading).await;
            }
        }
    }

    async fn read(&mut self, reading: Result<SecretString, String>) {
        let app = &*self.app;
        match self.readings.read(reading) {
            None => {}
            Some(Ok(key)) => self.replace(key).await,
            Some(Err(error)) => tracing::warn!(app, error, "the API key stays as it was"),
        }
    }

    async fn replace(&mut self, key: SecretString) {
        let app = &*self.app;
        match self.key.replace(key) {
            Ok(()) => {
                tracing::info!(app, "there is another API key: it is used from now on");
                audit::api_key_changed(app);
                self.operator.ask(Operation::KeyChanged).await;
            }
            Err(error) => tracing::warn!(app, %error, "the API key stays as it was"),
        }
    }
}

/// What was read so far.
struct Readings {
    in_force: SecretString,
    /// The last one. A file may be read while it is being written: what counts is read twice.
    last: Result<SecretString, String>,
    /// What was complained about last.
    complaint: Option<String>,
}

impl Readings {
    fn new(in_force: SecretString) -> Self {
        Self { last: Ok(in_force.clone()), in_force, complaint: None }
    }

    /// From now on another place is read, where there is `key`. Whether that is another one.
    fn turn_to(&mut self, key: &SecretString) -> bool {
        let changed = key.expose_secret() != self.in_force.expose_secret();
        *self = Self::new(key.clone());
        changed
    }

    /// What is new: another key, or why there is none.
    fn read(
        &mut self,
        reading: Result<SecretString, String>,
    ) -> Option<Result<SecretString, String>> {
        let settled = match (&reading, &self.last) {
            (Ok(key), Ok(last)) => key.expose_secret() == last.expose_secret(),
            (Err(error), Err(last)) => error == last,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        self.last.clone_from(&reading);
        match reading {
            Ok(_) | Err(_) if !settled => None,
            Ok(key) => {
                self.complaint = None;
                let changed = key.expose_secret() != self.in_force.expose_secret();
                changed.then(|| {
                    self.in_force = key.clone();
                    Ok(key)
                })
            }
            Err(error) if self.complaint.as_ref() == Some(&error) => None,
            Err(error) => {
                self.complaint = Some(error.clone());
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key, or a complaint.
    type Read = Result<&'static str, &'static str>;

    /// What is new after each reading.
    fn check(steps: &[(Read, Option<Read>)]) {
        let mut readings = Readings::new("first".into());
        for (nth, (reading, expected)) in steps.iter().enumerate() {
            let reading = reading.map(SecretString::from).map_err(str::to_owned);
            let new = readings.read(reading);
            let new = new.as_ref().map(|new| match new {
                Ok(key) => Ok(key.expose_secret()),
                Err(error) => Err(&**error),
            });
            assert_eq!(new, *expected, "reading {nth}");
        }
    }

    #[test]
    fn a_key_counts_once_it_is_read_twice() {
        check(&[
            (Ok("first"), None),
            (Ok("sec"), None),
            (Ok("second"), None),
            (Ok("second"), Some(Ok("second"))),
            (Ok("second"), None),
            (Ok("first"), None),
            (Ok("first"), Some(Ok("first"))),
        ]);
    }

    #[test]
    fn a_trouble_is_told_once_until_it_has_passed() {
        check(&[
            (Err("empty"), None),
            (Err("empty"), Some(Err("empty"))),
            (Err("empty"), None),
            (Ok("first"), None),
            (Ok("first"), None),
            (Err("empty"), None),
            (Err("empty"), Some(Err("empty"))),
            (Err("gone"), None),
            (Err("gone"), Some(Err("gone"))),
            (Ok("second"), None),
            (Ok("second"), Some(Ok("second"))),
        ]);
    }
}
