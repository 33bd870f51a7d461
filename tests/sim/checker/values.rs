//! Values, and the updates that they may come from: several may have the same.

use super::{Checker, Heard, Verdict};
use crate::account::Write;

impl Checker {
    /// A value may be new, or the one that was there: none comes back, and without
    /// `occurred_at` none comes after a later one. Of several updates that have it, it comes from
    /// the first that it may come from.
    pub(super) fn see_value(&mut self, user: u64, write: Write) -> Verdict {
        let (property, value) = write;
        let has = |number: &&u64| {
            let sent = usize::try_from(**number).ok().and_then(|number| self.sent.get(number));
            sent.is_some_and(|sent| sent.user == user && sent.properties.contains(&property))
        };
        let numbers = self.repeats.get(&value).into_iter().flatten().filter(has);
        let numbers: Vec<u64> = numbers.copied().collect();
        let mut verdict = Err(format!("u{user}.p{property} = {value}, which nobody sent"));
        for number in &numbers {
            verdict = self.may_come(user, (property, *number));
            if verdict.is_ok() {
                self.note_value(user, (property, *number), numbers.len() == 1);
                break;
            }
        }
        verdict
    }

    /// Whether an update's value may be sent now.
    fn may_come(&self, user: u64, (property, number): Write) -> Verdict {
        if self.forgotten.contains(&number) {
            return Err(format!("update {number} was forgotten, and sent"));
        }
        let sent = usize::try_from(number).ok().and_then(|number| self.sent.get(number));
        if sent.is_some_and(|sent| sent.heard == Heard::Refused) {
            return Err(format!("update {number} was refused, and sent"));
        }
        let Some(line) = self.lines.get(&(user, property)) else { return Ok(()) };
        if line.seen.last() == Some(&number) {
            return Ok(());
        }
        let outdated = line.outdated.get(&number);
        if outdated.is_some_and(|by| !self.died.contains(by)) {
            return Err(format!("u{user}.p{property} = {number}, older than what was under way"));
        }
        // What died after it was seen does not stand in the way of an older one that is replayed.
        let died = |seen: &u64| self.may_have_died(user, (property, *seen));
        let standing = || line.seen.iter().filter(|seen| !died(seen));
        let newer = standing().any(|seen| *seen > number);
        let before = line.seen.iter().position(|seen| *seen == number);
        let comes_back =
            before.is_some_and(|place| line.seen[place + 1..].iter().any(|seen| !died(seen)));
        // One that occurred later than those may, after its replay.
        let timed = self.timed.contains(&user);
        let replayed = timed && self.died.contains(&number);
        if (comes_back && !replayed) || (newer && !timed) {
            let seen = &line.seen;
            return Err(format!("u{user}.p{property} = {number} came after {seen:?}"));
        }
        Ok(())
    }

    /// Whether an update that was seen has died, or another one, with the same value, which it may
    /// have been in truth.
    fn may_have_died(&self, user: u64, (property, seen): Write) -> bool {
        let of = |number: u64| usize::try_from(number).ok().and_then(|n| self.sent.get(n));
        let is_same = |number: &u64| {
            of(*number).is_some_and(|it| it.user == user && it.properties.contains(&property))
        };
        let value = of(seen).map(|sent| sent.value);
        let same = value.and_then(|value| self.repeats.get(&value)).into_iter().flatten();
        same.filter(|number| is_same(number)).any(|number| self.died.contains(number))
    }

    /// An update's value was sent; no other update has it, if it is `the_only_one`.
    fn note_value(&mut self, user: u64, (property, number): Write, the_only_one: bool) {
        let sent = usize::try_from(number).ok().and_then(|number| self.sent.get(number));
        if let Some(sent) = sent.filter(|sent| sent.heard == Heard::Nothing && the_only_one) {
            let group = if self.groups_are_loose { u64::MAX - number } else { sent.group };
            self.seen_groups.insert(group);
        }
        let line = self.lines.entry((user, property)).or_default();
        if line.seen.last() != Some(&number) {
            line.seen.push(number);
        }
    }

    /// Whether a value is that of the last update that is owed, or of a later one of which nothing
    /// was heard.
    pub(super) fn may_be_last(&self, user: u64, (property, value): Write, last: u64) -> bool {
        let numbers = self.repeats.get(&value).into_iter().flatten();
        numbers.filter(|number| **number >= last).any(|number| {
            let sent = usize::try_from(*number).ok().and_then(|number| self.sent.get(number));
            sent.is_some_and(|sent| {
                let own = sent.user == user && sent.properties.contains(&property);
                own && (*number == last || sent.heard == Heard::Nothing)
            })
        }) || self
            .sent
            .get(usize::try_from(last).unwrap_or(usize::MAX))
            .is_some_and(|sent| sent.value == value)
    }
}
