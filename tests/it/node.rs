//! A client in JavaScript: tests/clients/node, which reads the contract from proto/.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_json::json;

use crate::{
    python::{project, python},
    rig::{Change, Process, Stage},
};

#[tokio::test]
async fn a_node_client_sends_is_refused_and_follows_its_update() {
    let stage = Stage::start(100).await;
    // Node looks for what a module imports beside it.
    let folder = tempfile::tempdir().unwrap();
    let client = folder.path().join("client.mjs");
    fs::copy(project("tests/clients/node/client.mjs"), &client).unwrap();
    let modules = python().ancestors().nth(3).unwrap().join("node_modules");
    symlink(fs::canonicalize(modules).unwrap(), folder.path().join("node_modules")).unwrap();
    let mut command = Command::new("node");
    command.arg(&client).arg(project("proto")).arg(&stage.gateway.addresses.grpc);
    let output = Process::start(&mut command, "").end().await;
    assert!(output.status.success(), "{output:?}");

    let mut lines = output.stdout.lines();
    for expected in [
        "accepted as number 1",
        "accepted as number 2",
        "refused because of updates[1].user_id",
        "accepted as number 3",
        "1000 of 1000 accepted",
        "refused with INVALID_ARGUMENT",
    ] {
        assert_eq!(lines.next(), Some(expected), "{output:?}");
    }
    let job = lines.next().unwrap().strip_prefix("delivered by job ").unwrap();
    assert!(stage.gateway.jobs(50).await.iter().any(|ours| ours.job_id == job));

    let mut changes = vec![
        Change::new("ada", json!({"plan": "pro", "seats": 3})),
        Change::new("bob", json!({"plan": "free"})).of_company("acme"),
        Change::new("bob", json!({"plan": null, "trial": false})),
    ];
    let visits = |nth| Change::new(format!("user-{}", nth % 100), json!({"visits": nth}));
    changes.extend((0..1_000).map(visits));
    stage.delivers(&changes).await;
}
