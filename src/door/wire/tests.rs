//! What is read, and what is refused, of updates that come by gRPC.

use prost_types::{ListValue, value::Kind};

use super::*;
use crate::{
    domain::property::{HashKey, PropertyRules},
    door::{caller::Proof, properties::AppProperties},
};

fn caller(apps: &[&str]) -> Caller {
    let apps = apps.iter().zip(0..).map(|(name, id)| ((*name).to_owned(), AppId(id)));
    Caller::anyone(apps.collect())
}

pub(super) fn wire() -> Wire {
    Wire {
        limits: UpdateLimits {
            user_id_bytes_max: 512,
            company_id_bytes_max: 512,
            properties_max: 3,
            property_name_bytes_max: 20,
            record_bytes_max: 700,
            occurred_at_ahead_max: Duration::from_secs(60),
        },
        properties: Properties::default(),
        express: [AppId(0)].into(),
        held: BTreeMap::new(),
    }
}

#[test]
fn express_is_for_apps_that_have_it_and_clients_that_are_not_of_the_bulk_lane() {
    let apps = || [("p".to_owned(), AppId(0)), ("q".to_owned(), AppId(1))].into();
    let read = |app: &str, lane| {
        let update =
            proto::UserUpdate { app: app.into(), lane: proto::Lane::Express.into(), ..update(&[]) };
        let client = Client { lane, ..Client::anyone(Default::default(), apps()) };
        let caller = Caller::new(client.into(), Proof::None, 0);
        wire().update(Some(update), &caller, Timestamp::default(), || "update".to_owned())
    };
    assert_eq!(read("p", Lane::Interactive).unwrap().lane, Lane::Express);
    assert_eq!(read("q", Lane::Interactive).unwrap().lane, Lane::Interactive);
    for app in ["p", "q"] {
        assert!(matches!(read(app, Lane::Bulk), Err(Refusal::PermissionDenied(_))), "{app}");
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
    let Err(Refusal::Invalid(violations)) = read(&["p"], update) else { panic!("was not refused") };
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
    for (id, expected) in [("", "is empty"), (&*"x".repeat(513), "company_id_bytes_max (512)")] {
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
fn a_property_that_the_app_does_not_take_is_named_and_what_is_hashed_is_not_seen_again() {
    let rules = PropertyRules {
        deny: ["ssn"].into_iter().collect(),
        hash: ["email"].into_iter().collect(),
        hash_key: Some(HashKey::new(b"key")),
        ..PropertyRules::default()
    };
    let of_app = AppProperties::new("p".into(), rules);
    let wire = Wire { properties: [(AppId(0), of_app)].into_iter().collect(), ..wire() };
    let read = |name: &str| {
        let sent = update(&[(name, value(Kind::StringValue("ada@example.com".into())))]);
        wire.update(Some(sent), &caller(&["p"]), Timestamp::default(), || "update".into())
    };
    let refusal = read("SSN").unwrap_err();
    let denied = Refusal::field("update.metadata[\"SSN\"]", "is denied for this app");
    assert_eq!(refusal, denied);
    let hashed = read("email").unwrap();
    assert_eq!(hashed.properties.len(), 1);
    assert!(!format!("{hashed:?}").contains("ada@"), "{hashed:?}");
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
fn what_a_client_may_not_do_is_denied_by_field() {
    let client = Client {
        name: "crm".to_owned(),
        is_configured: true,
        apps: [("p".to_owned(), AppId(0)), ("q".to_owned(), AppId(1))].into(),
        lane: Lane::Bulk,
        record_bytes_max: Some(100),
        properties: Some(["a"].into_iter().collect()),
        ..Client::default()
    };
    let caller = Caller::new(client.into(), Proof::None, 1);
    let text = |n| value(Kind::StringValue("x".repeat(n)));
    let named = |app: &str, lane: proto::Lane, properties: &[(&str, prost_types::Value)]| {
        proto::UserUpdate { app: app.into(), lane: lane.into(), ..update(properties) }
    };
    let read = |update| {
        wire().update(Some(update), &caller, Timestamp::from_micros(0), || "update".into())
    };
    let denied = |update, expected: &[&str]| match read(update) {
        Err(Refusal::PermissionDenied(violations)) => {
            let fields: Vec<_> = violations.iter().map(|it| &*it.field).collect();
            assert_eq!(fields, expected);
        }
        other => panic!("{other:?}"),
    };
    let own = [("a", text(1)), (" A", text(1))];
    let ok = read(named("q", proto::Lane::Unspecified, &own)).unwrap();
    assert_eq!((ok.app, ok.lane), (AppId(1), Lane::Bulk));
    denied(named("r", proto::Lane::Bulk, &[]), &["update.app"]);
    denied(named("p", proto::Lane::Interactive, &[]), &["update.lane"]);
    let both = [("a", text(1)), ("ssn", text(1))];
    denied(named("p", proto::Lane::Bulk, &both), &["update.metadata[\"ssn\"]"]);
    let large = read(named("p", proto::Lane::Bulk, &[("a", text(100))])).unwrap_err();
    assert!(format!("{large:?}").contains("the client's record_bytes_max (100)"));
    assert!(matches!(read(named("", proto::Lane::Bulk, &[])), Err(Refusal::Invalid(_))));
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
