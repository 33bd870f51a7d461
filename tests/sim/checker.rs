//! The checker: it knows what was acknowledged and what upstream saw, and nothing of how the
//! gateway comes from the one to the other.

mod memory;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included},
    time::Duration,
};

use crate::{
    account::{Row, Sight, Write},
    scenario::{Fault, Scenario},
};

/// What the client heard of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is durable, under this sequence.
    Accepted(u64),
    /// The gateway died meanwhile: it may be or not, together with its group.
    Nothing,
    /// It was refused, and must never be seen.
    Refused,
}

/// An update, numbered in the order of sending. Its number is the value of all that it sets,
/// so that whoever sees a value knows where it came from; or it repeats an earlier one of its user.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) user: u64,
    /// The number of the update whose values it has: its own, or that of the one it repeats.
    pub(crate) value: u64,
    pub(crate) properties: Vec<u64>,
    pub(crate) occurred: Occurred,
    pub(crate) heard: Heard,
    /// The commit that it was to be part of.
    pub(crate) group: u64,
}

/// When an update says that it occurred. What is said lies before or after all that happens
/// in a run, so that the order is known without knowing when the gateway accepted what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Occurred {
    Before(u64),
    WhenAccepted,
    After(u64),
}

/// What is known of one property of one user.
#[derive(Debug, Default)]
struct Line {
    /// The updates whose values upstream was given, each new one once.
    seen: Vec<u64>,
    /// What was written to the profile.
    applied: Vec<Applied>,
    /// Of the updates that were acknowledged, the last by the merge law.
    last: Option<(Occurred, u64)>,
    /// Updates that came after one that occurred later and was not delivered yet, and that one:
    /// unless it dies, their values must never go up.
    outdated: BTreeMap<u64, u64>,
}

/// What was written to a profile.
#[derive(Clone, Copy, Debug)]
struct Applied {
    /// How much had been sent when its job was taken; by express, until it was settled.
    mark: u64,
    number: u64,
    by_express: bool,
}

/// The checker.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) sent: Vec<Sent>,
    /// Whether each of a group stands for itself: a short queue may have refused some of a
    /// group of which nothing was heard.
    groups_are_loose: bool,
    lines: BTreeMap<(u64, u64), Line>,
    /// Users of whom some update said when it occurred.
    timed: BTreeSet<u64>,
    /// How much had been sent when the jobs were taken.
    marks: BTreeSet<u64>,
    /// Groups of which nothing was heard, and something was seen.
    seen_groups: BTreeSet<u64>,
    /// Updates that were said to be delivered.
    delivered: BTreeSet<u64>,
    /// Updates that have been dead letters.
    died: BTreeSet<u64>,
    /// Updates that are dead letters in the end.
    dead: BTreeSet<u64>,
    /// Updates of users that were forgotten since: nothing of them is to be sent any more.
    forgotten: BTreeSet<u64>,
    /// The same, where the gateway died meanwhile: they may be forgotten or not.
    perhaps_forgotten: BTreeSet<u64>,
    /// The properties that each user's last request by express has written.
    by_express: BTreeMap<u64, Vec<u64>>,
    last_sequence: u64,
    /// Updates by the values that they have.
    repeats: BTreeMap<u64, Vec<u64>>,
    /// Whether the gateway remembers what it delivers.
    remembers: bool,
    /// Whether it does so all the time.
    remembers_well: bool,
    /// For how long that counts, where it is known.
    refresh_after: Option<Duration>,
    /// When properties were last said to be delivered.
    settled_at: BTreeMap<Write, Duration>,
}

type Verdict = Result<(), String>;

impl Checker {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            groups_are_loose: scenario.has(Fault::ShortQueue),
            remembers: scenario.suppression.is_some(),
            remembers_well: scenario.remembers_well(),
            refresh_after: scenario.refresh_after(),
            ..Self::default()
        }
    }

    /// An update was sent, and this was heard of it.
    pub(crate) fn sent(&mut self, sent: Sent) -> Verdict {
        if let Heard::Accepted(sequence) = sent.heard {
            if sequence <= self.last_sequence {
                return Err(format!("sequence {sequence} came after {}", self.last_sequence));
            }
            self.last_sequence = sequence;
        }
        if sent.occurred != Occurred::WhenAccepted && sent.heard != Heard::Refused {
            self.timed.insert(sent.user);
        }
        let number = self.sent.len() as u64;
        self.repeats.entry(sent.value).or_default().push(number);
        self.sent.push(sent);
        self.place(number);
        Ok(())
    }

    /// Notes where the update stands among those of its user. Without any word from upstream
    /// that the last of them was delivered, it waits or is in flight.
    fn place(&mut self, number: u64) {
        let Ok(index) = usize::try_from(number) else { return };
        let sent = &self.sent[index];
        if sent.heard == Heard::Refused {
            return;
        }
        let stamp = (sent.occurred, number);
        for property in &sent.properties {
            let line = self.lines.entry((sent.user, *property)).or_default();
            // What is a dead letter is not on its way.
            let died = &self.died;
            if let Some(last) = line.last.filter(|last| *last > stamp && !died.contains(&last.1)) {
                let of = |n: u64| usize::try_from(n).ok().and_then(|n| self.sent.get(n));
                let of_value = |value: &u64| self.repeats.get(value).into_iter().flatten();
                let applied = line.applied.iter().flat_map(|it| of_value(&it.number));
                let mut stamps = applied.filter_map(|n| Some((of(*n)?.occurred, *n)));
                if !stamps.any(|applied| applied >= last) {
                    line.outdated.insert(number, last.1);
                }
            } else if matches!(sent.heard, Heard::Accepted(_)) {
                line.last = Some(stamp);
            }
        }
    }

    /// The last sequence that was acknowledged.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Upstream saw something.
    pub(crate) fn see(&mut self, sight: Sight) -> Verdict {
        match sight {
            Sight::Taken(row) => self.see_taken(&row),
            Sight::Applied { row, mark, by_express } => {
                if by_express {
                    let properties = row.writes.iter().map(|(property, _)| *property).collect();
                    self.by_express.insert(row.user, properties);
                } else {
                    self.marks.insert(mark);
                }
                for (property, number) in row.writes {
                    let line = self.lines.entry((row.user, property)).or_default();
                    line.applied.push(Applied { mark, number, by_express });
                }
                Ok(())
            }
        }
    }

    /// What a user's last request by express has written was in flight until now.
    pub(crate) fn settled_by_express(&mut self, user: u64, mark: u64, now: Duration) {
        for property in self.by_express.remove(&user).unwrap_or_default() {
            self.settled_at.insert((user, property), now);
            let line = self.lines.get_mut(&(user, property));
            if let Some(last) = line.and_then(|line| line.applied.last_mut()) {
                last.mark = mark;
            }
        }
    }

    fn see_taken(&mut self, row: &Row) -> Verdict {
        for write in &row.writes {
            self.see_value(row.user, *write)?;
        }
        Ok(())
    }

    /// Whether the gateway owes upstream an update: it was acknowledged, or it was not and
    /// something of its commit was seen.
    fn is_owed(&self, number: u64, sent: &Sent) -> bool {
        match sent.heard {
            Heard::Accepted(_) => true,
            Heard::Nothing => {
                let group = if self.groups_are_loose { u64::MAX - number } else { sent.group };
                self.seen_groups.contains(&group)
            }
            Heard::Refused => false,
        }
    }

    /// Whether profiles hold the update: each of its values, or one that precedes it by the
    /// merge law, was written by a job that was taken after it was sent, or that was the last
    /// to be taken before and so may have been under way.
    fn is_applied(&self, number: u64, sent: &Sent) -> bool {
        let stamp = (sent.occurred, number);
        sent.properties.iter().all(|property| {
            let Some(line) = self.lines.get(&(sent.user, *property)) else { return false };
            let was_written = line.applied.iter().any(|it| {
                let may_be_under_way = || {
                    let since = (Excluded(it.mark), Included(number));
                    !it.by_express && self.marks.range(since).next().is_none()
                };
                self.stamps(it.number).any(|other| other.1 < it.mark && other >= stamp)
                    && (it.mark > number || may_be_under_way())
            });
            was_written || self.remembers && self.was_there(line, (sent, stamp))
        })
    }

    /// The stamps of the updates that have a value.
    fn stamps(&self, value: u64) -> impl Iterator<Item = (Occurred, u64)> {
        let of = |n: u64| usize::try_from(n).ok().and_then(|n| self.sent.get(n));
        let numbers = self.repeats.get(&value).into_iter().flatten();
        numbers.filter_map(move |n| Some((of(*n)?.occurred, *n)))
    }

    /// Whether upstream held the value when the update was sent, or holds one since then that is
    /// later by the merge law. It may be that of an update which repeats a value, and came when this
    /// was under way already: nothing is sent of it, so that no job is taken after it.
    fn was_there(&self, line: &Line, (sent, stamp): (&Sent, (Occurred, u64))) -> bool {
        let before = line.applied.iter().rfind(|it| it.mark <= stamp.1);
        let mut since = line.applied.iter().filter(|it| it.mark > stamp.1).chain(before);
        let was_taken = |number: u64| {
            let other = usize::try_from(number).ok().and_then(|number| self.sent.get(number));
            other.is_some_and(|other| other.heard != Heard::Refused)
        };
        let is_later = |other: (Occurred, u64)| other > stamp && was_taken(other.1);
        before.is_some_and(|it| it.number == sent.value)
            || since.any(|it| self.stamps(it.number).any(is_later))
    }

    /// A client asked after an update and was told this.
    pub(crate) fn told(&mut self, number: u64, delivered: bool) -> Verdict {
        let Some(sent) = usize::try_from(number).ok().and_then(|n| self.sent.get(n)) else {
            return Ok(());
        };
        if !delivered && self.delivered.contains(&number) {
            return Err(format!("update {number} was delivered, and is not any more"));
        }
        if delivered && !self.is_applied(number, sent) {
            return Err(format!("update {number} is said to be delivered, and is not"));
        }
        if delivered {
            self.delivered.insert(number);
        }
        Ok(())
    }

    /// The updates of a user with sequences that it `holds` are a dead letter.
    pub(crate) fn died(&mut self, user: u64, holds: impl Fn(u64) -> bool) {
        let dead = (0..).zip(&self.sent).filter(|(_, sent)| {
            let accepted = matches!(sent.heard, Heard::Accepted(n) if holds(n));
            sent.user == user && (accepted || sent.heard == Heard::Nothing)
        });
        self.died.extend(dead.map(|(number, _)| number));
    }

    /// A user was forgotten; or may have been, where that is not `certain`.
    pub(crate) fn forgot(&mut self, user: u64, certain: bool) {
        for (number, _) in (0..).zip(&self.sent).filter(|(_, sent)| sent.user == user) {
            // Like a dead one it does not stand in the way of others.
            self.died.insert(number);
            match certain {
                true => self.forgotten.insert(number),
                false => self.perhaps_forgotten.insert(number),
            };
        }
    }

    /// A client asked after an update, and was told that it is forgotten, or that it is not.
    pub(crate) fn told_forgotten(&self, number: u64, forgotten: bool) -> Verdict {
        match forgotten {
            true if !self.may_be_forgotten(number) => {
                Err(format!("update {number} is said to be forgotten, and is not"))
            }
            false if self.forgotten.contains(&number) => {
                Err(format!("update {number} was forgotten, and is still known"))
            }
            true | false => Ok(()),
        }
    }

    fn may_be_forgotten(&self, number: u64) -> bool {
        self.forgotten.contains(&number) || self.perhaps_forgotten.contains(&number)
    }

    /// An update is a dead letter in the end: visible, and not owed.
    pub(crate) fn bury(&mut self, number: u64) {
        self.dead.insert(number);
    }

    /// Whether an update is a dead letter, or may be one, where nobody has a receipt for it.
    fn is_dead(&self, number: u64, sent: &Sent) -> bool {
        let without_receipt = sent.heard == Heard::Nothing && self.died.contains(&number);
        without_receipt || self.dead.contains(&number)
    }

    /// Once traffic has stopped and all is said to be delivered: it is.
    pub(crate) fn finish(&self) -> Verdict {
        let mut latest: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (number, sent) in (0..).zip(&self.sent) {
            if !self.is_owed(number, sent) || self.may_be_forgotten(number) {
                continue;
            }
            if !self.is_dead(number, sent) && !self.is_applied(number, sent) {
                let heard = sent.heard;
                return Err(format!("update {number} of u{} ({heard:?}) is lost", sent.user));
            }
            for property in &sent.properties {
                latest.insert((sent.user, *property), number);
            }
        }
        for ((user, property), number) in latest {
            let line = self.lines.get(&(user, property));
            let value = line.and_then(|line| line.applied.last()).map(|it| it.number);
            // Where updates say when they occurred, what is delivered cannot be called back: an
            // older value that came after that goes up. What came before was held against it
            // when it was seen.
            // A dead one may have been written by a job that failed.
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let dead = self.sent.get(index).is_some_and(|sent| self.is_dead(number, sent));
            let is_right =
                value.is_some_and(|value| self.may_be_last(user, (property, value), number));
            if self.timed.contains(&user) {
                self.check_timed((user, property), value)?;
            } else if !is_right && !dead {
                return Err(format!("u{user}.p{property} is {value:?}, not that of {number}"));
            }
        }
        Ok(())
    }
}
