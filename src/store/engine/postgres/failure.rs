//! What went wrong with a database, and what that means for what was asked of it.

use std::{error::Error as _, io};

use tokio_postgres::{Error, error::SqlState};

use crate::store::engine::EngineError;

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing was stored; it may be tried again.
    Away,
    /// The same, and no connection that is there now is worth trying.
    AwayAll,
    /// The commit was sent, and whether it was done is not known.
    Unknown,
    /// Somebody else holds the store.
    Fenced,
    /// It would fail again.
    Failed,
}

/// What went wrong. Its text shows neither the password nor what was to be stored.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) meaning: Meaning,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn away(text: impl Into<String>) -> Self {
        Self { meaning: Meaning::Away, text: text.into() }
    }

    pub(super) fn unknown(text: impl Into<String>) -> Self {
        Self { meaning: Meaning::Unknown, text: text.into() }
    }

    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { meaning: Meaning::Failed, text: text.into() }
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.meaning, Meaning::Away | Meaning::AwayAll)
    }

    /// Of a statement whose transaction has not been asked to commit yet.
    fn of(error: &Error) -> Self {
        let meaning = match error.code() {
            Some(code) => of_code(code),
            None if is_broken(error) => Meaning::Away,
            None => Meaning::Failed,
        };
        Self { meaning, text: text(error) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

impl From<Failure> for EngineError {
    fn from(Failure { meaning, text }: Failure) -> Self {
        match meaning {
            Meaning::Away | Meaning::AwayAll => Self::Away(text),
            Meaning::Unknown => Self::Unknown(text),
            Meaning::Fenced | Meaning::Failed => Self::Failed(text),
        }
    }
}

fn of_code(code: &SqlState) -> Meaning {
    let text = code.code();
    let is = |classes: &[&str]| classes.iter().any(|class| text.starts_with(class));
    if is(&["08", "57P", "25006"]) {
        // The server goes, or has become one that only reads.
        Meaning::AwayAll
    } else if is(&["25P", "40", "53", "55", "57"]) {
        // Time-outs, deadlocks, no room, too many connections.
        Meaning::Away
    } else {
        Meaning::Failed
    }
}

/// Whether it is the way to the server that failed, rather than what was said.
fn is_broken(error: &Error) -> bool {
    if error.is_closed() {
        return true;
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    // What rustls refuses, such as a certificate, it refuses as invalid data.
    io.is_some_and(|io| io.kind() != io::ErrorKind::InvalidData)
}

/// The message, with what the server calls it. Its details are left out: they quote entries.
fn text(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whether_it_is_worth_trying_again() {
        for (code, meaning) in [
            (SqlState::T_R_DEADLOCK_DETECTED, Meaning::Away),
            (SqlState::LOCK_NOT_AVAILABLE, Meaning::Away),
            (SqlState::QUERY_CANCELED, Meaning::Away),
            (SqlState::DISK_FULL, Meaning::Away),
            (SqlState::TOO_MANY_CONNECTIONS, Meaning::Away),
            (SqlState::ADMIN_SHUTDOWN, Meaning::AwayAll),
            (SqlState::CANNOT_CONNECT_NOW, Meaning::AwayAll),
            (SqlState::READ_ONLY_SQL_TRANSACTION, Meaning::AwayAll),
            (SqlState::INVALID_PASSWORD, Meaning::Failed),
            (SqlState::UNDEFINED_TABLE, Meaning::Failed),
            (SqlState::INSUFFICIENT_PRIVILEGE, Meaning::Failed),
        ] {
            assert_eq!(of_code(&code), meaning, "{code:?}");
        }
    }
}
