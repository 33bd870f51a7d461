//! One record as a line of JSON. docs/operations.md describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    merge::{Property, Record, Stamp},
    time::Timestamp,
    update::{AppId, ClientId, Lane, Sequence, Subject, SubjectKind, Value},
};

/// As long as keys of the store have room for.
const ID_BYTES_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 64;
const PROPERTY_NAME_BYTES_MAX: usize = 4_096;

/// What an app's name begins with where it is lost: no name of an app does.
const NAMELESS: char = '?';

/// What stands in the place of the name of an app that is lost.
pub(super) fn nameless(app: AppId) -> String {
    format!("{NAMELESS}{}", app.0)
}

/// A line. Its order in the file is that of first acceptance, so it needs no sequences.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) app: String,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_id: Option<String>,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    /// When the values came to be true, save those that say otherwise.
    occurred_at: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    company_occurred_at: Option<jiff::Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    property_occurred_at: BTreeMap<String, jiff::Timestamp>,
    lane: LaneName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    first_accepted_at: jiff::Timestamp,
    updates: u64,
    /// Updates without `occurred_at` that come later count as later than this.
    stamped_until: jiff::Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    User,
    Company,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LaneName {
    Express,
    Interactive,
    Bulk,
}

impl Line {
    /// The line of a record. `last_stamp` is the last that its store gave an update which did
    /// not say when it occurred.
    pub(super) fn new(
        (app, client): (String, Option<String>),
        subject: Subject,
        record: Record,
        last_stamp: Timestamp,
    ) -> Self {
        let stamps = record.company_id.iter().map(|(_, stamp)| *stamp);
        let stamps = stamps.chain(record.properties.iter().map(|property| property.stamp));
        let last = stamps.map(|stamp| stamp.occurred_at).max();
        let last = last.unwrap_or(record.first_accepted_at);
        let unlike = |at: Timestamp| (at != last).then(|| text(at));
        let (company_id, company_occurred_at) = match record.company_id {
            Some((id, stamp)) => (Some(id), unlike(stamp.occurred_at)),
            None => (None, None),
        };
        let property_occurred_at = record.properties.iter().filter_map(|property| {
            Some((property.name.clone(), unlike(property.stamp.occurred_at)?))
        });
        let property_occurred_at = property_occurred_at.collect();
        let metadata =
            record.properties.into_iter().map(|Property { name, value, .. }| (name, json(value)));
        let (kind, user_id, company_id) = match subject.kind {
            SubjectKind::User => (Kind::User, Some(subject.id), company_id),
            SubjectKind::Company => (Kind::Company, None, Some(subject.id)),
        };
        Self {
            app,
            kind,
            user_id,
            company_id,
            metadata: metadata.collect(),
            occurred_at: text(last),
            company_occurred_at,
            property_occurred_at,
            lane: match record.lane {
                Lane::Express => LaneName::Express,
                Lane::Interactive => LaneName::Interactive,
                Lane::Bulk => LaneName::Bulk,
            },
            client,
            first_accepted_at: text(record.first_accepted_at),
            updates: record.updates,
            stamped_until: text(last.min(last_stamp)),
        }
    }

    /// Until when its store had given stamps.
    pub(super) fn stamped_until(&self) -> Timestamp {
        time(self.stamped_until)
    }

    /// The subject and its record, as if it were accepted with `sequence`. What is wrong with
    /// the line is said without its values.
    pub(super) fn read(
        self,
        client: ClientId,
        sequence: Sequence,
    ) -> Result<(Subject, Record), String> {
        let (kind, id, company_id) = match (self.kind, self.user_id, self.company_id) {
            (Kind::User, Some(id), company_id) => (SubjectKind::User, id, company_id),
            (Kind::Company, None, Some(id)) => (SubjectKind::Company, id, None),
            (Kind::User, None, _) => return Err("user_id is missing".into()),
            (Kind::Company, _, _) => return Err("a company has a company_id alone".into()),
        };
        check_length("the subject's id", &id, ID_BYTES_MAX)?;
        check_length("app", &self.app, NAME_BYTES_MAX)?;
        if self.app.starts_with(NAMELESS) {
            return Err("the name of its app was lost: put the right one in the place of the \
                        number with the question mark"
                .into());
        }
        if let Some(client) = &self.client {
            check_length("client", client, NAME_BYTES_MAX)?;
        }
        let stamp = |at: Option<jiff::Timestamp>| Stamp {
            occurred_at: time(at.unwrap_or(self.occurred_at)),
            sequence,
        };
        if let Some(id) = &company_id {
            check_length("company_id", id, ID_BYTES_MAX)?;
        }
        let mut properties = Vec::with_capacity(self.metadata.len());
        // A map of serde_json's is sorted by name.
        for (name, value) in self.metadata {
            check_length("the name of a property", &name, PROPERTY_NAME_BYTES_MAX)?;
            let stamp = stamp(self.property_occurred_at.get(&name).copied());
            properties.push(Property { name, value: plain(value)?, stamp });
        }
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        let record = Record {
            company_id: company_id.map(|id| (id, stamp(self.company_occurred_at))),
            properties,
            first_sequence: sequence,
            last_sequence: sequence,
            own: Some((sequence, sequence)),
            replayed: Vec::new(),
            first_accepted_at: time(self.first_accepted_at),
            // A count for people; a sum of it must not overflow.
            updates: self.updates.clamp(1, u64::from(u32::MAX)),
            lane: match self.lane {
                LaneName::Express => Lane::Express,
                LaneName::Interactive => Lane::Interactive,
                LaneName::Bulk => Lane::Bulk,
            },
            client,
            guests: Vec::new(),
        };
        Ok((Subject { kind, id }, record))
    }
}

fn check_length(what: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    match text.len() {
        0 => Err(format!("{what} is empty")),
        bytes if bytes > bytes_max => Err(format!("{what} is longer than {bytes_max} bytes")),
        _ => Ok(()),
    }
}

fn json(value: Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Text(value) => value.into(),
    }
}

fn plain(value: serde_json::Value) -> Result<Value, String> {
    Ok(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, Some(number)) => Value::Float(number),
            (None, None) => return Err("a number is out of range".into()),
        },
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            return Err("metadata holds a list or an object".into());
        }
    })
}

/// Any time that a door takes can be written.
fn text(at: Timestamp) -> jiff::Timestamp {
    let least = if at.as_micros() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(least)
}

fn time(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_microsecond())
}
