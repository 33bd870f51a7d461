//! What makes a forgotten lock loud. In a store that several write to, an entry is changed only by
//! whoever has its lock; over an engine that one process has to itself the same code needs none, so
//! that a mistake would show nowhere. Here it does, in builds that look.

use std::collections::BTreeSet;

use super::Sharing;
use crate::store::{
    keys::{
        self, SUBJECT_AT,
        course::{OF_NAMES, course, lease, stripe_of},
    },
    walk::{Kind, app_of},
};

/// The locks of one transaction.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// None where one process has the store to itself.
    stripes: Option<u16>,
    locks: BTreeSet<Vec<u8>>,
}

impl Guard {
    /// Of a transaction that has these locks.
    pub(super) fn new(sharing: Sharing, locks: &[Vec<u8>]) -> Self {
        match sharing {
            Sharing::Alone => Self::default(),
            Sharing::Shared { stripes } => {
                Self { stripes: Some(stripes), locks: locks.iter().cloned().collect() }
            }
        }
    }

    /// An entry is about to be changed.
    pub(super) fn watch(&self, key: &[u8]) {
        debug_assert!(
            self.may_change(key),
            "an entry of kind {:?} is changed without its lock",
            Kind::of(key)
        );
    }

    fn may_change(&self, key: &[u8]) -> bool {
        let Some(stripes) = self.stripes else { return true };
        let has = |app, stripe| self.locks.contains(&course(app, stripe));
        let has_all = |app| (0..stripes).all(|stripe| has(app, stripe));
        let has_any = |app| (0..stripes).any(|stripe| has(app, stripe));
        let of_subject = |app, subject_key| has(app, stripe_of(app, subject_key, stripes));
        // Apps are made where names are numbered.
        let numbers_names = has(OF_NAMES, 0);
        let (Some(kind), Some(app)) = (Kind::of(key), app_of(key)) else { return is_free(key) };
        match kind {
            Kind::Pending | Kind::InFlight | Kind::Held => of_subject(app, &key[SUBJECT_AT..]),
            Kind::DeadOf => of_subject(app, subject_of_dead(key)),
            Kind::Dead | Kind::PagesDamaged | Kind::Page => has_any(app),
            Kind::App => has_all(app) || numbers_names,
            Kind::Course => self.locks.contains(key) || numbers_names,
            Kind::Lease => self.locks.contains(&lease(app)) || numbers_names,
            Kind::Name => numbers_names,
            // Whoever has the lock of an entry may set it aside.
            Kind::Quarantine => self.may_change(keys::quarantined_key(key)),
            Kind::Batch
            | Kind::Delivery
            | Kind::Forgotten
            | Kind::Job
            | Kind::JobPage
            | Kind::Rescue => has_all(app),
            Kind::Head => false,
            Kind::Engine => true,
        }
    }
}

/// What is of no app. The head is put once, and never changed.
fn is_free(key: &[u8]) -> bool {
    key != keys::HEAD
}

/// The subject in the key of an index of dead letters.
fn subject_of_dead(key: &[u8]) -> &[u8] {
    let end = key.len().saturating_sub(16).max(SUBJECT_AT);
    &key[SUBJECT_AT..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        time::Timestamp,
        update::{AppId, ClientId, Lane, Subject, SubjectKind},
    };

    const STRIPES: u16 = 4;
    const APP: AppId = AppId(7);

    fn guard(locks: &[Vec<u8>]) -> Guard {
        Guard::new(Sharing::Shared { stripes: STRIPES }, locks)
    }

    fn all() -> Vec<Vec<u8>> {
        (0..STRIPES).map(|stripe| course(APP, stripe)).collect()
    }

    #[test]
    fn an_entry_of_a_subject_needs_its_stripe_and_one_of_an_app_all_of_them() {
        let pending = keys::pending(APP, &Subject::user("u"));
        let subject_key = &pending[SUBJECT_AT..];
        let stripe = stripe_of(APP, subject_key, STRIPES);
        let own = guard(&[course(APP, stripe)]);
        let other = guard(&[course(APP, (stripe + 1) % STRIPES)]);
        let of_other_app = guard(&[course(AppId(8), stripe)]);
        for key in [
            pending.clone(),
            keys::in_flight_of(APP, subject_key),
            keys::held_of(APP, subject_key),
            keys::dead_of(APP, subject_key, Timestamp::default(), 9),
            keys::quarantine(&pending, 9),
            course(APP, stripe),
        ] {
            let may = [&own, &guard(&all()), &other, &of_other_app, &guard(&[])]
                .map(|guard| guard.may_change(&key));
            assert_eq!(may, [true, true, false, false, false], "{key:?}");
        }
        for key in [
            keys::app(APP),
            keys::batch(APP, 1),
            keys::delivery(APP, &Subject::user("u"), 9),
            keys::forgotten(APP, 1, subject_key),
            keys::rescue(APP),
        ] {
            let may = [&own, &guard(&all()), &of_other_app, &guard(&[])];
            let may = may.map(|guard| guard.may_change(&key));
            assert_eq!(may, [false, true, false, false], "{key:?}");
        }
        let page = keys::page(APP, (SubjectKind::User, Lane::Bulk), ClientId(0), 9);
        for key in [page, keys::pages_damaged(APP), keys::dead(APP, Timestamp::default(), 9)] {
            let may = [&own, &other, &of_other_app, &guard(&[])];
            let may = may.map(|guard| guard.may_change(&key));
            assert_eq!(may, [true, true, false, false], "{key:?}");
        }
    }

    #[test]
    fn names_leases_and_the_head_have_locks_of_their_own() {
        let (names, leases) = (guard(&[course(OF_NAMES, 0)]), guard(&[lease(APP)]));
        let name = keys::name(keys::NameSpace::App, "production");
        assert!(names.may_change(&name) && !guard(&all()).may_change(&name));
        assert!(names.may_change(&course(APP, 0)) && names.may_change(&keys::app(APP)));
        assert!(leases.may_change(&lease(APP)) && !leases.may_change(&lease(AppId(8))));
        assert!(!guard(&all()).may_change(&lease(APP)));
        assert!(!names.may_change(keys::HEAD));
        // What an engine keeps for itself has none, nor has anything in a store of one's own.
        assert!(guard(&[]).may_change(b"\xffr"));
        assert!(Guard::new(Sharing::Alone, &[]).may_change(keys::HEAD));
    }

    #[test]
    #[should_panic(expected = "Some(Pending) is changed without its lock")]
    fn a_forgotten_lock_is_loud() {
        guard(&[]).watch(&keys::pending(APP, &Subject::user("u")));
    }
}
