//! Taking back what was written down.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

use super::{
    end::{EndLine, Sum},
    line::Line,
};
use crate::{
    domain::{
        admission::QueueRefusal,
        update::{AppId, ClientId},
    },
    store::{
        engine::Engine,
        queue::{Arrival, Queue, StoreError},
    },
};

/// Records of one commit.
const GROUP_RECORDS_MAX: usize = 256;
/// More than any record takes as a line: each byte of a text may be written as six.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What an import came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that were taken.
    pub records: u64,
    /// Of these, the ones that were merged into a record that waited.
    pub merged: u64,
    /// Exports that were whole, by the line at their end.
    pub exports: u64,
}

/// Whether what is imported has to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// By the line at the end of each export.
    Whole,
    /// Lines are taken as they are: what is edited has another checksum.
    None,
}

/// Why an import ended early. What stands before the line is in the store, or most of it.
/// Importing the whole file again is safe as long as no gateway has served the store in between:
/// what was delivered meanwhile would be sent again, over what is newer.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Read(#[from] io::Error),
    /// A line is no exported record.
    #[error("line {line}: {what}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it. Never holds a value.
        what: String,
    },
    /// The export is not whole, or was changed.
    #[error(
        "line {line}: {what}; what stands before it is merged, but for the last lines: import the \
         whole export again, or use --unchecked if its lines were edited"
    )]
    NotWhole {
        /// The line, from 1.
        line: u64,
        /// What shows it.
        what: &'static str,
    },
    /// The queue does not take a record.
    #[error("line {line}: {}", refusal_text(*refusal))]
    Refused {
        /// The line, from 1.
        line: u64,
        /// Why.
        refusal: QueueRefusal,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn refusal_text(refusal: QueueRefusal) -> &'static str {
    match refusal {
        QueueRefusal::TooManyRecords => {
            "the queue is full: raise store.pending_records_max and import again"
        }
        QueueRefusal::TooManyBytes => {
            "the queue is full: raise store.pending_bytes_max and import again"
        }
        QueueRefusal::TooManyOfClient => "too many records of one client wait",
        QueueRefusal::RecordTooLarge => {
            "the record, merged with what waits for its subject, is over limits.record_bytes_max \
             or limits.properties_max: raise them and import again"
        }
        QueueRefusal::AppHeld => "what the store holds of the app is damaged",
        QueueRefusal::StoreAway => "the store does not answer: import again",
    }
}

/// Merges all lines into the queue, in their order, which becomes that of their sequences. There may
/// be several exports, one after the other.
pub async fn import<E: Engine>(
    queue: &mut Queue<E>,
    mut lines: impl BufRead + Send,
    check: Check,
) -> Result<Imported, ImportError> {
    let mut names = Names::default();
    let mut imported = Imported::default();
    let mut group = Vec::new();
    let mut text = Vec::new();
    let mut sum = Sum::default();
    for line in 1.. {
        text.clear();
        let bytes = io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
        if let Some(end) = EndLine::read(&text) {
            let is_whole = end.is_ok_and(|end| end == std::mem::take(&mut sum).end());
            if check == Check::Whole && !is_whole {
                let what = "the lines before it are not as many, or not the same, as it says";
                return Err(ImportError::NotWhole { line, what });
            }
            imported.exports += u64::from(is_whole);
        } else if bytes > 0 && !text.trim_ascii().is_empty() {
            sum.add(&text);
            group.push((line, names.arrival(queue, line, &text).await?));
        }
        let has_end = imported.exports > 0 && sum.records() == 0;
        if bytes == 0 && check == Check::Whole && !has_end {
            let what =
                "the end of the export is missing: it was cut off, or an older version wrote it";
            return Err(ImportError::NotWhole { line, what });
        }
        if bytes == 0 || group.len() >= GROUP_RECORDS_MAX {
            take(queue, std::mem::take(&mut group), &mut imported).await?;
        }
        if bytes == 0 {
            break;
        }
    }
    Ok(imported)
}

async fn take<E: Engine>(
    queue: &mut Queue<E>,
    group: Vec<(u64, Arrival)>,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let (lines, arrivals): (Vec<u64>, Vec<Arrival>) = group.into_iter().unzip();
    for (line, outcome) in lines.into_iter().zip(queue.import(arrivals).await?) {
        let merged = outcome.map_err(|refusal| ImportError::Refused { line, refusal })?;
        imported.records += 1;
        imported.merged += u64::from(merged);
    }
    Ok(())
}

/// The numbers of names that were met.
#[derive(Default)]
struct Names {
    apps: BTreeMap<String, AppId>,
    clients: BTreeMap<String, ClientId>,
}

impl Names {
    async fn arrival<E: Engine>(
        &mut self,
        queue: &mut Queue<E>,
        line: u64,
        text: &[u8],
    ) -> Result<Arrival, ImportError> {
        // The parser's own words may hold a value.
        let wrong = |error: serde_json::Error| ImportError::Line {
            line,
            what: format!("is no exported record (column {})", error.column()),
        };
        let read: Line = serde_json::from_slice(text).map_err(wrong)?;
        let (app, client) = (read.app.clone(), read.client.clone());
        let stamped_until = read.stamped_until();
        // Sequences are given when it arrives.
        let record = read.read(ClientId::default(), 0);
        let (subject, mut record) = record.map_err(|what| ImportError::Line { line, what })?;
        if let Some(client) = client {
            record.client = self.client(queue, client).await?;
        }
        let app = self.app(queue, app).await?;
        Ok(Arrival { app, subject, record, stamped_until })
    }

    async fn app<E: Engine>(
        &mut self,
        queue: &mut Queue<E>,
        name: String,
    ) -> Result<AppId, StoreError> {
        if let Some(app) = self.apps.get(&name) {
            return Ok(*app);
        }
        let app = queue.app(&name).await?;
        self.apps.insert(name, app);
        Ok(app)
    }

    async fn client<E: Engine>(
        &mut self,
        queue: &mut Queue<E>,
        name: String,
    ) -> Result<ClientId, StoreError> {
        if let Some(client) = self.clients.get(&name) {
            return Ok(*client);
        }
        let client = queue.client(&name).await?;
        self.clients.insert(name, client);
        Ok(client)
    }
}
