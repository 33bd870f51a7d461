//! Which updates came with which trace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use opentelemetry::trace::SpanContext;

use crate::domain::update::{AppId, Sequence, Subject};

/// An update that came with a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// The span of its request.
    pub context: SpanContext,
    /// Its app.
    pub app: AppId,
    /// What it is about.
    pub subject: Subject,
    /// Its sequence, which no other update of the store has.
    pub sequence: Sequence,
}

/// Those that are not over, the newest of them.
#[derive(Debug)]
pub(super) struct CarriedUpdates {
    updates: Mutex<Updates>,
    max: usize,
}

#[derive(Debug, Default)]
struct Updates {
    /// All of them, oldest first.
    all: BTreeMap<Sequence, Carried>,
    /// Which are of whom.
    of_subjects: HashMap<(AppId, Subject), BTreeSet<Sequence>>,
}

impl CarriedUpdates {
    pub(super) fn new(max: usize) -> Self {
        Self { updates: Mutex::default(), max }
    }

    /// Remembers one, and forgets the oldest where there are too many.
    pub(super) fn push(&self, update: Carried) {
        let mut updates = self.updates();
        let of_subject = updates.of_subjects.entry((update.app, update.subject.clone()));
        of_subject.or_default().insert(update.sequence);
        updates.all.insert(update.sequence, update);
        while updates.all.len() > self.max {
            let Some(oldest) = updates.all.first_key_value().map(|(oldest, _)| *oldest) else {
                break;
            };
            updates.remove(oldest);
        }
    }

    /// All of an app's, oldest first.
    pub(super) fn of(&self, app: AppId) -> Vec<Carried> {
        self.updates().all.values().filter(|update| update.app == app).cloned().collect()
    }

    /// All of a subject's, oldest first. No other is looked at.
    pub(super) fn of_subject(&self, app: AppId, subject: &Subject) -> Vec<Carried> {
        let updates = self.updates();
        let own = updates.of_subjects.get(&(app, subject.clone()));
        own.into_iter().flatten().filter_map(|own| updates.all.get(own)).cloned().collect()
    }

    pub(super) fn forget(&self, update: &Carried) {
        self.updates().remove(update.sequence);
    }

    fn updates(&self) -> std::sync::MutexGuard<'_, Updates> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Updates {
    fn remove(&mut self, sequence: Sequence) {
        let Some(Carried { app, subject, .. }) = self.all.remove(&sequence) else { return };
        let whose = (app, subject);
        if let Some(of_subject) = self.of_subjects.get_mut(&whose) {
            of_subject.remove(&sequence);
            if of_subject.is_empty() {
                self.of_subjects.remove(&whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(app: u16, sequence: Sequence, user: &str) -> Carried {
        let subject = Subject::user(user);
        Carried { context: SpanContext::NONE, app: AppId(app), subject, sequence }
    }

    fn sequences(updates: Vec<Carried>) -> Vec<Sequence> {
        updates.into_iter().map(|update| update.sequence).collect()
    }

    fn of(carried: &CarriedUpdates, app: u16) -> Vec<Sequence> {
        sequences(carried.of(AppId(app)))
    }

    fn of_subject(carried: &CarriedUpdates, app: u16, user: &str) -> Vec<Sequence> {
        sequences(carried.of_subject(AppId(app), &Subject::user(user)))
    }

    #[test]
    fn the_newest_are_remembered_until_they_are_over() {
        let carried = CarriedUpdates::new(3);
        for (app, sequence) in [(1, 1), (1, 2), (2, 3), (1, 4)] {
            carried.push(update(app, sequence, "ada"));
        }
        assert_eq!(of(&carried, 1), [2, 4]);
        assert_eq!(of(&carried, 2), [3]);
        carried.forget(&update(1, 2, "ada"));
        assert_eq!(of(&carried, 1), [4]);
        assert_eq!(of(&carried, 2), [3]);
    }

    #[test]
    fn those_of_a_subject_are_found_without_a_look_at_the_others() {
        let carried = CarriedUpdates::new(5);
        for (app, sequence, user) in
            [(1, 1, "ada"), (1, 2, "bob"), (2, 3, "ada"), (1, 5, "ada"), (1, 4, "ada")]
        {
            carried.push(update(app, sequence, user));
        }
        assert_eq!(of_subject(&carried, 1, "ada"), [1, 4, 5]);
        assert_eq!(of_subject(&carried, 1, "bob"), [2]);
        assert_eq!(of_subject(&carried, 2, "ada"), [3]);
        assert!(of_subject(&carried, 2, "bob").is_empty());
        // The oldest goes.
        carried.push(update(1, 6, "cyd"));
        assert_eq!(of_subject(&carried, 1, "ada"), [4, 5]);
        carried.forget(&update(1, 4, "ada"));
        assert_eq!(of_subject(&carried, 1, "ada"), [5]);
    }

    #[test]
    fn nothing_is_kept_of_what_is_forgotten() {
        let carried = CarriedUpdates::new(2);
        for sequence in 1..=9 {
            carried.push(update(1, sequence, &sequence.to_string()));
        }
        let kept = || {
            let updates = carried.updates();
            (updates.all.len(), updates.of_subjects.len())
        };
        assert_eq!(kept(), (2, 2));
        for sequence in [8, 9, 9] {
            carried.forget(&update(1, sequence, &sequence.to_string()));
        }
        assert_eq!(kept(), (0, 0));
    }
}
