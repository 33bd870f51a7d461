//! The way to the account and back, on which requests and answers get lost.

use std::{
    future::{Future, ready},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use userpilot_gateway::{
    domain::{
        batch::Batch,
        update::SubjectKind,
        verdict::{
            AcceptedJob, Failure, FailureKind, Identified, JobPhase, JobReport, Jobs, Poll,
            Submission,
        },
    },
    upstream::Upstream,
};

use crate::{
    account::{Account, Fate, Job, Row},
    random::Random,
    sabotage::Sabotage,
    scenario::{Fault, Poison, Scenario},
};

/// Upstream as the gateway meets it.
#[derive(Debug)]
pub(crate) struct Network {
    inside: Mutex<Inside>,
    sabotage: Option<Sabotage>,
}

/// The account, and what happens on the way.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) account: Account,
    scenario: Scenario,
    random: Random,
    /// Nothing goes wrong any more.
    pub(crate) healthy: bool,
    /// A request that has been given up and is still on its way: when it arrives.
    late: Option<(Duration, String, Vec<Row>)>,
}

/// What may become of a submission on its way.
const ON_THE_WAY: [Fault; 12] = [
    Fault::NotSent,
    Fault::LostRequest,
    Fault::LostAnswer,
    Fault::FalseConflict,
    Fault::DoubledByProxy,
    Fault::Throttled,
    Fault::KeyRejected,
    Fault::TooLarge,
    Fault::BadRows,
    Fault::RefusesAll,
    Fault::Refused,
    Fault::LateArrival,
];

/// What may become of a request to the real-time endpoint.
const BY_EXPRESS: [Fault; 9] = [
    Fault::NotSent,
    Fault::LostRequest,
    Fault::LostAnswer,
    Fault::Throttled,
    Fault::KeyRejected,
    Fault::TooLarge,
    Fault::BadRows,
    Fault::RefusesAll,
    Fault::Refused,
];

/// How long a list may lag, and a request that was given up may still be under way.
const LATE: Duration = Duration::from_secs(20);
/// How many jobs a page of the list shows.
const PAGE: usize = 2;
/// The name of a job that was cancelled long ago, by a word that is not documented.
const ZOMBIE: &str = "bulk:jobs:zombie";

impl Network {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let inside = Inside {
            account: Account::new(scenario),
            scenario: scenario.clone(),
            random: Random::new(scenario.seed, "network"),
            healthy: false,
            late: None,
        };
        Self { inside: Mutex::new(inside), sabotage: scenario.sabotage }
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: Duration) {
        if let Some((at, filename, rows)) = self.late.take_if(|(at, ..)| *at <= now) {
            self.account.advance(at);
            if self.account.running().is_none() {
                self.take(filename, rows);
            }
        }
        self.account.advance(now);
    }

    /// One of `among`, if the scenario has it and chance wants it.
    fn fault(&mut self, among: &[Fault]) -> Option<Fault> {
        if self.healthy || !self.random.percent(self.scenario.fault_percent) {
            return None;
        }
        let possible: Vec<Fault> =
            among.iter().copied().filter(|fault| self.scenario.has(*fault)).collect();
        self.random.one(&possible)
    }

    fn submit(&mut self, filename: String, kind: SubjectKind, upload: &[u8]) -> Submission {
        self.account.arrive();
        let fault = self.fault(&ON_THE_WAY);
        if fault == Some(Fault::NotSent) {
            return Err(failure(FailureKind::NotSent));
        }
        let rows = self.account.inspect(kind, upload);
        match fault {
            Some(Fault::LostRequest) => Err(failure(FailureKind::Unknown)),
            Some(Fault::LateArrival) => {
                self.late = Some((self.account.now + LATE, filename, rows));
                Err(failure(FailureKind::Unknown))
            }
            Some(Fault::FalseConflict) => Err(failure(FailureKind::SlotTaken)),
            Some(Fault::Throttled) => {
                let asked = self.random.percent(50).then(|| self.random.millis(0, 100_000));
                Err(failure(FailureKind::Throttled(asked)))
            }
            Some(Fault::KeyRejected) => Err(failure(FailureKind::KeyRejected)),
            Some(Fault::TooLarge) => Err(failure(FailureKind::TooLarge)),
            Some(Fault::BadRows | Fault::RefusesAll) => Err(failure(FailureKind::BadRows)),
            Some(Fault::Refused) if self.random.percent(50) => Err(failure(FailureKind::NotFound)),
            Some(Fault::Refused) => Err(failure(FailureKind::Refused)),
            _ if self.account.running().is_some() => match fault {
                Some(Fault::LostAnswer) => Err(failure(FailureKind::Unknown)),
                _ => Err(failure(FailureKind::SlotTaken)),
            },
            _ if self.refuses(kind, &rows) => Err(failure(FailureKind::BadRows)),
            _ => {
                let job_id = self.take(filename, rows);
                match fault {
                    Some(Fault::LostAnswer) => Err(failure(FailureKind::Unknown)),
                    Some(Fault::DoubledByProxy) => Err(failure(FailureKind::SlotTaken)),
                    _ => Ok(AcceptedJob { job_id, request_id: None }),
                }
            }
        }
    }

    /// A request to the real-time endpoint.
    pub(crate) fn identify(&mut self, kind: SubjectKind, body: &[u8]) -> Identified {
        let fault = self.fault(&BY_EXPRESS);
        if fault == Some(Fault::NotSent) {
            return Err(failure(FailureKind::NotSent));
        }
        let row = self.account.inspect_identify(kind, body);
        let refusal = match fault {
            Some(Fault::LostRequest) => FailureKind::Unknown,
            Some(Fault::Throttled) => {
                let asked = self.random.percent(50).then(|| self.random.millis(0, 100_000));
                FailureKind::Throttled(asked)
            }
            Some(Fault::KeyRejected) => FailureKind::KeyRejected,
            Some(Fault::TooLarge) => FailureKind::TooLarge,
            Some(Fault::BadRows | Fault::RefusesAll) => FailureKind::BadRows,
            Some(Fault::Refused) if self.random.percent(50) => FailureKind::NotFound,
            Some(Fault::Refused) => FailureKind::Refused,
            _ if self.is_bad(&row) || self.refuses(kind, std::slice::from_ref(&row)) => {
                FailureKind::BadRows
            }
            _ => {
                self.account.identify(row);
                return match fault {
                    Some(Fault::LostAnswer) => Err(failure(FailureKind::Unknown)),
                    _ => Ok(()),
                };
            }
        };
        Err(failure(refusal))
    }

    fn is_bad(&self, row: &Row) -> bool {
        row.writes.iter().any(|(_, number)| self.scenario.is_poison(*number))
    }

    /// Whether rows are refused for good, or everything is for now, or all of one kind.
    fn refuses(&mut self, kind: SubjectKind, rows: &[Row]) -> bool {
        let no_companies = !self.healthy && self.scenario.has(Fault::RefusesCompanies);
        if no_companies && kind == SubjectKind::Company {
            return true;
        }
        if !self.healthy && self.scenario.has(Fault::RefusesAll) {
            // For half an hour out of an hour.
            if (self.account.now.as_secs() / 1_800).is_multiple_of(2) {
                return true;
            }
        }
        self.scenario.poison == Poison::Refused && rows.iter().any(|row| self.is_bad(row))
    }

    fn take(&mut self, filename: String, rows: Vec<Row>) -> String {
        let count = usize::try_from(self.random.below(rows.len().max(1) as u64)).unwrap_or(0);
        let fate = match self.fault(&[Fault::JobFails, Fault::JobIsPartial]) {
            Some(Fault::JobFails) => Fate::Fails(count),
            Some(_) => Fate::Partial(count),
            None => Fate::Completes,
        };
        // The bad rows stand last, whatever their place in the batch.
        let (mut rows, bad): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| !self.is_bad(row));
        let fate = match self.scenario.poison {
            Poison::Fails if !bad.is_empty() => Fate::Fails(count.min(rows.len())),
            Poison::Partial if !bad.is_empty() => Fate::Partial(rows.len()),
            Poison::Refused | Poison::Fails | Poison::Partial => fate,
        };
        rows.extend(bad);
        let overrun = self.fault(&[Fault::Overrun]);
        let overrun = overrun.map_or(Duration::ZERO, |_| self.random.millis(1_000, 90_000));
        self.account.take(filename, rows, fate, (&mut self.random, overrun))
    }

    fn poll(&mut self, job_id: &str) -> Poll {
        self.account.arrive();
        if self.fault(&[Fault::PollFails]).is_some() {
            return Err(self.failure_to_ask());
        }
        if self.scenario.has(Fault::OddEntries) && job_id == ZOMBIE {
            return Ok(zombie());
        }
        if self.scenario.has(Fault::PollDenies) {
            return Err(failure(FailureKind::NotFound));
        }
        let forgets = self.fault(&[Fault::JobIsForgotten]).is_some();
        let now = self.account.now;
        let job = self.account.jobs.iter_mut().find(|job| job.id == job_id);
        match job {
            Some(job) if !(job.forgotten || forgets && job.ends_at <= now) => {
                job.is_heard_of = true;
                Ok(report(job, now, Some(job.applied as u64)))
            }
            Some(job) => {
                job.forgotten = true;
                Err(failure(FailureKind::NotFound))
            }
            None => Err(failure(FailureKind::NotFound)),
        }
    }

    fn list(&mut self) -> Jobs {
        self.account.arrive();
        if self.scenario.has(Fault::NoList) {
            return Err(failure(FailureKind::NotFound));
        }
        if self.scenario.has(Fault::ListIsBroken) {
            return Err(self.failure_to_ask());
        }
        if self.fault(&[Fault::ListFails]).is_some() {
            return Err(self.failure_to_ask());
        }
        let now = self.account.now;
        let lags = self.fault(&[Fault::ListLags]).is_some();
        let has = |fault| self.scenario.has(fault);
        let listed = |job: &&Job| {
            let hidden = lags && job.taken_at + LATE > now;
            !hidden && !job.forgotten && (job.ours || !has(Fault::ForeignJobsAreHidden))
        };
        let echoes = !has(Fault::NoNames);
        let shown = |job: &Job| JobReport {
            filename: echoes.then(|| job.filename.clone()),
            ..report(job, now, None)
        };
        let mut jobs: Vec<JobReport> = self.account.jobs.iter().filter(listed).map(shown).collect();
        if !has(Fault::ListIsOldestFirst) {
            jobs.reverse();
        }
        if has(Fault::ListIsPaged) {
            jobs.truncate(PAGE);
        }
        if has(Fault::OddEntries) {
            let nameless = JobReport { job_id: String::new(), ..zombie() };
            let without_status = JobReport { status: String::new(), ..zombie() };
            jobs.splice(0..0, [nameless, without_status]);
            jobs.push(zombie());
        }
        Ok(jobs)
    }

    fn failure_to_ask(&mut self) -> Failure {
        let kinds = [
            FailureKind::NotSent,
            FailureKind::Unknown,
            FailureKind::Unknown,
            FailureKind::Throttled(None),
            FailureKind::Throttled(Some(Duration::from_secs(20))),
            FailureKind::KeyRejected,
        ];
        failure(self.random.one(&kinds).unwrap_or(FailureKind::Unknown))
    }
}

impl Upstream for Network {
    fn submit(&self, batch: &Batch, upload: Vec<u8>) -> impl Future<Output = Submission> + Send {
        let mut inside = self.inside();
        let kind = match self.sabotage {
            Some(Sabotage::WrongEndpoint) => SubjectKind::User,
            Some(_) | None => batch.kind,
        };
        let answer = inside.submit(batch.id.filename(), kind, &upload);
        if self.sabotage == Some(Sabotage::SubmitTwice) {
            drop(inside.submit(batch.id.filename(), kind, &upload));
        }
        ready(answer)
    }

    fn job(&self, job_id: &str) -> impl Future<Output = Poll> + Send {
        ready(self.inside().poll(job_id))
    }

    fn jobs(&self) -> impl Future<Output = Jobs> + Send {
        ready(self.inside().list())
    }

    fn identify(
        &self,
        kind: SubjectKind,
        body: Vec<u8>,
    ) -> impl Future<Output = Identified> + Send {
        ready(self.inside().identify(kind, &body))
    }
}

fn report(job: &Job, now: Duration, completed_rows: Option<u64>) -> JobReport {
    let phase = match job.fate {
        _ if job.ends_at > now => JobPhase::Unfinished,
        Fate::Completes | Fate::Partial(_) => JobPhase::Completed,
        Fate::Fails(_) => JobPhase::Failed,
    };
    let status = match phase {
        JobPhase::Unfinished => "processing",
        JobPhase::Completed => "completed",
        JobPhase::Failed => "failed",
    };
    JobReport {
        job_id: job.id.clone(),
        filename: None,
        phase,
        status: status.into(),
        total_rows: Some(job.rows.len() as u64),
        completed_rows,
    }
}

/// An entry that nobody tends any more.
fn zombie() -> JobReport {
    JobReport {
        job_id: ZOMBIE.into(),
        filename: Some("cancelled.csv".into()),
        phase: JobPhase::Unfinished,
        status: "cancelled".into(),
        total_rows: Some(9),
        completed_rows: None,
    }
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    Failure { kind, cause: format!("{kind:?}"), detail: format!("{kind:?}"), request_id: None }
}
