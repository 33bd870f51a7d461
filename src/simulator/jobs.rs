//! One bulk job: its rows, how far it is, and how it is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::profiles::{Profiles, Row, Subjects};
use super::timeline::{JobStatus, Timeline};

/// Who started a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Owner {
    /// The client under test.
    Client,
    /// Somebody else who holds the same key.
    Foreign,
}

/// A submission that was read and found well formed.
#[derive(Debug, PartialEq)]
pub(super) struct Submission {
    pub(super) subjects: Subjects,
    pub(super) rows: Vec<Row>,
    pub(super) file: Option<File>,
}

/// The file that a submission came as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) bytes: usize,
}

/// A job as it is when it is accepted: with the time, all that becomes of it follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StartedJob {
    pub(super) id: String,
    pub(super) owner: Owner,
    pub(super) accepted: Duration,
    pub(super) subjects: Subjects,
    pub(super) file: Option<File>,
    pub(super) rows: Vec<Row>,
    pub(super) total_rows: usize,
    /// Rows that are left out.
    pub(super) skipped: BTreeSet<usize>,
    /// It fails when so many rows are behind it.
    pub(super) fails_after: Option<usize>,
    pub(super) forgotten: bool,
}

impl StartedJob {
    /// A job of `rows` rows about users whom nobody here knows.
    pub(super) fn foreign(id: String, accepted: Duration, file: Option<File>, rows: usize) -> Self {
        Self {
            id,
            owner: Owner::Foreign,
            accepted,
            subjects: Subjects::Users,
            file,
            rows: Vec::new(),
            total_rows: rows,
            skipped: BTreeSet::new(),
            fails_after: None,
            forgotten: false,
        }
    }
}

pub(super) struct Job {
    pub(super) id: String,
    pub(super) owner: Owner,
    pub(super) subjects: Subjects,
    pub(super) file: Option<File>,
    pub(super) total_rows: usize,
    pub(super) completed_rows: usize,
    pub(super) timeline: Timeline,
    /// Unknown to its address and to the list, although it goes on.
    pub(super) forgotten: bool,
    /// The client may not know of it: the answer was lost, or came late.
    pub(super) unheard: bool,
    /// The client has asked for it by its id.
    pub(super) asked: bool,
    rows: std::vec::IntoIter<Row>,
    skipped: BTreeSet<usize>,
    passed: usize,
}

impl Job {
    pub(super) fn new(started: StartedJob, timeline: Timeline) -> Self {
        Self {
            id: started.id,
            owner: started.owner,
            subjects: started.subjects,
            file: started.file,
            total_rows: started.total_rows,
            completed_rows: 0,
            timeline,
            forgotten: started.forgotten,
            unheard: false,
            asked: false,
            rows: started.rows.into_iter(),
            skipped: started.skipped,
            passed: 0,
        }
    }

    /// Applies the rows that are behind the job by now.
    pub(super) fn advance(&mut self, now: Duration, profiles: &mut Profiles) {
        let passed = self.timeline.rows_passed(now);
        match self.owner {
            Owner::Foreign => self.completed_rows = passed,
            Owner::Client => {
                for nth in self.passed..passed {
                    let Some(row) = self.rows.next() else { break };
                    if !self.skipped.contains(&nth) {
                        profiles.upsert(self.subjects, row);
                        self.completed_rows += 1;
                    }
                }
            }
        }
        self.passed = passed;
        if self.timeline.is_over(now) {
            self.rows = Vec::new().into_iter();
        }
    }

    pub(super) fn status(&self, now: Duration) -> JobStatus {
        self.timeline.status(now)
    }

    pub(super) fn ended(&self, now: Duration) -> Option<Duration> {
        self.timeline.is_over(now).then_some(self.timeline.ended)
    }

    pub(super) fn filename(&self) -> Option<&str> {
        self.file.as_ref()?.name.as_deref()
    }
}
