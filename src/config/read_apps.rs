//! Reads the Userpilot environments to deliver to.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::{self, Path},
};

use config::{Map, Value, ValueKind};

use super::{
    APPS_MAX, ApiKeySource, AppConfig, OnPartial, Problem, Upload, Warning,
    api_key::{self, ApiKey},
    properties,
    read::{DAY_MS, HOUR_MS, KIB, MIB},
    reader::Reader,
};

pub(super) fn apps(
    values: &Map<String, Value>,
    folder: &Path,
    env: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> Vec<AppConfig> {
    let tables = match values.get("apps").map(|value| &value.kind) {
        Some(ValueKind::Array(apps)) => apps.as_slice(),
        _ => &[],
    };
    if !(1..=APPS_MAX).contains(&tables.len()) {
        let message = format!("expected 1 to {APPS_MAX} apps, found {}", tables.len());
        problems.push(Problem { key: "apps".to_owned(), message, origin: None });
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    let mut apps = Vec::with_capacity(tables.len());
    for (index, value) in tables.iter().enumerate() {
        let ValueKind::Table(table) = &value.kind else { continue };
        let mut reader = Reader::new(format!("apps[{index}]"), table, problems);
        let Some(app) = app(&mut reader, folder, env, warnings) else { continue };
        if !app.name.is_empty() && !names.insert(app.name.clone()) {
            reader.refuse("name", format!("another app is called {:?} too", app.name));
        }
        apps.push(app);
    }
    apps
}

fn app(
    reader: &mut Reader<'_>,
    folder: &Path,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> Option<AppConfig> {
    let name = reader.name("name");
    let base_url = reader.base_url("base_url");
    let key = api_key(reader, folder, env);
    if let Some((ApiKeySource::File(path), ApiKey { readable_by_all: true, .. })) = &key {
        warnings.push(Warning::KeyFileReadableByAll { app: name.clone(), path: path.clone() });
    }
    let properties = properties::properties(reader, folder, &name, warnings);
    let pass_through = reader.texts("pass_through");
    let pass_through = passed(reader, pass_through);
    // What nothing can stand in for comes last, so that all that is wrong has been seen by then.
    Some(AppConfig {
        name,
        users_per_minute: reader.number("users_per_minute", 1..=1_000_000),
        linger_ms: reader.number("linger_ms", 0..=DAY_MS),
        upload: reader.word("upload", [("file", Upload::File), ("json", Upload::Json)]),
        job_users_min: reader.number("job_users_min", 1..=10_000),
        job_users_max: reader.number("job_users_max", 1..=10_000),
        overhead_target: reader.share("overhead_target", 0.001..=1.0),
        bulk_share: reader.share("bulk_share", 0.0..=0.9),
        express: reader.flag("express"),
        express_per_minute: reader.number("express_per_minute", 3..=1_000_000),
        express_requests_max: reader.number("express_requests_max", 1..=1_000),
        batch_bytes_max: reader.number("batch_bytes_max", KIB..=50_000_000),
        request_timeout_ms: reader.number("request_timeout_ms", 1..=HOUR_MS),
        connect_timeout_ms: reader.number("connect_timeout_ms", 1..=600_000),
        answer_bytes_max: reader.number("answer_bytes_max", KIB..=64 * MIB),
        poll_interval_min_ms: reader.number("poll_interval_min_ms", 1..=HOUR_MS),
        poll_interval_max_ms: reader.number("poll_interval_max_ms", 1..=HOUR_MS),
        backoff_initial_ms: reader.number("backoff_initial_ms", 1..=HOUR_MS),
        backoff_max_ms: reader.number("backoff_max_ms", 1..=DAY_MS),
        retry_after_max_ms: reader.number("retry_after_max_ms", 1..=7 * DAY_MS),
        held_retry_ms: reader.number("held_retry_ms", 1..=DAY_MS),
        failed_jobs_max: reader.number("failed_jobs_max", 1..=100),
        on_partial: reader
            .word("on_partial", [("isolate", OnPartial::Isolate), ("accept", OnPartial::Accept)]),
        suppress_unchanged: reader.flag("suppress_unchanged"),
        refresh_after_hours: reader.number("refresh_after_hours", 1..=24 * 365),
        stringify_values: reader.flag("stringify_values"),
        properties,
        pass_through,
        pass_through_per_minute: NonZeroU32::new(
            reader.number("pass_through_per_minute", 1..=1_000_000),
        )
        .unwrap_or(NonZeroU32::MIN),
        base_url: base_url?,
        api_key: key.as_ref()?.1.key.clone(),
        api_key_source: key?.0,
    })
}

/// Methods and paths that the gateway does not answer itself.
pub(super) fn passed(reader: &mut Reader<'_>, requests: Vec<String>) -> Vec<String> {
    for request in &requests {
        if let Err(expected) = may_pass(request) {
            reader.refuse("pass_through", format!("{request:?}: expected {expected}"));
        }
    }
    requests
}

/// What is wrong with a request that is to be passed through.
pub(super) fn may_pass(request: &str) -> Result<(), &'static str> {
    let (method, path) = request.split_once(' ').unwrap_or((request, ""));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method)
        || !path.starts_with("/v1/")
        || !path.bytes().all(is_plain)
    {
        return Err("a method and a path, such as \"POST /v1/track\"");
    }
    match is_answered_here(path) {
        true => Err("a path that the gateway does not answer itself"),
        false => Ok(()),
    }
}

/// Whether the gateway has an answer of its own for a path, whatever the method: where it has, no
/// request comes as far as being passed through. Userpilot may take other spellings for the same.
fn is_answered_here(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    matches!(
        segments[..],
        ["v1", "identify"]
            | ["v1", "companies", "identify"]
            | ["v1", "users" | "companies", "bulk_identify"]
            | ["v1", "background_jobs"]
            | ["v1", "background_jobs", _]
    )
}

/// The app's key, of the one place that says where it is. One that somebody named goes before
/// the variable that nobody did.
fn api_key(
    reader: &mut Reader<'_>,
    folder: &Path,
    env: &BTreeMap<String, String>,
) -> Option<(ApiKeySource, ApiKey)> {
    let places = ["api_key_file", "api_key_credential", "api_key_env"];
    let named: Vec<&str> = places.into_iter().filter(|key| reader.is_written(key)).collect();
    let key = match named.as_slice() {
        [] if reader.has("api_key_env") => "api_key_env",
        [] => {
            let message = "no API key: give api_key_file, api_key_credential or api_key_env";
            reader.refuse("", message.to_owned());
            return None;
        }
        [key] => key,
        [key, ..] => {
            let message = "give only one of api_key_file, api_key_credential and api_key_env";
            reader.refuse(key, message.to_owned());
            return None;
        }
    };
    let (text, _) = reader.optional(key)?;
    let source = match key {
        "api_key_file" => {
            let path = folder.join(text);
            Ok(ApiKeySource::File(path::absolute(&path).unwrap_or(path)))
        }
        "api_key_credential" => api_key::credential(text, env).map(ApiKeySource::Credential),
        _ => Ok(ApiKeySource::Env(text)),
    };
    let source = source.map_err(|message| reader.refuse(key, message)).ok()?;
    match api_key::read(&source, env) {
        Ok(api_key) => Some((source, api_key)),
        Err(message) => {
            reader.refuse(key, message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_answers_itself_is_not_passed_through() {
        for passed in [
            "POST /v1/track",
            "DELETE /v1/users",
            "DELETE /v1/companies",
            "DELETE /v1/users/ada",
            "GET /v1/background_jobs/7/rows",
            "GET /v1/identify-later",
        ] {
            assert_eq!(may_pass(passed), Ok(()), "{passed}");
        }
        for (own, part) in [
            ("POST /v1/identify", "does not answer itself"),
            // The gateway answers 405.
            ("DELETE /v1/identify", "does not answer itself"),
            ("POST /v1//Identify/", "does not answer itself"),
            ("POST /v1/companies/identify", "does not answer itself"),
            ("POST /v1/users/bulk_identify", "does not answer itself"),
            ("POST /v1/companies/bulk_identify", "does not answer itself"),
            ("GET /v1/background_jobs", "does not answer itself"),
            ("DELETE /v1/background_jobs/7", "does not answer itself"),
            ("HEAD /v1/track", "a method and a path"),
            ("POST /v2/track", "a method and a path"),
            ("POST /v1/%74rack", "a method and a path"),
        ] {
            assert!(may_pass(own).unwrap_err().contains(part), "{own}");
        }
    }
}
