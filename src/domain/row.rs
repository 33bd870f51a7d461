//! A record as a row of a bulk upload: one JSON object a line.
//!
//! `{"user_id":"…","company_id":"…","metadata":{…}}` of a user, `{"company_id":"…","metadata":{…}}`
//! of a company, as Userpilot's bulk identify takes them.

use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct},
};

use super::{
    merge::{Property, Record},
    update::{Subject, SubjectKind, Value},
};

/// As what numbers and booleans go up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowValues {
    /// As they are.
    #[default]
    Primitive,
    /// As strings, for accounts that take no others.
    Text,
}

/// Appends the row's JSON to `out`, without a line end.
pub fn write_row(subject: &Subject, record: &Record, values: RowValues, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &Row { subject, record, values })
        .expect("a row has string keys only, and a Vec takes every byte");
}

/// Appends the body of a request to the real-time endpoint: as a row, but for the company, whose
/// key the documents call `id` in one place and `company_id` in another.
pub fn write_identify(subject: &Subject, record: &Record, values: RowValues, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &Identify(Row { subject, record, values }))
        .expect("a body has string keys only, and a Vec takes every byte");
}

struct Identify<'a>(Row<'a>);

#[derive(Serialize)]
struct Company<'a> {
    id: &'a str,
    company_id: &'a str,
}

impl Serialize for Identify<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Row { subject, record, values } = self.0;
        let mut body = serializer.serialize_struct("Identify", 3)?;
        match subject.kind {
            SubjectKind::User => {
                body.serialize_field("user_id", &subject.id)?;
                if let Some((id, _)) = &record.company_id {
                    body.serialize_field("company", &Company { id, company_id: id })?;
                }
            }
            SubjectKind::Company => body.serialize_field("company_id", &subject.id)?,
        }
        if !record.properties.is_empty() {
            body.serialize_field("metadata", &Metadata(&record.properties, values))?;
        }
        body.end()
    }
}

#[derive(Clone, Copy)]
struct Row<'a> {
    subject: &'a Subject,
    record: &'a Record,
    values: RowValues,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Row", 3)?;
        match self.subject.kind {
            SubjectKind::User => {
                row.serialize_field("user_id", &self.subject.id)?;
                if let Some((company_id, _)) = &self.record.company_id {
                    row.serialize_field("company_id", company_id)?;
                }
            }
            SubjectKind::Company => row.serialize_field("company_id", &self.subject.id)?,
        }
        if !self.record.properties.is_empty() {
            row.serialize_field("metadata", &Metadata(&self.record.properties, self.values))?;
        }
        row.end()
    }
}

struct Metadata<'a>(&'a [Property], RowValues);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for property in self.0 {
            match self.1 {
                RowValues::Primitive => map.serialize_entry(&property.name, &Json(&property.value)),
                RowValues::Text => map.serialize_entry(&property.name, &Text(&property.value)),
            }?;
        }
        map.end()
    }
}

struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(value) => serializer.serialize_str(value),
        }
    }
}

struct Text<'a>(&'a Value);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Text(value) => serializer.serialize_str(value),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                serializer.serialize_str(&self.0.as_text())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        time::Timestamp,
        update::{AppId, ClientId, Lane, Update},
    };

    fn check(
        company_id: Option<&str>,
        properties: Vec<(&str, Value)>,
        values: RowValues,
        expected: &str,
    ) {
        check_of(Subject::user("u-\"1\""), company_id, properties, values, expected);
    }

    fn check_of(
        subject: Subject,
        company_id: Option<&str>,
        properties: Vec<(&str, Value)>,
        values: RowValues,
        expected: &str,
    ) {
        let update = Update {
            app: AppId(0),
            client: ClientId(0),
            subject: subject.clone(),
            company_id: company_id.map(str::to_owned),
            properties: properties.into_iter().map(|(n, v)| (n.to_owned(), v)).collect(),
            occurred_at: None,
            lane: Lane::Interactive,
        };
        let mut out = Vec::new();
        let record = Record::new(update, 1, Timestamp::default());
        write_row(&subject, &record, values, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn by_express_a_company_goes_under_both_of_its_keys() {
        let check = |subject: Subject, company_id: Option<&str>, expected: &str| {
            let update = Update {
                app: AppId(0),
                client: ClientId(0),
                subject: subject.clone(),
                company_id: company_id.map(str::to_owned),
                properties: vec![("seats".to_owned(), Value::Integer(3))],
                occurred_at: None,
                lane: Lane::Express,
            };
            let mut out = Vec::new();
            let record = Record::new(update, 1, Timestamp::default());
            write_identify(&subject, &record, RowValues::Text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(
            Subject::user("ada"),
            Some("acme"),
            r#"{"user_id":"ada","company":{"id":"acme","company_id":"acme"},"metadata":{"seats":"3"}}"#,
        );
        check(Subject::user("ada"), None, r#"{"user_id":"ada","metadata":{"seats":"3"}}"#);
        let company = r#"{"company_id":"acme","metadata":{"seats":"3"}}"#;
        check(Subject::company("acme"), None, company);
    }

    #[test]
    fn a_row_is_one_line_of_json() {
        check(None, vec![], RowValues::Primitive, r#"{"user_id":"u-\"1\""}"#);
        let properties = || {
            vec![
                ("a", Value::Null),
                ("b", Value::Bool(true)),
                ("c", Value::Integer(42)),
                ("d", Value::Float(0.5)),
                ("e", Value::Text("line\nend".into())),
            ]
        };
        check(
            Some("acme"),
            properties(),
            RowValues::Primitive,
            r#"{"user_id":"u-\"1\"","company_id":"acme","metadata":{"a":null,"b":true,"c":42,"d":0.5,"e":"line\nend"}}"#,
        );
        check(
            None,
            properties(),
            RowValues::Text,
            r#"{"user_id":"u-\"1\"","metadata":{"a":null,"b":"true","c":"42","d":"0.5","e":"line\nend"}}"#,
        );
        check_of(
            Subject::company("acme"),
            None,
            vec![("seats", Value::Integer(3))],
            RowValues::Primitive,
            r#"{"company_id":"acme","metadata":{"seats":3}}"#,
        );
    }
}
