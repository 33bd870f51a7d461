//! The book of broken rules: nothing a client does against the document goes unnoticed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::epoch_ms;

/// How many violations are kept in full; the rest is only counted.
const KEPT_MAX: usize = 100;

/// A rule of the document that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A submission came while an earlier job of the same client held the slot, although the
    /// client had been told of that job.
    Overlap,
    /// A submission came before the occupancy of the client's earlier jobs had passed.
    Pacing,
    /// One job names a subject twice.
    DuplicateUser,
    /// A submission holds more rows than are allowed.
    TooManyRows,
    /// A submission holds more bytes than are allowed.
    TooLarge,
    /// A request came without the right key.
    BadAuth,
    /// More real-time requests came in a minute than are allowed.
    Rate,
    /// A real-time request does not say which version of the API it speaks.
    NoApiVersion,
}

/// One broken rule. It never holds a property's value or a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which rule.
    pub kind: Rule,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How, in words.
    pub detail: String,
}

#[derive(Default)]
pub(super) struct Violations {
    pub(super) first: Vec<Violation>,
    pub(super) counts: BTreeMap<Rule, u64>,
}

impl Violations {
    pub(super) fn record(&mut self, kind: Rule, now: Duration, detail: String) {
        *self.counts.entry(kind).or_default() += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(Violation { kind, at_ms: epoch_ms(now), detail });
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_are_kept_and_all_are_counted() {
        let mut violations = Violations::default();
        for nth in 0..250 {
            violations.record(Rule::Rate, Duration::ZERO, nth.to_string());
        }
        assert_eq!(violations.first.len(), 100);
        assert_eq!(violations.first[99].detail, "99");
        assert_eq!(violations.total(), 250);
    }
}
