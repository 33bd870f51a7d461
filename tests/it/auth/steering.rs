//! Who may steer, the commands that bear a token, and what is on record of it.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::json;
use tonic::Code;
use userpilot_gateway::{
    door::token::Hash,
    proto::{
        GetDeadLetterRequest, GetJobRequest, GetStatusRequest, ListDeadLettersRequest,
        ListJobsRequest, PauseRequest, WatchStatusRequest,
    },
    simulator::{Fault, FaultPoint, FaultRule},
};

use super::{TOKEN, bearer, client, request, send_update};
use crate::rig::{Change, Process, Stage, at_speed, until};

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

#[tokio::test]
async fn a_reader_sees_in_the_list_of_dead_letters_nothing_of_what_is_in_them() {
    const VALUE: &str = "078-05-1120";
    let stage = stage().await;
    // Userpilot's words quote what it was sent.
    let body = format!("422: ssn {VALUE} is no number");
    let refusal = Fault::Status { code: 422, body, retry_after: None };
    stage.simulator.arm_faults(vec![FaultRule::always(FaultPoint::Submit, refusal)]).unwrap();
    let eve = Change::new("eve", json!({"ssn": VALUE})).of_company("acme").update();
    send_update(&stage.gateway, bearer(TOKEN).as_deref(), eve).await.unwrap();
    let mut admin = stage.gateway.admin().await;
    let list = ListDeadLettersRequest::default;
    let listed = until("a dead letter", async || {
        let answer = admin.list_dead_letters(request(list(), bearer(OPERATOR).as_deref())).await;
        answer.unwrap().into_inner().dead_letters.pop()
    })
    .await;
    // Who may ask for one of them reads in the list why it is there.
    assert!(listed.detail.contains(VALUE), "{listed:?}");
    assert_eq!((&listed.metadata, &listed.company_id), (&None, &None));
    let seen = admin.list_dead_letters(request(list(), bearer(READER).as_deref())).await.unwrap();
    let seen = seen.into_inner();
    assert_eq!(seen.dead_letters.len(), 1);
    assert_eq!(seen.dead_letters[0].id, listed.id);
    let text = format!("{seen:?}");
    assert!(!text.contains(VALUE) && !text.contains("acme") && !text.contains("ssn"), "{text}");
    let shown = GetDeadLetterRequest { id: listed.id, ..GetDeadLetterRequest::default() };
    let shown = admin.get_dead_letter(request(shown, bearer(OPERATOR).as_deref())).await.unwrap();
    assert!(format!("{shown:?}").contains("acme"));
}

#[tokio::test]
async fn a_reader_is_told_the_cause_of_an_error_and_not_what_userpilot_said() {
    const VALUE: &str = "078-05-1120";
    let stage = stage().await;
    let body = format!("ssn {VALUE} is no number");
    let refusal = Fault::Status { code: 422, body, retry_after: None };
    stage.simulator.arm_faults(vec![FaultRule::always(FaultPoint::Submit, refusal)]).unwrap();
    let eve = Change::new("eve", json!({"ssn": VALUE})).update();
    send_update(&stage.gateway, bearer(TOKEN).as_deref(), eve).await.unwrap();
    let mut admin = stage.gateway.admin().await;
    let mut told = async |token: &str| {
        let authorization = bearer(token);
        let authorization = authorization.as_deref();
        let status = admin.get_status(request(GetStatusRequest {}, authorization)).await.unwrap();
        let app = status.into_inner().status.unwrap().apps.remove(0);
        let watch = request(WatchStatusRequest { interval: None }, authorization);
        let mut watch = admin.watch_status(watch).await.unwrap().into_inner();
        let watched = watch.message().await.unwrap().unwrap().status.unwrap().apps.remove(0);
        let list = request(ListJobsRequest::default(), authorization);
        let listed = admin.list_jobs(list).await.unwrap().into_inner().jobs;
        let id = listed.first().map(|job| job.batch_id.clone()).unwrap_or_default();
        let job = request(GetJobRequest { app: String::new(), id }, authorization);
        let job = admin.get_job(job).await.map(|it| it.into_inner().job.unwrap());
        (app, watched, listed, job.unwrap_or_default())
    };
    until("a dead letter", async || {
        let (app, _, _, job) = told(OPERATOR).await;
        (app.dead_letters == 1 && !job.last_error.is_empty()).then_some(())
    })
    .await;
    let (app, watched, listed, job) = told(OPERATOR).await;
    for error in [&app.last_error, &watched.last_error, &listed[0].last_error, &job.last_error] {
        assert!(error.contains(VALUE), "{error}");
    }
    let seen = told(READER).await;
    let (app, watched, listed, job) = &seen;
    for error in [&app.last_error, &watched.last_error, &listed[0].last_error, &job.last_error] {
        assert_eq!(error, "422");
    }
    let text = format!("{seen:?}");
    assert!(!text.contains(VALUE) && !text.contains("ssn"), "{text}");
}

#[tokio::test]
async fn an_audit_log_that_was_moved_away_goes_on_in_a_new_file() {
    let stage = stage().await;
    let mut admin = stage.gateway.admin().await;
    let mut knock = async || {
        let status = request(GetStatusRequest {}, bearer("upg_x").as_deref());
        assert!(admin.get_status(status).await.is_err());
    };
    knock().await;
    audited(&stage, &["authentication_failed"]).await;
    let (log, old) = (stage.site.path("audit.jsonl"), stage.site.path("audit.1.jsonl"));
    fs::rename(&log, &old).unwrap();
    stage.gateway.hang_up();
    // The reload is the first to stand in it.
    audited(&stage, &["config_reloaded"]).await;
    let before = fs::read_to_string(&old).unwrap();
    knock().await;
    audited(&stage, &["authentication_failed"]).await;
    assert_eq!(fs::read_to_string(&old).unwrap(), before);
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_gateway_that_dies_leaves_no_core_file() {
    let stage = stage().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", stage.gateway.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
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
