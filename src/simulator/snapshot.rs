//! The state as tests and the demo read it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::clock::epoch_ms;
use super::jobs::Owner;
use super::profiles::Subjects;
use super::timeline::JobStatus;
use super::violations::{Rule, Violation};

/// The whole state but for the profiles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Every job that is remembered, oldest first.
    pub jobs: Vec<JobSnapshot>,
    /// The job that holds the slot.
    pub running: Option<String>,
    /// Submissions that arrived, whatever became of them.
    pub submissions: u64,
    /// Submissions that found the slot taken.
    pub conflicts: u64,
    /// Identify requests that were carried out, for users and companies.
    pub identified: u64,
    /// Track requests that were carried out.
    pub tracked: u64,
    /// The first 100 broken rules.
    pub violations: Vec<Violation>,
    /// All broken rules, counted.
    pub violations_total: u64,
    /// All broken rules, counted by kind.
    pub violations_by_kind: BTreeMap<Rule, u64>,
    /// How many users there are profiles of.
    pub profiles: usize,
    /// How many companies there are properties of.
    pub companies: usize,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSnapshot {
    /// Its id.
    pub id: String,
    /// Whom its rows are about.
    pub subjects: Subjects,
    /// The name of the uploaded file.
    pub filename: Option<String>,
    /// Its status.
    pub status: JobStatus,
    /// How many rows were submitted.
    pub rows: usize,
    /// How many rows were applied.
    pub completed: usize,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_at_ms: Option<u64>,
    /// Whether somebody else started it.
    pub foreign: bool,
    /// Whether the API denies that it exists.
    pub forgotten: bool,
}

impl Snapshot {
    /// Reads an account that was advanced to `now`.
    pub(super) fn of(account: &Account, now: Duration) -> Self {
        let jobs = account.jobs.iter().map(|job| JobSnapshot {
            id: job.id.clone(),
            subjects: job.subjects,
            filename: job.filename().map(str::to_owned),
            status: job.status(now),
            rows: job.total_rows,
            completed: job.completed_rows,
            submitted_at_ms: epoch_ms(job.timeline.accepted),
            finished_at_ms: job.ended(now).map(epoch_ms),
            foreign: job.owner == Owner::Foreign,
            forgotten: job.forgotten,
        });
        Self {
            now_ms: epoch_ms(now),
            jobs: jobs.collect(),
            running: account.running(now).map(|job| job.id.clone()),
            submissions: account.submissions,
            conflicts: account.conflicts,
            identified: account.identified,
            tracked: account.tracked,
            violations: account.violations.first.clone(),
            violations_total: account.violations.total(),
            violations_by_kind: account.violations.counts.clone(),
            profiles: account.profiles.users.len(),
            companies: account.profiles.companies.len(),
        }
    }
}
