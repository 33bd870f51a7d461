//! The only parser of what clients send. Past it there is nothing left to check.

pub mod json;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use prost_types::Struct;

use super::{
    caller::{Caller, Client},
    properties::Properties,
    refusal::{Refusal, Violation},
    sent::{Sent, primitive},
};
use crate::{
    domain::{
        property::fold,
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
    /// The apps that have an express lane.
    pub express: BTreeSet<AppId>,
    /// The apps of which too much is damaged to take anything, by name.
    pub held: BTreeMap<AppId, String>,
}

/// Violations of one update that are named at the most.
const VIOLATIONS_MAX: usize = 16;
/// Where properties stand as a rule.
const METADATA: &str = "metadata";

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
        let mut reading = self.reading(client, path, dotted);
        let app = reading.app(&update.app);
        // Whatever else is wrong, nothing of it is taken.
        app.map_or(Ok(()), |app| self.serves(app))?;
        reading.id(&update.subject);
        reading.company_id(update.company_id.as_deref());
        let properties = reading.properties(update.metadata);
        let occurred_at = reading.occurred_at(update.occurred_at, now);
        let lane = reading.lane(update.lane, app.is_some_and(|app| self.express.contains(&app)));
        let update = Update {
            app: app.unwrap_or_default(),
            client: client.id,
            subject: update.subject,
            company_id: update.company_id,
            properties,
            occurred_at,
            lane,
        };
        reading.update(update, METADATA)
    }

    /// Refuses what is for an app that is held.
    pub fn serves(&self, app: AppId) -> Result<(), Refusal> {
        match self.held.get(&app) {
            Some(name) => Err(Refusal::AppHeld(name.clone())),
            None => Ok(()),
        }
    }

    fn reading<'a, P>(&'a self, client: &'a Client, path: P, join: Join) -> Reading<'a, P> {
        let Self { limits, properties: rules, express: _, held: _ } = self;
        let (violations, denied) = (Vec::new(), Vec::new());
        Reading { limits, rules, client, path, join, violations, denied }
    }
}

struct Reading<'a, P> {
    limits: &'a UpdateLimits,
    rules: &'a Properties,
    client: &'a Client,
    path: P,
    join: Join,
    violations: Vec<Violation>,
    /// What the client may not do.
    denied: Vec<Violation>,
}

/// How an update's path and a field's make one.
type Join = fn(String, &str) -> String;

fn dotted(path: String, field: &str) -> String {
    path + "." + field
}

impl<P: Fn() -> String> Reading<'_, P> {
    /// The update with what the app's rules leave of its properties, which stand in the field
    /// `within`, unless any of it was refused.
    fn update(mut self, mut update: Update, within: &str) -> Result<Update, Refusal> {
        if !self.denied.is_empty() {
            return Err(Refusal::PermissionDenied(self.denied));
        }
        // Where something is wrong already, the app may be, too.
        if self.violations.is_empty() {
            let (app, kind) = (update.app, update.subject.kind);
            let (kept, rejected) = self.rules.apply(app, kind, update.properties);
            update.properties = kept;
            for (name, mismatch) in rejected {
                self.refuse(&property_path(within, &name), mismatch.to_string());
            }
        }
        if !self.violations.is_empty() {
            return Err(Refusal::Invalid(self.violations));
        }
        let (size, max) = (update.size(), self.limits.record_bytes_max);
        if size > max {
            let description =
                format!("takes {size} bytes, more than limits.record_bytes_max ({max})");
            return Err(Refusal::field((self.path)(), description));
        }
        if let Some(max) = self.client.record_bytes_max.filter(|max| size > *max) {
            let description =
                format!("takes {size} bytes, more than the client's record_bytes_max ({max})");
            return Err(Refusal::field((self.path)(), description));
        }
        Ok(update)
    }

    fn refuse(&mut self, field: &str, description: impl Into<std::borrow::Cow<'static, str>>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let field = (self.join)((self.path)(), field);
            self.violations.push(Violation { field, description: description.into() });
        }
    }

    fn deny(&mut self, field: &str, description: &'static str) {
        if self.denied.len() < VIOLATIONS_MAX {
            let field = (self.join)((self.path)(), field);
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
        let fields = metadata.unwrap_or_default().fields.into_iter();
        // Fields come sorted by name, as an update's properties are.
        self.primitives(METADATA, fields.map(|(name, value)| (name, primitive(value.kind))))
    }

    /// The properties that stand in the field `within`, sorted by name.
    fn primitives(
        &mut self,
        within: &str,
        fields: impl ExactSizeIterator<Item = (String, Result<Value, &'static str>)>,
    ) -> Vec<(String, Value)> {
        let (count, max) = (fields.len(), self.limits.properties_max);
        if count > max {
            let description =
                format!("has {count} properties, more than limits.properties_max ({max})");
            self.refuse(within, description);
            return Vec::new();
        }
        let mut properties = Vec::with_capacity(count);
        let allowed = self.client.properties.as_ref();
        for (name, value) in fields {
            if allowed.is_some_and(|allowed| !allowed.hold(&fold(&name))) {
                let path = property_path(within, &name);
                self.deny(&path, "is not a property that this client may write");
                continue;
            }
            match value {
                Ok(value) if self.is_name(within, &name) => properties.push((name, value)),
                Ok(_) => {}
                Err(description) => self.refuse(&property_path(within, &name), description),
            }
        }
        properties
    }

    fn is_name(&mut self, within: &str, name: &str) -> bool {
        let max = self.limits.property_name_bytes_max;
        if name.is_empty() {
            self.refuse(within, "has a property with an empty name");
        } else if name.len() > max {
            let limit = "limits.property_name_bytes_max";
            self.refuse(&property_path(within, name), too_long(name.len(), limit, max));
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

    /// The lane, of an app that has express or not.
    fn lane(&mut self, lane: i32, has_express: bool) -> Lane {
        match proto::Lane::try_from(lane) {
            Ok(proto::Lane::Unspecified) => self.client.lane,
            Ok(proto::Lane::Interactive | proto::Lane::Express)
                if self.client.lane > Lane::Interactive =>
            {
                self.deny("lane", "is more urgent than the client's own");
                Lane::Interactive
            }
            Ok(proto::Lane::Express) if has_express => Lane::Express,
            Ok(proto::Lane::Interactive | proto::Lane::Express) => Lane::Interactive,
            Ok(proto::Lane::Bulk) => Lane::Bulk,
            Err(_) => {
                self.refuse("lane", "is not a known lane");
                Lane::Interactive
            }
        }
    }
}

/// `metadata["name"]`, the name shortened.
fn property_path(within: &str, name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("{within}[{short:?}]")
}

fn too_long(bytes: usize, limit: &str, max: usize) -> String {
    format!("takes {bytes} bytes, more than {limit} ({max})")
}
