//! When express sends what, and what becomes of it.

use proptest::prelude::*;

use super::*;
use crate::domain::verdict::Failure;

const SETTINGS: ExpressSettings = ExpressSettings {
    per_minute: 600,
    requests_max: 3,
    backoff: BackoffLimits { initial: Duration::from_millis(500), max: Duration::from_secs(60) },
    retry_after_max: Duration::from_secs(300),
    held_retry: Duration::from_secs(180),
};

fn at(millis: u64) -> Now {
    Now { instant: Instant::from_origin(Duration::from_millis(millis)), ..Now::default() }
}

fn taken(numbers: &[u64]) -> ExpressEvent {
    let subjects = numbers.iter().copied().map(subject).collect();
    ExpressEvent::Taken { subjects, cut_short: false }
}

fn subject(number: u64) -> Subject {
    Subject::user(number.to_string())
}

fn waiting(records: u64) -> ExpressEvent {
    ExpressEvent::Waiting { records, updates: records }
}

/// A machine that has rested long enough, and for which so many records wait.
fn machine(records: u64) -> Express {
    let mut machine = Express::new(SETTINGS, false, at(0));
    machine.on(waiting(records), at(10_000), 0);
    machine
}

fn failed(kind: FailureKind) -> Option<Identified> {
    Some(Err(Failure { kind, cause: String::new(), detail: String::new(), request_id: None }))
}

/// Sends one record, has it answered so, and says how it ends and what comes then.
fn check(answer: Option<Identified>, end: ExpressEnd, then: ExpressStep) -> Express {
    let mut machine = machine(2);
    assert_eq!(machine.next(at(10_000)), ExpressStep::Take(3));
    machine.on(taken(&[1]), at(10_000), 0);
    assert!(!machine.is_idle());
    assert_eq!(machine.next(at(10_000)), ExpressStep::Send(subject(1)));
    machine.on(ExpressEvent::Begun(subject(1)), at(10_000), 0);
    assert!(!machine.is_idle());
    machine.on(ExpressEvent::Answered(subject(1), answer), at(10_000), u64::MAX);
    assert_eq!(machine.next(at(10_000)), ExpressStep::Settle(vec![(subject(1), end)]));
    machine.on(ExpressEvent::Settled, at(10_000), 0);
    assert!(machine.is_idle());
    assert_eq!(machine.next(at(10_000)), then);
    machine
}

fn until(millis: u64) -> ExpressStep {
    ExpressStep::Wait(Some(at(millis).instant))
}

#[test]
fn what_upstream_says_decides_where_a_record_goes_and_what_comes_next() {
    let take = ExpressStep::Take(3);
    check(Some(Ok(())), ExpressEnd::Delivered, take.clone());
    check(None, ExpressEnd::Back, take.clone());
    for kind in [FailureKind::BadRows, FailureKind::TooLarge, FailureKind::NotFound] {
        check(failed(kind), ExpressEnd::Refused, take.clone());
    }
    let throttled = |seconds| FailureKind::Throttled(Some(Duration::from_secs(seconds)));
    check(failed(throttled(7)), ExpressEnd::Back, until(17_000));
    check(failed(throttled(9_999)), ExpressEnd::Back, until(310_000));
    let half_a_second = until(10_500);
    for (kind, end) in [
        (FailureKind::NotSent, ExpressEnd::Back),
        (FailureKind::Throttled(None), ExpressEnd::Back),
        (FailureKind::Unknown, ExpressEnd::Unknown),
    ] {
        check(failed(kind), end, half_a_second.clone());
    }
    let mut machine = check(failed(FailureKind::KeyRejected), ExpressEnd::Back, until(190_000));
    machine.on(ExpressEvent::KeyChanged, at(10_000), 0);
    assert_eq!(machine.next(at(10_000)), take);
}

#[test]
fn an_outage_holds_it_back_for_longer_each_time_and_those_that_fail_together_fail_once() {
    let mut machine = machine(9);
    machine.on(taken(&[1, 2]), at(10_000), 0);
    for number in [1, 2] {
        machine.on(ExpressEvent::Begun(subject(number)), at(10_000), 0);
    }
    for number in [1, 2] {
        let event = ExpressEvent::Answered(subject(number), failed(FailureKind::Unknown));
        machine.on(event, at(10_000), u64::MAX);
    }
    machine.on(ExpressEvent::Settled, at(10_000), 0);
    let ExpressStep::Wait(Some(until)) = machine.next(at(10_000)) else { panic!() };
    assert!(until <= at(10_500).instant && until > at(10_499).instant, "{until:?}");
    assert_eq!(machine.backoff.failures(), 1);
}

#[test]
fn what_was_taken_when_a_pause_came_goes_back_unsent() {
    let mut machine = machine(1);
    machine.on(taken(&[1]), at(10_000), 0);
    machine.on(ExpressEvent::Paused(true), at(10_000), 0);
    let back = vec![(subject(1), ExpressEnd::Back)];
    assert_eq!(machine.next(at(10_000)), ExpressStep::Settle(back));
    machine.on(ExpressEvent::Settled, at(10_000), 0);
    assert_eq!(machine.next(at(10_000)), ExpressStep::Wait(None));
}

#[test]
fn what_could_not_be_taken_is_looked_at_again_and_sooner_when_more_comes() {
    let mut machine = machine(1);
    machine.on(taken(&[]), at(10_000), 0);
    assert_eq!(machine.next(at(10_000)), until(10_500));
    machine.on(waiting(2), at(10_001), 0);
    assert_eq!(machine.next(at(10_001)), until(10_020));
    assert_eq!(machine.next(at(10_020)), ExpressStep::Take(3));
}

#[test]
fn after_a_look_that_was_cut_short_nothing_is_looked_for_whatever_comes() {
    let mut machine = machine(1);
    let subjects = vec![subject(1)];
    machine.on(ExpressEvent::Taken { subjects, cut_short: true }, at(10_000), 0);
    assert_eq!(machine.next(at(10_000)), ExpressStep::Send(subject(1)));
    machine.on(ExpressEvent::Begun(subject(1)), at(10_000), 0);
    machine.on(waiting(2), at(10_001), 0);
    machine.on(waiting(3), at(10_300), 0);
    assert_eq!(machine.next(at(10_300)), until(10_500));
    assert_eq!(machine.next(at(10_500)), ExpressStep::Take(2));
}

#[test]
fn a_start_does_not_begin_with_a_burst() {
    let mut machine = Express::new(SETTINGS, false, at(0));
    machine.on(waiting(9), at(0), 0);
    let ExpressStep::Wait(Some(first)) = machine.next(at(0)) else { panic!() };
    assert!((100..110).contains(&first.since(at(0).instant).as_millis()), "{first:?}");
}

proptest! {
    #[test]
    fn no_minute_has_more_requests_than_it_may_whatever_restarts(
        per_minute in 3_u32..2_000,
        pauses in prop::collection::vec((0_u64..3_000, prop::bool::weighted(0.02)), 1..600),
    ) {
        let settings = ExpressSettings { per_minute, requests_max: u32::MAX, ..SETTINGS };
        let mut machine = Express::new(settings, false, at(0));
        let (mut now, mut sent) = (0, VecDeque::new());
        for (number, (pause, restarts)) in (0..).zip(pauses) {
            now += pause;
            if restarts {
                machine = Express::new(settings, false, at(now));
            }
            machine.on(waiting(1), at(now), 0);
            if let ExpressStep::Take(room) = machine.next(at(now)) {
                let subjects = (0..room).map(|n| subject(number * 10_000 + n)).collect();
                machine.on(ExpressEvent::Taken { subjects, cut_short: false }, at(now), 0);
            }
            while let ExpressStep::Send(subject) = machine.next(at(now)) {
                machine.on(ExpressEvent::Begun(subject), at(now), 0);
                sent.push_back(now);
            }
            while sent.front().is_some_and(|first| first + 60_000 <= now) {
                sent.pop_front();
            }
            prop_assert!(sent.len() <= per_minute as usize, "{} by {now} ms", sent.len());
        }
    }
}
