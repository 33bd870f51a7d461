//! The `dead-letters` command, as its users run it.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::{Value, json};
use userpilot_gateway::simulator::PoisonMode;

use super::{POISONED, changes, poisoned, stage};
use crate::rig::{Output, Process, Stage, run, settled};

/// A stage with the five dead letters.
async fn with_dead_letters() -> Stage {
    let stage = stage().await;
    stage.simulator.poison(poisoned(), PoisonMode::RejectBatch);
    stage.sent(&changes()).await;
    settled(&stage.gateway).await;
    stage
}

async fn dead_letters(stage: &Stage, arguments: &[&str]) -> Output {
    let address = format!("http://{}", stage.gateway.addresses.admin);
    run(&[&["dead-letters"], arguments, &["--address", &address]].concat(), "").await
}

/// What a command prints that succeeds.
async fn printed(stage: &Stage, arguments: &[&str]) -> String {
    let output = dead_letters(stage, arguments).await;
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// What a command complains about that fails.
async fn complaint(stage: &Stage, arguments: &[&str]) -> String {
    let output = dead_letters(stage, arguments).await;
    assert!(!output.status.success(), "{output:?}");
    output.stderr
}

/// What a command prints, a document a line.
async fn json_of(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    let lines = printed(stage, arguments).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A letter without what is not for lists.
fn as_listed(mut letter: Value) -> Value {
    let fields = letter.as_object_mut().unwrap();
    assert!(fields.remove("metadata").is_some(), "{fields:?}");
    fields.remove("company_id");
    letter
}

#[tokio::test]
async fn what_died_is_listed_and_shown() {
    let stage = with_dead_letters().await;
    let table = printed(&stage, &["list"]).await;
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.contains("user user-123") && table.contains("422: invalid record"), "{table}");
    assert!(!table.contains("acme"), "values are for `show`: {table}");

    let letters = json_of(&stage, &["list", "--user", "user-123", "--output", "json"]).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(letter.get("metadata").is_none() && letter.get("company_id").is_none(), "{letter}");
    assert_eq!(letter["reason"], "DEAD_LETTER_REASON_BAD_ROW");
    assert_eq!(letter["state"], "DEAD_LETTER_STATE_OPEN");
    let id = letter["id"].as_str().unwrap();
    let shown = json_of(&stage, &["show", id, "--output", "json"]).await.remove(0);
    assert_eq!(shown["metadata"], json!({"nth": 123, "plan": "pro", "ended": null}));
    assert_eq!(&as_listed(shown), letter);
    let shown = printed(&stage, &["show", id]).await;
    for part in ["user-123", "422: invalid record", "plan", "\"pro\"", "open"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let none = printed(&stage, &["list", "--reason", "job_failed", "--app", "production"]).await;
    assert_eq!(none, "no dead letters\n");
    let more = dead_letters(&stage, &["list", "--limit", "2"]).await;
    assert_eq!(more.stdout.lines().count(), 3);
    assert!(more.stderr.contains("there are more"), "{more:?}");

    let address = format!("http://{}", stage.gateway.addresses.admin);
    let status = run(&["status", "--address", &address], "").await.stdout;
    assert!(status.contains("5 rows; see them with: userpilot-gateway dead-letters"), "{status}");
}

#[tokio::test]
async fn what_is_replayed_arrives_and_many_are_not_replayed_by_accident() {
    let stage = with_dead_letters().await;
    let ids = json_of(&stage, &["list", "--output", "json"]).await;
    let id = ids[0]["id"].as_str().unwrap();
    assert!(complaint(&stage, &["replay"]).await.contains("say which"));
    assert!(complaint(&stage, &["replay", "--all"]).await.contains("add --yes"));
    assert!(complaint(&stage, &["replay", "7"]).await.contains("is not the id of a dead letter"));
    assert!(complaint(&stage, &["replay", id, "--all"]).await.contains("cannot be used with"));
    let unknown = complaint(&stage, &["show", "1-1"]).await;
    assert!(unknown.contains("no dead letter has this id"), "{unknown}");

    stage.simulator.clear_poison();
    let one = printed(&stage, &["replay", id]).await;
    assert_eq!(one, "1 replayed, 0 without room, 0 not there\n");
    let gone = dead_letters(&stage, &["replay", id]).await;
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
    assert!(gone.stderr.contains("1 of these ids are not there"), "{gone:?}");
    let rest = printed(&stage, &["replay", "--reason", "bad_row", "--yes"]).await;
    assert_eq!(rest, "4 replayed, 0 without room, 0 not there\n");
    stage.delivers(&changes()).await;
}

#[tokio::test]
async fn what_is_exported_is_one_line_each_and_what_is_discarded_stays_listed_as_closed() {
    let stage = with_dead_letters().await;
    let lines = printed(&stage, &["export"]).await;
    let exported: Vec<Value> =
        lines.lines().map(|line| as_listed(serde_json::from_str(line).unwrap())).collect();
    assert_eq!(exported, json_of(&stage, &["list", "--output", "json"]).await);

    let file = stage.site.path("dead.ndjson");
    let path = file.to_str().unwrap();
    let said = printed(&stage, &["export", "--file", path]).await;
    assert!(said.starts_with("5 dead letters written to "), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), lines);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = complaint(&stage, &["export", "--file", path]).await;
    assert!(again.contains("cannot make a new file"), "{again}");

    assert!(complaint(&stage, &["discard", "--user", "user-0"]).await.contains("add --yes"));
    let one = printed(&stage, &["discard", "--user", "user-0", "--yes"]).await;
    assert_eq!(one, "1 discarded, 0 not there\n");
    assert_eq!(printed(&stage, &["discard", "--all", "--yes"]).await, "4 discarded, 0 not there\n");
    assert_eq!(printed(&stage, &["list"]).await, "no dead letters\n");
    let closed = printed(&stage, &["list", "--include-closed"]).await;
    assert_eq!(closed.matches("discarded").count(), 5, "{closed}");
}

/// The same at a terminal, where this is typed. `None` where there is no `script` (util-linux)
/// that gives one, which it says.
#[expect(clippy::print_stderr, reason = "whoever reads the results needs to know")]
async fn at_a_terminal(stage: &Stage, arguments: &str, typed: &str) -> Option<Output> {
    let binary = env!("CARGO_BIN_EXE_userpilot-gateway");
    let address = &stage.gateway.addresses.admin;
    let command = format!("'{binary}' dead-letters {arguments} --address http://{address}");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped, since there is no `script` on this machine");
        return None;
    }
    Some(Process::start(&mut script, typed).end().await)
}

#[tokio::test]
async fn at_a_terminal_it_is_asked_before_many_are_discarded() {
    let stage = with_dead_letters().await;
    let left = async || json_of(&stage, &["list", "--output", "json"]).await.len();
    let question = "discard all dead letters? [y/N] ";
    for typed in ["n\n", "\n", "what?\n"] {
        let Some(output) = at_a_terminal(&stage, "discard --all", typed).await else { return };
        assert!(!output.status.success(), "{output:?}");
        for part in [question, "nothing was done"] {
            assert!(output.stdout.contains(part), "{part}: {output:?}");
        }
        assert_eq!(left().await, POISONED.len());
    }
    let output = at_a_terminal(&stage, "discard --user user-0", "yes\n").await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stdout.contains("discard all dead letters of user \"user-0\"? [y/N] "),
        "{output:?}"
    );
    assert_eq!(left().await, POISONED.len() - 1);
    let output = at_a_terminal(&stage, "discard --all", "y\n").await.unwrap();
    assert!(output.status.success() && output.stdout.contains("4 discarded"), "{output:?}");
    assert_eq!(left().await, 0);
}
