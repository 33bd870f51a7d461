//! What is promised of the updates of a fleet. Several replicas accept at once: the order is that of
//! the sequences, and of an update of which nothing was heard it is not known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::account::{Row, Sight, Write};

/// What its client heard of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It waits for an answer.
    Waits,
    /// It is durable, under this sequence.
    Accepted(u64),
    /// Nothing was stored of it.
    Refused,
    /// It may be durable, or become so until then.
    Nothing { until: Duration },
}

/// An update. Its number is the value of all that it sets.
#[derive(Clone, Debug)]
struct Sent {
    user: u64,
    properties: Vec<u64>,
    sent_at: (Duration, u64),
    heard: Heard,
    heard_at: u64,
}

/// What is known of a property of a user.
#[derive(Debug, Default)]
struct Line {
    /// The updates whose values upstream was given, each once in a row.
    seen: Vec<u64>,
    /// What was written to the profile.
    applied: Vec<u64>,
}

/// Who watches one app.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    sent: Vec<Sent>,
    lines: BTreeMap<Write, Line>,
    by_sequence: BTreeMap<u64, u64>,
    /// Updates that are dead letters.
    dead: BTreeSet<u64>,
    moments: u64,
}

type Verdict = Result<(), String>;

impl Checker {
    /// How many were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.len() as u64
    }

    fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// An update is sent. Its number.
    pub(crate) fn send(&mut self, user: u64, properties: Vec<u64>, now: Duration) -> u64 {
        let sent_at = (now, self.moment());
        self.sent.push(Sent { user, properties, sent_at, heard: Heard::Waits, heard_at: 0 });
        self.sent() - 1
    }

    /// Its client hears of it.
    pub(crate) fn hear(&mut self, number: u64, heard: Heard) -> Verdict {
        let at = self.moment();
        let Some(place) = place(number).filter(|place| *place < self.sent.len()) else {
            return Err(format!("there is no update {number}"));
        };
        self.sent[place].heard = heard;
        self.sent[place].heard_at = at;
        let (user, sent_at) = (self.sent[place].user, self.sent[place].sent_at.1);
        let Heard::Accepted(sequence) = heard else { return Ok(()) };
        if let Some(other) = self.by_sequence.insert(sequence, number) {
            return Err(format!("updates {other} and {number} have sequence {sequence}"));
        }
        for (other, before) in self.sent.iter().enumerate() {
            let Heard::Accepted(earlier) = before.heard else { continue };
            let is_before = before.user == user && before.heard_at < sent_at;
            if is_before && earlier > sequence {
                let of = format!("u{user}: {number} came after {other} was accepted");
                return Err(format!("{of}, under {sequence}, before {earlier}"));
            }
        }
        Ok(())
    }

    fn of(&self, number: u64) -> Option<&Sent> {
        place(number).and_then(|place| self.sent.get(place))
    }

    fn sequence(&self, number: u64) -> Option<u64> {
        match self.of(number)?.heard {
            Heard::Accepted(sequence) => Some(sequence),
            Heard::Waits | Heard::Refused | Heard::Nothing { .. } => None,
        }
    }

    /// Upstream saw something.
    pub(crate) fn see(&mut self, sight: &Sight) -> Verdict {
        match sight {
            Sight::Taken(row) => self.see_taken(row),
            Sight::Applied { row, .. } => {
                for (property, number) in &row.writes {
                    let line = self.lines.entry((row.user, *property)).or_default();
                    line.applied.push(*number);
                }
                Ok(())
            }
        }
    }

    fn see_taken(&mut self, row: &Row) -> Verdict {
        for (property, number) in &row.writes {
            let user = row.user;
            let sent = self.of(*number);
            let sent = sent.filter(|it| it.user == user && it.properties.contains(property));
            let Some(sent) = sent else {
                return Err(format!("u{user}.p{property} = {number}, which nobody sent"));
            };
            if sent.heard == Heard::Refused {
                return Err(format!("update {number} was refused, and sent"));
            }
            let line = self.lines.entry((user, *property)).or_default();
            if line.seen.last() == Some(number) {
                continue;
            }
            if line.seen.contains(number) {
                return Err(format!("u{user}.p{property} = {number} came back: {:?}", line.seen));
            }
            line.seen.push(*number);
            self.check_order((user, *property))?;
        }
        Ok(())
    }

    /// None comes after a later one.
    fn check_order(&self, write: Write) -> Verdict {
        let Some(line) = self.lines.get(&write) else { return Ok(()) };
        let known = line.seen.iter().filter_map(|number| self.sequence(*number));
        match known.is_sorted_by(|a, b| a < b) {
            true => Ok(()),
            false => Err(format!("u{}.p{} goes back: {:?}", write.0, write.1, line.seen)),
        }
    }

    /// A client asks after an update that was accepted, and is told that it is delivered.
    pub(crate) fn told_delivered(&self, number: u64) -> Verdict {
        let (Some(sent), Some(sequence)) = (self.of(number), self.sequence(number)) else {
            return Ok(());
        };
        for property in &sent.properties {
            let line = self.lines.get(&(sent.user, *property));
            let mut applied = line.into_iter().flat_map(|line| &line.applied);
            let is_later =
                |other: &u64| self.sequence(*other).is_none_or(|other| other >= sequence);
            if !applied.any(is_later) {
                return Err(format!("update {number} is said to be delivered, and is not"));
            }
        }
        Ok(())
    }

    /// Those that were accepted: number, user, sequence.
    pub(crate) fn accepted(&self) -> Vec<(u64, u64, u64)> {
        let numbers = self.by_sequence.iter();
        let all = numbers.filter_map(|(sequence, number)| {
            self.of(*number).map(|sent| (*number, sent.user, *sequence))
        });
        all.collect()
    }

    /// An update is a dead letter in the end: visible, and not owed.
    pub(crate) fn bury(&mut self, number: u64) {
        self.dead.insert(number);
    }

    /// Once nothing waits any more, all that was accepted is upstream, the last value last.
    pub(crate) fn finish(&self) -> Verdict {
        let mut last = BTreeMap::<Write, (u64, u64)>::new();
        for (number, user, sequence) in self.accepted() {
            for property in self.of(number).iter().flat_map(|sent| &sent.properties) {
                last.insert((user, *property), (sequence, number));
            }
        }
        for write in self.lines.keys() {
            self.check_order(*write)?;
        }
        for (write, (_, number)) in last {
            let profile = self.lines.get(&write).and_then(|line| line.applied.last());
            let died = |number: &u64| self.dead.contains(number);
            // What is dead may have been written by a job that failed, and so may what it replaced.
            let of_user = (0..).zip(&self.sent).filter(|(_, sent)| sent.user == write.0);
            if died(&number) || of_user.into_iter().any(|(number, _)| died(&number)) {
                continue;
            }
            if !profile.is_some_and(|value| *value == number || self.may_follow(*value, number)) {
                let (user, property) = write;
                return Err(format!("u{user}.p{property} is {profile:?}, not that of {number}"));
            }
        }
        Ok(())
    }

    /// Whether an update of which nothing was heard may have been accepted after another one.
    fn may_follow(&self, number: u64, other: u64) -> bool {
        let (Some(sent), Some(other)) = (self.of(number), self.of(other)) else { return false };
        match sent.heard {
            Heard::Nothing { until } => until >= other.sent_at.0,
            Heard::Waits | Heard::Accepted(_) | Heard::Refused => false,
        }
    }
}

fn place(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}
