//! Virtual jobs, as they are stored.

use serde::{Deserialize, Serialize};

use crate::domain::{batch::words_of_upstream, time::Timestamp, update::Sequence};

/// A bulk request of a caller's, which believes that Userpilot makes a job of it. Its rows go
/// their way with everybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Whether its rows are companies; else they are users.
    pub companies: bool,
    /// The name of the file, where it came as one.
    pub filename: Option<String>,
    /// The bytes of the file.
    pub file_bytes: Option<u64>,
    /// All its rows.
    pub rows: u64,
    /// Those that the gateway did not take.
    pub refused_rows: u64,
    /// Those whose values upstream holds.
    pub delivered_rows: u64,
    /// Those that upstream will not take.
    pub dead_rows: u64,
    /// Why rows failed: the first of them.
    pub errors: Vec<RowError>,
    /// When the last of its rows was durable.
    pub submitted_at: Timestamp,
    /// When the first of its rows was seen to be on its way or over.
    pub started_at: Option<Timestamp>,
    /// When the last of its rows was seen to be over.
    pub ended_at: Option<Timestamp>,
}

/// Why a row of a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// The row, from 1: of a file, its line.
    pub row: u32,
    /// In words that hold no value.
    pub reason: String,
}

/// A row of a job that is not final yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its number, from 1.
    pub row: u32,
    /// The sequence of its update.
    pub sequence: Sequence,
    /// The end of its subject's keys.
    pub subject_key: Vec<u8>,
}

/// Errors that a job keeps. The counts are of all.
const ERRORS_MAX: usize = 100;
const REASON_CHARS_MAX: usize = 200;

impl Job {
    /// Remembers why a row failed, as far as there is room.
    pub fn note_error(&mut self, row: u32, reason: &str) {
        if self.errors.len() < ERRORS_MAX {
            let reason = reason.chars().take(REASON_CHARS_MAX).collect();
            self.errors.push(RowError { row, reason });
        }
    }

    /// Whether its words, of the caller or upstream, hold a subject's id.
    pub fn names(&self, id: &str) -> bool {
        let in_filename = self.filename.as_ref().is_some_and(|name| name.contains(id));
        in_filename || self.errors.iter().any(|error| words_of_upstream(&error.reason).contains(id))
    }

    /// Rows that are over.
    pub fn final_rows(&self) -> u64 {
        self.refused_rows + self.delivered_rows + self.dead_rows
    }
}
