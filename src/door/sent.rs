//! An update as it was sent, of a user or a company: nothing of it is checked yet.

use prost_types::{Struct, Timestamp, value::Kind};

use crate::{
    domain::update::{Subject, Value},
    proto,
};

/// An update as it was sent.
pub struct Sent {
    pub(super) app: String,
    pub(super) subject: Subject,
    pub(super) company_id: Option<String>,
    pub(super) metadata: Option<Struct>,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) lane: i32,
}

impl From<proto::UserUpdate> for Sent {
    fn from(update: proto::UserUpdate) -> Self {
        let proto::UserUpdate { app, user_id, company_id, metadata, occurred_at, lane } = update;
        Self { app, subject: Subject::user(user_id), company_id, metadata, occurred_at, lane }
    }
}

impl From<proto::CompanyUpdate> for Sent {
    fn from(update: proto::CompanyUpdate) -> Self {
        let proto::CompanyUpdate { app, company_id, metadata, occurred_at, lane } = update;
        let subject = Subject::company(company_id);
        Self { app, subject, company_id: None, metadata, occurred_at, lane }
    }
}

/// A primitive value, or what is wrong with it.
pub(super) fn primitive(kind: Option<Kind>) -> Result<Value, &'static str> {
    Ok(match kind {
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(value)) => Value::Text(value),
        Some(Kind::NumberValue(value)) => number(value)?,
        Some(Kind::StructValue(_)) => {
            return Err("is a nested structure; only string, number, boolean and null are taken");
        }
        Some(Kind::ListValue(_)) => {
            return Err("is a list; only string, number, boolean and null are taken");
        }
        None => return Err("has no value; send a null to clear a property"),
    })
}

/// Whole numbers that a double holds exactly are sent as such: 3, not 3.0.
pub(super) fn number(value: f64) -> Result<Value, &'static str> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53
    if !value.is_finite() {
        return Err("is NaN or infinite, which JSON cannot express");
    }
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
        return Ok(Value::Integer(value as i64));
    }
    Ok(Value::Float(value))
}
