//! The only parser of what clients send. Past it there is nothing left to check.

use std::time::Duration;

use prost_types::Struct;

use super::{
    caller::{Caller, Client},
    refusal::{Refusal, Violation},
    sent::{Sent, primitive},
};
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, Lane, Subject, SubjectKind, Update, Value},
    },
    proto,
};

/// How large the parts of an update may be.
#[derive(Clone, Copy, Debug)]
pub struct UpdateLimits {
    /// Bytes of a `user_id`.
    pub user_id_bytes_max: usize,
    /// Bytes of a `company_id`.
    pub company_id_bytes_max: usize,
    /// Properties.
    pub properties_max: usize,
    /// Bytes of a property's name.
    pub property_name_bytes_max: usize,
    /// Bytes of the whole update, as stored.
    pub record_bytes_max: usize,
    /// How far `occurred_at` may lie ahead of the gateway's clock.
    pub occurred_at_ahead_max: Duration,
}

/// What an update is read against.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The limits.
    pub limits: UpdateLimits,
}

/// Violations of one update that are named at the most.
const VIOLATIONS_MAX: usize = 16;

impl Wire {
    /// Reads an update, of a user or a company, that `caller` sent `now`. `path` is where it
    /// stands in the request.
    pub fn update(
        &self,
        update: Option<impl Into<Sent>>,
        caller: &Caller,
        now: Timestamp,
        path: impl Fn() -> String,
    ) -> Result<Update, Refusal> {
        let Some(update) = update else { return Err(Refusal::field(path(), "is required")) };
        let update: Sent = update.into();
        let client = caller.client();
        let mut reading = Reading { limits: &self.limits, client, path, violations: Vec::new() };
        let app = reading.app(&update.app);
        reading.id(&update.subject);
        reading.company_id(update.company_id.as_deref());
        let properties = reading.properties(update.metadata);
        let occurred_at = reading.occurred_at(update.occurred_at, now);
        let lane = reading.lane(update.lane);
        let (true, Some(app)) = (reading.violations.is_empty(), app) else {
            return Err(Refusal::Invalid(reading.violations));
        };
        let update = Update {
            app,
            client: client.id,
            subject: update.subject,
            company_id: update.company_id,
            properties,
            occurred_at,
            lane,
        };
        let (size, max) = (update.size(), self.limits.record_bytes_max);
        if size > max {
            let description =
                format!("takes {size} bytes, more than limits.record_bytes_max ({max})");
            return Err(Refusal::field((reading.path)(), description));
        }
        Ok(update)
    }
}

struct Reading<'a, P> {
    limits: &'a UpdateLimits,
    client: &'a Client,
    path: P,
    violations: Vec<Violation>,
}

impl<P: Fn() -> String> Reading<'_, P> {
    fn refuse(&mut self, field: &str, description: impl Into<std::borrow::Cow<'static, str>>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let field = format!("{}.{field}", (self.path)());
            self.violations.push(Violation { field, description: description.into() });
        }
    }

    fn app(&mut self, name: &str) -> Option<AppId> {
        let apps = &self.client.apps;
        if name.is_empty() && apps.len() == 1 {
            return apps.values().next().copied();
        }
        let app = apps.get(name).copied();
        if app.is_none() {
            let description = if name.is_empty() {
                "is required, since several apps are configured"
            } else {
                "is not a configured app"
            };
            self.refuse("app", description);
        }
        app
    }

    fn id(&mut self, subject: &Subject) {
        let (field, limit, max) = match subject.kind {
            SubjectKind::User => {
                ("user_id", "limits.user_id_bytes_max", self.limits.user_id_bytes_max)
            }
            SubjectKind::Company => {
                ("company_id", "limits.company_id_bytes_max", self.limits.company_id_bytes_max)
            }
        };
        let bytes = subject.id.len();
        if bytes == 0 {
            self.refuse(field, "is empty");
        } else if bytes > max {
            self.refuse(field, too_long(bytes, limit, max));
        }
    }

    fn company_id(&mut self, company_id: Option<&str>) {
        let max = self.limits.company_id_bytes_max;
        match company_id {
            Some("") => self.refuse("company_id", "is empty; leave it out to keep the company"),
            Some(id) if id.len() > max => {
                self.refuse("company_id", too_long(id.len(), "limits.company_id_bytes_max", max));
            }
            Some(_) | None => {}
        }
    }

    fn properties(&mut self, metadata: Option<Struct>) -> Vec<(String, Value)> {
        let fields = metadata.unwrap_or_default().fields;
        let (count, max) = (fields.len(), self.limits.properties_max);
        if count > max {
            let description =
                format!("has {count} properties, more than limits.properties_max ({max})");
            self.refuse("metadata", description);
            return Vec::new();
        }
        let mut properties = Vec::with_capacity(count);
        // Fields come sorted by name, as an update's properties are.
        for (name, value) in fields {
            match primitive(value.kind) {
                Ok(value) if self.is_name(&name) => properties.push((name, value)),
                Ok(_) => {}
                Err(description) => self.refuse(&metadata_path(&name), description),
            }
        }
        properties
    }

    fn is_name(&mut self, name: &str) -> bool {
        let max = self.limits.property_name_bytes_max;
        if name.is_empty() {
            self.refuse("metadata", "has a property with an empty name");
        } else if name.len() > max {
            let limit = "limits.property_name_bytes_max";
            self.refuse(&metadata_path(name), too_long(name.len(), limit, max));
        } else {
            return true;
        }
        false
    }

    fn occurred_at(
        &mut self,
        at: Option<prost_types::Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let at = at?;
        // The range of google.protobuf.Timestamp: years 1 to 9999.
        let in_range = (-62_135_596_800..=253_402_300_799).contains(&at.seconds)
            && (0..1_000_000_000).contains(&at.nanos);
        if !in_range {
            self.refuse("occurred_at", "is not a valid google.protobuf.Timestamp");
            return None;
        }
        let at = Timestamp::from_micros(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000);
        if at > now.plus(self.limits.occurred_at_ahead_max) {
            let description =
                "lies further ahead of the gateway's clock than limits.occurred_at_ahead_max_ms";
            self.refuse("occurred_at", description);
        }
        Some(at)
    }

    fn lane(&mut self, lane: i32) -> Lane {
        match proto::Lane::try_from(lane) {
            Ok(proto::Lane::Unspecified) => self.client.lane,
            Ok(proto::Lane::Interactive) => Lane::Interactive,
            Ok(proto::Lane::Bulk) => Lane::Bulk,
            Err(_) => {
                self.refuse("lane", "is not a known lane");
                Lane::Interactive
            }
        }
    }
}

/// `metadata["name"]`, the name shortened.
fn metadata_path(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("metadata[{short:?}]")
}

fn too_long(bytes: usize, limit: &str, max: usize) -> String {
    format!("takes {bytes} bytes, more than {limit} ({max})")
}

#[cfg(test)]
mod tests {
    use prost_types::{ListValue, value::Kind};

    use super::*;

    fn caller(apps: &[&str]) -> Caller {
        let apps = apps.iter().zip(0..).map(|(name, id)| ((*name).to_owned(), AppId(id)));
        Caller::anyone(apps.collect())
    }

    fn wire() -> Wire {
        Wire {
            limits: UpdateLimits {
                user_id_bytes_max: 512,
                company_id_bytes_max: 512,
                properties_max: 3,
                property_name_bytes_max: 20,
                record_bytes_max: 700,
                occurred_at_ahead_max: Duration::from_secs(60),
            },
        }
    }

    fn value(kind: Kind) -> prost_types::Value {
        prost_types::Value { kind: Some(kind) }
    }

    fn update(fields: &[(&str, prost_types::Value)]) -> proto::UserUpdate {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        proto::UserUpdate {
            user_id: "u".into(),
            metadata: Some(Struct { fields: fields.collect() }),
            ..proto::UserUpdate::default()
        }
    }

    fn read(apps: &[&str], update: proto::UserUpdate) -> Result<Update, Refusal> {
        let now = Timestamp::from_micros(1_000_000_000);
        wire().update(Some(update), &caller(apps), now, || "update".into())
    }

    fn check_refused(update: proto::UserUpdate, expected: &[(&str, &str)]) {
        let Err(Refusal::Invalid(violations)) = read(&["p"], update) else {
            panic!("was not refused")
        };
        let found: Vec<_> = violations.iter().map(|v| (&*v.field, &*v.description)).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((field, description), (expected_field, part)) in found.iter().zip(expected) {
            assert_eq!(field, expected_field);
            assert!(description.contains(part), "{description}");
        }
    }

    #[test]
    fn an_update_is_read() {
        let sent = proto::UserUpdate {
            company_id: Some("acme".into()),
            occurred_at: Some(prost_types::Timestamp { seconds: 900, nanos: 1_999 }),
            lane: proto::Lane::Bulk.into(),
            ..update(&[
                ("whole", value(Kind::NumberValue(3.0))),
                ("null", value(Kind::NullValue(0))),
                ("half", value(Kind::NumberValue(0.5))),
            ])
        };
        let read = read(&["p"], sent).unwrap();
        assert_eq!(read.subject, Subject::user("u"));
        assert_eq!((read.app, read.lane), (AppId(0), Lane::Bulk));
        assert_eq!(read.occurred_at, Some(Timestamp::from_micros(900_000_001)));
        let expected = [
            ("half".to_owned(), Value::Float(0.5)),
            ("null".to_owned(), Value::Null),
            ("whole".to_owned(), Value::Integer(3)),
        ];
        assert_eq!(read.properties, expected);
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        let text = |n| value(Kind::StringValue("x".repeat(n)));
        check_refused(
            proto::UserUpdate { user_id: String::new(), ..update(&[]) },
            &[("update.user_id", "is empty")],
        );
        check_refused(
            proto::UserUpdate { user_id: "x".repeat(513), ..update(&[]) },
            &[("update.user_id", "limits.user_id_bytes_max (512)")],
        );
        check_refused(
            proto::UserUpdate { company_id: Some(String::new()), lane: 9, ..update(&[]) },
            &[("update.company_id", "is empty"), ("update.lane", "not a known lane")],
        );
        check_refused(
            update(&[
                ("a", value(Kind::ListValue(ListValue::default()))),
                ("b", value(Kind::StructValue(Struct::default()))),
                ("c", value(Kind::NumberValue(f64::NAN))),
            ]),
            &[
                ("update.metadata[\"a\"]", "is a list"),
                ("update.metadata[\"b\"]", "is a nested structure"),
                ("update.metadata[\"c\"]", "NaN"),
            ],
        );
        check_refused(
            update(&[("", text(1)), ("a", prost_types::Value { kind: None })]),
            &[("update.metadata", "empty name"), ("update.metadata[\"a\"]", "has no value")],
        );
        check_refused(
            update(&[("a", text(1)), ("b", text(1)), ("c", text(1)), ("d", text(1))]),
            &[("update.metadata", "4 properties")],
        );
        check_refused(update(&[("a", text(700))]), &[("update", "limits.record_bytes_max (700)")]);
        for (seconds, nanos, part) in [(1_061, 0, "further ahead"), (5, -1, "not a valid")] {
            let occurred_at = Some(prost_types::Timestamp { seconds, nanos });
            check_refused(
                proto::UserUpdate { occurred_at, ..update(&[]) },
                &[("update.occurred_at", part)],
            );
        }
    }

    #[test]
    fn an_update_of_a_company_is_read_as_one_of_a_user() {
        let now = Timestamp::from_micros(1_000_000_000);
        let read = |company_id: &str| {
            let company_id = company_id.to_owned();
            let metadata = update(&[("seats", value(Kind::NumberValue(3.0)))]).metadata;
            let sent = proto::CompanyUpdate { company_id, metadata, ..Default::default() };
            wire().update(Some(sent), &caller(&["p"]), now, || "company".into())
        };
        let update = read("acme").unwrap();
        assert_eq!((update.subject, update.company_id), (Subject::company("acme"), None));
        assert_eq!(update.properties, [("seats".to_owned(), Value::Integer(3))]);
        for (id, expected) in [("", "is empty"), (&*"x".repeat(513), "company_id_bytes_max (512)")]
        {
            let Err(Refusal::Invalid(violations)) = read(id) else { panic!("{id} is taken") };
            assert_eq!(violations[0].field, "company.company_id");
            assert!(violations[0].description.contains(expected));
        }
    }

    #[test]
    fn no_violation_quotes_a_value() {
        let sent = update(&[("a", value(Kind::StringValue("secret".repeat(200))))]);
        let refusal = read(&["p"], sent).unwrap_err();
        assert!(!format!("{refusal:?}").contains("secret"));
    }

    #[test]
    fn the_app_may_be_left_out_where_there_is_one() {
        let named = |app: &str| proto::UserUpdate { app: app.into(), ..update(&[]) };
        assert!(read(&["p"], named("p")).is_ok());
        assert!(read(&["p"], named("q")).is_err());
        assert!(read(&["p", "q"], named("")).is_err());
        assert_eq!(read(&["p", "q"], named("q")).unwrap().app, AppId(1));
    }

    #[test]
    fn an_update_is_required() {
        let refusal = wire()
            .update(None::<proto::UserUpdate>, &caller(&["p"]), Timestamp::default(), || {
                "update".into()
            })
            .unwrap_err();
        assert_eq!(refusal, Refusal::field("update", "is required"));
    }
}
