//! The rows of a JSON body, `{"users":[…]}`, each made an update as it is met.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::error::ApiError;
use crate::{
    domain::update::{SubjectKind, Update},
    door::{
        refusal::{Refusal, Violation},
        wire::json::plural,
    },
};

/// Violations of one request that are named at the most.
const VIOLATIONS_MAX: usize = 16;

/// Reads all rows, or says what is wrong with the first that are. `read` makes an update of one.
pub(super) fn read(
    body: &[u8],
    kind: SubjectKind,
    rows_max: usize,
    read: impl FnMut(usize, Json) -> Result<Update, Refusal>,
) -> Result<Vec<Update>, ApiError> {
    let mut rows = Rows {
        kind,
        rows_max,
        read,
        met: None,
        updates: Vec::new(),
        violations: Vec::new(),
        stop: None,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let done = deserializer.deserialize_map(&mut rows).and_then(|()| deserializer.end());
    if let Some(stop) = rows.stop {
        return Err(stop);
    }
    if let Err(error) = done {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => shape(kind),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => "the body is not JSON".to_owned(),
        };
        return Err(ApiError::malformed(format!("{what} (line {line}, column {column})")));
    }
    if !rows.violations.is_empty() {
        return Err(Refusal::Invalid(rows.violations).into());
    }
    match rows.met {
        Some(1..) => Ok(rows.updates),
        Some(0) => Err(Refusal::field(plural(kind), "is empty").into()),
        None => Err(Refusal::field(plural(kind), "is required").into()),
    }
}

fn shape(kind: SubjectKind) -> String {
    format!("the body must be an object of one array, {}", plural(kind))
}

struct Rows<F> {
    kind: SubjectKind,
    rows_max: usize,
    read: F,
    /// Rows that were met, once the array was.
    met: Option<usize>,
    updates: Vec<Update>,
    violations: Vec<Violation>,
    /// Why nothing more is read.
    stop: Option<ApiError>,
}

impl<F: FnMut(usize, Json) -> Result<Update, Refusal>> Rows<F> {
    fn row(&mut self, index: usize, row: Json) -> Result<(), ApiError> {
        if index >= self.rows_max {
            return Err(too_many_rows(self.rows_max));
        }
        match (self.read)(index, row) {
            Ok(update) => self.updates.push(update),
            Err(Refusal::Invalid(violations)) => self.violations.extend(violations),
            Err(
                refusal @ (Refusal::Unauthenticated
                | Refusal::NoKeys
                | Refusal::PermissionDenied(_)
                | Refusal::RateLimited { .. }
                | Refusal::Queue(_)
                | Refusal::AppHeld(_)
                | Refusal::Intake(_)),
            ) => return Err(refusal.into()),
        }
        if self.violations.len() >= VIOLATIONS_MAX {
            let violations = std::mem::take(&mut self.violations);
            return Err(Refusal::Invalid(violations).into());
        }
        Ok(())
    }
}

/// More rows than one request may have.
pub(super) fn too_many_rows(rows_max: usize) -> ApiError {
    ApiError::too_large(format!("there are more than {rows_max} rows (http.bulk_rows_max)"))
}

impl<'de, F: FnMut(usize, Json) -> Result<Update, Refusal>> Visitor<'de> for &mut Rows<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name != plural(self.kind) || self.met.is_some() {
                return Err(de::Error::custom("not the array"));
            }
            map.next_value_seed(&mut *self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(row) = rows.next_element()? {
            if let Err(stop) = self.row(index, row) {
                self.stop = Some(stop);
                return Err(de::Error::custom("stopped"));
            }
            index += 1;
        }
        self.met = Some(index);
        Ok(())
    }
}

impl<'de, F: FnMut(usize, Json) -> Result<Update, Refusal>> DeserializeSeed<'de> for &mut Rows<F> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::domain::update::{AppId, ClientId, Lane, Subject};

    fn update(index: usize, row: Json) -> Result<Update, Refusal> {
        let id = row.as_str().ok_or_else(|| Refusal::field(format!("users[{index}]"), "is bad"))?;
        Ok(Update {
            app: AppId(0),
            client: ClientId(0),
            subject: Subject::user(id),
            company_id: None,
            properties: Vec::new(),
            occurred_at: None,
            lane: Lane::Bulk,
        })
    }

    async fn refused(body: &str) -> (u16, String) {
        let error = read(body.as_bytes(), SubjectKind::User, 3, update).unwrap_err();
        let response = error.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn rows_are_read_in_order() {
        let updates = read(br#" {"users": ["a", "b", "c"]} "#, SubjectKind::User, 3, update);
        let ids: Vec<_> = updates.unwrap().into_iter().map(|update| update.subject.id).collect();
        assert_eq!(ids, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn what_is_not_an_array_of_so_many_rows_is_refused() {
        for (body, status, part) in [
            (r#"{"users": ["a", "b", "c", "d"]}"#, 413, "http.bulk_rows_max"),
            (r#"{"users": []}"#, 422, "users: is empty"),
            ("{}", 422, "users: is required"),
            (r#"{"users": ["a"], "x": 1}"#, 400, "one array, users (line 1"),
            (r#"{"users": ["a"], "users": ["b"]}"#, 400, "one array, users"),
            (r#"{"companies": ["a"]}"#, 400, "one array, users"),
            (r#"{"users": "secret"}"#, 400, "one array, users"),
            (r#"["a"]"#, 400, "one array, users"),
            (r#"{"users": ["a"}"#, 400, "is not JSON (line 1, column 15)"),
            (r#"{"users": ["a"]} x"#, 400, "is not JSON"),
            ("", 400, "is not JSON"),
            (r#"{"users": ["a", 1, 2]}"#, 422, "users[1]: is bad (and 1 more)"),
        ] {
            let (found, message) = refused(body).await;
            assert_eq!(found, status, "{body}: {message}");
            assert!(message.contains(part), "{body}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
