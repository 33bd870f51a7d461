//! Verifies a store: every entry reads back, pages lead to records, counters equal what waits,
//! rows in flight belong to an unsettled batch, dead letters are found by their subject.
//!
//! What it reports names kinds of entries and apps, never a subject or a value.

mod facts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::facts::AppFacts;
use super::{
    engine::Engine,
    keys,
    queue::{FORMAT, StoreError},
    records::{
        AppState, Course, Damage, Dead, Delivery, Head, InFlight, PageEntry, Remembered, Stored,
        Tombstone,
        jobs::{Job, JobRow},
    },
    walk::{Kind, Walk, app_of, sequence_of},
};
use crate::domain::{
    batch::{Batch, BatchState},
    lease::Lease,
    lifecycle::Rescue,
    merge::Record,
    update::{AppId, Lane, Sequence, SubjectKind},
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Each kind of entry, what there is of it, and how much of that is wrong.
    pub kinds: Vec<KindTally>,
    /// What is wrong, how often.
    pub problems: Vec<Problem>,
}

/// What there is of one kind of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindTally {
    /// The kind.
    pub kind: &'static str,
    /// The byte that its keys begin with.
    pub byte: u8,
    /// Entries.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind of the entries.
    pub kind: &'static str,
    /// The app, where they belong to one whose name is known.
    pub app: Option<String>,
    /// What is wrong with them.
    pub what: String,
    /// How many they are.
    pub entries: u64,
}

/// Goes over the whole store. Writes nothing. Takes about 40 bytes of memory for each record
/// that waits.
pub async fn check<E: Engine>(engine: &E) -> Result<Findings, StoreError> {
    let mut check = Check::default();
    let mut walk = Walk::through_all();
    loop {
        let entries = walk.next(engine).await?;
        if entries.is_empty() {
            return Ok(check.conclude());
        }
        for (key, value) in &entries {
            check.entry(key, value.as_ref());
        }
    }
}

#[derive(Default)]
struct Check {
    head: Option<Head>,
    tallies: BTreeMap<Kind, (u64, u64)>,
    /// Kind, app, and what is wrong → how often.
    problems: BTreeMap<(Option<Kind>, Option<AppId>, String), u64>,
    names: BTreeMap<AppId, String>,
    apps: BTreeMap<AppId, AppFacts>,
    last_sequence: Sequence,
    /// Several write to it.
    is_shared: bool,
}

impl Check {
    fn entry(&mut self, key: &[u8], value: &[u8]) {
        let Some(kind) = Kind::of(key) else {
            return self.problem(None, None, "is of no kind that this program knows");
        };
        let (entries, bytes) = self.tallies.entry(kind).or_default();
        *entries += 1;
        *bytes += (key.len() + value.len()) as u64;
        match kind {
            Kind::Head => self.head(value),
            Kind::Name => self.name(key, value),
            Kind::App
            | Kind::Batch
            | Kind::Course
            | Kind::Delivery
            | Kind::InFlight
            | Kind::Job
            | Kind::JobPage
            | Kind::Dead
            | Kind::DeadOf
            | Kind::Forgotten
            | Kind::Lease
            | Kind::PagesDamaged
            | Kind::Page
            | Kind::Held
            | Kind::Pending
            | Kind::Rescue => match app_of(key) {
                Some(app) => self.of_app(kind, app, key, value),
                None => self.problem(Some(kind), None, "has a key that is too short"),
            },
            // It was reported when it was set aside; it is as damaged as it was then.
            Kind::Quarantine | Kind::Engine => {}
        }
    }

    fn of_app(&mut self, kind: Kind, app: AppId, key: &[u8], value: &[u8]) {
        let checked = match kind {
            Kind::App => AppState::decode(value).map(|state| self.facts(app).state = Some(state)),
            Kind::Batch => Batch::decode(value).map(|batch| self.batch(app, key, batch)),
            Kind::Delivery => Delivery::decode(value).map(|_| self.subject(kind, app, key)),
            Kind::InFlight => InFlight::decode(value).map(|row| self.row(app, key, &row)),
            Kind::Job => Job::decode(value).map(drop),
            Kind::JobPage => Vec::<JobRow>::decode(value).map(drop),
            Kind::Dead => Dead::decode(value).map(|letter| self.dead(app, key, &letter)),
            // One whose letter was forgotten leads nowhere, and is passed over.
            Kind::DeadOf => {
                self.facts(app).dead_keys.remove(key);
                Ok(())
            }
            Kind::Page => Vec::decode(value).map(|entries| self.page(app, key, entries)),
            Kind::Pending => Record::decode(value).map(|record| self.record(app, key, &record)),
            Kind::Held => Remembered::decode(value).map(|_| self.subject(kind, app, key)),
            Kind::Forgotten => Tombstone::decode(value).map(drop),
            Kind::Rescue => Rescue::decode(value).map(drop),
            Kind::Course => Course::decode(value).map(|course| self.course(app, course)),
            Kind::Lease => Lease::decode(value).map(drop),
            Kind::PagesDamaged => {
                self.facts(app).pages_to_be_remade = true;
                Ok(())
            }
            Kind::Head | Kind::Name | Kind::Quarantine | Kind::Engine => Ok(()),
        };
        if kind == Kind::Pending {
            let subject_key = key.get(keys::SUBJECT_AT..).unwrap_or_default();
            let company = keys::kind_of(subject_key) == SubjectKind::Company;
            let facts = self.facts(app);
            facts.counted.company_records += u64::from(company);
            facts.records_damaged |= checked.is_err();
            facts.counted.depth.records += 1;
            facts.counted.depth.bytes += (key.len() + value.len()) as u64;
        }
        if let Err(damage) = checked {
            let facts = self.facts(app);
            facts.rows_damaged |= kind == Kind::InFlight;
            facts.batches_damaged |= kind == Kind::Batch;
            facts.dead_letters += u64::from(kind == Kind::Dead);
            self.damaged(kind, Some(app), damage);
        }
    }

    fn head(&mut self, value: &[u8]) {
        match Head::decode(value) {
            Ok(head) => self.head = Some(head),
            Err(damage) => self.damaged(Kind::Head, None, damage),
        }
    }

    fn name(&mut self, key: &[u8], value: &[u8]) {
        let number = match u16::decode(value) {
            Ok(number) => number,
            Err(damage) => return self.damaged(Kind::Name, None, damage),
        };
        let Some((b'a', name)) = key[1..].split_first() else { return };
        let before = self.names.insert(AppId(number), String::from_utf8_lossy(name).into_owned());
        if before.is_some() {
            self.problem(Some(Kind::Name), Some(AppId(number)), "has another app's number");
        }
    }

    fn batch(&mut self, app: AppId, key: &[u8], batch: Batch) {
        if keys::batch(app, batch.id.number) != key || batch.id.app != app {
            self.problem(Some(Kind::Batch), Some(app), "stands under another's key");
        }
        if !matches!(batch.state, BatchState::Settled(_)) {
            self.facts(app).unsettled.insert(batch.id.number, (batch, 0));
        }
    }

    fn row(&mut self, app: AppId, key: &[u8], row: &InFlight) {
        self.subject(Kind::InFlight, app, key);
        self.last_sequence = self.last_sequence.max(row.record.last_sequence);
        let facts = self.facts(app);
        facts.last_sequence = facts.last_sequence.max(row.record.last_sequence);
        if row.is_express() {
            facts.counted.express_in_flight += 1;
            return;
        }
        // Batches go before rows.
        let mut batches = facts.unsettled.values_mut();
        match batches.find(|(batch, _)| batch.part.holds(row.batch, row.position)) {
            Some((_, rows)) => *rows += 1,
            // Which rows a damaged batch has is not known.
            None if facts.batches_damaged => {}
            None => self.problem(Some(Kind::InFlight), Some(app), "belongs to no unsettled batch"),
        }
    }

    fn dead(&mut self, app: AppId, key: &[u8], letter: &Dead) {
        self.last_sequence = self.last_sequence.max(letter.record.last_sequence);
        let Some((died_at, last)) = keys::dead_at(key) else {
            return self.problem(Some(Kind::Dead), Some(app), "has a key that is too short");
        };
        let facts = self.facts(app);
        facts.last_sequence = facts.last_sequence.max(letter.record.last_sequence);
        facts.dead_letters += u64::from(letter.closed.is_none());
        facts.dead_keys.insert(keys::dead_of(app, &letter.subject_key, died_at, last));
    }

    fn course(&mut self, app: AppId, course: Course) {
        self.is_shared = true;
        // That of names is no app's.
        if app != keys::course::OF_NAMES {
            self.facts(app).courses.push(course);
        }
    }

    fn page(&mut self, app: AppId, key: &[u8], entries: Vec<PageEntry>) {
        if let Some(client) = keys::client_of_page(key) {
            let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
            *self.facts(app).entries.entry(client).or_default() += count;
        }
        let first = entries.first().map(|entry| entry.first_sequence);
        let in_order = entries.is_sorted_by_key(|entry| entry.first_sequence);
        // It keeps its key when the first of its entries leave.
        if first < sequence_of(key) || !in_order {
            self.problem(Some(Kind::Page), Some(app), "is not in order");
        }
        let lanes = SubjectKind::ALL.map(|kind| Lane::ALL.map(|lane| (kind, lane)));
        let of = |lane| keys::pages(app, lane, None).contains(&key.to_vec());
        let Some((kind, lane)) = lanes.into_iter().flatten().find(|lane| of(*lane)) else {
            return self.problem(Some(Kind::Page), Some(app), "is of no kind and lane");
        };
        if entries.iter().any(|entry| keys::kind_of(&entry.subject_key) != kind) {
            self.problem(Some(Kind::Page), Some(app), "leads to subjects of the other kind");
        }
        let places =
            entries.into_iter().map(|entry| (lane, entry.first_sequence, entry.subject_key));
        self.facts(app).places.extend(places);
    }

    fn record(&mut self, app: AppId, key: &[u8], record: &Record) {
        self.subject(Kind::Pending, app, key);
        self.last_sequence = self.last_sequence.max(record.last_sequence);
        let facts = self.facts(app);
        facts.last_sequence = facts.last_sequence.max(record.last_sequence);
        facts.counted.bulk_records += u64::from(record.lane == Lane::Bulk);
        facts.counted.express_records += u64::from(record.lane == Lane::Express);
        // Pages go before records.
        let subject_key = key.get(keys::SUBJECT_AT..).unwrap_or_default();
        let place = (record.lane, record.first_sequence, subject_key.to_vec());
        if !facts.places.remove(&place) && !facts.pages_to_be_remade {
            self.problem(Some(Kind::Pending), Some(app), "has no place: no page leads to it");
        }
    }

    fn subject(&mut self, kind: Kind, app: AppId, key: &[u8]) {
        if keys::subject_of(key).is_none() {
            self.problem(Some(kind), Some(app), "has a key that names no subject");
        }
    }

    fn facts(&mut self, app: AppId) -> &mut AppFacts {
        self.apps.entry(app).or_default()
    }

    fn damaged(&mut self, kind: Kind, app: Option<AppId>, damage: Damage) {
        self.problem(Some(kind), app, format!("does not read back: {damage}"));
    }

    fn problem(&mut self, kind: Option<Kind>, app: Option<AppId>, what: impl Into<String>) {
        *self.problems.entry((kind, app, what.into())).or_default() += 1;
    }

    /// What is known only at the end.
    fn conclude(mut self) -> Findings {
        match self.head {
            Some(head) if head.format != FORMAT => {
                let what = format!("has format {}, this program reads {FORMAT}", head.format);
                self.problem(Some(Kind::Head), None, what);
            }
            // Where several write to the store, the courses of an app know.
            Some(head) if head.last_sequence < self.last_sequence && !self.is_shared => {
                self.problem(Some(Kind::Head), None, "is older than records of the store");
            }
            Some(_) => {}
            None if self.tallies.contains_key(&Kind::Head) => {}
            None => self.problem(Some(Kind::Head), None, "is missing"),
        }
        for (app, facts) in std::mem::take(&mut self.apps) {
            for (kind, what) in facts.conclude() {
                self.problem(Some(kind), Some(app), what);
            }
            if !self.names.contains_key(&app) {
                self.problem(Some(Kind::Name), None, "of an app with entries is missing");
            }
        }
        let kinds = self.tallies.iter().map(|(kind, (entries, bytes))| KindTally {
            kind: kind.name(),
            byte: kind.byte(),
            entries: *entries,
            bytes: *bytes,
        });
        let problems = self.problems.iter().map(|((kind, app, what), entries)| Problem {
            kind: kind.map_or("unknown entry", Kind::name),
            app: app.and_then(|app| self.names.get(&app).cloned()),
            what: what.clone(),
            entries: *entries,
        });
        Findings { kinds: kinds.collect(), problems: problems.collect() }
    }
}
