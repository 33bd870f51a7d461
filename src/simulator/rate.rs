//! A limit of so many requests a minute, over a sliding minute.

use std::collections::VecDeque;
use std::time::Duration;

/// The requests of the last minute.
pub(super) struct RateLimit {
    requests_max: usize,
    minute: Duration,
    taken: VecDeque<Duration>,
}

impl RateLimit {
    pub(super) fn new(requests_max: usize, minute: Duration) -> Self {
        Self { requests_max, minute, taken: VecDeque::new() }
    }

    /// Takes a request, or says how long to wait. A request that is turned away costs nothing.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        while self.taken.front().is_some_and(|at| *at + self.minute <= now) {
            self.taken.pop_front();
        }
        if self.taken.len() < self.requests_max {
            self.taken.push_back(now);
            return Ok(());
        }
        let oldest = self.taken.front().copied().unwrap_or(now);
        Err((oldest + self.minute).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_a_minute_after_it_was_taken() {
        let second = Duration::from_secs;
        let mut limit = RateLimit::new(2, second(60));
        assert_eq!(limit.take(second(100)), Ok(()));
        assert_eq!(limit.take(second(110)), Ok(()));
        assert_eq!(limit.take(second(120)), Err(second(40)));
        assert_eq!(limit.take(second(159)), Err(second(1)));
        assert_eq!(limit.take(second(160)), Ok(()));
        assert_eq!(limit.take(second(160)), Err(second(10)));
    }
}
