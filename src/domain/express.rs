//! The express lane: what goes up at once, by the real-time endpoint, and when; as a state machine
//! without I/O, clock or randomness.
//!
//! [`Express::next`] says what to do now, or until when to wait; the driver does it and tells
//! [`Express::on`] what came of it. Records are taken (durably in flight), sent, and settled; what
//! is not taken for lack of pace, or for a failure, stays in its lane, and a job takes it along.

#[cfg(test)]
mod tests;

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
    /// It goes back, to go by express again.
    Back,
    /// The same; and upstream may hold it, or come to hold it later, over what is sent then.
    Unknown,
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
    /// Records were taken.
    Taken {
        /// Those of these subjects are in flight.
        subjects: Vec<Subject>,
        /// So many had to be passed over that not all were looked at.
        cut_short: bool,
    },
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
    /// When what waits is looked at again, of which too little could be taken.
    look: Option<Look>,
}

/// When to look again.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Where more comes meanwhile.
    soonest: Instant,
    /// Where nothing does.
    until: Instant,
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
        self.look = self.look.filter(|look| look.until > now);
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
        let waits_for = self.hold.or(self.look.map(|look| (look.until, false)));
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
                    self.look = self.look.map(|look| Look { until: look.soonest, ..look });
                }
                self.records = records;
            }
            ExpressEvent::Taken { subjects, cut_short } => {
                if subjects.is_empty() || cut_short {
                    let until = now.instant.plus(LOOK_AGAIN);
                    // A look at so many is not for every update that comes.
                    let soonest = if cut_short { until } else { now.instant.plus(LOOK_GAP) };
                    self.look = Some(Look { soonest, until });
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
                match kind == FailureKind::Unknown {
                    true => ExpressEnd::Unknown,
                    false => ExpressEnd::Back,
                }
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
