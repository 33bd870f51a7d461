//! The only parser of what clients send. Past it there is nothing left to check.

#[cfg(test)]
mod tests;

use std::time::Duration;

use prost_types::Struct;

use super::{
    caller::{Caller, Client},
    properties::Properties,
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
    /// What properties may be.
    pub properties: Properties,
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
        let properties =
            reading.under_rules(&self.properties, app, update.subject.kind, properties);
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

    /// What the app's rules leave of the properties.
    fn under_rules(
        &mut self,
        rules: &Properties,
        app: Option<AppId>,
        kind: SubjectKind,
        properties: Vec<(String, Value)>,
    ) -> Vec<(String, Value)> {
        let Some(app) = app else { return properties };
        let (properties, rejected) = rules.apply(app, kind, properties);
        for (name, mismatch) in rejected {
            self.refuse(&metadata_path(&name), mismatch.to_string());
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
