//! What all requests share: the account, the faults, and the clock that drives them.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::account::Account;
use super::body::Limits;
use super::clock::Clock;
use super::config::{SimulatorConfig, StartError};
use super::faults::Faults;
use super::journal::{Event, Journal};
use super::random::Random;

pub(super) struct World {
    pub(super) config: SimulatorConfig,
    clock: Clock,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) account: Account,
    pub(super) faults: Faults,
    pub(super) request_ids: Random,
    /// The one key that is right.
    pub(super) api_key: String,
    /// Where the account is kept, if it is.
    journal: Option<Journal>,
}

impl State {
    /// Whether what happened here may be told: not if it could not be kept.
    pub(super) fn is_kept(&self) -> bool {
        !self.journal.as_ref().is_some_and(Journal::is_broken)
    }
}

/// The state, for as long as one holds it. What has changed by then is kept before anybody
/// else sees it.
pub(super) struct Held<'a>(MutexGuard<'a, State>);

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let State { account, journal, .. } = &mut *self.0;
        let events = account.take_events();
        if let (Some(journal), false) = (journal, events.is_empty()) {
            journal.append(&events);
        }
    }
}

impl World {
    pub(super) fn new(config: SimulatorConfig) -> Result<Self, StartError> {
        config.check()?;
        let mut faults = Faults::new(Random::new(config.seed, 2));
        faults.arm(config.faults.clone())?;
        let mut account = Account::new(&config);
        let (journal, last) = match &config.state {
            Some(path) => {
                let unreadable = |source| StartError::State { path: path.clone(), source };
                let (journal, events) = Journal::open(path).map_err(unreadable)?;
                let last = events.iter().filter_map(Event::at).max();
                account.restore(events);
                (Some(journal), last)
            }
            None => (None, None),
        };
        let request_ids = Random::new(config.seed, 3);
        let api_key = config.api_key.clone();
        let state = Mutex::new(State { account, faults, request_ids, api_key, journal });
        Ok(Self { config, clock: Clock::start(last.unwrap_or_default()), state })
    }

    /// The state, and a time no earlier than any that was given with it before.
    pub(super) fn now(&self) -> (Held<'_>, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (Held(state), now)
    }

    /// The same, with the running job brought up to that time.
    pub(super) fn advanced(&self) -> (Held<'_>, Duration) {
        let (mut state, now) = self.now();
        state.account.advance(now);
        (state, now)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { rows_max: self.config.rows_max, bytes_max: self.config.file_bytes_max }
    }
}
