//! Events, as `POST /v1/track` takes them. They go on to Userpilot, and what they tell of a user
//! keeps to the same rules as properties do.

use serde_json::{Map, Value as Json};

use super::{METADATA, Place, Sender, object};
use crate::{
    domain::update::{Subject, Value},
    door::{refusal::Refusal, wire::Wire},
};

impl Wire {
    /// Whether there are rules for what events of the sender may hold: the app's or the client's.
    pub fn rules_events(&self, sender: Sender<'_>) -> bool {
        sender.client.properties.is_some() || self.properties.bind(sender.app)
    }

    /// An event with what the rules leave of its properties.
    pub fn event(&self, event: Json, sender: Sender<'_>) -> Result<Json, Refusal> {
        let mut event = object(event, Place::Body)?;
        let mut reading = self.at(sender, Place::Body);
        let mut kept = Map::new();
        let mut user = String::new();
        // Whether they are there, Userpilot tells; but nothing may hide in them.
        for field in ["user_id", "event_name"] {
            let Some(text) = reading.text(event.remove(field), field) else { continue };
            if field == "user_id" {
                user.clone_from(&text);
            }
            kept.insert(field.to_owned(), text.into());
        }
        let properties = reading.metadata(&mut event);
        reading.nothing_else(&event);
        let update = sender.update(Subject::user(user), None, properties);
        let update = reading.update(update, METADATA)?;
        let properties = update.properties.into_iter();
        let metadata: Map<String, Json> =
            properties.map(|(name, value)| (name, json(value))).collect();
        if !metadata.is_empty() {
            kept.insert(METADATA.to_owned(), metadata.into());
        }
        Ok(kept.into())
    }
}

fn json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Text(text) => text.into(),
    }
}

#[cfg(test)]
mod tests {

    use serde_json::json;

    use super::*;
    use crate::{
        domain::{
            property::{HashKey, OnMismatch, PropertyRules},
            update::{AppId, Lane},
        },
        door::{
            caller::Client,
            properties::{AppProperties, Properties},
            wire::tests::wire,
        },
    };

    const APP: AppId = AppId(7);

    fn with(rules: PropertyRules) -> Wire {
        let rules = [(APP, AppProperties::new("production".into(), rules))];
        Wire { properties: Properties::from_iter(rules), ..wire() }
    }

    fn strict() -> PropertyRules {
        PropertyRules {
            deny: ["ssn"].into_iter().collect(),
            hash: ["email"].into_iter().collect(),
            hash_key: Some(HashKey::new(b"0123456789abcdef")),
            ..PropertyRules::default()
        }
    }

    fn event(metadata: Json) -> Json {
        json!({"user_id": "ada", "event_name": "signed up", "metadata": metadata})
    }

    fn read(wire: &Wire, client: &Client, event: Json) -> Result<Json, Refusal> {
        wire.event(event, Sender { client, app: APP, lane: Lane::Interactive })
    }

    fn fields(refusal: Refusal) -> Vec<String> {
        let (Refusal::Invalid(violations) | Refusal::PermissionDenied(violations)) = refusal else {
            panic!("{refusal:?}")
        };
        violations.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn an_event_keeps_to_the_apps_rules() {
        let (wire, client) = (with(strict()), Client::default());
        let found = read(&wire, &client, event(json!({"plan": "pro", "email": "a@b.example"})));
        let found = found.unwrap();
        assert_eq!((&found["user_id"], &found["event_name"]), (&json!("ada"), &json!("signed up")));
        assert_eq!(found["metadata"]["plan"], "pro");
        assert_eq!(found["metadata"]["email"].as_str().unwrap().len(), 64);
        for (hidden, field) in [
            (event(json!({"S s n": "078-05-1120"})), "metadata[\"S s n\"]"),
            (event(json!({"a": {"ssn": "078-05-1120"}})), "metadata[\"a\"]"),
            (event(json!(["078-05-1120"])), "metadata"),
            (json!({"user_id": "ada", "ssn": "078-05-1120"}), "ssn"),
            (json!({"user_id": {"ssn": "078-05-1120"}}), "user_id"),
            (json!(["078-05-1120"]), "body"),
        ] {
            assert_eq!(fields(read(&wire, &client, hidden).unwrap_err()), [field]);
        }
        let dropping = PropertyRules { on_mismatch: OnMismatch::Drop, ..strict() };
        let found = read(&with(dropping), &client, event(json!({"ssn": "078-05-1120", "n": 1.5})));
        assert_eq!(found.unwrap(), event(json!({"n": 1.5})));
        // That it lacks something, Userpilot says in its own words.
        assert_eq!(read(&wire, &client, json!({"user_id": "ada"})), Ok(json!({"user_id": "ada"})));
    }

    #[test]
    fn an_event_keeps_to_what_its_client_may_write() {
        let properties = Some([&"plan".to_owned()].into_iter().collect());
        let client = Client { properties, ..Client::default() };
        let wire = with(PropertyRules::default());
        let rules = |wire: &Wire, client: &Client| {
            wire.rules_events(Sender { client, app: APP, lane: Lane::Interactive })
        };
        assert!(rules(&wire, &client) && rules(&with(strict()), &Client::default()));
        assert!(!rules(&wire, &Client::default()));
        let good = event(json!({"plan": "pro"}));
        assert_eq!(read(&wire, &client, good.clone()), Ok(good));
        let refusal = read(&wire, &client, event(json!({"mrr": 1}))).unwrap_err();
        assert!(matches!(refusal, Refusal::PermissionDenied(_)), "{refusal:?}");
        assert_eq!(fields(refusal), ["metadata[\"mrr\"]"]);
    }
}
