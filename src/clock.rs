//! The only reader of time.

use std::{
    sync::OnceLock,
    time::{Duration, Instant as StdInstant, SystemTime},
};

use crate::domain::time::{Instant, Now, Timestamp, Uptime};

/// Now, on both clocks.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now {
        instant: Instant::from_origin(StdInstant::now().duration_since(origin())),
        wall: Timestamp::default().plus(wall),
        uptime: uptime(),
    }
}

/// For how long the machine has run, by `CLOCK_BOOTTIME`, which nobody can set.
#[cfg(target_os = "linux")]
fn uptime() -> Option<Uptime> {
    static BOOT: OnceLock<Option<u64>> = OnceLock::new();
    let boot = BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).ok()
    });
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let length = Duration::new(up.tv_sec.try_into().ok()?, up.tv_nsec.try_into().ok()?);
    Some(Uptime { boot: (*boot)?, length })
}

#[cfg(not(target_os = "linux"))]
fn uptime() -> Option<Uptime> {
    None
}

/// The moment from which [`Instant`]s count: the first time that anybody asked.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
fn origin() -> StdInstant {
    static ORIGIN: OnceLock<StdInstant> = OnceLock::new();
    *ORIGIN.get_or_init(StdInstant::now)
}

/// Sleeps until `until`; for ever where it is `None`.
pub async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => {
            let at = tokio::time::Instant::from_std(origin() + until.since(Instant::default()));
            tokio::time::sleep_until(at).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_says_for_how_long_it_has_run() {
        let (before, after) = (now().uptime.unwrap(), now().uptime.unwrap());
        assert_eq!(before.boot, after.boot);
        assert!(Duration::ZERO < before.length && before.length <= after.length);
    }

    #[tokio::test]
    async fn sleeping_until_a_moment_ends_after_it() {
        let until = now().instant.plus(Duration::from_millis(20));
        sleep_until(Some(until)).await;
        assert!(now().instant >= until);
    }
}
