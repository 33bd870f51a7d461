//! The real queue as the delivery's ledger, and the account as its upstream, without waiting.

use std::{
    future::{Future, ready},
    sync::{
        Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use super::{
    account::{Account, Answer, ExpressAnswer, Job},
    profiles::Profiles,
};
use crate::{
    delivery::Ledger,
    domain::{
        batch::{Batch, Claimable, Settlement},
        memory::Memory,
        time::Timestamp,
        update::{AppId, SubjectKind},
        verdict::{
            AcceptedJob, Failure, FailureKind, Identified, JobPhase, JobReport, Jobs, Poll,
            Submission,
        },
    },
    store::{
        StoreError,
        engine::MemoryEngine,
        queue::{Claim, Queue, Reads, Settling},
    },
    upstream::Upstream,
};

/// The queue, in virtual time.
pub(super) struct VirtualLedger {
    pub(super) queue: Mutex<Queue<MemoryEngine>>,
    pub(super) reads: Reads<MemoryEngine>,
    pub(super) app: AppId,
    /// The wall clock, in microseconds.
    pub(super) wall: AtomicI64,
}

impl VirtualLedger {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Relaxed))
    }
}

impl Ledger for VirtualLedger {
    type Error = StoreError;

    async fn claim(&self, claimable: Claimable) -> Result<Option<Box<Batch>>, StoreError> {
        let mut queue = self.queue.lock().await;
        let mut continued = None;
        loop {
            match queue.claim(self.app, claimable, continued, self.now()).await? {
                Claim::Continues(batch) => continued = Some(batch),
                Claim::Complete(batch) => return Ok(batch),
            }
        }
    }

    async fn advance(&self, batch: Box<Batch>, memory: Memory) -> Result<(), StoreError> {
        self.queue.lock().await.advance(&batch, memory).await
    }

    async fn settle(
        &self,
        batch: Box<Batch>,
        settlement: Settlement,
        memory: Memory,
    ) -> Result<Settling, StoreError> {
        self.queue.lock().await.settle(&batch, settlement, memory, self.now()).await
    }

    async fn upload(&self, batch: &Batch) -> Result<Vec<u8>, StoreError> {
        self.reads.upload(batch).await
    }
}

/// The way to the account.
pub(super) struct Network {
    inside: StdMutex<Inside>,
}

/// The account, the time, and what it took.
pub(super) struct Inside {
    pub(super) account: Account,
    pub(super) now: Duration,
    /// The job that was taken last, and the user and the value of each of its rows, in their order;
    /// until somebody asks.
    pub(super) taken: Option<(Job, Vec<(u32, i64)>)>,
    /// What upstream holds: a row counts from when its job is taken.
    pub(super) profiles: Profiles,
    filename: String,
}

impl Network {
    pub(super) fn new(account: Account) -> Self {
        let inside = Inside {
            account,
            now: Duration::ZERO,
            taken: None,
            profiles: Profiles::default(),
            filename: String::new(),
        };
        Self { inside: StdMutex::new(inside) }
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn submit(&mut self, filename: String, upload: &[u8]) -> Submission {
        let rows: Vec<(u32, i64)> =
            upload.split(|byte| *byte == b'\n').filter_map(read_row).collect();
        match self.account.submit(rows.len() as u64, self.now) {
            Answer::Taken(job) => {
                rows.iter().for_each(|(user, value)| self.profiles.set(*user, *value));
                self.taken = Some((job, rows));
                self.filename = filename;
                Ok(AcceptedJob { job_id: job.number.to_string(), request_id: None })
            }
            Answer::Conflict => Err(failure(FailureKind::SlotTaken)),
            Answer::Down => Err(failure(FailureKind::NotSent)),
        }
    }

    fn list(&self) -> Jobs {
        if self.account.pace().is_down(self.now) {
            return Err(failure(FailureKind::NotSent));
        }
        Ok(self.account.last().map(|job| self.report(job)).into_iter().collect())
    }

    fn report(&self, job: &Job) -> JobReport {
        let over = job.ends_at <= self.now;
        JobReport {
            job_id: job.number.to_string(),
            filename: Some(self.filename.clone()),
            phase: if over { JobPhase::Completed } else { JobPhase::Unfinished },
            status: if over { "completed" } else { "processing" }.to_owned(),
            total_rows: Some(job.rows),
            completed_rows: over.then_some(job.rows),
        }
    }
}

/// The number of the user in a row, or in an express request, and the value that it sets:
/// `{"user_id":"42",…"v":7}}`. The value may be a text, too, as an app may have it.
pub(super) fn read_row(row: &[u8]) -> Option<(u32, i64)> {
    let row = std::str::from_utf8(row).ok()?;
    let (user, rest) = row.strip_prefix("{\"user_id\":\"")?.split_once('"')?;
    let (_, value) = rest.split_once("\"v\":")?;
    let value = value.trim_matches(['"', '}']);
    Some((user.parse().ok()?, value.parse().ok()?))
}

impl Upstream for Network {
    fn submit(&self, batch: &Batch, upload: Vec<u8>) -> impl Future<Output = Submission> + Send {
        ready(self.inside().submit(batch.id.filename(), &upload))
    }

    fn job(&self, job_id: &str) -> impl Future<Output = Poll> + Send {
        let found = self.inside().list().and_then(|jobs| {
            let job = jobs.into_iter().find(|job| job.job_id == job_id);
            job.ok_or_else(|| failure(FailureKind::NotFound))
        });
        ready(found)
    }

    fn jobs(&self) -> impl Future<Output = Jobs> + Send {
        ready(self.inside().list())
    }

    fn identify(&self, _: SubjectKind, body: Vec<u8>) -> impl Future<Output = Identified> + Send {
        let mut inside = self.inside();
        let now = inside.now;
        ready(match inside.account.identify(now) {
            ExpressAnswer::Applied => {
                if let Some((user, value)) = read_row(&body) {
                    inside.profiles.set(user, value);
                }
                Ok(())
            }
            ExpressAnswer::Throttled(wait) => Err(failure(FailureKind::Throttled(Some(wait)))),
            ExpressAnswer::Down => Err(failure(FailureKind::NotSent)),
        })
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, cause: format!("{kind:?}"), detail: format!("{kind:?}"), request_id: None }
}

#[cfg(test)]
mod tests {
    use super::read_row;

    #[test]
    fn a_row_says_whose_it_is_and_what_it_sets() {
        let check = |row: &str, expected| assert_eq!(read_row(row.as_bytes()), expected, "{row}");
        check(r#"{"user_id":"42","metadata":{"v":7}}"#, Some((42, 7)));
        check(r#"{"user_id":"42","metadata":{"v":"7"}}"#, Some((42, 7)));
        check(r#"{"user_id":"42"}"#, None);
        check("", None);
    }
}
