//! What Userpilot's public documents say of its API, and the description that the gateway serves of
//! its own: whoever keeps to the first is understood by the second.

use serde_json::Value;

use crate::rig::Stage;

/// What callers of Userpilot go by. Its `source` says where it is from.
const USERPILOT: &str = include_str!("userpilot.json");

/// A part of the gateway's description, with its references followed.
struct Described<'a> {
    document: &'a Value,
    at: &'a Value,
}

impl<'a> Described<'a> {
    fn get(&self, key: &str) -> Described<'a> {
        let at = &self.at[key];
        let at = match at["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]).unwrap(),
            None => at,
        };
        Described { document: self.document, at }
    }

    fn names(&self) -> Vec<&'a str> {
        self.at.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    /// Whether it may be of this type.
    fn admits(&self, of: &str) -> bool {
        let either = self.at["oneOf"].as_array().into_iter().flatten();
        let mut parts: Vec<_> = either.map(|part| &part["$ref"]).collect();
        parts.retain(|reference| reference.is_string());
        types(&self.at["type"]).contains(&of) || (of == "object" && !parts.is_empty())
    }
}

fn types(value: &Value) -> Vec<&str> {
    value.as_str().map_or_else(|| texts(value), |one| vec![one])
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

/// All of `some` are among `all`.
fn among(some: &[&str], all: &[&str], what: &str) {
    let missing: Vec<_> = some.iter().filter(|one| !all.contains(one)).collect();
    assert!(missing.is_empty(), "{what}: {missing:?} not among {all:?}");
}

/// An object that Userpilot takes is one that the gateway takes.
fn takes(object: &Value, schema: &Described<'_>, what: &str) {
    // Who leaves out what Userpilot does not ask for is not asked for it here.
    among(&texts(&schema.at["required"]), &texts(&object["required"]), what);
    let properties = schema.get("properties");
    for (name, of) in object["fields"].as_object().into_iter().flatten() {
        among(&[name], &properties.names(), what);
        assert!(properties.get(name).admits(of.as_str().unwrap()), "{what}: {name} is no {of}");
    }
}

fn check(endpoint: &str, expected: &Value, document: &Value) {
    let (method, path) = endpoint.split_once(' ').unwrap();
    let paths = Described { document, at: &document["paths"] };
    let described = paths.get(path).get(&method.to_lowercase());
    assert!(described.at.is_object(), "{endpoint} is not described");
    let responses = described.get("responses");
    among(&texts(&expected["statuses"]), &responses.names(), endpoint);
    let content = described.get("requestBody").get("content");
    among(&texts(&expected["media_types"]), &content.names(), endpoint);
    let schema = content.get("application/json").get("schema");
    takes(&expected["body"], &schema, endpoint);
    if let Some(rows) = expected["body"]["rows"].as_str() {
        let array = schema.get("properties").get(rows);
        assert!(array.at["maxItems"].as_u64() >= expected["body"]["rows_max"].as_u64());
        takes(&expected["body"]["row"], &array.get("items"), endpoint);
        among(
            &["file"],
            &content.get("multipart/form-data").get("schema").get("properties").names(),
            endpoint,
        );
    }
    if expected["answer"].is_array() {
        let success = responses.get(texts(&expected["statuses"])[0]);
        let job = success.get("content").get("application/json").get("schema");
        let job = if job.at["type"] == "array" { job.get("items") } else { job };
        among(&texts(&expected["answer"]), &job.get("properties").names(), endpoint);
    }
}

#[tokio::test]
async fn whoever_keeps_to_userpilots_documents_is_understood() {
    let stage = Stage::start(100).await;
    let page = stage.gateway.page("/openapi.json").await.2;
    let document: Value = serde_json::from_str(&page).unwrap();
    let userpilot: Value = serde_json::from_str(USERPILOT).unwrap();
    let endpoints = userpilot["endpoints"].as_object().unwrap();
    assert_eq!(endpoints.len(), document["paths"].as_object().unwrap().len());
    for (endpoint, expected) in endpoints {
        check(endpoint, expected, &document);
    }
    let schemas = &document["components"]["schemas"];
    let properties = types(&schemas["Properties"]["additionalProperties"]["type"]);
    among(&texts(&userpilot["value_types"]), &properties, "values");
    let statuses = texts(&schemas["Job"]["properties"]["status"]["enum"]);
    among(&statuses, &texts(&userpilot["job_statuses"]), "statuses of a job");
    let error = &schemas["Errors"]["properties"]["errors"]["items"];
    among(&texts(&userpilot["error"]), &texts(&error["required"]), "errors");
}
