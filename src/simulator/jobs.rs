//! One bulk job: its rows, how far it is, and how it is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use super::profiles::{Profiles, Row, Subjects};
use super::timeline::{JobStatus, Timeline};

/// Who started a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) bytes: usize,
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
    rows: std::vec::IntoIter<Row>,
    skipped: BTreeSet<usize>,
    passed: usize,
}

impl Job {
    pub(super) fn new(
        id: String,
        owner: Owner,
        submission: Submission,
        timeline: Timeline,
        skipped: BTreeSet<usize>,
    ) -> Self {
        Self {
            id,
            owner,
            subjects: submission.subjects,
            file: submission.file,
            total_rows: submission.rows.len(),
            completed_rows: 0,
            timeline,
            forgotten: false,
            unheard: false,
            rows: submission.rows.into_iter(),
            skipped,
            passed: 0,
        }
    }

    /// A job of `rows` rows about users whom nobody here knows.
    pub(super) fn foreign(id: String, file: Option<File>, rows: usize, timeline: Timeline) -> Self {
        let submission = Submission { subjects: Subjects::Users, rows: Vec::new(), file };
        let nobody = Self::new(id, Owner::Foreign, submission, timeline, BTreeSet::new());
        Self { total_rows: rows, ..nobody }
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
