//! How long updates took until upstream had applied them.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest that is told apart: longer is as long.
const MAX_MS: u64 = 400 * 24 * 60 * 60 * 1_000;
const MINUTE: Duration = Duration::from_secs(60);

/// What they took.
#[derive(Clone, Debug)]
pub(super) struct Took {
    pub(super) millis: Histogram<u64>,
    /// When the last of those was accepted that took more than a minute.
    pub(super) over_a_minute_until: Option<Duration>,
}

impl Took {
    /// Of no update yet.
    pub(super) fn new() -> Self {
        let millis = Histogram::new_with_bounds(1, MAX_MS, 3)
            .expect("three digits of that many milliseconds are what it can count");
        Self { millis, over_a_minute_until: None }
    }

    /// An update that was accepted then took so long.
    pub(super) fn record(&mut self, accepted_at: Duration, took: Duration) {
        self.millis.saturating_record(u64::try_from(took.as_millis()).unwrap_or(MAX_MS));
        if took > MINUTE {
            self.over_a_minute_until = self.over_a_minute_until.max(Some(accepted_at));
        }
    }

    /// Those of another, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.millis.add(&other.millis).ok();
        self.over_a_minute_until = self.over_a_minute_until.max(other.over_a_minute_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_update_that_took_more_than_a_minute_is_told() {
        let second = Duration::from_secs;
        let mut took = Took::new();
        took.record(second(5), second(60));
        assert_eq!(took.over_a_minute_until, None);
        for (accepted_at, seconds) in [(30, 61), (10, 200), (40, 2)] {
            took.record(second(accepted_at), second(seconds));
        }
        assert_eq!(took.over_a_minute_until, Some(second(30)));
        let mut of_both = Took::new();
        of_both.add(&took);
        assert_eq!((of_both.millis.len(), of_both.over_a_minute_until), (4, Some(second(30))));
    }
}
