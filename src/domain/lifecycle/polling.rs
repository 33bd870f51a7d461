//! When to ask after a job: first when it could be half done, then closer and closer to its
//! expected end, and ever less often once that has passed.

use std::time::Duration;

use super::Instant;

/// When to ask for the first time after a job that was taken `now` and should end at
/// `expected_end`.
pub(super) fn first(
    now: Instant,
    expected_end: Instant,
    (min, _): (Duration, Duration),
) -> Instant {
    now.plus((expected_end.since(now) / 2).max(min))
}

/// When to ask again, after the job was seen unfinished `now`.
pub(super) fn next(
    now: Instant,
    expected_end: Instant,
    (min, max): (Duration, Duration),
) -> Instant {
    let left = expected_end.since(now) / 2;
    let overdue = now.since(expected_end) / 4;
    now.plus(left.max(overdue).clamp(min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_full_job_is_asked_after_a_few_dozen_times() {
        let (end, mut polls) = (at(333), 1);
        let mut now = first(at(0), end, INTERVAL);
        assert!(now >= at(166));
        while now < end.plus(Duration::from_secs(2)) {
            now = next(now, end, INTERVAL);
            polls += 1;
            assert!(polls < 25, "still at {now:?}");
        }
        assert!(now <= at(337));
    }

    #[test]
    fn a_job_is_asked_after_closer_and_closer_to_its_end() {
        for (now, expected) in [(50, 65), (80, 90), (90, 95), (99, 100)] {
            assert_eq!(next(at(now), at(100), INTERVAL), at(expected));
        }
    }

    #[test]
    fn an_overdue_job_is_asked_after_ever_less_often() {
        assert_eq!(next(at(101), at(100), INTERVAL), at(102));
        assert_eq!(next(at(140), at(100), INTERVAL), at(150));
        assert_eq!(next(at(900), at(100), INTERVAL), at(915));
    }
}
