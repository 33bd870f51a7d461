//! Whether an entry of the store names a subject: for forgetting one, and for proof that it is
//! forgotten.

use super::{
    engine::Engine,
    keys,
    queue::StoreError,
    records::{
        Dead, InFlight, PageEntry, Remembered, Stored,
        jobs::{Job, JobRow},
    },
    walk::{Kind, Walk, app_of, sequence_of},
};
use crate::domain::{
    batch::Batch,
    merge::Record,
    update::{AppId, Sequence, Subject},
};

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mention<'a> {
    pub(super) app: AppId,
    pub(super) subject: &'a Subject,
    /// What is of later sequences is new, and not to be erased.
    pub(super) up_to: Sequence,
}

impl Mention<'_> {
    /// The end of the subject's keys, from the subject on.
    pub(super) fn subject_key(&self) -> Vec<u8> {
        keys::pending(self.app, self.subject).split_off(keys::SUBJECT_AT)
    }

    fn age(&self, sequence: Option<Sequence>) -> Named {
        match sequence {
            Some(sequence) if sequence > self.up_to => Named::Newer,
            Some(_) | None => Named::Old,
        }
    }
}

/// How an entry names a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Not at all.
    No,
    /// By what was accepted after it was forgotten.
    Newer,
    /// By its id alone, until the batch is settled that it is in.
    UntilSettled,
    /// By what should be erased.
    Old,
}

impl Named {
    pub(super) fn is_old(self) -> bool {
        self == Self::Old
    }
}

/// What a scan of the whole store has found of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Entries that were read: all there are.
    pub entries: u64,
    /// Entries that name the subject, and should not.
    pub left: u64,
    /// Entries that hold its id until the batch is settled that it is in.
    pub until_settled: u64,
    /// Entries of updates that were accepted after it was forgotten.
    pub newer: u64,
}

/// Reads every entry of the store, and counts those that name the subject.
pub(super) async fn scan<E: Engine>(
    engine: &E,
    app: AppId,
    subject: &Subject,
    up_to: Sequence,
) -> Result<Traces, StoreError> {
    let of = Mention { app, subject, up_to };
    let mut traces = Traces::default();
    let mut walk = Walk::through_all();
    loop {
        let entries = walk.next(engine).await?;
        if entries.is_empty() {
            return Ok(traces);
        }
        for (key, value) in &entries {
            traces.entries += 1;
            match mention(&of, key, value.as_ref()) {
                Named::No => {}
                Named::Newer => traces.newer += 1,
                Named::UntilSettled => traces.until_settled += 1,
                Named::Old => traces.left += 1,
            }
        }
    }
}

/// Whether the entry names the subject. What cannot be read is searched for the bytes that
/// every key of the subject holds.
pub(super) fn mention(of: &Mention<'_>, key: &[u8], value: &[u8]) -> Named {
    let Some(kind) = Kind::of(key) else { return raw(of, value) };
    if !matches!(kind, Kind::Quarantine | Kind::Engine) && app_of(key) != Some(of.app) {
        return Named::No;
    }
    match kind {
        Kind::Pending | Kind::InFlight | Kind::Delivery | Kind::DeadOf | Kind::Held
            if keys::subject_of(key).as_ref() != Some(of.subject) =>
        {
            Named::No
        }
        Kind::Pending => of.age(Record::decode(value).ok().map(|record| record.first_sequence)),
        Kind::InFlight => match InFlight::decode(value) {
            Ok(row) if row.forgotten => Named::UntilSettled,
            Ok(row) => of.age(Some(row.record.first_sequence)),
            Err(_) => Named::Old,
        },
        Kind::Held => match Remembered::decode(value) {
            // One without any says that something was sent since; nothing of what it was.
            Ok(remembered) => of.age(remembered.delivered.last_sequence().or(Some(Sequence::MAX))),
            Err(_) => Named::Old,
        },
        Kind::Delivery | Kind::DeadOf => of.age(sequence_of(key)),
        Kind::Dead => match Dead::decode(value) {
            Ok(letter) if letter.subject_key == of.subject_key() => of.age(sequence_of(key)),
            Ok(_) => Named::No,
            Err(_) => raw(of, value),
        },
        Kind::Page => match Vec::<PageEntry>::decode(value) {
            Ok(entries) => page(of, &entries),
            Err(_) => raw(of, value),
        },
        Kind::Batch => match Batch::decode(value) {
            Ok(batch) if batch.words_of_upstream().contains(&of.subject.id) => Named::Old,
            Ok(_) => Named::No,
            Err(_) => raw(of, value),
        },
        Kind::Job => match Job::decode(value) {
            Ok(job) if job.names(&of.subject.id) => Named::Old,
            Ok(_) => Named::No,
            Err(_) => raw(of, value),
        },
        Kind::JobPage => match Vec::<JobRow>::decode(value) {
            Ok(rows) => {
                let subject_key = of.subject_key();
                let own = rows.iter().filter(|row| row.subject_key == subject_key);
                own.map(|row| row.sequence).min().map_or(Named::No, |first| of.age(Some(first)))
            }
            Err(_) => raw(of, value),
        },
        Kind::Quarantine => {
            let inner = keys::quarantined_key(key);
            let own = matches!(inner.first(), Some(b'r' | b'f'));
            match own {
                true if app_of(inner) != Some(of.app) => Named::No,
                true if keys::subject_of(inner).as_ref() == Some(of.subject) => {
                    of.age(sequence_of(key))
                }
                true => Named::No,
                false => raw(of, value),
            }
        }
        Kind::Engine => raw(of, value),
        Kind::App
        | Kind::Forgotten
        | Kind::Head
        | Kind::Name
        | Kind::PagesDamaged
        | Kind::Rescue => Named::No,
    }
}

fn page(of: &Mention<'_>, entries: &[PageEntry]) -> Named {
    let subject_key = of.subject_key();
    let own = entries.iter().filter(|entry| entry.subject_key == subject_key);
    match own.map(|entry| entry.first_sequence).min() {
        Some(first) => of.age(Some(first)),
        None => Named::No,
    }
}

fn raw(of: &Mention<'_>, value: &[u8]) -> Named {
    let subject_key = of.subject_key();
    match value.windows(subject_key.len()).any(|bytes| bytes == subject_key) {
        true => Named::Old,
        false => Named::No,
    }
}
