//! The express lane: what goes up at once, by the real-time endpoint, and when; as a state machine
//! without I/O, clock or randomness.
//!
//! [`Express::next`] says what to do now, or until when to wait; the driver does it and tells
//! [`Express::on`] what came of it. Records are taken (durably in flight), sent, and settled; what
//! is not taken for lack of pace, or for a failure, stays in its lane, and a job takes it along.

use std::{collections::VecDeque, time::Duration};

use super::{
    backoff::{Backoff, BackoffLimits},
    time::{Instant, Now},
    update::Subject,
    verdict::{FailureKind, Identified},
};

/// How often what waits is looked at again, of which nothing could be taken: its subjects are in
/// flight with a batch.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The same where more has come meanwhile.
const LOOK_GAP: Duration = Duration::from_millis(20);

/// What does not change while an app is served.
#[derive(Clone, Copy, Debug)]
pub struct ExpressSettings {
    /// How many requests upstream takes in any minute. At least 3.
    pub per_minute: u32,
    /// How many may be under way at once.
    pub requests_max: u32,
    /// How long to wait after failures.
    pub backoff: BackoffLimits,
    /// The longest `Retry-After` that is believed.
    pub retry_after_max: Duration,
    /// How long to wait before upstream is asked again that refuses the API key.
    pub held_retry: Duration,
}

/// What becomes of a record that went by express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressEnd {
    /// Upstream's profile holds it.
    Delivered,
    /// Upstream may hold it or not: it goes back, to go by express again.
    Back,
    /// Upstream refuses it. It goes back into the interactive lane: a batch is made of it, and
    /// whether it is a dead letter is found there.
    Refused,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum ExpressEvent {
    /// So many records wait in the lane, and so many updates have come to it since the start.
    Waiting {
        /// Records.
        records: u64,
        /// Updates.
        updates: u64,
    },
    /// Records of these subjects are in flight.
    Taken(Vec<Subject>),
    /// The request of this subject leaves.
    Begun(Subject),
    /// It was answered, or not; `None` where there was nothing to send any more.
    Answered(Subject, Option<Identified>),
    /// What was to be settled is.
    Settled,
    /// An operator pauses or resumes the app, or the process is stopping.
    Paused(bool),
    /// An operator wants what waits to go now.
    Flush,
    /// There is another API key.
    KeyChanged,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpressStep {
    /// Take up to so many records. → [`ExpressEvent::Taken`]
    Take(u64),
    /// Send the record of this subject: [`ExpressEvent::Begun`] at once, and
    /// [`ExpressEvent::Answered`] when it is.
    Send(Subject),
    /// Settle these. → [`ExpressEvent::Settled`]
    Settle(Vec<(Subject, ExpressEnd)>),
    /// Nothing, until then or until something happens.
    Wait(Option<Instant>),
}

/// The state machine of one app.
#[derive(Clone, Debug)]
pub struct Express {
    settings: ExpressSettings,
    pace: Pace,
    paused: bool,
    records: u64,
    updates: u64,
    /// In flight, and not sent.
    taken: VecDeque<Subject>,
    /// Requests that are not answered.
    under_way: u32,
    /// To be settled.
    ended: Vec<(Subject, ExpressEnd)>,
    backoff: Backoff,
    /// Until when nothing is sent, and whether that is for the API key.
    hold: Option<(Instant, bool)>,
    /// When nothing could be taken last, and until when nothing is looked for.
    look: Option<(Instant, Instant)>,
}

impl Express {
    /// The machine at the start of a process. How much of the pace the one before has used up is
    /// not known: all of it, at the worst.
    pub fn new(settings: ExpressSettings, paused: bool, now: Now) -> Self {
        Self {
            settings,
            pace: Pace::used_up(settings.per_minute, now.instant),
            paused,
            records: 0,
            updates: 0,
            taken: VecDeque::new(),
            under_way: 0,
            ended: Vec::new(),
            backoff: Backoff::default(),
            hold: None,
            look: None,
        }
    }

    /// Whether nothing is in flight by it.
    pub fn is_idle(&self) -> bool {
        self.taken.is_empty() && self.under_way == 0 && self.ended.is_empty()
    }

    /// What to do now. Asked twice, it says the same.
    pub fn next(&mut self, now: Now) -> ExpressStep {
        let now = now.instant;
        self.hold = self.hold.filter(|(until, _)| *until > now);
        self.look = self.look.filter(|(_, until)| *until > now);
        let stands = self.paused || self.hold.is_some();
        if stands {
            let back = self.taken.drain(..).map(|subject| (subject, ExpressEnd::Back));
            self.ended.extend(back);
        }
        if !self.ended.is_empty() {
            return ExpressStep::Settle(self.ended.clone());
        }
        let room = u64::from(self.settings.requests_max.saturating_sub(self.under_way));
        let room = room.min(self.pace.room(now));
        if let Some(subject) = self.taken.front() {
            return match room {
                0 => ExpressStep::Wait(Some(self.pace.next_at(now))),
                _ => ExpressStep::Send(subject.clone()),
            };
        }
        let waits_for = self.hold.or(self.look.map(|(_, until)| (until, false)));
        match waits_for {
            _ if self.paused || self.records == 0 => ExpressStep::Wait(None),
            _ if self.under_way >= self.settings.requests_max => ExpressStep::Wait(None),
            Some((until, _)) => ExpressStep::Wait(Some(until)),
            None if room == 0 => ExpressStep::Wait(Some(self.pace.next_at(now))),
            None => ExpressStep::Take(room),
        }
    }

    /// Something happened. `random` is evenly distributed.
    pub fn on(&mut self, event: ExpressEvent, now: Now, random: u64) {
        match event {
            ExpressEvent::Waiting { records, updates } => {
                if updates != std::mem::replace(&mut self.updates, updates) {
                    let soon = |(at, until): (Instant, Instant)| (at, until.min(at.plus(LOOK_GAP)));
                    self.look = self.look.map(soon);
                }
                self.records = records;
            }
            ExpressEvent::Taken(subjects) => {
                if subjects.is_empty() {
                    self.look = Some((now.instant, now.instant.plus(LOOK_AGAIN)));
                }
                self.taken.extend(subjects);
            }
            ExpressEvent::Begun(subject) => {
                self.taken.retain(|taken| *taken != subject);
                self.under_way += 1;
                self.pace.pay(now.instant);
            }
            ExpressEvent::Answered(subject, answer) => {
                self.under_way = self.under_way.saturating_sub(1);
                let end = self.answered(answer, now, random);
                self.ended.push((subject, end));
            }
            ExpressEvent::Settled => self.ended.clear(),
            ExpressEvent::Paused(paused) => self.paused = paused,
            ExpressEvent::Flush => self.hold = None,
            ExpressEvent::KeyChanged => self.hold = self.hold.filter(|(_, for_key)| !for_key),
        }
    }

    fn answered(&mut self, answer: Option<Identified>, now: Now, random: u64) -> ExpressEnd {
        let kind = match answer {
            None => return ExpressEnd::Back,
            Some(Ok(())) => {
                self.backoff.succeed();
                return ExpressEnd::Delivered;
            }
            Some(Err(failure)) => failure.kind,
        };
        match kind {
            FailureKind::NotSent | FailureKind::Unknown | FailureKind::Throttled(None) => {
                // Those that were under way together failed together.
                if self.hold.is_none() {
                    let wait = self.backoff.fail(&self.settings.backoff, random);
                    self.hold(now.instant.plus(wait), false);
                }
                ExpressEnd::Back
            }
            FailureKind::Throttled(Some(wait)) => {
                let wait = wait.min(self.settings.retry_after_max);
                self.hold(now.instant.plus(wait), false);
                ExpressEnd::Back
            }
            FailureKind::KeyRejected => {
                self.hold(now.instant.plus(self.settings.held_retry), true);
                ExpressEnd::Back
            }
            FailureKind::SlotTaken
            | FailureKind::TooLarge
            | FailureKind::BadRows
            | FailureKind::NotFound
            | FailureKind::Refused => ExpressEnd::Refused,
        }
    }

    fn hold(&mut self, until: Instant, for_key: bool) {
        let before = self.hold.filter(|(before, _)| *before > until);
        self.hold = before.or(Some((until, for_key)));
    }
}

/// How many requests may leave: the generic cell rate algorithm, as in `rate`, with a margin. In
/// any minute no more than `per_minute` arrive, even where the way takes some a second longer than
/// others.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    burst: u32,
    /// Up to when what has left is paid for.
    paid: Instant,
}

impl Pace {
    /// With no room left `now`.
    fn used_up(per_minute: u32, now: Instant) -> Self {
        // A second's worth at once, and one as a margin.
        let burst = (per_minute / 60).max(1);
        let interval = Duration::from_secs(60) / per_minute.saturating_sub(2 * burst).max(1);
        Self { interval, burst, paid: now.plus(interval * burst) }
    }

    /// How many may leave now.
    fn room(&self, now: Instant) -> u64 {
        let room = (self.interval * self.burst).saturating_sub(self.paid.since(now));
        u64::try_from(room.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(0)
    }

    /// When there is room for one.
    fn next_at(&self, now: Instant) -> Instant {
        let all_but_one = self.interval * (self.burst - 1);
        now.plus(self.paid.since(now).saturating_sub(all_but_one))
    }

    /// One leaves.
    fn pay(&mut self, now: Instant) {
        self.paid = self.paid.max(now).plus(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::verdict::Failure;

    const SETTINGS: ExpressSettings = ExpressSettings {
        per_minute: 600,
        requests_max: 3,
        backoff: BackoffLimits {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(60),
        },
        retry_after_max: Duration::from_secs(300),
        held_retry: Duration::from_secs(180),
    };

    fn at(millis: u64) -> Now {
        Now { instant: Instant::from_origin(Duration::from_millis(millis)), ..Now::default() }
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
        machine.on(ExpressEvent::Taken(vec![subject(1)]), at(10_000), 0);
        assert_eq!(machine.next(at(10_000)), ExpressStep::Send(subject(1)));
        machine.on(ExpressEvent::Begun(subject(1)), at(10_000), 0);
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
        let mut machine = check(failed(FailureKind::KeyRejected), ExpressEnd::Back, until(190_000));
        machine.on(ExpressEvent::KeyChanged, at(10_000), 0);
        assert_eq!(machine.next(at(10_000)), take);
    }

    #[test]
    fn an_outage_holds_it_back_for_longer_each_time_and_those_that_fail_together_fail_once() {
        let mut machine = machine(9);
        machine.on(ExpressEvent::Taken(vec![subject(1), subject(2)]), at(10_000), 0);
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
        machine.on(ExpressEvent::Taken(vec![subject(1)]), at(10_000), 0);
        machine.on(ExpressEvent::Paused(true), at(10_000), 0);
        let back = vec![(subject(1), ExpressEnd::Back)];
        assert_eq!(machine.next(at(10_000)), ExpressStep::Settle(back));
        machine.on(ExpressEvent::Settled, at(10_000), 0);
        assert_eq!(machine.next(at(10_000)), ExpressStep::Wait(None));
    }

    #[test]
    fn what_could_not_be_taken_is_looked_at_again_and_sooner_when_more_comes() {
        let mut machine = machine(1);
        machine.on(ExpressEvent::Taken(vec![]), at(10_000), 0);
        assert_eq!(machine.next(at(10_000)), until(10_500));
        machine.on(waiting(2), at(10_001), 0);
        assert_eq!(machine.next(at(10_001)), until(10_020));
        assert_eq!(machine.next(at(10_020)), ExpressStep::Take(3));
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
                    machine.on(ExpressEvent::Taken(subjects), at(now), 0);
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
}
