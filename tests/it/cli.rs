//! The command line: what it shows, as tables and as JSON, what it does, and how it ends.

mod import;
mod top;
mod watch;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::rig::{Change, Output, Stage, at_speed, run, settled};

const BINARY: &str = env!("CARGO_BIN_EXE_userpilot-gateway");

/// Where a stage's gateway takes updates.
fn grpc(stage: &Stage) -> String {
    format!("http://{}", stage.gateway.addresses.grpc)
}

/// A command for operators of a stage's gateway.
async fn ask(stage: &Stage, arguments: &[&str]) -> Output {
    let address = format!("http://{}", stage.gateway.addresses.admin);
    run(&[arguments, &["--address", &address]].concat(), "").await
}

/// What it prints, where it succeeds.
async fn printed(stage: &Stage, arguments: &[&str]) -> String {
    let output = ask(stage, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output.stdout
}

/// The same as JSON, a document a line.
async fn json_of(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    let lines = printed(stage, &[arguments, &["--output", "json"]].concat()).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The only document.
async fn one(stage: &Stage, arguments: &[&str]) -> Value {
    let [document] = json_of(stage, arguments).await.try_into().unwrap();
    document
}

/// A stage where something was delivered, and something waits.
async fn lived() -> Stage {
    let stage = Stage::start(100).await;
    stage.sent(&[Change::new("grace", json!({"plan": "pro"}))]).await;
    settled(&stage.gateway).await;
    printed(&stage, &["pause"]).await;
    stage.sent(&[Change::new("linus", json!({"seats": 3})).of_company("acme")]).await;
    stage
}

#[tokio::test]
async fn what_commands_show_are_tables_for_people_and_json_for_programs() {
    let stage = lived().await;
    let status = one(&stage, &["status"]).await;
    let app = &status["apps"][0];
    assert_eq!((&app["app"], &app["state"]), (&json!("production"), &json!("APP_STATE_PAUSED")));
    assert_eq!((&app["pending_records"], &status["ready"]), (&json!(1), &json!(true)));

    let jobs = json_of(&stage, &["jobs"]).await;
    let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!((&job["state"], &job["rows"]), (&json!("JOB_STATE_DELIVERED"), &json!(1)));
    let (batch, job_id) = (job["batch_id"].as_str().unwrap(), job["job_id"].as_str().unwrap());
    let table = printed(&stage, &["jobs"]).await;
    assert!(table.contains(batch) && table.contains(job_id), "{table}");
    for id in [batch, job_id] {
        assert_eq!(one(&stage, &["jobs", "show", id]).await, *job);
    }
    let page = printed(&stage, &["jobs", "show", batch, "--app", "production"]).await;
    for part in [batch, job_id, "delivered", "claimed", "submitted", "accepted", "completed"] {
        assert!(page.contains(part), "{part}: {page}");
    }

    let client = one(&stage, &["clients"]).await;
    assert_eq!((&client["name"], &client["accepted_updates"]), (&json!("anyone"), &json!(2)));
    let table = printed(&stage, &["clients"]).await;
    assert!(table.contains("anyone") && table.contains("interactive"), "{table}");
}

#[tokio::test]
async fn a_user_is_shown_wherever_it_is() {
    let stage = lived().await;
    let linus = one(&stage, &["user", "show", "linus"]).await;
    assert_eq!(linus["pending"]["metadata"].to_string(), r#"{"seats":3}"#);
    assert_eq!(linus["pending"]["company_id"], "acme");
    let page = printed(&stage, &["user", "show", "linus", "--app", "production"]).await;
    for part in ["user linus: something waits", "seats", "acme", "anyone"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let grace = one(&stage, &["user", "show", "grace"]).await;
    let batch = grace["deliveries"][0]["batch_id"].as_str().unwrap();
    let page = printed(&stage, &["user", "show", "grace"]).await;
    assert!(page.contains("nothing waits") && page.contains(batch), "{page}");
    let acme = printed(&stage, &["user", "show", "--company", "acme"]).await;
    assert!(acme.contains("No delivery"), "{acme}");
}

#[tokio::test]
async fn what_waits_is_exported_one_record_a_line() {
    let stage = lived().await;
    let lines = printed(&stage, &["export"]).await;
    let record: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(record["subject"]["user_id"], "linus");
    assert_eq!(record["pending"]["metadata"], json!({"seats": 3}));
    let file = stage.site.path("pending.ndjson");
    let path = file.to_str().unwrap();
    let said = printed(&stage, &["export", "--app", "production", "--file", path]).await;
    assert!(said.starts_with("1 record written to "), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), lines);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = ask(&stage, &["export", "--file", path]).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(again.stderr.contains("cannot make a new file"), "{again:?}");
}

#[tokio::test]
async fn an_app_is_paused_resumed_and_flushed() {
    let slow = |site: crate::rig::Site| site.with("app.linger_ms", 3_600_000);
    let stage = Stage::of(at_speed(100), slow).await;
    let change = Change::new("ada", json!({"plan": "pro"}));
    stage.sent(std::slice::from_ref(&change)).await;
    assert!(
        printed(&stage, &["pause", "--app", "production"]).await.contains("production: paused")
    );
    assert!(stage.gateway.app().await.paused);
    assert!(printed(&stage, &["resume"]).await.contains("all apps: resumed"));
    assert!(!stage.gateway.app().await.paused);
    assert_eq!(stage.gateway.app().await.pending_records, 1);
    printed(&stage, &["flush"]).await;
    stage.delivers([&change]).await;
    let nobody = ask(&stage, &["pause", "--app", "staging"]).await;
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("staging"), "{nobody:?}");
}

#[tokio::test]
async fn exit_codes_tell_why_it_did_not_work_and_messages_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for command in [["clients"].as_slice(), &["user", "show", "ada"], &["pause"], &["export"]] {
        let output = run(&[command, &["--address", &nobody]].concat(), "").await;
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(
            output.stderr.contains(&nobody) && output.stderr.contains("--address"),
            "{output:?}"
        );
    }
    assert_eq!(run(&["clients", "--output", "xml"], "").await.status.code(), Some(2));

    let token = "upg_reader";
    let hash = userpilot_gateway::door::token::Hash::of(token);
    let admins =
        format!("[[admins]]\nname = \"ada\"\ntoken_sha256 = \"{hash}\"\nrole = \"reader\"\n");
    let stage = Stage::of(at_speed(100), |site| site.and(&admins)).await;
    let stranger = ask(&stage, &["clients"]).await;
    assert_eq!(stranger.status.code(), Some(5), "{stranger:?}");
    assert!(stranger.stderr.contains("--token-file"), "{stranger:?}");
    let file = stage.site.path("token");
    fs::write(&file, token).unwrap();
    let file = file.to_str().unwrap();
    printed(&stage, &["clients", "--token-file", file]).await;
    let reader = ask(&stage, &["pause", "--token-file", file]).await;
    assert_eq!(reader.status.code(), Some(5), "{reader:?}");

    let lines = "{\"user_id\":\"\"}\n{\"user_id\":\"ada\"}\n";
    let partly = run(&["send", "--address", &grpc(&stage), "--file", "-"], lines).await;
    assert_eq!(partly.status.code(), Some(3), "{partly:?}");
}

#[tokio::test]
async fn a_token_goes_in_clear_to_no_other_machine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "upg_operator").unwrap();
    // Nobody is there: an address for documents.
    let away = ["clients", "--address", "http://gateway.invalid:9", "--token-file"];
    let away = [&away[..], &[file.to_str().unwrap()]].concat();
    let refused = run(&away, "").await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("in clear") && refused.stderr.contains("--plaintext-token"));
    assert!(!refused.stderr.contains("upg_"), "{refused:?}");
    let wanted = run(&[&away[..], &["--plaintext-token"]].concat(), "").await;
    assert_eq!(wanted.status.code(), Some(4), "{wanted:?}");
}

#[tokio::test]
async fn what_others_wrote_does_not_reach_the_terminal_as_codes() {
    let stage = Stage::start(100).await;
    printed(&stage, &["pause"]).await;
    let id = "eve\u{1b}]0;owned\u{7}";
    stage.sent(&[Change::new(id, json!({"plan\u{202e}": "\u{1b}[2J\u{9b}1A"}))]).await;
    let page = printed(&stage, &["user", "show", id]).await;
    assert!(page.contains("plan\\u{202e}") && page.contains("eve\\u{1b}]0;owned"), "{page}");
    let told = printed(&stage, &["user", "forget", id, "--yes"]).await;
    for shown in [page, told] {
        let codes = shown.chars().filter(|char| char.is_control() && *char != '\n').count();
        assert!(codes == 0 && !shown.contains('\u{202e}'), "{shown:?}");
    }
}

#[tokio::test]
async fn what_commands_have_done_is_json_for_programs_too() {
    let stage = lived().await;
    let flushed = printed(&stage, &["flush"]).await;
    assert!(flushed.contains("of what is paused, until `resume`: production"), "{flushed}");
    assert_eq!(one(&stage, &["resume"]).await, json!({"held_apps": []}));
    let flushed = printed(&stage, &["flush", "--app", "production"]).await;
    assert_eq!(
        flushed,
        "production: flushed; what waits is submitted as soon as the budget allows\n"
    );
    let replayed = ["dead-letters", "replay", "--all", "--yes"];
    let none = json!({"replayed": 0, "no_room": 0, "not_there": 0});
    assert_eq!(one(&stage, &replayed).await, none);
    let discarded = ["dead-letters", "discard", "1-1", "--output", "json"];
    let missing = ask(&stage, &discarded).await;
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let answer: Value = serde_json::from_str(&missing.stdout).unwrap();
    assert_eq!(answer, json!({"discarded": 0, "not_there": 1}));
    let forgotten = one(&stage, &["user", "forget", "grace", "--yes"]).await;
    assert_eq!(forgotten["apps"][0]["app"], "production");
    assert_eq!(forgotten["held_apps"], json!([]));

    let token = run(&["token", "new", "--output", "json"], "").await;
    let token: Value = serde_json::from_str(&token.stdout).unwrap();
    let hash = userpilot_gateway::door::token::Hash::of(token["token"].as_str().unwrap());
    assert_eq!(token["token_sha256"], hash.to_string());
    let config = stage.site.config().display().to_string();
    let keys = run(&["check-key", "--config", &config, "--output", "json"], "").await;
    let key: Value = serde_json::from_str(&keys.stdout).unwrap();
    assert_eq!((&key["app"], &key["key"]), (&json!("production"), &json!("ACCEPTED")));
    let mut stage = stage;
    stage.gateway.kill();
    let data = stage.site.path("data").display().to_string();
    let checked = run(&["store", "check", "--path", &data, "--output", "json"], "").await;
    assert!(checked.status.success(), "{checked:?}");
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(checked["problems"], json!([]));
    assert!(checked["kinds"].as_array().unwrap().iter().any(|kind| kind["key"] == "a"));
}

#[tokio::test]
async fn completions_are_scripts_that_the_shell_reads() {
    let script = run(&["completions", "bash"], "").await.stdout;
    for word in ["dead-letters", "simulate-userpilot", "--output"] {
        assert!(script.contains(word), "{word}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("completions.bash");
    fs::write(&file, script).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
    // What it offers for the last of these words.
    let offered = |words: &str| {
        let ask = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _userpilot__gateway userpilot-gateway \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             echo \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let offered = Command::new("bash").args(["-c", &ask]).output().unwrap();
        String::from_utf8(offered.stdout).unwrap()
    };
    assert_eq!(offered("userpilot-gateway dead"), "dead-letters\n");
    assert_eq!(offered("userpilot-gateway dead-letters exp"), "export\n");
    assert_eq!(offered("userpilot-gateway clients --output ''"), "table json\n");
    for shell in ["fish", "zsh", "elvish", "powershell"] {
        assert!(run(&["completions", shell], "").await.status.success());
    }
}

#[tokio::test]
async fn an_address_where_no_such_listener_is_says_what_to_do() {
    let stage = Stage::start(100).await;
    let http = stage.gateway.addresses.http.to_string();
    let no_scheme = run(&["status", "--address", &http], "").await;
    assert_eq!(no_scheme.status.code(), Some(2), "{no_scheme:?}");
    assert!(no_scheme.stderr.contains("expected http:// or https://"), "{no_scheme:?}");
    for command in ["status", "export"] {
        let other_door = run(&[command, "--address", &format!("http://{http}")], "").await;
        assert_eq!(other_door.status.code(), Some(4), "{other_door:?}");
        assert!(other_door.stderr.contains("does not speak gRPC"), "{other_door:?}");
    }
}

#[test]
fn who_has_read_enough_is_no_error() {
    let mut command = Command::new(BINARY);
    command.arg("print-default-config").stderr(Stdio::piped());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = command.stdout(writer).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}
