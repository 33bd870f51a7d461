//! The only reader of time.
//!
//! On Linux, [`Instant`]s go by `CLOCK_BOOTTIME`, which goes on while the machine is suspended: what
//! is due by then is due, and a budget does not stall. The sleeps of the runtime stand still
//! meanwhile, so a long one is made of naps, after each of which the clock is looked at.
//!
//! Gateways that share a store go by the store's clock: each anchors its own to it, so that what one
//! has written another reads by the same time, whatever their machines' clocks say.

#[cfg(not(target_os = "linux"))]
use std::time::Instant as StdInstant;
use std::{
    sync::{OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use crate::domain::time::{Instant, Now, Timestamp, Uptime};

/// The longest nap: what is due after the machine was suspended is at most so late.
const NAP_MAX: Duration = Duration::from_secs(10);

/// Now, on both clocks.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let origin = origin();
    let ran = ran();
    let now = Now {
        instant: Instant::from_origin(ran.saturating_sub(origin)),
        wall: Timestamp::default().plus(wall),
        uptime: boot().map(|boot| Uptime { boot, length: ran }),
    };
    match *ANCHOR.read().unwrap_or_else(PoisonError::into_inner) {
        Some(anchor) => anchor.tell(now),
        None => now,
    }
}

/// What another clock said at a moment.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Timestamp,
    at: Instant,
}

impl Anchor {
    /// The same moment by that clock. For how long this machine has run means nothing to others.
    fn tell(self, now: Now) -> Now {
        let (since, before) = (now.instant.since(self.at), self.at.since(now.instant));
        Now { wall: self.wall.plus(since).minus(before), uptime: None, ..now }
    }
}

/// `None` where this machine's clock counts.
static ANCHOR: RwLock<Option<Anchor>> = RwLock::new(None);

/// From now on the wall clock is one that said `wall` at a moment, and goes on from there.
pub fn anchor(wall: Timestamp, at: Instant) {
    *ANCHOR.write().unwrap_or_else(PoisonError::into_inner) = Some(Anchor { wall, at });
}

/// The same on the one clock that nobody sets, for half the price.
pub fn instant() -> Instant {
    let origin = origin();
    Instant::from_origin(ran().saturating_sub(origin))
}

/// For how long the machine has run, times of sleep included. Nobody can set it.
#[cfg(target_os = "linux")]
fn ran() -> Duration {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(up.tv_sec.try_into().unwrap_or(0), up.tv_nsec.try_into().unwrap_or(0))
}

/// A number of this run of the machine alone.
#[cfg(target_os = "linux")]
fn boot() -> Option<u64> {
    static BOOT: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).ok()
    })
}

/// For how long this process has run.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
fn ran() -> Duration {
    static BEGAN: OnceLock<StdInstant> = OnceLock::new();
    BEGAN.get_or_init(StdInstant::now).elapsed()
}

#[cfg(not(target_os = "linux"))]
fn boot() -> Option<u64> {
    None
}

/// The moment from which [`Instant`]s count: the first time that anybody asked.
fn origin() -> Duration {
    static ORIGIN: OnceLock<Duration> = OnceLock::new();
    *ORIGIN.get_or_init(ran)
}

/// Sleeps until `until`; for ever where it is `None`.
pub async fn sleep_until(until: Option<Instant>) {
    let Some(until) = until else { return std::future::pending().await };
    while let Some(nap) = nap(until, now().instant) {
        tokio::time::sleep(nap).await;
    }
}

/// How long to sleep before the clock is looked at; `None` once it is time.
fn nap(until: Instant, now: Instant) -> Option<Duration> {
    Some(until.since(now).min(NAP_MAX)).filter(|nap| !nap.is_zero())
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

    #[test]
    #[cfg(target_os = "linux")]
    fn instants_go_on_while_the_machine_is_suspended_as_its_uptime_does() {
        let (before, after) = (now(), now());
        let by_uptime = after.uptime.unwrap().since(before.uptime.unwrap());
        assert_eq!(Some(after.instant.since(before.instant)), by_uptime, "one clock tells both");
    }

    #[test]
    fn an_anchor_tells_another_clocks_time_from_there_on() {
        let at = |seconds| Instant::from_origin(Duration::from_secs(seconds));
        let wall = |seconds| Timestamp::default().plus(Duration::from_secs(seconds));
        let anchor = Anchor { wall: wall(1_000), at: at(50) };
        for (instant, told) in [(50, 1_000), (60, 1_010), (45, 995)] {
            let now = anchor.tell(Now { instant: at(instant), ..now() });
            assert_eq!((now.wall, now.uptime), (wall(told), None));
        }
    }

    #[test]
    fn a_long_sleep_looks_at_the_clock_now_and_then() {
        let at = |seconds| Instant::from_origin(Duration::from_secs(seconds));
        for (until, now, seconds) in [(700, 100, Some(10)), (103, 100, Some(3)), (100, 700, None)] {
            assert_eq!(nap(at(until), at(now)), seconds.map(Duration::from_secs));
        }
    }

    #[tokio::test]
    async fn sleeping_until_a_moment_ends_after_it() {
        let until = now().instant.plus(Duration::from_millis(20));
        sleep_until(Some(until)).await;
        assert!(now().instant >= until);
    }
}
