//! Updates as people write them: a line of NDJSON, or values for one.

use std::{collections::BTreeMap, io::BufRead};

use anyhow::bail;
use prost_types::{Struct, value::Kind};
use serde::Deserialize;
use serde_json::Value;

use super::stream::Place;
use crate::proto::{CompanyUpdate, Lane, StreamUserUpdatesRequest, UserUpdate};

/// An update of a user, or of a company.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) app: String,
    pub(super) user_id: Option<String>,
    pub(super) company_id: Option<String>,
    pub(super) metadata: Option<Struct>,
    pub(super) occurred_at: Option<prost_types::Timestamp>,
    pub(super) lane: i32,
}

/// What an update is given that does not say it itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    pub(super) app: String,
    pub(super) lane: Lane,
}

impl Update {
    /// The one or the other.
    pub(super) fn split(self) -> (Option<UserUpdate>, Option<CompanyUpdate>) {
        let Self { app, user_id, company_id, metadata, occurred_at, lane } = self;
        if let Some(user_id) = user_id {
            let update = UserUpdate { app, user_id, company_id, metadata, occurred_at, lane };
            return (Some(update), None);
        }
        let company_id = company_id.unwrap_or_default();
        (None, Some(CompanyUpdate { app, company_id, metadata, occurred_at, lane }))
    }

    /// As a stream takes it.
    pub(super) fn message(self, tag: u64) -> StreamUserUpdatesRequest {
        let (update, company) = self.split();
        StreamUserUpdatesRequest { tag, update, company }
    }
}

/// A lane's name, as an argument or in a line.
pub(super) fn lane(name: &str) -> Result<Lane, String> {
    match name {
        "express" => Ok(Lane::Express),
        "interactive" => Ok(Lane::Interactive),
        "bulk" => Ok(Lane::Bulk),
        _ => Err("a lane is express, interactive or bulk".into()),
    }
}

/// What the gateway does not take, it refuses itself, with the property's name.
pub(super) fn to_struct(values: BTreeMap<String, Value>) -> Struct {
    Struct { fields: values.into_iter().map(|(name, value)| (name, to_proto(value))).collect() }
}

fn to_proto(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(to_proto).collect(),
        }),
        Value::Object(values) => Kind::StructValue(to_struct(values.into_iter().collect())),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A part of an input that holds one update, or should.
pub(super) struct Row {
    /// The line that it begins on, from 1.
    pub(super) number: u64,
    /// Where it begins, in bytes.
    pub(super) start: u64,
    /// What is behind it.
    pub(super) end: Place,
    /// The update, or what is wrong.
    pub(super) update: anyhow::Result<Update>,
}

/// Reads updates of an input of NDJSON.
pub(super) struct Ndjson<R> {
    input: R,
    place: Place,
    defaults: Defaults,
}

impl<R: BufRead> Ndjson<R> {
    /// Reads on from `place`, where `input` is.
    pub(super) fn new(input: R, place: Place, defaults: Defaults) -> Self {
        Self { input, place, defaults }
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Row>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let start = self.place.offset;
            let bytes = self.input.read_until(b'\n', &mut line)?;
            if bytes == 0 {
                return Ok(None);
            }
            self.place.offset += bytes as u64;
            self.place.lines += 1;
            let text = line.trim_ascii();
            if !text.is_empty() {
                let update = update(text, &self.defaults);
                let number = self.place.lines;
                return Ok(Some(Row { number, start, end: self.place, update }));
            }
        }
    }
}

/// A line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    app: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    company_id: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    #[serde(default)]
    occurred_at: Option<jiff::Timestamp>,
    #[serde(default)]
    lane: Option<String>,
}

fn update(line: &[u8], defaults: &Defaults) -> anyhow::Result<Update> {
    let line: Written = serde_json::from_slice(line)?;
    if line.user_id.is_none() && line.company_id.is_none() {
        bail!("has neither user_id nor company_id");
    }
    let lane = match line.lane {
        Some(name) => lane(&name).map_err(anyhow::Error::msg)?,
        None => defaults.lane,
    };
    Ok(Update {
        app: line.app.unwrap_or_else(|| defaults.app.clone()),
        user_id: line.user_id,
        company_id: line.company_id,
        metadata: Some(to_struct(line.metadata)),
        occurred_at: line.occurred_at.map(|at| crate::proto::timestamp(at.as_microsecond())),
        lane: lane.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_update() {
        let line = r#"{"user_id":"42","metadata":{"plan":"pro","seats":3},"lane":"bulk",
            "occurred_at":"2026-01-01T00:00:00Z"}"#;
        let defaults = Defaults { app: "production".into(), ..Defaults::default() };
        let (user, company) = update(line.as_bytes(), &defaults).unwrap().split();
        let (update, None) = (user.unwrap(), company) else { panic!("is of a company") };
        assert_eq!((&*update.app, &*update.user_id), ("production", "42"));
        assert_eq!(update.lane(), Lane::Bulk);
        assert_eq!(update.occurred_at.unwrap().seconds, 1_767_225_600);
        assert_eq!(update.metadata.unwrap().fields.len(), 2);
    }

    #[test]
    fn a_line_without_a_user_is_of_a_company() {
        let line = br#"{"company_id":"acme","metadata":{"seats":3}}"#;
        let (None, Some(company)) = update(line, &Defaults::default()).unwrap().split() else {
            panic!("is of a user")
        };
        assert_eq!(company.company_id, "acme");
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        for (line, why) in [
            (r#"{"user":"42"}"#, "unknown field"),
            (r#"{"metadata":{}}"#, "neither user_id nor company_id"),
            (r#"{"user_id":"42","lane":"fast"}"#, "express, interactive or bulk"),
        ] {
            let Err(error) = update(line.as_bytes(), &Defaults::default()) else {
                panic!("{line} is one")
            };
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }

    #[test]
    fn each_line_says_where_it_is() {
        let text = "{\"user_id\":\"a\"}\n\n{\"user\":\"b\"}\r\n{\"user_id\":\"c\"}";
        let mut lines = Ndjson::new(text.as_bytes(), Place::default(), Defaults::default());
        let mut places = Vec::new();
        while let Some(row) = lines.next().unwrap() {
            places.push((row.number, row.start, row.end.offset, row.update.is_ok()));
        }
        assert_eq!(places, [(1, 0, 16, true), (3, 17, 31, false), (4, 31, 46, true)]);
    }
}
