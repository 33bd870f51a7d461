//! The one place where the simulator reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time since the Unix epoch, and never steps back while the process lives.
pub(super) struct Clock {
    started: Instant,
    started_at: Duration,
}

impl Clock {
    /// Tells no time before `floor`: what is kept from before happened before.
    #[expect(clippy::disallowed_methods, reason = "the simulator stands apart from the gateway")]
    pub(super) fn start(floor: Duration) -> Self {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: started_at.max(floor) }
    }

    pub(super) fn now(&self) -> Duration {
        self.started_at + self.started.elapsed()
    }
}

/// A time as the state pages show it: whole milliseconds since the Unix epoch.
pub(super) fn epoch_ms(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

/// A time as Userpilot's answers show it: ISO 8601, in UTC.
pub(super) fn iso_8601(at: Duration) -> String {
    let ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}
