//! Who may steer, the commands that bear a token, and what is on record of it.

use std::{fs, process::Command};

use tonic::Code;
use userpilot_gateway::{
    door::token::Hash,
    proto::{GetDeadLetterRequest, GetStatusRequest, PauseRequest},
};

use super::{TOKEN, bearer, client, request};
use crate::rig::{Process, Stage, at_speed, until};

const READER: &str = "upg_reader";
const OPERATOR: &str = "upg_operator";

async fn stage() -> Stage {
    let admin = |name: &str, token: &str, role: &str| {
        let hash = Hash::of(token);
        format!("[[admins]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\nrole = \"{role}\"\n")
    };
    let tables = admin("grafana", READER, "reader") + &admin("ada", OPERATOR, "operator");
    let tables = tables + &client("billing", TOKEN, "");
    Stage::of(at_speed(100), |site| {
        let audit = site.path("audit.jsonl").display().to_string();
        site.and(&tables).with("log.audit", audit)
    })
    .await
}

async fn audited(stage: &Stage, what: &[&str]) {
    until(what[0], async || {
        let log = fs::read_to_string(stage.site.path("audit.jsonl")).ok()?;
        let found = log.lines().any(|line| what.iter().all(|part| line.contains(part)));
        found.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reader_cannot_pause_and_who_pauses_is_on_record() {
    let stage = stage().await;
    let mut admin = stage.gateway.admin().await;
    let (reader, operator) = (bearer(READER), bearer(OPERATOR));
    for wrong in [None, bearer("upg_x"), bearer(TOKEN)] {
        let status = request(GetStatusRequest {}, wrong.as_deref());
        let refusal = admin.get_status(status).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated);
    }
    let status = admin.get_status(request(GetStatusRequest {}, reader.as_deref())).await.unwrap();
    assert!(!status.into_inner().status.unwrap().apps[0].paused);
    let pause = || PauseRequest { app: "production".into() };
    let refusal = admin.pause(request(pause(), reader.as_deref())).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    // What shows a user's values is not for readers.
    let letter = request(GetDeadLetterRequest::default(), reader.as_deref());
    assert_eq!(admin.get_dead_letter(letter).await.unwrap_err().code(), Code::PermissionDenied);
    let status = admin.get_status(request(GetStatusRequest {}, reader.as_deref())).await.unwrap();
    assert!(!status.into_inner().status.unwrap().apps[0].paused, "nothing has happened");

    admin.pause(request(pause(), operator.as_deref())).await.unwrap();
    let status = admin.get_status(request(GetStatusRequest {}, operator.as_deref())).await.unwrap();
    assert!(status.into_inner().status.unwrap().apps[0].paused);
    audited(&stage, &["authentication_failed", "\"admin\"", "127.0.0.1:"]).await;
    audited(&stage, &["admin_refused", "grafana", "Pause"]).await;
    audited(&stage, &["admin_action", "\"admin\":\"ada\"", "\"pause\"", "production"]).await;
    let audit = fs::read_to_string(stage.site.path("audit.jsonl")).unwrap();
    assert!(!audit.contains("upg_"), "a token on record: {audit}");
    for line in audit.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["target"], "audit");
    }
}

/// Runs a command with the token in its environment, or in a file.
async fn run(stage: &Stage, arguments: &[&str], token: Option<&str>) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
    command.args(arguments).env_clear().current_dir(stage.site.path(""));
    if let Some(token) = token {
        command.env("USERPILOT_GATEWAY_TOKEN", token);
    }
    let output = Process::start(&mut command, "").end().await;
    (output.status.success(), output.stdout, output.stderr)
}

#[tokio::test]
async fn commands_take_the_token_from_a_file_or_the_environment() {
    let stage = stage().await;
    let admin = format!("http://{}", stage.gateway.addresses.admin);
    let grpc = format!("http://{}", stage.gateway.addresses.grpc);
    for (command, file) in [("reader.token", READER), ("client.token", TOKEN)] {
        fs::write(stage.site.path(command), format!("{file}\n")).unwrap();
    }
    let status = ["status", "--address", &admin];
    let (ok, page, _) = run(&stage, &status, Some(READER)).await;
    assert!(ok && page.contains("production"), "{page}");
    let from_file = [&status[..], &["--token-file", "reader.token"]].concat();
    assert!(run(&stage, &from_file, None).await.0);
    // A file goes before the environment.
    assert!(run(&stage, &from_file, Some("upg_x")).await.0);
    let (ok, _, complaint) = run(&stage, &status, None).await;
    assert!(!ok && complaint.contains("--token-file"), "{complaint}");
    let missing = [&status[..], &["--token-file", "no.token"]].concat();
    let (ok, _, complaint) = run(&stage, &missing, None).await;
    assert!(!ok && complaint.contains("no.token"), "{complaint}");
    for arguments in [
        vec!["jobs", "--address", &admin, "--token-file", "reader.token"],
        vec!["dead-letters", "list", "--address", &admin, "--token-file", "reader.token"],
        vec!["send", "--address", &grpc, "--user-id", "u", "--token-file", "client.token"],
    ] {
        let (ok, _, complaint) = run(&stage, &arguments, None).await;
        assert!(ok, "{arguments:?}: {complaint}");
    }
}

#[tokio::test]
async fn a_new_token_comes_with_its_hash() {
    let output = crate::rig::run(&["token", "new"], "").await;
    assert!(output.status.success(), "{output:?}");
    let printed: toml::Table = output.stdout.parse().unwrap();
    let token = printed["token"].as_str().unwrap();
    assert!(token.starts_with("upg_") && token.len() == 4 + 43, "{token}");
    assert_eq!(printed["token_sha256"].as_str().unwrap(), Hash::of(token).to_string());
}
