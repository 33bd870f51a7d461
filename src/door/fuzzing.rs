//! Whatever clients send: reading it does not panic, what is refused names a field in few
//! words, and what is accepted keeps to the limits and is what was sent.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use prost_types::{Struct, value::Kind};
use tonic::Status;

use super::{
    caller::Caller,
    properties::Properties,
    receipt::{Receipt, Receipts},
    refusal::Refusal,
    sent::Sent,
    wire::{UpdateLimits, Wire},
};
use crate::{
    domain::{
        merge::Record,
        row::{self, RowValues},
        time::Timestamp,
        update::{AppId, ClientId, Lane, Subject, SubjectKind, Update, Value},
    },
    proto,
};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
/// Small, so that a fuzzer finds both sides of each.
pub(super) const LIMITS: UpdateLimits = UpdateLimits {
    user_id_bytes_max: 24,
    company_id_bytes_max: 16,
    properties_max: 4,
    property_name_bytes_max: 12,
    record_bytes_max: 160,
    occurred_at_ahead_max: Duration::from_secs(60),
};

/// A request: which of the five (a byte), and its bytes as protobuf.
pub(crate) fn ingest(input: &[u8]) -> bool {
    let Some((call, bytes)) = input.split_first() else { return false };
    let (users, companies) = match call % 5 {
        0 => {
            decode(bytes, |it: proto::UpdateUserRequest| (it.update.into_iter().collect(), vec![]))
        }
        1 => decode(bytes, |it: proto::UpdateUsersRequest| (it.updates, vec![])),
        2 => decode(bytes, |it: proto::StreamUserUpdatesRequest| {
            (it.update.into_iter().collect(), it.company.into_iter().collect())
        }),
        3 => decode(bytes, |it: proto::UpdateCompanyRequest| {
            (vec![], it.update.into_iter().collect())
        }),
        _ => decode(bytes, |it: proto::UpdateCompaniesRequest| (vec![], it.updates)),
    };
    let users = users.into_iter().filter(|update| reads(update.clone(), as_sent)).count();
    let companies =
        companies.into_iter().filter(|update| reads(update.clone(), as_company_sent)).count();
    users + companies > 0
}

type Updates = (Vec<proto::UserUpdate>, Vec<proto::CompanyUpdate>);

fn decode<T: Message + Default>(bytes: &[u8], updates: impl Fn(T) -> Updates) -> Updates {
    T::decode(bytes).map(updates).unwrap_or_default()
}

fn caller() -> Caller {
    let apps = [("a", 0), ("b", 1)].map(|(name, id)| (name.to_owned(), AppId(id)));
    Caller::anyone(BTreeMap::from(apps))
}

fn reads<T: Into<Sent>>(sent: T, as_sent: fn(&Update) -> T) -> bool {
    let wire = Wire {
        limits: LIMITS,
        properties: Properties::default(),
        express: [AppId(0)].into(),
        held: BTreeMap::new(),
    };
    let read = |update| wire.update(update, &caller(), NOW, || "update".to_owned());
    match read(Some(sent)) {
        Ok(update) => {
            keeps_to_the_limits(&update);
            assert_eq!(read(Some(as_sent(&update))), Ok(update.clone()), "reads as another");
            goes_up_as_it_is(update);
            true
        }
        Err(refusal) => {
            if let Refusal::Invalid(violations) = &refusal {
                assert!((1..=16).contains(&violations.len()), "{refusal:?}");
                let long = |field: &str| field.chars().count() > 64 * 10 + 32;
                assert!(!violations.iter().any(|it| long(&it.field)), "{refusal:?}");
                assert!(!violations.iter().any(|it| it.description.len() > 128), "{refusal:?}");
            }
            assert!(!Status::from(refusal).message().is_empty());
            false
        }
    }
}

fn keeps_to_the_limits(update: &Update) {
    let Update { app, client, subject, company_id, properties, occurred_at, lane: _ } = update;
    assert!([AppId(0), AppId(1)].contains(app) && *client == ClientId::default());
    let id_bytes_max = match subject.kind {
        SubjectKind::User => LIMITS.user_id_bytes_max,
        SubjectKind::Company => LIMITS.company_id_bytes_max,
    };
    assert!((1..=id_bytes_max).contains(&subject.id.len()));
    assert!(
        company_id.as_ref().is_none_or(|id| (1..=LIMITS.company_id_bytes_max).contains(&id.len()))
    );
    assert!(properties.len() <= LIMITS.properties_max);
    assert!(properties.is_sorted_by(|(a, _), (b, _)| a < b), "sorted, each name once");
    for (name, value) in properties {
        assert!((1..=LIMITS.property_name_bytes_max).contains(&name.len()));
        assert!(!matches!(value, Value::Float(float) if !float.is_finite()));
    }
    assert!(update.size() <= LIMITS.record_bytes_max);
    assert!(occurred_at.is_none_or(|at| at <= NOW.plus(LIMITS.occurred_at_ahead_max)));
}

/// The update as a client would write it.
fn as_sent(update: &Update) -> proto::UserUpdate {
    let kind = |value: &Value| match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        #[expect(clippy::cast_precision_loss, reason = "whole numbers came as doubles")]
        Value::Integer(value) => Kind::NumberValue(*value as f64),
        Value::Float(value) => Kind::NumberValue(*value),
        Value::Text(value) => Kind::StringValue(value.clone()),
    };
    let fields = update
        .properties
        .iter()
        .map(|(name, value)| (name.clone(), prost_types::Value { kind: Some(kind(value)) }));
    let lane = match update.lane {
        Lane::Express => proto::Lane::Express,
        Lane::Interactive => proto::Lane::Interactive,
        Lane::Bulk => proto::Lane::Bulk,
    };
    proto::UserUpdate {
        app: if update.app == AppId(0) { "a".to_owned() } else { "b".to_owned() },
        user_id: update.subject.id.clone(),
        company_id: update.company_id.clone(),
        metadata: Some(Struct { fields: fields.collect() }),
        occurred_at: update.occurred_at.map(|at| proto::timestamp(at.as_micros())),
        lane: lane.into(),
    }
}

fn as_company_sent(update: &Update) -> proto::CompanyUpdate {
    let proto::UserUpdate { app, user_id, metadata, occurred_at, lane, .. } = as_sent(update);
    proto::CompanyUpdate { app, company_id: user_id, metadata, occurred_at, lane }
}

/// The row that goes up says what was accepted, to anybody who reads JSON.
fn goes_up_as_it_is(update: Update) {
    let (subject, company_id) = (update.subject.clone(), update.company_id.clone());
    let properties = update.properties.clone();
    let mut line = Vec::new();
    row::write_row(&subject, &Record::new(update, 1, NOW), RowValues::Primitive, &mut line);
    assert!(!line.contains(&b'\n'), "a row of several lines");
    let json: serde_json::Value = serde_json::from_slice(&line).expect("a row is JSON");
    let text = |key| json.get(key).and_then(serde_json::Value::as_str);
    let (user_id, company_id) = match subject.kind {
        SubjectKind::User => (Some(&*subject.id), company_id.as_deref()),
        SubjectKind::Company => (None, Some(&*subject.id)),
    };
    assert_eq!((text("user_id"), text("company_id")), (user_id, company_id));
    let metadata = json.get("metadata").and_then(|it| it.as_object());
    assert_eq!(metadata.map_or(0, serde_json::Map::len), properties.len());
    for (name, value) in properties {
        let found = &json["metadata"][name];
        match value {
            Value::Null => assert!(found.is_null()),
            Value::Bool(value) => assert_eq!(found.as_bool(), Some(value)),
            Value::Integer(value) => assert_eq!(found.as_i64(), Some(value)),
            Value::Float(value) => assert!(found.as_f64().is_some_and(|it| near(it, value))),
            Value::Text(value) => assert_eq!(found.as_str(), Some(&*value)),
        }
    }
}

/// JSON's reader here may miss the last bits of a number; its writer does not.
fn near(found: f64, value: f64) -> bool {
    found.to_bits().abs_diff(value.to_bits()) <= 4
}

/// A receipt's text.
pub(crate) fn receipt(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(receipt) = receipts().decode(text) else { return false };
    let Receipt { app, sequence, ref subject } = receipt;
    assert_eq!(receipts().encode(app, sequence, subject), text, "two texts of one receipt");
    true
}

/// Each call, with every kind of value.
pub(crate) fn ingest_seeds() -> Vec<Vec<u8>> {
    let update = |user_id: &str, company_id: Option<&str>, properties: Vec<(&str, Value)>| {
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value));
        as_sent(&Update {
            app: AppId(0),
            client: ClientId(4),
            subject: Subject::user(user_id),
            company_id: company_id.map(str::to_owned),
            properties: properties.collect(),
            occurred_at: company_id.map(|_| NOW),
            lane: Lane::Bulk,
        })
    };
    let full = update(
        "ada",
        Some("acme"),
        vec![
            ("age", Value::Integer(36)),
            ("left", Value::Null),
            ("plan", Value::Text("pro".to_owned())),
            ("score", Value::Float(0.5)),
        ],
    );
    let bare = update("bob", None, vec![("paying", Value::Bool(true))]);
    let named = |call: u8, message: Vec<u8>| [&[call][..], &message].concat();
    let one =
        |update: &proto::UserUpdate| proto::UpdateUserRequest { update: Some(update.clone()) };
    let many = proto::UpdateUsersRequest { updates: vec![full.clone(), bare.clone()] };
    let streamed = proto::StreamUserUpdatesRequest::default;
    let tagged =
        proto::StreamUserUpdatesRequest { tag: 7, update: Some(full.clone()), ..streamed() };
    let company = proto::CompanyUpdate {
        app: full.app.clone(),
        company_id: "acme".to_owned(),
        metadata: full.metadata.clone(),
        occurred_at: full.occurred_at,
        ..proto::CompanyUpdate::default()
    };
    let of_company =
        proto::StreamUserUpdatesRequest { tag: 8, company: Some(company.clone()), ..streamed() };
    let one_company = proto::UpdateCompanyRequest { update: Some(company.clone()) };
    let companies = proto::UpdateCompaniesRequest { updates: vec![company] };
    vec![
        named(0, one(&full).encode_to_vec()),
        named(0, one(&bare).encode_to_vec()),
        named(1, many.encode_to_vec()),
        named(2, tagged.encode_to_vec()),
        named(2, of_company.encode_to_vec()),
        named(3, one_company.encode_to_vec()),
        named(4, companies.encode_to_vec()),
    ]
}

/// Of one store.
fn receipts() -> Receipts {
    Receipts::new(u64::MAX / 3, &[7; 32])
}

/// The receipts of a user and of a company.
pub(crate) fn receipt_seeds() -> Vec<Vec<u8>> {
    let company = Subject { kind: SubjectKind::Company, id: "acme".to_owned() };
    [(Subject::user("ada@example.com"), 0), (company, 9), (Subject::user(""), u16::MAX)]
        .map(|(subject, app)| receipts().encode(AppId(app), 42, &subject).into_bytes())
        .into()
}
