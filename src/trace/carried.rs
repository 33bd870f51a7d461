//! Which updates came with which trace.

use std::{
    collections::VecDeque,
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
    /// Its sequence.
    pub sequence: Sequence,
}

/// Those that are not over, the newest of them.
#[derive(Debug)]
pub(super) struct CarriedUpdates {
    updates: Mutex<VecDeque<Carried>>,
    max: usize,
}

impl CarriedUpdates {
    pub(super) fn new(max: usize) -> Self {
        Self { updates: Mutex::default(), max }
    }

    /// Remembers one, and forgets the oldest where there are too many.
    pub(super) fn push(&self, update: Carried) {
        let mut updates = self.updates();
        updates.push_back(update);
        let surplus = updates.len().saturating_sub(self.max);
        updates.drain(..surplus);
    }

    pub(super) fn of(&self, app: AppId) -> Vec<Carried> {
        self.updates().iter().filter(|update| update.app == app).cloned().collect()
    }

    pub(super) fn forget(&self, mut is_over: impl FnMut(&Carried) -> bool) {
        self.updates().retain(|update| !is_over(update));
    }

    fn updates(&self) -> std::sync::MutexGuard<'_, VecDeque<Carried>> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::update::SubjectKind;

    fn update(app: u16, sequence: Sequence) -> Carried {
        let subject = Subject { kind: SubjectKind::User, id: sequence.to_string() };
        Carried { context: SpanContext::NONE, app: AppId(app), subject, sequence }
    }

    fn sequences(of: &CarriedUpdates, app: u16) -> Vec<Sequence> {
        of.of(AppId(app)).into_iter().map(|update| update.sequence).collect()
    }

    #[test]
    fn the_newest_are_remembered_until_they_are_over() {
        let carried = CarriedUpdates::new(3);
        for (app, sequence) in [(1, 1), (1, 2), (2, 3), (1, 4)] {
            carried.push(update(app, sequence));
        }
        assert_eq!(sequences(&carried, 1), [2, 4]);
        assert_eq!(sequences(&carried, 2), [3]);
        carried.forget(|update| update.app == AppId(1) && update.sequence <= 2);
        assert_eq!(sequences(&carried, 1), [4]);
        assert_eq!(sequences(&carried, 2), [3]);
    }
}
