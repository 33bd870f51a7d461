//! The same checks over JSON, as Userpilot's own API takes it.

mod event;

use serde_json::{Map, Value as Json};

use super::{Join, METADATA, Reading, Wire};
use crate::{
    domain::update::{AppId, Lane, Subject, SubjectKind, Update, Value},
    door::{caller::Client, refusal::Refusal, sent::number},
};

/// What is known of a row before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Who sends it.
    pub client: &'a Client,
    /// To which app.
    pub app: AppId,
    /// In which lane.
    pub lane: Lane,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the whole body.
    Body,
    /// The element of the array with its kind's name, from 0.
    Element(SubjectKind, usize),
    /// The line of a file, from 1.
    Line(usize),
}

/// Where a user's company stands.
const COMPANY: &str = "company";

impl Wire {
    /// Reads a row of a bulk request, or the body of `POST /v1/companies/identify`.
    pub fn row(
        &self,
        row: Json,
        kind: SubjectKind,
        sender: Sender<'_>,
        place: Place,
    ) -> Result<Update, Refusal> {
        let mut row = object(row, place)?;
        let mut reading = self.at(sender, place);
        let subject = Subject { kind, id: reading.row_id(&mut row, kind) };
        let company_id = match kind {
            SubjectKind::User => reading.own_company(&mut row),
            SubjectKind::Company => None,
        };
        let properties = reading.metadata(&mut row);
        reading.nothing_else(&row);
        reading.update(sender.update(subject, company_id, properties), METADATA)
    }

    /// Reads the body of `POST /v1/identify`: the user, and the company if it has properties.
    pub fn identify(&self, body: Json, sender: Sender<'_>) -> Result<Vec<Update>, Refusal> {
        let mut body = object(body, Place::Body)?;
        let mut reading = self.at(sender, Place::Body);
        let user = Subject::user(reading.row_id(&mut body, SubjectKind::User));
        let properties = reading.metadata(&mut body);
        let company = reading.company(&mut body);
        reading.nothing_else(&body);
        let company_id = company.as_ref().map(|(id, _)| id.clone());
        let user = reading.update(sender.update(user, company_id, properties), METADATA)?;
        let company = company.filter(|(_, properties)| !properties.is_empty());
        let Some((id, properties)) = company else { return Ok(vec![user]) };
        let company = Subject { kind: SubjectKind::Company, id };
        let company = sender.update(company, None, properties);
        Ok(vec![user, self.at(sender, Place::Body).update(company, COMPANY)?])
    }

    fn at<'a>(
        &'a self,
        sender: Sender<'a>,
        place: Place,
    ) -> Reading<'a, impl Fn() -> String + use<>> {
        self.reading(sender.client, move || place.path(), place.join())
    }
}

impl Place {
    fn path(self) -> String {
        match self {
            Self::Body => "body".to_owned(),
            Self::Element(kind, index) => format!("{}[{index}]", plural(kind)),
            Self::Line(number) => format!("line {number}"),
        }
    }

    fn join(self) -> Join {
        match self {
            Self::Body => |_, field| field.to_owned(),
            Self::Element(..) => super::dotted,
            Self::Line(_) => |path, field| path + ": " + field,
        }
    }

    /// The refusal of the row as a whole.
    pub fn refusal(self, description: &'static str) -> Refusal {
        Refusal::field(self.path(), description)
    }
}

/// The name of the array that holds rows of this kind.
pub fn plural(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::User => "users",
        SubjectKind::Company => "companies",
    }
}

impl Sender<'_> {
    fn update(
        self,
        subject: Subject,
        company_id: Option<String>,
        properties: Vec<(String, Value)>,
    ) -> Update {
        let Self { client, app, lane } = self;
        let client = client.id;
        Update { app, client, subject, company_id, properties, occurred_at: None, lane }
    }
}

fn object(row: Json, place: Place) -> Result<Map<String, Json>, Refusal> {
    match row {
        Json::Object(row) => Ok(row),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
            Err(place.refusal("is not a JSON object"))
        }
    }
}

impl<P: Fn() -> String> Reading<'_, P> {
    fn row_id(&mut self, row: &mut Map<String, Json>, kind: SubjectKind) -> String {
        let field = match kind {
            SubjectKind::User => "user_id",
            SubjectKind::Company => "company_id",
        };
        let value = row.remove(field).filter(|value| !value.is_null());
        if value.is_none() {
            self.refuse(field, "is required");
        }
        let Some(id) = self.text(value, field) else { return String::new() };
        let subject = Subject { kind, id };
        self.id(&subject);
        subject.id
    }

    fn own_company(&mut self, row: &mut Map<String, Json>) -> Option<String> {
        let id = self.text(row.remove("company_id"), "company_id");
        self.company_id(id.as_deref());
        id
    }

    fn metadata(&mut self, row: &mut Map<String, Json>) -> Vec<(String, Value)> {
        match row.remove(METADATA) {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::Object(metadata)) => self.values(METADATA, metadata),
            Some(Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => {
                self.refuse(METADATA, "is not a JSON object");
                Vec::new()
            }
        }
    }

    /// The company's id and properties. Userpilot's guide names the id `id`, its OpenAPI
    /// document `company_id`; the rest are properties.
    fn company(&mut self, body: &mut Map<String, Json>) -> Option<(String, Vec<(String, Value)>)> {
        let mut company = match body.remove("company")? {
            Json::Null => return None,
            Json::Object(company) => company,
            Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                self.refuse("company", "is not a JSON object");
                return None;
            }
        };
        let id = self.text(company.remove("id"), "company.id");
        let company_id = self.text(company.remove("company_id"), "company.company_id");
        let id = match (id, company_id) {
            (Some(id), Some(company_id)) if id != company_id => {
                self.refuse("company.company_id", "differs from company.id");
                return None;
            }
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => {
                self.refuse("company.id", "is required");
                return None;
            }
        };
        self.company_id(Some(&id));
        Some((id, self.values(COMPANY, company)))
    }

    fn values(&mut self, within: &str, values: Map<String, Json>) -> Vec<(String, Value)> {
        // In the order of the names, whatever order a dependency makes maps keep.
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.primitives(within, values.into_iter().map(|(name, value)| (name, primitive(value))))
    }

    /// A text; a null counts as left out.
    fn text(&mut self, value: Option<Json>, field: &str) -> Option<String> {
        match value {
            None | Some(Json::Null) => None,
            Some(Json::String(text)) => Some(text),
            Some(Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => {
                self.refuse(field, "is not a string");
                None
            }
        }
    }

    /// What is not known is not passed over: it would be lost without a word.
    fn nothing_else(&mut self, row: &Map<String, Json>) {
        let mut names: Vec<&String> = row.keys().collect();
        names.sort_unstable();
        for name in names {
            let short: String = name.chars().take(64).collect();
            self.refuse(&short, "is not a field here; properties belong into metadata");
        }
    }
}

/// A primitive value, or what is wrong with it.
fn primitive(value: Json) -> Result<Value, &'static str> {
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::String(text) => Value::Text(text),
        Json::Number(value) => match (value.as_i64(), value.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, Some(value)) => number(value)?,
            (None, None) => return Err("is a number out of range"),
        },
        Json::Array(_) => {
            return Err("is a list; only string, number, boolean and null are taken");
        }
        Json::Object(_) => {
            return Err("is a nested structure; only string, number, boolean and null are taken");
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::door::{caller::Caller, wire::tests::wire};

    fn sender(caller: &Caller) -> Sender<'_> {
        Sender { client: caller.client(), app: AppId(3), lane: Lane::Bulk }
    }

    fn caller() -> Caller {
        Caller::anyone([("p".to_owned(), AppId(3))].into())
    }

    fn refused<T: std::fmt::Debug>(read: Result<T, Refusal>) -> Vec<(String, String)> {
        let Err(Refusal::Invalid(violations)) = read else { panic!("{read:?}") };
        violations.into_iter().map(|it| (it.field, it.description.into_owned())).collect()
    }

    fn check_row(row: Json, place: Place, expected: &[(&str, &str)]) {
        let caller = caller();
        let found = refused(wire().row(row, SubjectKind::User, sender(&caller), place));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((field, description), (expected, part)) in found.iter().zip(expected) {
            assert_eq!(field, expected);
            assert!(description.contains(part), "{description}");
        }
    }

    #[test]
    fn a_row_is_read() {
        let row = json!({"user_id": "ada", "company_id": "acme",
            "metadata": {"b": 3.0, "a": null, "c": 9_007_199_254_740_993_i64}});
        let caller = caller();
        let read = wire().row(row, SubjectKind::User, sender(&caller), Place::Body).unwrap();
        assert_eq!(read.subject, Subject::user("ada"));
        assert_eq!((read.app, read.lane), (AppId(3), Lane::Bulk));
        assert_eq!(read.company_id.as_deref(), Some("acme"));
        let expected = [
            ("a".to_owned(), Value::Null),
            ("b".to_owned(), Value::Integer(3)),
            ("c".to_owned(), Value::Integer(9_007_199_254_740_993)),
        ];
        assert_eq!(read.properties, expected);
    }

    #[test]
    fn a_companys_row_has_its_own_id() {
        let caller = caller();
        let read = |row| wire().row(row, SubjectKind::Company, sender(&caller), Place::Line(1));
        let update = read(json!({"company_id": "acme", "metadata": {"plan": "pro"}})).unwrap();
        assert_eq!(update.subject, Subject { kind: SubjectKind::Company, id: "acme".into() });
        assert_eq!(update.company_id, None);
        let found = refused(read(json!({"user_id": "ada"})));
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["line 1: company_id", "line 1: user_id"]);
    }

    #[test]
    fn each_field_that_is_wrong_is_named_where_it_stands() {
        let element = Place::Element(SubjectKind::User, 3);
        check_row(
            json!({"user_id": "", "metadata": {"plan": ["secret"], "x": {}}}),
            element,
            &[
                ("users[3].user_id", "is empty"),
                ("users[3].metadata[\"plan\"]", "is a list"),
                ("users[3].metadata[\"x\"]", "is a nested structure"),
            ],
        );
        check_row(
            json!({"metadata": "secret", "company_id": 7}),
            Place::Line(17),
            &[
                ("line 17: user_id", "is required"),
                ("line 17: company_id", "is not a string"),
                ("line 17: metadata", "is not a JSON object"),
            ],
        );
        check_row(json!({"user_id": 5}), Place::Body, &[("user_id", "is not a string")]);
        check_row(
            json!({"user_id": "u", "plan": "secret"}),
            Place::Body,
            &[("plan", "is not a field here")],
        );
        check_row(json!([1]), Place::Line(2), &[("line 2", "is not a JSON object")]);
        check_row(
            json!({"user_id": "u", "metadata": {"a": "x".repeat(700)}}),
            element,
            &[("users[3]", "limits.record_bytes_max (700)")],
        );
    }

    #[test]
    fn a_user_brings_along_its_company() {
        let caller = caller();
        let read = |body| wire().identify(body, sender(&caller));
        let company = |id: &str| Subject { kind: SubjectKind::Company, id: id.into() };
        for key in ["id", "company_id"] {
            let updates = read(json!({"user_id": "ada", "metadata": {"plan": "pro"},
                "company": {key: "acme", "seats": 3}}));
            let [user, of] = updates.unwrap().try_into().unwrap();
            assert_eq!(user.company_id.as_deref(), Some("acme"));
            assert_eq!(of.subject, company("acme"));
            assert_eq!(of.properties, [("seats".to_owned(), Value::Integer(3))]);
        }
        let alone = read(json!({"user_id": "ada", "company": {"id": "a", "company_id": "a"}}));
        assert_eq!(alone.unwrap().len(), 1);
        let found = refused(read(json!({"user_id": "ada", "company": {"id": "a", "x": [1]}})));
        assert_eq!(found[0].0, "company[\"x\"]");
        let found =
            refused(read(json!({"user_id": "a", "company": {"id": "a", "company_id": "b"}})));
        assert_eq!(found[0].0, "company.company_id");
        let found = refused(read(json!({"user_id": "a", "company": {"x": 1}})));
        assert_eq!(found, [("company.id".to_owned(), "is required".to_owned())]);
        assert_eq!(read(json!({"user_id": "a", "company": null})).unwrap()[0].company_id, None);
    }
}
