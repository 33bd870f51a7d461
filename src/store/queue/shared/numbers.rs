//! Sequences and stamps: one row of them for the whole store, or one for each stripe of an app.

use std::collections::{BTreeMap, BTreeSet};

use super::head_of;
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, Sequence},
    },
    store::{
        keys::course::stripe_of,
        queue::Queue,
        records::{Course, Head},
    },
};

/// The numbers that a transaction gives.
pub(in crate::store::queue) enum Numbers {
    /// One row of them.
    One {
        /// The last sequence that was given before it.
        known: Sequence,
        head: Head,
    },
    /// Those of the apps whose stripes are locked.
    Dealt { stripes: u16, head: Head, apps: BTreeMap<AppId, OfApp> },
}

/// Those of one app.
pub(in crate::store::queue) struct OfApp {
    known: Sequence,
    /// As if the app had the store to itself.
    pub(super) head: Head,
    /// Those of the stripes that are locked.
    pub(super) courses: BTreeMap<u16, Course>,
}

impl Numbers {
    /// Those of a transaction that has these stripes.
    pub(in crate::store::queue) fn new<E>(
        queue: &Queue<E>,
        locked: &BTreeSet<(AppId, u16)>,
    ) -> Self {
        let Some(fleet) = &queue.fleet else { return queue.head.into() };
        let head = Head { last_sequence: 0, quarantined: 0, ..queue.head };
        let mut apps = BTreeMap::new();
        for (app, stripe) in locked {
            let Some(courses) = fleet.courses.get(app) else { continue };
            let of_app = apps.entry(*app).or_insert_with(|| {
                let head = Head { quarantined: 0, ..head_of(head, courses) };
                OfApp { known: head.last_sequence, head, courses: BTreeMap::new() }
            });
            let own = courses.get(usize::from(*stripe)).cloned();
            of_app.courses.extend(own.map(|course| (*stripe, course)));
        }
        Self::Dealt { stripes: fleet.stripes, head, apps }
    }

    /// The stripe of a subject.
    pub(in crate::store::queue) fn stripe_of(&self, app: AppId, subject_key: &[u8]) -> u16 {
        match self {
            Self::One { .. } => 0,
            Self::Dealt { stripes, .. } => stripe_of(app, subject_key, *stripes),
        }
    }

    /// The last sequence of an app that had been given before.
    pub(in crate::store::queue) fn known(&self, app: AppId) -> Sequence {
        match self {
            Self::One { known, .. } => *known,
            Self::Dealt { apps, .. } => apps.get(&app).map_or(0, |of_app| of_app.known),
        }
    }

    /// What the head says to an app.
    pub(in crate::store::queue) fn head(&mut self, app: AppId) -> &mut Head {
        match self {
            Self::One { head, .. } => head,
            Self::Dealt { apps, head, .. } => {
                apps.get_mut(&app).map_or(head, |of_app| &mut of_app.head)
            }
        }
    }

    /// The sequence of the next update that is taken of a stripe.
    pub(in crate::store::queue) fn next(&self, app: AppId, stripe: u16) -> Sequence {
        match self {
            Self::One { head, .. } => head.last_sequence + 1,
            Self::Dealt { stripes, apps, .. } => {
                let last = apps.get(&app).map_or(0, |of_app| of_app.head.last_sequence);
                after(last, stripe, *stripes)
            }
        }
    }

    /// The last stamp that was given to an update of a stripe that did not say when it occurred.
    pub(in crate::store::queue) fn last_stamp(&self, app: AppId, stripe: u16) -> Timestamp {
        match self {
            Self::One { head, .. } => head.last_accepted_at,
            Self::Dealt { apps, .. } => {
                let course = apps.get(&app).and_then(|of_app| of_app.courses.get(&stripe));
                course.map(|course| course.last_accepted_at).unwrap_or_default()
            }
        }
    }

    /// The next sequence of a stripe is given.
    pub(in crate::store::queue) fn take(
        &mut self,
        (app, stripe): (AppId, u16),
        sequence: Sequence,
        stamped_at: Timestamp,
    ) {
        let head = self.head(app);
        head.last_sequence = sequence;
        head.last_accepted_at = stamped_at;
        if let Self::Dealt { apps, .. } = self
            && let Some(course) = apps.get_mut(&app).and_then(|it| it.courses.get_mut(&stripe))
        {
            course.last_sequence = sequence;
            course.last_accepted_at = stamped_at;
        }
    }
}

impl From<Head> for Numbers {
    /// Those of a transaction on one app, which gives no sequences, or has the store to itself.
    fn from(head: Head) -> Self {
        Self::One { known: head.last_sequence, head }
    }
}

/// The least sequence past `last` that is of a stripe. There is none before the first.
fn after(last: Sequence, stripe: u16, stripes: u16) -> Sequence {
    let (stripe, stripes) = (u64::from(stripe), u64::from(stripes));
    let next = last + 1;
    next + (stripe + stripes - next % stripes) % stripes
}

/// When the updates of a group occurred that do not say so.
pub(in crate::store::queue) enum Stamps {
    /// All of them then.
    One(Timestamp),
    /// Those of each stripe.
    Dealt(BTreeMap<(AppId, u16), Timestamp>),
}

impl Stamps {
    /// That of a stripe.
    pub(in crate::store::queue) fn of(&self, app: AppId, stripe: u16, now: Timestamp) -> Timestamp {
        match self {
            Self::One(stamp) => *stamp,
            Self::Dealt(stamps) => stamps.get(&(app, stripe)).copied().unwrap_or(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::after;

    proptest! {
        #[test]
        fn a_sequence_is_the_least_of_its_stripe_that_is_new(
            last in 0..1_000_000_u64,
            stripes in 1..20_u16,
            stripe: prop::sample::Index,
        ) {
            let stripe = u16::try_from(stripe.index(usize::from(stripes))).unwrap();
            let next = after(last, stripe, stripes);
            prop_assert!(next > last && next <= last + u64::from(stripes));
            prop_assert_eq!(next % u64::from(stripes), u64::from(stripe));
        }
    }
}
