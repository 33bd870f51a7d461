//! What clients send: new property values of one subject.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The number, always rising within a store, that an update gets when it is accepted.
pub type Sequence = u64;

/// A store's own short name for an app. It belongs to the app's name for ever.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct AppId(pub u16);

/// A store's own short name for a client. It belongs to the client's name for ever.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClientId(pub u16);

/// What an update is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// A user or a company.
    pub kind: SubjectKind,
    /// The `user_id` or `company_id`.
    pub id: String,
}

impl Subject {
    /// The user called `id`.
    pub fn user(id: impl Into<String>) -> Self {
        Self { kind: SubjectKind::User, id: id.into() }
    }

    /// The company called `id`.
    pub fn company(id: impl Into<String>) -> Self {
        Self { kind: SubjectKind::Company, id: id.into() }
    }
}

/// The kinds of subject.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum SubjectKind {
    /// A user.
    #[default]
    User,
    /// A company.
    Company,
}

impl SubjectKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::User, Self::Company];

    /// The one that it is not.
    pub fn other(self) -> Self {
        match self {
            Self::User => Self::Company,
            Self::Company => Self::User,
        }
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Company => "company",
        })
    }
}

/// Something that there is of each kind of subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByKind<T> {
    /// Of users.
    pub users: T,
    /// Of companies.
    pub companies: T,
}

impl<T> ByKind<T> {
    /// What there is of `kind`.
    pub fn of(&self, kind: SubjectKind) -> &T {
        match kind {
            SubjectKind::User => &self.users,
            SubjectKind::Company => &self.companies,
        }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, kind: SubjectKind) -> &mut T {
        match kind {
            SubjectKind::User => &mut self.users,
            SubjectKind::Company => &mut self.companies,
        }
    }
}

/// How urgent an update is. The order is that in which lanes are served.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Lane {
    /// What a person waits to see: it goes by the real-time endpoint.
    Express,
    /// Live traffic.
    #[default]
    Interactive,
    /// Backfills.
    Bulk,
}

impl Lane {
    /// All lanes, in the order in which they are served.
    pub const ALL: [Self; 3] = [Self::Express, Self::Interactive, Self::Bulk];
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Express => "express",
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        })
    }
}

/// A property's value: a primitive, as Userpilot takes them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An explicit null, which is a value.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other finite number.
    Float(f64),
    /// A string; dates are ISO 8601 strings.
    Text(String),
}

impl Value {
    /// The value as it stands in JSON, a string without its quotes.
    pub fn as_text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => serde_json::to_string(value).expect("a finite number is JSON"),
            Self::Text(text) => text.clone(),
        }
    }
}

/// One accepted-to-be update, past all validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The app that the subject belongs to.
    pub app: AppId,
    /// Who sent it.
    pub client: ClientId,
    /// What it is about.
    pub subject: Subject,
    /// The user's company, where the update names one.
    pub company_id: Option<String>,
    /// The properties, sorted by name, each name once.
    pub properties: Vec<(String, Value)>,
    /// When the values came to be true, where the client says so.
    pub occurred_at: Option<Timestamp>,
    /// How urgent it is.
    pub lane: Lane,
}

impl Update {
    /// About how many bytes the update takes in memory and on disk.
    pub fn size(&self) -> usize {
        let properties: usize =
            self.properties.iter().map(|(name, value)| property_size(name, value)).sum();
        RECORD_OVERHEAD_BYTES
            + self.subject.id.len()
            + self.company_id.as_ref().map_or(0, String::len)
            + properties
    }
}

/// What a record takes beyond its strings: stamps, sequences, checksum.
const RECORD_OVERHEAD_BYTES: usize = 48;

/// About how many bytes one property takes.
pub(super) fn property_size(name: &str, value: &Value) -> usize {
    let value = match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Integer(_) | Value::Float(_) => 8,
        Value::Text(text) => text.len() + 2,
    };
    name.len() + value + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_updates_size_is_that_of_its_strings_and_values_and_what_goes_with_them() {
        let mut update = Update {
            app: AppId(0),
            client: ClientId(0),
            subject: Subject::user("u1"),
            company_id: None,
            properties: Vec::new(),
            occurred_at: None,
            lane: Lane::Bulk,
        };
        assert_eq!(update.size(), RECORD_OVERHEAD_BYTES + 2);
        update.company_id = Some("acme".to_owned());
        assert_eq!(update.size(), RECORD_OVERHEAD_BYTES + 6);
        for (value, bytes) in [
            (Value::Null, 1),
            (Value::Bool(true), 1),
            (Value::Integer(1), 8),
            (Value::Float(0.5), 8),
            (Value::Text("free".into()), 6),
        ] {
            update.properties = vec![("plan".to_owned(), value), ("x".to_owned(), Value::Null)];
            assert_eq!(update.size(), RECORD_OVERHEAD_BYTES + 6 + 4 + bytes + 3 + 5);
        }
    }

    #[test]
    fn a_lane_is_told_in_a_word() {
        assert_eq!(Lane::ALL.map(|lane| lane.to_string()), ["express", "interactive", "bulk"]);
    }
}
