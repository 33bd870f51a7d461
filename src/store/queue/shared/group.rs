//! What accepting a group of updates comes to, and when its updates occurred.

use std::collections::{BTreeMap, BTreeSet};

use super::{Numbers, Scope, Stamps, Tally, course, numbers::OfApp};
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, ClientId, Subject},
    },
    store::{
        engine::EngineError,
        keys::{self, course::stripe_of},
        queue::{Engine, Queue, StoreError, Stored, Transaction, clients::Entries, pages::Placed},
        records::{AppState, Course},
    },
};

/// What a group has come to, beside the entries that it has put.
pub(in crate::store::queue) struct Written {
    pub(in crate::store::queue) numbers: Numbers,
    pub(in crate::store::queue) apps: BTreeMap<AppId, AppState>,
    /// Apps whose state has changed.
    pub(in crate::store::queue) touched: BTreeSet<AppId>,
    pub(in crate::store::queue) placed: Placed,
}

/// How many updates of a group are more urgent than bulk, and of the express lane.
#[derive(Default)]
pub(in crate::store::queue) struct Wakes {
    pub(in crate::store::queue) urgent: BTreeMap<AppId, u64>,
    pub(in crate::store::queue) express: BTreeMap<AppId, u64>,
}

/// A transaction that changes some subjects, and the stripes that it has for that.
pub(in crate::store::queue) struct Begun<T> {
    pub(in crate::store::queue) transaction: T,
    pub(in crate::store::queue) stripes: BTreeSet<(AppId, u16)>,
    pub(in crate::store::queue) stamps: Stamps,
}

/// Subjects by the keys of their pending records. None where the store is this process's alone.
pub(in crate::store::queue) type SubjectKeys = Vec<(AppId, Vec<u8>)>;

/// What fails once the group is durable leaves it so.
fn after_commit(error: StoreError) -> StoreError {
    if let StoreError::Engine(EngineError::Away(reason)) = error {
        return EngineError::Unknown(reason).into();
    }
    error
}

impl<E: Engine> Queue<E> {
    /// What [`Self::begin_group`] is to be told of a group's subjects.
    pub(in crate::store::queue) fn subject_keys<'a>(
        &self,
        subjects: impl Iterator<Item = (AppId, &'a Subject)>,
    ) -> SubjectKeys {
        if self.fleet.is_none() {
            return Vec::new();
        }
        subjects.map(|(app, subject)| (app, keys::pending(app, subject))).collect()
    }

    /// Begins a transaction that accepts something of these subjects.
    pub(in crate::store::queue) async fn begin_group(
        &mut self,
        subjects: SubjectKeys,
        now: Timestamp,
    ) -> Result<Begun<E::Transaction>, StoreError> {
        if self.fleet.is_none() {
            let stamps = Stamps::One(self.stamp_time(now).await?);
            return Ok(Begun { stamps, ..self.begin_import(subjects).await? });
        }
        let begun = self.begin_import(subjects).await?;
        let stamps = begun.stripes.iter().map(|of| (*of, self.stamp_of(*of, now))).collect();
        Ok(Begun { stamps: Stamps::Dealt(stamps), ..begun })
    }

    /// The same for what says when it occurred.
    pub(in crate::store::queue) async fn begin_import(
        &mut self,
        subjects: SubjectKeys,
    ) -> Result<Begun<E::Transaction>, StoreError> {
        let mut stripes = BTreeSet::new();
        for (app, key) in subjects.iter().filter(|(app, _)| !self.held.contains(app)) {
            stripes.insert((*app, stripe_of(*app, &key[keys::SUBJECT_AT..], self.stripes())));
        }
        let ahead = self.reads_of(&subjects);
        let reads: Vec<_> = ahead.iter().cloned().collect();
        let mut transaction = self.begin(Scope::Stripes(&stripes), &reads).await?;
        // By what is known now there may be more to read.
        let more: Vec<_> = self.reads_of(&subjects).difference(&ahead).cloned().collect();
        if !more.is_empty() {
            transaction.prefetch(&more).await?;
        }
        Ok(Begun { transaction, stripes, stamps: Stamps::Dealt(BTreeMap::new()) })
    }

    /// What accepting something of these subjects reads.
    fn reads_of(&self, subjects: &[(AppId, Vec<u8>)]) -> BTreeSet<Vec<u8>> {
        let mut reads = BTreeSet::new();
        for (app, key) in subjects {
            let subject_key = &key[keys::SUBJECT_AT..];
            if !self.state(*app).has_nothing_in_flight() {
                reads.insert(keys::in_flight_of(*app, subject_key));
            }
            if self.memory(*app, &self.head).is_some() {
                reads.insert(keys::held_of(*app, subject_key));
            }
            reads.insert(key.clone());
        }
        reads
    }

    /// As [`Self::stamp_time`], of one stripe: no values meet but those of a subject. What is
    /// remembered under a clock that was ahead is forgotten by whoever delivers the app.
    fn stamp_of(&self, (app, stripe): (AppId, u16), now: Timestamp) -> Timestamp {
        let courses = self.fleet.as_ref().and_then(|fleet| fleet.courses.get(&app));
        let own = courses.and_then(|courses| courses.get(usize::from(stripe)));
        let last = own.map(|course| course.last_accepted_at).unwrap_or_default();
        let state = self.state(app);
        if last <= now || state.is_empty() && !state.remembers { now } else { last }
    }

    /// Makes a group durable, and remembers what it comes to.
    pub(in crate::store::queue) async fn conclude_group(
        &mut self,
        mut transaction: E::Transaction,
        written: Written,
        wakes: Wakes,
    ) -> Result<(), StoreError> {
        let Written { numbers, mut apps, touched, placed } = written;
        match numbers {
            Numbers::One { head, .. } => {
                for app in touched {
                    let state = apps.entry(app).or_default();
                    transaction.put(&keys::app(app), state.encode());
                }
                transaction.put(keys::HEAD, head.encode());
                transaction.commit().await?;
                self.head = head;
                self.apps = apps;
                for entries in placed.entries.into_values() {
                    self.clients.come(entries);
                }
                self.count_wakes(wakes);
            }
            Numbers::Dealt { apps: dealt, .. } => {
                let mut changed = BTreeMap::new();
                for (app, of_app) in dealt {
                    let after = apps.get(&app).copied().unwrap_or_default();
                    let entries = placed.entries.get(&app);
                    let courses = self.counted((app, of_app), &after, entries, &wakes);
                    for (stripe, own) in &courses {
                        transaction.put(&course(app, *stripe), own.encode());
                    }
                    changed.insert(app, courses);
                }
                transaction.commit().await?;
                self.apps = apps;
                self.keep_changed(changed);
            }
        }
        self.remake_pages(placed.damaged).await.map_err(after_commit)
    }

    fn count_wakes(&mut self, wakes: Wakes) {
        for (app, count) in wakes.urgent {
            *self.urgent.entry(app).or_default() += count;
        }
        for (app, count) in wakes.express {
            *self.express.entry(app).or_default() += count;
        }
    }

    /// The locked courses of an app, one of which has taken what was counted: only their sum means
    /// anything.
    fn counted(
        &self,
        (app, of_app): (AppId, OfApp),
        after: &AppState,
        entries: Option<&Entries>,
        wakes: &Wakes,
    ) -> BTreeMap<u16, Course> {
        let OfApp { head, mut courses, .. } = of_app;
        if let Some(course) = courses.values_mut().next() {
            course.tally = course.tally.plus(Tally::between(&self.state(app), after));
            course.quarantined += head.quarantined;
            for (client, count) in entries.into_iter().flatten() {
                let count_now: &mut i64 = course.clients.entry(*client).or_default();
                *count_now += count.cast_signed();
            }
            course.clients.retain(|_: &ClientId, count| *count != 0);
            course.urgent += wakes.urgent.get(&app).copied().unwrap_or(0);
            course.express += wakes.express.get(&app).copied().unwrap_or(0);
        }
        courses
    }

    fn keep_changed(&mut self, changed: BTreeMap<AppId, BTreeMap<u16, Course>>) {
        for (app, own) in changed {
            let all = self.fleet.as_ref().and_then(|fleet| fleet.courses.get(&app));
            let Some(mut all) = all.cloned() else { continue };
            for (stripe, course) in own {
                if let Some(place) = all.get_mut(usize::from(stripe)) {
                    *place = course;
                }
            }
            self.keep_courses(app, all);
        }
    }
}
