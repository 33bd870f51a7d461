//! Writing down what waits.

use std::{collections::BTreeMap, io};

use super::{
    end::Sum,
    line::{Line, nameless},
};
use crate::{
    domain::{
        batch::{Batch, BatchState, Part, Settlement},
        merge::Record,
        time::Timestamp,
        update::{AppId, ClientId, Sequence},
    },
    store::{
        engine::{Engine, EngineError, Transaction},
        keys::{self, NameSpace},
        names::names,
        queue::state_of,
        records::{Course, Head, InFlight, Stored},
        walk::{Kind, Walk, app_of},
    },
};

/// What an export came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records that were written.
    pub records: u64,
    /// Of these, the ones that were in flight, and had to be taken for undelivered.
    pub in_flight: u64,
    /// Entries that could not be written, since they are damaged or were set aside.
    pub damaged: u64,
    /// What an export does not take along, of each app.
    pub left_behind: Vec<LeftBehind>,
    /// Records of apps whose names cannot be told, by what stands in the place of the name.
    pub nameless: BTreeMap<String, u64>,
    /// The names of apps, one of which it is.
    pub lost_apps: Vec<String>,
    /// Clients whose names records of theirs do not bear, since that they are theirs is lost.
    pub lost_clients: Vec<String>,
    /// SHA-256 of the records' lines, in hexadecimal digits. The last line says it, too.
    pub sha256: String,
}

/// What an export does not take along of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The app.
    pub app: String,
    /// Until when its last job occupies its budget.
    pub occupied_until: Timestamp,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// Dead letters that nobody has closed.
    pub dead_letters: u64,
    /// Jobs of callers, over or not.
    pub jobs: u64,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The lines cannot be written.
    #[error("cannot write the export: {0}")]
    Write(#[from] io::Error),
}

/// Writes every record that waits or is in flight as a line, one a subject, in the order in
/// which each began to wait, and then a line that says how many these are, with their checksum.
/// Damaged entries are counted and passed over. Takes about 60 bytes of memory a record.
pub async fn export<E: Engine>(
    engine: &E,
    out: &mut (impl io::Write + Send),
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let names = Names::read(engine, &mut exported).await?;
    let last_stamp = last_stamp(engine, &mut exported).await?;
    let delivered = read_states(engine, &names, &mut exported).await?;
    exported.damaged += count(engine, Kind::Quarantine).await?.into_values().sum::<u64>();
    let (mut sum, mut text) = (Sum::default(), Vec::new());
    for (_, app, subject_key) in order(engine, &delivered, &mut exported).await? {
        let mut transaction = engine.begin().await?;
        let row = transaction.get(&keys::in_flight_of(app, &subject_key)).await?;
        let row = row.and_then(|bytes| InFlight::decode(bytes.as_ref()).ok());
        let row = row.filter(|row| !row.forgotten && !is_delivered(&delivered, app, row));
        let pending_key = keys::pending_of(app, &subject_key);
        let waiting = transaction.get(&pending_key).await?;
        let waiting = waiting.and_then(|bytes| Record::decode(bytes.as_ref()).ok());
        exported.in_flight += u64::from(row.is_some());
        // What is in flight goes under what has come since.
        let record = row.map(|row| row.record).into_iter().chain(waiting).reduce(Record::merge);
        let (Some(record), Some(subject)) = (record, keys::subject_of(&pending_key)) else {
            exported.damaged += 1;
            continue;
        };
        let name = names.of_app(app);
        if !names.apps.contains_key(&app) {
            *exported.nameless.entry(name.clone()).or_default() += 1;
        }
        let client = names.clients.get(&record.client).cloned();
        let line = Line::new((name, client), subject, record, last_stamp);
        text.clear();
        serde_json::to_writer(&mut text, &line).map_err(io::Error::from)?;
        text.push(b'\n');
        sum.add(&text);
        out.write_all(&text)?;
    }
    let end = sum.end();
    serde_json::to_writer(&mut *out, &end.line()).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()?;
    (exported.records, exported.sha256) = (end.records, end.sha256);
    Ok(exported)
}

/// The store's last stamp. Without it, any stamp may have been given.
async fn last_stamp<E: Engine>(
    engine: &E,
    exported: &mut Exported,
) -> Result<Timestamp, EngineError> {
    let head = engine.begin().await?.get(keys::HEAD).await?;
    let head = head.map(|bytes| Head::decode(bytes.as_ref()));
    exported.damaged += u64::from(head.as_ref().is_some_and(Result::is_err));
    let head = head.and_then(Result::ok);
    let mut last = head.map_or(Timestamp::from_micros(i64::MAX), |head| head.last_accepted_at);
    // Where several write to the store, the courses tell.
    let mut walk = Walk::through(Kind::Course);
    loop {
        let entries = walk.next(engine).await?;
        if entries.is_empty() {
            return Ok(last);
        }
        for (_, bytes) in &entries {
            match Course::decode(bytes.as_ref()) {
                Ok(course) => last = last.max(course.last_accepted_at),
                Err(_) => exported.damaged += 1,
            }
        }
    }
}

/// The rows that are known to be delivered, and were only not yet taken away.
type Delivered = BTreeMap<AppId, Part>;

fn is_delivered(delivered: &Delivered, app: AppId, row: &InFlight) -> bool {
    delivered.get(&app).is_some_and(|part| part.holds(row.batch, row.position))
}

/// Reads what stays behind, and which rows are delivered.
async fn read_states<E: Engine>(
    engine: &E,
    names: &Names,
    exported: &mut Exported,
) -> Result<Delivered, EngineError> {
    let mut delivered = BTreeMap::new();
    let jobs = count(engine, Kind::Job).await?;
    for app in count(engine, Kind::App).await?.into_keys().flatten() {
        let mut transaction = engine.begin().await?;
        let Some(state) = state_of(&mut transaction, app).await? else {
            exported.damaged += 1;
            // It would lead to the one batch that is being settled.
            let batches = transaction.scan(keys::batches(app, u64::MAX), usize::MAX).await?;
            let batches =
                batches.iter().filter_map(|(_, bytes)| Batch::decode(bytes.as_ref()).ok());
            delivered.extend(batches.filter(settles_as_delivered).map(|it| (app, it.part)));
            continue;
        };
        exported.left_behind.push(LeftBehind {
            app: names.of_app(app),
            occupied_until: state.memory.occupancy.until,
            paused: state.paused,
            dead_letters: state.dead_letters,
            jobs: jobs.get(&Some(app)).copied().unwrap_or_default(),
        });
        let Some(number) = state.unsettled else { continue };
        let batch = transaction.get(&keys::batch(app, number)).await?;
        let batch = batch.map(|bytes| Batch::decode(bytes.as_ref()));
        exported.damaged += u64::from(batch.as_ref().is_some_and(Result::is_err));
        let batch = batch.and_then(Result::ok).filter(settles_as_delivered);
        delivered.extend(batch.map(|batch| (app, batch.part)));
    }
    Ok(delivered)
}

fn settles_as_delivered(batch: &Batch) -> bool {
    batch.state == BatchState::Settling(Settlement::Delivered)
}

/// A subject's place: its first sequence, its app, and the end of its key.
type Place = (Sequence, AppId, Vec<u8>);

/// All subjects, in the order in which each began to wait.
async fn order<E: Engine>(
    engine: &E,
    delivered: &Delivered,
    exported: &mut Exported,
) -> Result<Vec<Place>, EngineError> {
    let mut places: Vec<Place> = Vec::new();
    for kind in [Kind::InFlight, Kind::Pending] {
        let mut walk = Walk::through(kind);
        loop {
            let entries = walk.next(engine).await?;
            if entries.is_empty() {
                break;
            }
            for (key, bytes) in &entries {
                let first = first_sequence(kind, key, bytes.as_ref(), delivered);
                match (first, app_of(key), key.get(keys::SUBJECT_AT..)) {
                    (Some(Ok(first)), Some(app), Some(subject_key)) => {
                        places.push((first, app, subject_key.to_vec()));
                    }
                    (None, _, _) => {}
                    (Some(_), _, _) => exported.damaged += 1,
                }
            }
        }
    }
    // A subject that has both stands where the first of them stands.
    places.sort_by(|a, b| (a.1, &a.2, a.0).cmp(&(b.1, &b.2, b.0)));
    places.dedup_by(|later, first| (later.1, &later.2) == (first.1, &first.2));
    places.sort_unstable_by_key(|(first, app, _)| (*app, *first));
    Ok(places)
}

/// The first sequence of a record; `None` if it is delivered, an error if it is damaged.
fn first_sequence(
    kind: Kind,
    key: &[u8],
    bytes: &[u8],
    delivered: &Delivered,
) -> Option<Result<Sequence, ()>> {
    if kind == Kind::Pending {
        return Some(Record::decode(bytes).map(|record| record.first_sequence).map_err(drop));
    }
    let Ok(row) = InFlight::decode(bytes) else { return Some(Err(())) };
    let gone = row.forgotten || app_of(key).is_some_and(|app| is_delivered(delivered, app, &row));
    (!gone).then_some(Ok(row.record.first_sequence))
}

/// How many entries of a kind there are, by app where it has one.
async fn count<E: Engine>(
    engine: &E,
    kind: Kind,
) -> Result<BTreeMap<Option<AppId>, u64>, EngineError> {
    let (mut walk, mut counts) = (Walk::through(kind), BTreeMap::new());
    loop {
        let entries = walk.next(engine).await?;
        if entries.is_empty() {
            return Ok(counts);
        }
        for (key, _) in entries {
            *counts.entry(app_of(&key)).or_default() += 1;
        }
    }
}

struct Names {
    apps: BTreeMap<AppId, String>,
    clients: BTreeMap<ClientId, String>,
}

impl Names {
    fn of_app(&self, app: AppId) -> String {
        self.apps.get(&app).cloned().unwrap_or_else(|| nameless(app))
    }

    async fn read<E: Engine>(engine: &E, exported: &mut Exported) -> Result<Self, EngineError> {
        let (apps, lost_apps) = Self::of(engine, NameSpace::App).await?;
        let (clients, lost_clients) = Self::of(engine, NameSpace::Client).await?;
        exported.damaged += (lost_apps.len() + lost_clients.len()) as u64;
        (exported.lost_apps, exported.lost_clients) = (lost_apps, lost_clients);
        Ok(Self {
            apps: apps.into_iter().map(|(number, name)| (AppId(number), name)).collect(),
            clients: clients.into_iter().map(|(number, name)| (ClientId(number), name)).collect(),
        })
    }

    /// The names by their numbers, and those whose numbers are lost.
    async fn of<E: Engine>(
        engine: &E,
        space: NameSpace,
    ) -> Result<(BTreeMap<u16, String>, Vec<String>), EngineError> {
        let (mut known, mut lost) = (BTreeMap::new(), Vec::new());
        for name in names(engine, space).await? {
            match name.number {
                Some(number) => drop(known.insert(number, name.text)),
                None => lost.push(name.text),
            }
        }
        Ok((known, lost))
    }
}
