//! What all requests share: the account, the faults, and the clock that drives them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::account::Account;
use super::body::Limits;
use super::clock::Clock;
use super::config::{SimulatorConfig, StartError};
use super::faults::Faults;
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
}

impl World {
    pub(super) fn new(config: SimulatorConfig) -> Result<Self, StartError> {
        config.check()?;
        let mut faults = Faults::new(Random::new(config.seed, 2));
        faults.arm(config.faults.clone())?;
        let account = Account::new(&config);
        let request_ids = Random::new(config.seed, 3);
        let api_key = config.api_key.clone();
        let state = Mutex::new(State { account, faults, request_ids, api_key });
        Ok(Self { config, clock: Clock::start(), state })
    }

    /// The state, and a time no earlier than any that was given with it before.
    pub(super) fn now(&self) -> (MutexGuard<'_, State>, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (state, now)
    }

    /// The same, with the running job brought up to that time.
    pub(super) fn advanced(&self) -> (MutexGuard<'_, State>, Duration) {
        let (mut state, now) = self.now();
        state.account.advance(now);
        (state, now)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { rows_max: self.config.rows_max, bytes_max: self.config.file_bytes_max }
    }
}
