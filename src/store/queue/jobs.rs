//! Virtual jobs: which rows a caller sent together, and what became of them.
//!
//! The rows go their way without knowing of it. A job remembers the subject and sequence of each
//! of its rows; whoever asks makes the queue say what became of them, and those that are final are
//! struck off. So each row is looked at until it is final and no longer, and a job whose rows are
//! all final is one small record.

mod places;

use std::collections::BTreeMap;

pub use self::places::JobPlace;
use self::places::Places;
pub(super) use self::places::erase_words;
use super::{Engine, Found, Queue, Reads, Scope, StoreError, Stored, Transaction, decode, keys};
use crate::{
    domain::{
        merge::Record,
        time::Timestamp,
        update::{AppId, ClientId, Sequence, Subject},
    },
    store::{
        keys::jobs::{self as job_keys, JobId},
        records::{
            Closing,
            jobs::{Job, JobRow},
        },
    },
};

const CHUNK: usize = 64;
/// A page's rows take less than an entry may.
const PAGE_BYTES_MAX: usize = 32 << 10;
const ROW_BYTES: usize = 20;

/// Why a row failed of whose subject all was erased.
pub(super) const ERASED: &str = "it was erased at an operator's request";

/// The jobs that there are, and when each ended.
#[derive(Debug, Default)]
pub(super) struct JobIndex {
    pub(super) ended: BTreeMap<JobId, Option<Timestamp>>,
    pub(super) last_number: u64,
    pub(super) places: Places,
}

/// As many jobs as an app, or a client of it, may have are there or to come, and none is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyJobs;

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits.
    Waiting,
    /// It is on its way.
    InFlight,
    /// Upstream holds its values.
    Delivered,
    /// Upstream will not take it, for this reason.
    Dead(String),
}

impl Fate {
    /// Whether nothing else becomes of the row.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Waiting | Self::InFlight => false,
            Self::Delivered | Self::Dead(_) => true,
        }
    }
}

/// What became of rows: their page, their number, their fate.
pub type Fates = Vec<(u32, u32, Fate)>;

/// A job, and what is not noted in it yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The job.
    pub job: Job,
    /// Rows that are on their way or final.
    pub fates: Fates,
}

impl<E: Engine> Queue<E> {
    /// Reads which jobs there are.
    pub async fn recover_jobs(&mut self) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let mut transaction = self.engine.begin().await?;
            let entries = transaction.scan(job_keys::all_jobs(from), CHUNK).await?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            from = Some(keys::after(last.clone()));
            for (key, bytes) in &entries {
                let Some(id) = job_keys::job_of(key) else { continue };
                // One that does not decode tells nobody anything, and goes as soon as it may.
                let job: Option<Job> = decode(bytes.as_ref())?;
                let ended = job.map_or(Some(Timestamp::default()), |job| job.ended_at);
                self.jobs.ended.insert(id, ended);
                self.jobs.last_number = self.jobs.last_number.max(id.number);
            }
        }
    }

    /// Adds a job with its rows, in one durable commit. Where the app has as many as it may, its
    /// oldest that are over make room.
    pub async fn add_job(
        &mut self,
        (place, client): (JobPlace, ClientId),
        mut job: Job,
        mut rows: Vec<JobRow>,
        now: Timestamp,
    ) -> Result<JobId, StoreError> {
        let app = place.app();
        let mut transaction = self.begin(Scope::App(app), &[]).await?;
        self.read_jobs(&mut transaction, app).await?;
        // By time, so that none is given twice, should all be forgotten.
        let time = u64::try_from(now.as_micros()).unwrap_or(0);
        let number = time.max(self.jobs.last_number + 1);
        let id = JobId { app, client, number };
        self.jobs.places.strike(app, &mut job, &mut rows);
        self.strike_forgotten(&mut transaction, app, &mut rows).await?;
        let of_app = self.jobs.ended.iter().filter(|(id, _)| id.app == app);
        let surplus = (of_app.clone().count() + 1).saturating_sub(place.jobs_max);
        let mut over: Vec<_> = of_app.filter_map(|(id, at)| Some(((*at)?, *id))).collect();
        over.sort_unstable();
        over.truncate(surplus);
        for (_, id) in &over {
            forget(&mut transaction, *id).await?;
        }
        if rows.is_empty() {
            job.ended_at = Some(now);
        }
        for (page, rows) in (0..).zip(paged(rows)) {
            transaction.put(&job_keys::job_page(id, page), rows.encode());
        }
        transaction.put(&job_keys::job(id), job.encode());
        transaction.commit().await?;
        for (_, id) in over {
            self.jobs.ended.remove(&id);
        }
        self.jobs.ended.insert(id, job.ended_at);
        self.jobs.last_number = number;
        Ok(id)
    }

    /// Notes what became of rows, and strikes off those that are final. A row that was struck off
    /// before changes nothing.
    pub async fn note_fates(
        &mut self,
        id: JobId,
        fates: Fates,
        now: Timestamp,
    ) -> Result<Option<Job>, StoreError> {
        let mut transaction = self.begin(Scope::App(id.app), &[]).await?;
        let job = transaction.get(&job_keys::job(id)).await?;
        let job = job.map(|bytes| decode::<Job>(bytes.as_ref())).transpose()?.flatten();
        let Some(mut job) = job else {
            self.leave(transaction).await?;
            return Ok(None);
        };
        let mut by_page: BTreeMap<u32, BTreeMap<u32, Fate>> = BTreeMap::new();
        for (page, row, fate) in fates {
            by_page.entry(page).or_default().insert(row, fate);
        }
        let mut pages_left = 0;
        for (key, bytes) in transaction.scan(job_keys::job_pages(id), usize::MAX).await? {
            let fates = job_keys::page_of(&key).and_then(|page| by_page.remove(&page));
            let Some(mut rows) = decode::<Vec<JobRow>>(bytes.as_ref())? else {
                transaction.delete(&key);
                continue;
            };
            let before = rows.len();
            if let Some(fates) = fates {
                rows.retain(|it| {
                    !fates.get(&it.row).is_some_and(|fate| note(&mut job, it.row, fate))
                });
            }
            pages_left += usize::from(!rows.is_empty());
            match rows.len() {
                0 => transaction.delete(&key),
                left if left < before => transaction.put(&key, rows.encode()),
                _ => {}
            }
        }
        job.started_at.get_or_insert(now);
        if pages_left == 0 {
            // What stood on damaged pages is not known any more.
            job.dead_rows += job.rows.saturating_sub(job.final_rows());
            job.ended_at.get_or_insert(now);
        }
        transaction.put(&job_keys::job(id), job.encode());
        transaction.commit().await?;
        self.jobs.ended.insert(id, job.ended_at);
        Ok(Some(job))
    }

    /// The jobs that are not over.
    pub fn unfinished_jobs(&self) -> Vec<JobId> {
        let unfinished = self.jobs.ended.iter().filter(|(_, ended)| ended.is_none());
        unfinished.map(|(id, _)| *id).collect()
    }

    /// Forgets jobs that were over `before` that.
    pub(super) async fn prune_jobs(&mut self, before: Timestamp) -> Result<(), StoreError> {
        let due = self.jobs.ended.iter();
        let due = due.filter(|(_, ended)| ended.is_some_and(|at| at < before)).take(CHUNK);
        let due: Vec<JobId> = due.map(|(id, _)| *id).collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut transaction = self.engine.begin().await?;
        for id in &due {
            forget(&mut transaction, *id).await?;
        }
        transaction.commit().await?;
        self.jobs.ended.retain(|id, _| !due.contains(id));
        Ok(())
    }
}

/// Counts a row that is final. Returns whether it is.
fn note(job: &mut Job, row: u32, fate: &Fate) -> bool {
    match fate {
        Fate::Waiting | Fate::InFlight => return false,
        Fate::Delivered => job.delivered_rows += 1,
        Fate::Dead(reason) => {
            job.dead_rows += 1;
            job.note_error(row, reason);
        }
    }
    true
}

/// A damaged page may be left of a job that is over.
pub(super) async fn forget(
    transaction: &mut impl Transaction,
    id: JobId,
) -> Result<(), StoreError> {
    transaction.delete(&job_keys::job(id));
    for (key, _) in transaction.scan(job_keys::job_pages(id), usize::MAX).await? {
        transaction.delete(&key);
    }
    Ok(())
}

fn paged(rows: Vec<JobRow>) -> Vec<Vec<JobRow>> {
    let mut pages: Vec<Vec<JobRow>> = Vec::new();
    let mut room = 0;
    for row in rows {
        let bytes = row.subject_key.len() + ROW_BYTES;
        if bytes > room || pages.is_empty() {
            pages.push(Vec::new());
            room = PAGE_BYTES_MAX;
        }
        room = room.saturating_sub(bytes);
        if let Some(page) = pages.last_mut() {
            page.push(row);
        }
    }
    pages
}

impl<E: Engine> Reads<E> {
    /// A job, as far as it is noted.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let bytes = self.engine.begin().await?.get(&job_keys::job(id)).await?;
        Ok(bytes.map(|bytes| decode(bytes.as_ref())).transpose()?.flatten())
    }

    /// The jobs of one client in an app, newest first.
    pub async fn jobs(
        &self,
        app: AppId,
        client: ClientId,
        limit: usize,
    ) -> Result<Vec<(JobId, Job)>, StoreError> {
        let mut transaction = self.engine.begin().await?;
        let entries = transaction.scan(job_keys::jobs_of(app, client), limit).await?;
        let read = |(key, bytes): &(Vec<u8>, _)| {
            let job = Job::decode(AsRef::<[u8]>::as_ref(bytes)).ok()?;
            Some((job_keys::job_of(key)?, job))
        };
        Ok(entries.iter().filter_map(read).collect())
    }

    /// A job, and what has become of its rows since that was noted last.
    pub async fn look_at_job(&self, id: JobId) -> Result<Option<Look>, StoreError> {
        let Some(job) = self.job(id).await? else { return Ok(None) };
        let mut fates = Vec::new();
        let mut pages = job_keys::job_pages(id);
        loop {
            let entries = self.engine.begin().await?.scan(pages.clone(), 1).await?;
            let Some((key, bytes)) = entries.first() else { break };
            pages = keys::after(key.clone())..=pages.end().clone();
            let Some(page) = job_keys::page_of(key) else { continue };
            let Some(rows) = decode::<Vec<JobRow>>(bytes.as_ref())? else {
                fates.push((page, 0, damaged()));
                continue;
            };
            for row in rows {
                match self.fate(id.app, &row.subject_key, row.sequence).await? {
                    // It tells nothing new.
                    Fate::Waiting => {}
                    fate @ (Fate::InFlight | Fate::Delivered | Fate::Dead(_)) => {
                        fates.push((page, row.row, fate));
                    }
                }
            }
        }
        Ok(Some(Look { job, fates }))
    }

    async fn fate(
        &self,
        app: AppId,
        subject_key: &[u8],
        sequence: Sequence,
    ) -> Result<Fate, StoreError> {
        if subject_key.is_empty() {
            return Ok(Fate::Dead(ERASED.to_owned()));
        }
        let key = keys::pending_of(app, subject_key);
        let Some(subject) = keys::subject_of(&key) else { return Ok(damaged()) };
        // First, since `find` would count how many wait before it.
        let bytes = self.engine.begin().await?.get(&key).await?;
        let record = bytes.and_then(|bytes| Record::decode(bytes.as_ref()).ok());
        if record.is_some_and(|record| record.holds(sequence)) {
            return Ok(Fate::Waiting);
        }
        self.fate_of(app, &subject, sequence).await
    }

    async fn fate_of(
        &self,
        app: AppId,
        subject: &Subject,
        sequence: Sequence,
    ) -> Result<Fate, StoreError> {
        Ok(match self.find(app, subject, sequence).await? {
            Found::Pending { .. } => Fate::Waiting,
            Found::InFlight(_) | Found::InExpress => Fate::InFlight,
            Found::Delivered { .. } | Found::DeliveredLongAgo => Fate::Delivered,
            Found::Dead(letter) => match letter.closed {
                // Later values of all its properties were delivered.
                Some((Closing::Superseded, _)) => Fate::Delivered,
                Some((Closing::Discarded, _)) | None => {
                    Fate::Dead(format!("{}: {}", letter.death.reason, letter.death.detail))
                }
            },
            Found::Damaged => damaged(),
            Found::Forgotten => {
                Fate::Dead("whether it was delivered is not remembered any more".to_owned())
            }
            Found::Unknown => Fate::Dead("the gateway's store does not know the update".to_owned()),
        })
    }
}

fn damaged() -> Fate {
    Fate::Dead("the stored record was damaged and set aside".to_owned())
}
