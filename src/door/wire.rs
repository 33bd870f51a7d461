//! The only parser of what clients send. Past it there is nothing left to check.

#[cfg(test)]
mod tests;

use std::time::Duration;

use prost_types::{Struct, value::Kind};

use super::{
    caller::{Caller, Client},
    refusal::{Refusal, Violation},
};
use crate::{
    domain::{
        time::Timestamp,
        update::{AppId, Lane, Subject, Update, Value},
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
    /// Reads an update that `caller` sent `now`. `path` is where it stands in the request.
    pub fn update(
        &self,
        update: Option<proto::UserUpdate>,
        caller: &Caller,
        now: Timestamp,
        path: impl Fn() -> String,
    ) -> Result<Update, Refusal> {
        let Some(update) = update else { return Err(Refusal::field(path(), "is required")) };
        let client = caller.client();
        let mut reading = Reading {
            limits: &self.limits,
            client,
            path,
            violations: Vec::new(),
            denied: Vec::new(),
        };
        let app = reading.app(&update.app);
        reading.user_id(&update.user_id);
        reading.company_id(update.company_id.as_deref());
        let properties = reading.properties(update.metadata);
        let occurred_at = reading.occurred_at(update.occurred_at, now);
        let lane = reading.lane(update.lane);
        if !reading.denied.is_empty() {
            return Err(Refusal::PermissionDenied(reading.denied));
        }
        let (true, Some(app)) = (reading.violations.is_empty(), app) else {
            return Err(Refusal::Invalid(reading.violations));
        };
        let update = Update {
            app,
            client: client.id,
            subject: Subject::user(update.user_id),
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
        if let Some(max) = client.record_bytes_max.filter(|max| size > *max) {
            let description =
                format!("takes {size} bytes, more than the client's record_bytes_max ({max})");
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
    /// What the client may not do.
    denied: Vec<Violation>,
}

impl<P: Fn() -> String> Reading<'_, P> {
    fn refuse(&mut self, field: &str, description: impl Into<std::borrow::Cow<'static, str>>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let field = format!("{}.{field}", (self.path)());
            self.violations.push(Violation { field, description: description.into() });
        }
    }

    fn deny(&mut self, field: &str, description: &'static str) {
        if self.denied.len() < VIOLATIONS_MAX {
            let field = format!("{}.{field}", (self.path)());
            self.denied.push(Violation { field, description: description.into() });
        }
    }

    fn app(&mut self, name: &str) -> Option<AppId> {
        let apps = &self.client.apps;
        if name.is_empty() && apps.len() == 1 {
            return apps.values().next().copied();
        }
        let app = apps.get(name).copied();
        match (app, self.client.is_configured) {
            (Some(_), _) => {}
            (None, _) if name.is_empty() => {
                self.refuse("app", "is required, since there are several apps to choose from");
            }
            // Whether there is such an app is not its business.
            (None, true) => self.deny("app", "is not an app that this client may use"),
            (None, false) => self.refuse("app", "is not a configured app"),
        }
        app
    }

    fn user_id(&mut self, user_id: &str) {
        let max = self.limits.user_id_bytes_max;
        if user_id.is_empty() {
            self.refuse("user_id", "is empty");
        } else if user_id.len() > max {
            self.refuse("user_id", too_long(user_id.len(), "limits.user_id_bytes_max", max));
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
        let allowed = self.client.properties.as_ref();
        for (name, value) in fields {
            if allowed.is_some_and(|allowed| !allowed.contains(&name)) {
                self.deny(&metadata_path(&name), "is not a property that this client may write");
                continue;
            }
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
            Ok(proto::Lane::Interactive) if self.client.lane > Lane::Interactive => {
                self.deny("lane", "is more urgent than the client's own");
                Lane::Interactive
            }
            Ok(proto::Lane::Interactive) => Lane::Interactive,
            Ok(proto::Lane::Bulk) => Lane::Bulk,
            Err(_) => {
                self.refuse("lane", "is not a known lane");
                Lane::Interactive
            }
        }
    }
}

/// A primitive value, or what is wrong with it.
fn primitive(kind: Option<Kind>) -> Result<Value, &'static str> {
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
fn number(value: f64) -> Result<Value, &'static str> {
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

/// `metadata["name"]`, the name shortened.
fn metadata_path(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("metadata[{short:?}]")
}

fn too_long(bytes: usize, limit: &str, max: usize) -> String {
    format!("takes {bytes} bytes, more than {limit} ({max})")
}
