//! Connections on which nothing is asked for. Each takes a place of its listener, and over HTTP/2 it
//! may stay for ever: hyper asks only whether the other end is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, Response};

use super::watch::{UnderWay, Watch};

/// How often a connection is looked at within the time after which it counts as idle.
const LOOKS: u32 = 4;

/// What is asked for on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Activity {
    /// Returns once nothing was asked for, and no answer was under way, for `limit` or up to a quarter
    /// of it longer: no request reads a clock for this.
    pub(super) async fn has_ceased(&self, limit: Duration) {
        let mut lull = Lull::default();
        while !lull.is_over(self.counts()) {
            tokio::time::sleep(limit / LOOKS).await;
        }
    }

    /// How many requests have begun, and how many have ended.
    fn counts(&self) -> (u64, u64) {
        (self.0.begun.load(Relaxed), self.0.ended.load(Relaxed))
    }

    fn one_begins(&self) -> OneRequest {
        self.0.begun.fetch_add(1, Relaxed);
        OneRequest(self.clone())
    }
}

/// A time in which nothing is asked for, as far as somebody sees who looks now and then.
#[derive(Debug, Default)]
struct Lull {
    seen: Option<(u64, u64)>,
    /// How many looks in a row found nothing new.
    looks: u32,
}

impl Lull {
    /// Whether it has lasted for as long as it may. The first look only begins it.
    fn is_over(&mut self, counts: (u64, u64)) -> bool {
        let (begun, ended) = counts;
        let is_quiet = self.seen == Some(counts) && begun == ended;
        self.looks = if is_quiet { self.looks + 1 } else { 0 };
        self.seen = Some(counts);
        self.looks == LOOKS
    }
}

impl Watch for Activity {
    type UnderWay = OneRequest;

    fn begin(&self, _path: &str) -> OneRequest {
        self.one_begins()
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct OneRequest(Activity);

impl UnderWay for OneRequest {
    fn on_head<B>(&mut self, _head: &Response<B>) {}

    fn on_trailers(&mut self, _trailers: &HeaderMap) {}
}

impl Drop for OneRequest {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which look a connection is idle, where `at` does something before each.
    fn idle_at(activity: &Activity, mut at: impl FnMut(u32)) -> u32 {
        let mut lull = Lull::default();
        let idle = (0..1_000).find(|look| {
            at(*look);
            lull.is_over(activity.counts())
        });
        idle.expect("it is idle in the end")
    }

    #[test]
    fn a_connection_on_which_nothing_is_asked_for_is_idle_after_the_limit() {
        assert_eq!(idle_at(&Activity::default(), |_| {}), LOOKS);
    }

    #[test]
    fn who_asks_now_and_then_is_not_idle() {
        let activity = Activity::default();
        let asks = |look: u32| {
            if look <= 90 && look.is_multiple_of(LOOKS) {
                drop(activity.one_begins());
            }
        };
        assert_eq!(idle_at(&activity, asks), 88 + LOOKS);
    }

    #[test]
    fn what_is_under_way_may_be_silent() {
        let activity = Activity::default();
        let mut stream = Some(activity.one_begins());
        let ends = |look: u32| drop(stream.take_if(|_| look == 500));
        assert_eq!(idle_at(&activity, ends), 500 + LOOKS);
    }
}
