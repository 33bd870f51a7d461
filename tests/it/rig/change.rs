//! An update as a test thinks of it, and what updates make of profiles.

use std::collections::BTreeMap;

use prost_types::{Struct, value::Kind};
use serde_json::Value;
use userpilot_gateway::{
    proto,
    simulator::{Profile, Properties},
};

/// New values of one user.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) user_id: String,
    pub(crate) company_id: Option<String>,
    pub(crate) metadata: Properties,
}

impl Change {
    /// `metadata` is a JSON object.
    pub(crate) fn new(user_id: impl Into<String>, metadata: Value) -> Self {
        let metadata = serde_json::from_value(metadata).unwrap();
        Self { user_id: user_id.into(), company_id: None, metadata }
    }

    pub(crate) fn of_company(self, company_id: &str) -> Self {
        Self { company_id: Some(company_id.to_owned()), ..self }
    }

    /// As it goes over the wire.
    pub(crate) fn update(&self) -> proto::UserUpdate {
        let fields = self.metadata.iter().map(|(name, value)| (name.clone(), to_proto(value)));
        proto::UserUpdate {
            user_id: self.user_id.clone(),
            company_id: self.company_id.clone(),
            metadata: Some(Struct { fields: fields.collect() }),
            ..proto::UserUpdate::default()
        }
    }

    fn apply(&self, profiles: &mut BTreeMap<String, Profile>) {
        let profile = profiles.entry(self.user_id.clone()).or_default();
        profile.metadata.extend(self.metadata.clone());
        if self.company_id.is_some() {
            profile.company_id.clone_from(&self.company_id);
        }
    }
}

/// A JSON value as protobuf's Struct holds it.
pub(crate) fn to_proto(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.iter().map(to_proto).collect(),
        }),
        Value::Object(values) => Kind::StructValue(Struct {
            fields: values.iter().map(|(name, value)| (name.clone(), to_proto(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// What the changes make of profiles, in their order.
pub(crate) fn applied<'a>(
    changes: impl IntoIterator<Item = &'a Change>,
) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for change in changes {
        change.apply(&mut profiles);
    }
    profiles
}

/// Fails with the first users whose profiles differ, or who are missing on one side.
pub(crate) fn same_profiles(
    found: &BTreeMap<String, Profile>,
    expected: &BTreeMap<String, Profile>,
) {
    let users = found.keys().chain(expected.keys());
    let mut different: Vec<_> =
        users.filter(|user| found.get(*user) != expected.get(*user)).collect();
    different.dedup();
    let shown: Vec<String> = different
        .iter()
        .take(3)
        .map(|user| {
            format!("{user}: found {:?}, expected {:?}", found.get(*user), expected.get(*user))
        })
        .collect();
    assert!(different.is_empty(), "{} profiles differ:\n{}", different.len(), shown.join("\n"));
}
