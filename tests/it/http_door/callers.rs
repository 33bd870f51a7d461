//! Callers that are there already, unchanged but for the base URL and the token:
//! tests/clients/http.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    python::{project, python},
    rig::{Change, Process, Stage, at_speed},
};

/// What the program prints, line by line.
async fn call(stage: &Stage, program: &Path, script: Option<&str>) -> Vec<String> {
    let mut command = Command::new(program);
    command.args(script.map(|script| project("tests/clients/http").join(script)));
    command.args([&format!("http://{}", stage.gateway.addresses.http), "a-token"]);
    let output = Process::start(&mut command, "").end().await;
    assert!(output.status.success(), "{output:?}");
    output.stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn curl_as_in_userpilots_guide() {
    let stage = Stage::start(100).await;
    let guide = project("tests/clients/http/guide.sh");
    let printed = call(&stage, &guide, None).await;
    assert_eq!(printed, ["json: 2 of 2", "file: 2 of 2"]);
    let changes = [
        Change::new("curl-1", json!({"plan": "pro", "seats": 3})).of_company("acme"),
        Change::new("curl-2", json!({"plan": "free"})),
        Change::new("curl-3", json!({})).of_company("acme"),
        Change::new("curl-4", json!({"plan": null})),
        Change::new("curl-5", json!({})),
    ];
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn python_with_requests() {
    let stage = Stage::start(100).await;
    let printed = call(&stage, &python(), Some("caller.py")).await;
    let expected = [
        "identified with 202",
        "completed 498 of 498",
        "completed 400 of 400",
        "422 user_id: is required",
    ];
    assert_eq!(printed, expected);
    let first = Change::new("python-1", json!({"plan": "pro", "seats": 3})).of_company("acme");
    let named = |nth: u32| format!("python-{nth}");
    let bulk = (2..500).map(|nth| Change::new(named(nth), json!({"nth": nth})));
    let file = (500..900).map(|nth| Change::new(named(nth), json!({})));
    let changes: Vec<_> = [first].into_iter().chain(bulk).chain(file).collect();
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn node_with_fetch() {
    let stage = Stage::start(100).await;
    let printed = call(&stage, &PathBuf::from("node"), Some("caller.mjs")).await;
    let expected = ["identified with 202", "completed 300 of 300", "completed 300 of 300"];
    assert_eq!(printed, expected);
    let first = Change::new("node-1", json!({"plan": "pro", "trial": false}));
    let row =
        |nth: u32| Change::new(format!("node-{}", nth + 2), json!({"nth": nth, "seen": true}));
    let changes: Vec<_> = [first].into_iter().chain((0..300).map(row)).collect();
    stage.delivers(&changes).await;
}

/// Generates requests from the served document, right ones and wrong ones, and checks the answers
/// against it.
#[tokio::test]
async fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let allow = toml::Value::Array(vec!["POST /v1/track".into()]);
    let stage = Stage::of(at_speed(100), |site| site.with("app.pass_through", allow)).await;
    let tool = python().with_file_name("schemathesis");
    let mut command = Command::new(tool);
    let document = format!("http://{}/openapi.json", stage.gateway.addresses.http);
    command.args(["run", &document, "--no-color", "--generation-database", "none"]);
    command.args(["--max-examples", "25", "--seed", "7", "--phases", "examples,coverage,fuzzing"]);
    // No credential is asked for on a loopback address.
    command.args(["--checks", "all", "--exclude-checks", "ignored_auth"]);
    command.current_dir(stage.site.path("").as_path());
    let output = Process::start(&mut command, "").end().await;
    assert!(output.status.success(), "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("Tested: 7"), "{}", output.stdout);
}
