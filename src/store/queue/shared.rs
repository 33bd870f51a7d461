//! A store that several write to.
//!
//! Over an engine that one process has to itself there is one writer, and all that is in memory is
//! true. Over one that others write to as well nothing in memory is trusted: a transaction begins
//! with locks, and what it goes by is read after it has them.
//!
//! The subjects of an app are dealt out to so many *stripes*, each to one for ever. A stripe has a
//! row, its *course*, which is its lock and holds its numbers. Accepting locks the stripes of its
//! subjects; everything else locks all stripes of its app. Locks are taken in the order of their
//! keys, before anything is read, and held until the commit.
//!
//! So each transaction is as if it ran alone:
//! - The stripes of an app are a lock for readers and writers. Whoever has all of them is alone in
//!   the app, as the one writer is in a store of its own.
//! - What belongs to one subject (pending record, record in flight, what upstream holds of it, its
//!   dead letters) is changed by whoever has its stripe, and by nobody else. Two transactions that
//!   have no stripe in common have no subject in common either.
//! - The app's state and its batches are changed only with all stripes, so whoever has one sees
//!   them as they stay until its commit. What accepting counts goes into the course that it has
//!   locked; the counters are those of the state and of all courses together, and whoever has all
//!   stripes folds them into the state.
//! - A sequence is the least that is greater than all of the app's that were given before the lock,
//!   and whose residue is its stripe. So two stripes never give the same, those of a subject rise
//!   in the order of the commits, and they are roughly in the order of time. Pages are named after
//!   sequences of subjects whose stripes their writers have: no two transactions write the same.
//! - Names are numbered under a lock of their own, which is taken alone. It also says that the store is
//!   one that several write to.
//!
//! Who delivers an app holds its lease. The token is looked at after the stripes are locked: who
//! takes the lease over raises it first, and locks the stripes then. What the last holder had
//! locked before that is committed by then, and seen; what it locks later is refused.

mod agree;
mod group;
mod holder;
mod jobs;
mod numbers;
mod prune;
mod rebuild;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::{
    agree::agree,
    group::{Begun, Wakes, Written},
    numbers::{Numbers, Stamps},
};
use super::{
    Engine, Queue, StoreError, Stored, Transaction, clients::Entries, keys, rescue::read_rescue,
};
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, Sequence},
    },
    store::{
        engine::{EngineError, Sharing},
        keys::course::{OF_NAMES, course, courses},
        records::{AppState, Course, Head, Tally},
    },
};

/// What a queue knows of a store that others write to.
#[derive(Debug)]
pub(super) struct Fleet {
    stripes: u16,
    /// As they were read last. Those of an app whose stripes are locked are true.
    courses: BTreeMap<AppId, Vec<Course>>,
    /// The leases that this queue delivers under.
    tokens: BTreeMap<AppId, u64>,
}

impl Fleet {
    /// None where the store is this process's alone.
    pub(super) fn of(sharing: Sharing) -> Option<Self> {
        let Sharing::Shared { stripes } = sharing else { return None };
        let stripes = stripes.max(1);
        Some(Self { stripes, courses: BTreeMap::new(), tokens: BTreeMap::new() })
    }

    /// The last sequence that was given in any app, and the entries that were set aside.
    pub(super) fn head(&self) -> (Sequence, u64) {
        let all = || self.courses.values().flatten();
        let last = all().map(|course| course.last_sequence).max();
        (last.unwrap_or(0), all().map(|course| course.quarantined).sum())
    }
}

/// What a transaction changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Subjects of these stripes, and nothing else of their apps.
    Stripes(&'a BTreeSet<(AppId, u16)>),
    /// Anything of an app.
    App(AppId),
    /// The numbers of names.
    Names,
}

impl Scope<'_> {
    fn apps(self) -> BTreeSet<AppId> {
        match self {
            Self::Stripes(stripes) => stripes.iter().map(|(app, _)| *app).collect(),
            Self::App(app) => BTreeSet::from([app]),
            Self::Names => BTreeSet::new(),
        }
    }

    fn locks(self, stripes: u16) -> Vec<Vec<u8>> {
        match self {
            Self::Stripes(own) => own.iter().map(|(app, stripe)| course(*app, *stripe)).collect(),
            Self::App(app) => (0..stripes).map(|stripe| course(app, stripe)).collect(),
            Self::Names => vec![course(OF_NAMES, 0)],
        }
    }
}

/// What a transaction on an app comes to, beside the entries that it has put.
#[derive(Debug, Default)]
pub(super) struct After {
    pub(super) head: Option<Head>,
    pub(super) state: Option<AppState>,
    /// Entries of pages that came.
    pub(super) come: Entries,
    /// Entries of pages that went.
    pub(super) gone: Entries,
    /// All entries of pages, where they were counted anew.
    pub(super) counted: Option<Entries>,
    /// No stamp is later than this, where they are set back.
    pub(super) stamped_until: Option<Timestamp>,
}

impl<E: Engine> Queue<E> {
    /// Begins a transaction that changes what `scope` says. Where others write to the store, it
    /// has the locks for that, what is known of its apps is read anew, and `reads` are read ahead.
    pub(super) async fn begin(
        &mut self,
        scope: Scope<'_>,
        reads: &[Vec<u8>],
    ) -> Result<E::Transaction, StoreError> {
        self.lock(scope, reads, false).await
    }

    async fn lock(
        &mut self,
        scope: Scope<'_>,
        reads: &[Vec<u8>],
        bears_damage: bool,
    ) -> Result<E::Transaction, StoreError> {
        let Some(Fleet { stripes, .. }) = &self.fleet else {
            return Ok(self.engine.begin().await?);
        };
        let apps = scope.apps();
        let mut ahead = reads.to_vec();
        ahead.extend(apps.iter().flat_map(|app| self.known_by(*app)));
        let mut transaction = self.engine.begin_locked(&scope.locks(*stripes), &ahead).await?;
        for app in apps {
            self.read_anew(&mut transaction, app, bears_damage).await?;
        }
        Ok(transaction)
    }

    /// Ends a transaction that changes nothing, and lets go of its locks.
    pub(super) async fn leave(&self, transaction: E::Transaction) -> Result<(), StoreError> {
        if self.fleet.is_some() {
            transaction.commit().await?;
        }
        Ok(())
    }

    async fn read_anew(
        &mut self,
        transaction: &mut E::Transaction,
        app: AppId,
        bears_damage: bool,
    ) -> Result<(), StoreError> {
        let of = || self.names.get(&app).cloned().unwrap_or_default();
        let mut courses = Vec::new();
        for stripe in 0..self.stripes() {
            let Some(bytes) = transaction.get(&course(app, stripe)).await? else {
                courses.push(Course::default());
                continue;
            };
            let course = Course::decode(bytes.as_ref()).map_err(|damage| {
                StoreError::unreadable(format!("the numbers of app {:?} (keys c)", of()), damage)
            })?;
            courses.push(course);
        }
        let state = match transaction.get(&keys::app(app)).await? {
            Some(bytes) => match AppState::decode(bytes.as_ref()) {
                Ok(state) => state,
                Err(damage) => {
                    let what = format!("the state of app {:?} (keys a)", of());
                    let error = StoreError::unreadable(what, damage);
                    if !bears_damage || !matches!(error, StoreError::Damaged { .. }) {
                        return Err(error);
                    }
                    AppState::default()
                }
            },
            None => AppState::default(),
        };
        let rescue = read_rescue(transaction, app).await?;
        self.apps.insert(app, state.with(Tally::of(&courses)).bounded());
        self.keep_rescue(app, rescue);
        self.keep_courses(app, courses);
        Ok(())
    }

    /// Remembers an app's numbers. The head is that of the app whose transaction this is.
    fn keep_courses(&mut self, app: AppId, courses: Vec<Course>) {
        let Some(fleet) = &mut self.fleet else { return };
        self.head = head_of(self.head, &courses);
        let mut entries = BTreeMap::<_, i64>::new();
        for (client, count) in courses.iter().flat_map(|course| &course.clients) {
            *entries.entry(*client).or_default() += count;
        }
        self.clients.of_app(app, entries);
        self.urgent.insert(app, courses.iter().map(|course| course.urgent).sum());
        self.express.insert(app, courses.iter().map(|course| course.express).sum());
        fleet.courses.insert(app, courses);
    }

    /// How many stripes an app has.
    pub(super) fn stripes(&self) -> u16 {
        self.fleet.as_ref().map_or(1, |fleet| fleet.stripes)
    }

    /// Makes a transaction on an app durable, and remembers what it comes to.
    pub(super) async fn conclude(
        &mut self,
        mut transaction: E::Transaction,
        app: AppId,
        after: After,
    ) -> Result<(), StoreError> {
        let courses = self.put_states(&mut transaction, app, &after);
        transaction.commit().await?;
        let After { head, state, come, gone, .. } = after;
        self.apps.extend(state.map(|state| (app, state)));
        match courses {
            Some(courses) => self.keep_courses(app, courses),
            None => {
                self.head = head.unwrap_or(self.head);
                self.clients.come(come);
                self.clients.go(gone);
            }
        }
        Ok(())
    }

    /// Puts the app's state, and the head, or the courses that take its place; returns these.
    fn put_states(
        &self,
        transaction: &mut E::Transaction,
        app: AppId,
        after: &After,
    ) -> Option<Vec<Course>> {
        if let Some(state) = &after.state {
            transaction.put(&keys::app(app), state.encode());
        }
        let Some(fleet) = &self.fleet else {
            if let Some(head) = &after.head {
                transaction.put(keys::HEAD, head.encode());
            }
            return None;
        };
        let before = fleet.courses.get(&app)?;
        let mut courses = before.clone();
        if after.state.is_some() {
            courses.iter_mut().for_each(|course| course.tally = Tally::default());
        }
        let set_aside =
            after.head.map_or(0, |head| head.quarantined.saturating_sub(self.head.quarantined));
        courses.first_mut()?.quarantined += set_aside;
        for course in courses.iter_mut() {
            let last = course.last_accepted_at;
            course.last_accepted_at = after.stamped_until.unwrap_or(last).min(last);
        }
        count_entries(&mut courses, after);
        for ((stripe, course_now), before) in (0..).zip(&courses).zip(before) {
            if course_now != before {
                transaction.put(&course(app, stripe), course_now.encode());
            }
        }
        Some(courses)
    }

    /// Reads anew what is known of apps, without a lock: for those who only look. What cannot be read
    /// of one, since it is damaged, stays as it was: whoever delivers the app tells of it.
    pub async fn refresh(&mut self, apps: &[AppId]) -> Result<(), StoreError> {
        if self.fleet.is_none() {
            return Ok(());
        }
        let mut transaction = self.engine.begin().await?;
        let ahead: Vec<_> = apps.iter().flat_map(|app| self.known_by(*app)).collect();
        transaction.prefetch(&ahead).await?;
        for app in apps {
            match self.read_anew(&mut transaction, *app, false).await {
                Err(error @ StoreError::Engine(_)) => return Err(error),
                Err(error) => tracing::debug!(app = app.0, %error, "what is known of it stays"),
                Ok(_) => {}
            }
        }
        self.leave(transaction).await
    }

    /// Where what is known of an app is read.
    fn known_by(&self, app: AppId) -> Vec<Vec<u8>> {
        let courses = (0..self.stripes()).map(|stripe| course(app, stripe));
        courses.chain([keys::app(app), keys::rescue(app)]).collect()
    }

    /// Whether an app is paused, by what was read last.
    pub fn is_paused(&self, app: AppId) -> bool {
        self.state(app).paused
    }
}

/// All entries of pages stand in the first course, once all stripes are locked.
fn count_entries(courses: &mut [Course], after: &After) {
    let After { come, gone, counted, .. } = after;
    if come.is_empty() && gone.is_empty() && counted.is_none() {
        return;
    }
    let mut all = BTreeMap::<_, i64>::new();
    for (client, count) in courses.iter_mut().flat_map(|it| std::mem::take(&mut it.clients)) {
        *all.entry(client).or_default() += count;
    }
    if let Some(counted) = counted {
        all = counted.iter().map(|(client, count)| (*client, count.cast_signed())).collect();
    }
    for (client, count) in come {
        *all.entry(*client).or_default() += count.cast_signed();
    }
    for (client, count) in gone {
        *all.entry(*client).or_default() -= count.cast_signed();
    }
    all.retain(|_, count| *count != 0);
    if let Some(first) = courses.first_mut() {
        first.clients = all;
    }
}

/// What the head would say if the app had the store to itself.
fn head_of(head: Head, courses: &[Course]) -> Head {
    Head {
        last_sequence: courses.iter().map(|course| course.last_sequence).max().unwrap_or(0),
        last_accepted_at: courses.iter().map(|it| it.last_accepted_at).max().unwrap_or_default(),
        quarantined: courses.iter().map(|course| course.quarantined).sum(),
        ..head
    }
}

/// An app's state, with what was counted since it was written; `None` where none reads back. In a
/// store that one process has to itself nothing is counted anywhere else.
pub(in crate::store) async fn state_of(
    transaction: &mut impl Transaction,
    app: AppId,
) -> Result<Option<AppState>, EngineError> {
    let Some(bytes) = transaction.get(&keys::app(app)).await? else { return Ok(None) };
    let Ok(state) = AppState::decode(bytes.as_ref()) else { return Ok(None) };
    let rows = transaction.scan(courses(app), usize::from(u16::MAX)).await?;
    let read = |(_, bytes): &(Vec<u8>, _)| Course::decode(AsRef::<[u8]>::as_ref(bytes)).ok();
    let courses: Vec<Course> = rows.iter().filter_map(read).collect();
    Ok(Some(state.with(Tally::of(&courses)).bounded()))
}
