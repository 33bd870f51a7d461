//! The account, kept in a file over the end of the process: every event that changed it, a line
//! of JSON each. The same events make the same account again.
//!
//! A line is written before its request is answered. That outlives a SIGKILL, since the
//! operating system has it then; it does not outlive a loss of power.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::jobs::StartedJob;
use super::profiles::{Row, Subjects};
use super::violations::Rule;

/// Something that changed the account. What follows from it and the time is not among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// A submission arrived.
    Submitted,
    /// It found the slot taken.
    Conflicted,
    Started(StartedJob),
    /// The client asked for the job by its id, so it has heard of it.
    Asked {
        job_id: String,
    },
    Unheard {
        job_id: String,
    },
    Forgotten {
        job_id: String,
    },
    Identified {
        at: Duration,
        rows: Vec<(Subjects, Row)>,
    },
    Tracked,
    Violated {
        rule: Rule,
        at: Duration,
        detail: String,
    },
}

impl Event {
    /// When it happened, where that decides anything.
    pub(super) fn at(&self) -> Option<Duration> {
        match self {
            Self::Started(job) => Some(job.accepted),
            Self::Identified { at, .. } | Self::Violated { at, .. } => Some(*at),
            Self::Submitted
            | Self::Conflicted
            | Self::Asked { .. }
            | Self::Unheard { .. }
            | Self::Forgotten { .. }
            | Self::Tracked => None,
        }
    }
}

pub(super) struct Journal {
    file: File,
    /// A line may be there in half: another after it could not be read.
    broken: bool,
}

impl Journal {
    /// Opens the file, or makes it, and reads what it holds. Half a line at its end is cut off:
    /// its request was never answered.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Event>)> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(whole as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        let lines = content[..whole].split_inclusive(|byte| *byte == b'\n');
        let read = |(nth, line)| {
            serde_json::from_slice(line).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", nth + 1))
            })
        };
        let events = lines.enumerate().map(read).collect::<io::Result<_>>()?;
        Ok((Self { file, broken: false }, events))
    }

    pub(super) fn append(&mut self, events: &[Event]) {
        if self.broken {
            return;
        }
        let mut lines = Vec::new();
        let written = events.iter().try_for_each(|event| {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
            Ok(())
        });
        if let Err(error) = written.and_then(|()| self.file.write_all(&lines)) {
            tracing::error!(%error, "the simulator cannot keep its state, and answers no more");
            self.broken = true;
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn events() -> Vec<Event> {
        let detail = "two\nlines".to_owned();
        let violated = Event::Violated { rule: Rule::Rate, at: Duration::new(9, 1), detail };
        vec![Event::Submitted, violated, Event::Asked { job_id: "a:b".to_owned() }]
    }

    #[test]
    fn what_was_appended_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut expected = Vec::new();
        for _ in 0..3 {
            let (mut journal, held) = Journal::open(&path).unwrap();
            assert_eq!(held, expected);
            journal.append(&events());
            expected.extend(events());
        }
    }

    #[test]
    fn half_a_line_at_the_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        Journal::open(&path).unwrap().0.append(&events());
        let whole = fs::read(&path).unwrap();
        for cut in 1..20 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut journal, held) = Journal::open(&path).unwrap();
            assert_eq!(held, events()[..2]);
            journal.append(&events()[2..]);
            drop(journal);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn damage_before_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "\"submitted\"\n{\n\"submitted\"\n").unwrap();
        let error = Journal::open(&path).err().unwrap();
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }

    #[test]
    fn two_simulators_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = Journal::open(&path).unwrap();
        assert!(Journal::open(&path).is_err());
        drop(first);
        assert!(Journal::open(&path).is_ok());
    }
}
