//! `import`: what arrives, what is refused, and what a second run sends again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::{BINARY, ask, grpc, printed};
use crate::rig::{Change, Output, Process, Site, Stage, at_speed, run, settled, until};

/// How many records may wait at the gateway of [`crowded`].
const ROOM: u64 = 50;

async fn import(stage: &Stage, file: &Path, more: &[&str]) -> Output {
    let (file, address) = (file.to_str().unwrap(), grpc(stage));
    let arguments = ["import", file, "--address", &address, "--retry-delay-max", "1"];
    run(&[&arguments, more].concat(), "").await
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", file.display()))
}

/// The lines of a file of JSON.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn cells_of_csv_arrive_as_what_they_are() {
    let stage = Stage::start(100).await;
    let file = stage.site.path("users.csv");
    let rows = [
        "user_id,company_id,plan,seats,trial,zip,ratio,phone,ended",
        "1,acme,pro,3,true,01234,-0.5,12,NULL",
        "2,,\"free, \"\"forever\"\"\nreally\",,FALSE,9007199254740993,1e3,,",
    ];
    fs::write(&file, rows.join("\r\n")).unwrap();
    let output =
        import(&stage, &file, &["--null", "NULL", "--types", "phone=string,ratio=number"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, "2 accepted (0 coalesced), 0 refused\n");
    let first = json!({"plan": "pro", "seats": 3, "trial": true, "zip": "01234", "ratio": -0.5,
        "phone": "12", "ended": null});
    let second = json!({"plan": "free, \"forever\"\nreally", "trial": false,
        "zip": "9007199254740993", "ratio": 1000});
    let changes = [Change::new("1", first).of_company("acme"), Change::new("2", second)];
    stage.delivers(&changes).await;
    assert_eq!(stage.gateway.app().await.totals.unwrap().accepted_updates, 2);
    assert!(!beside(&file, ".userpilot-gateway-import").exists());
    assert!(!beside(&file, ".refused.ndjson").exists());
}

#[tokio::test]
async fn a_time_and_a_lane_in_csv_are_those_of_the_update() {
    let stage = Stage::start(100).await;
    ask(&stage, &["pause"]).await;
    let file = stage.site.path("users.csv");
    let rows = [
        "user_id,plan,occurred_at,lane",
        "1,pro,2026-01-02T00:00:00Z,interactive",
        "1,free,2026-01-01T00:00:00Z,bulk",
        "2,free,yesterday,",
        "3,free,,",
    ];
    fs::write(&file, rows.join("\n")).unwrap();
    let output = import(&stage, &file, &[]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, "3 accepted (1 coalesced), 1 refused\n");
    let first = printed(&stage, &["user", "show", "1"]).await;
    assert!(first.contains("\"pro\"") && first.contains("interactive"), "{first}");
    assert!(!first.contains("occurred_at"), "{first}");
    assert!(printed(&stage, &["user", "show", "3"]).await.contains("bulk"));
}

#[tokio::test]
async fn what_is_refused_is_written_down_with_its_line_and_all_else_arrives() {
    let stage = Stage::start(100).await;
    let file = stage.site.path("companies.csv");
    let rows = ["company_id,seats", "acme,3", "", ",4", "globex,many", "initech", "hooli,5"];
    fs::write(&file, rows.join("\n")).unwrap();
    let output = import(&stage, &file, &["--companies", "--types", "seats=number"]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, "2 accepted (0 coalesced), 3 refused\n");
    let path = beside(&file, ".refused.ndjson");
    assert!(output.stderr.contains(path.to_str().unwrap()), "{output:?}");
    let mut refused = lines(&path);
    refused.sort_by_key(|refusal| refusal["line"].as_u64());
    let inputs: Vec<_> = refused.iter().map(|refusal| refusal["input"].as_str().unwrap()).collect();
    assert_eq!(inputs, [",4", "globex,many", "initech"]);
    for (refusal, (line, why)) in refused.iter().zip([
        (4, "company_id: is empty"),
        (5, "column \"seats\": is no number"),
        (6, "has 1 cells where the header has 2"),
    ]) {
        assert!(refusal["reason"].as_str().unwrap().contains(why), "{refusal}");
        assert_eq!(refusal["line"], line, "{refusal}");
    }
    settled(&stage.gateway).await;
    assert_eq!(stage.simulator.companies().into_keys().collect::<Vec<_>>(), ["acme", "hooli"]);

    let file = stage.site.path("users.ndjson");
    fs::write(&file, "{\"user_id\":\"ada\"}\nnothing\n{\"user_id\":\"\"}\n").unwrap();
    let output = import(&stage, &file, &[]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(lines(&beside(&file, ".refused.ndjson")).len(), 2);
    let output = import(&stage, &file, &["--companies"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A gateway with little room that delivers nothing for now, and a file with more than fits.
async fn crowded(name: &str) -> (Stage, PathBuf, Vec<Change>) {
    let room = i64::try_from(ROOM).unwrap();
    let little = |site: Site| site.with("store.pending_records_max", room);
    let stage = Stage::of(at_speed(100), little).await;
    printed(&stage, &["pause"]).await;
    let change = |nth: u64| Change::new(format!("user-{nth}"), json!({"nth": nth}));
    let changes: Vec<_> = (0..4 * ROOM).map(change).collect();
    let file = stage.site.path(name);
    let mut text = String::new();
    if name.ends_with(".csv") {
        text += "user_id,nth\n";
    }
    for change in &changes {
        text += &match name.ends_with(".csv") {
            true => format!("{},{}\n", change.user_id, change.metadata["nth"]),
            false => {
                json!({"user_id": change.user_id, "metadata": change.metadata}).to_string() + "\n"
            }
        };
    }
    fs::write(&file, text).unwrap();
    (stage, file, changes)
}

/// Starts an import, and waits until it has noted that it has come to this line.
async fn stuck_at(stage: &Stage, file: &Path, line: u64) -> Process {
    let mut command = Command::new(BINARY);
    command.args(["import", file.to_str().unwrap(), "--address", &grpc(stage)]).env_clear();
    let process = Process::start(command.args(["--retry-delay-max", "1"]), "");
    let note = beside(file, ".userpilot-gateway-import");
    until("a note of the last line for which there is room", async || {
        let note: Value = serde_json::from_slice(&fs::read(&note).ok()?).unwrap();
        (note["done"]["lines"] == line).then_some(())
    })
    .await;
    process
}

/// Runs the import again, with room, to its end.
async fn goes_on(stage: &Stage, file: &Path, changes: &[Change]) {
    printed(stage, &["resume"]).await;
    let output = import(stage, file, &[]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.contains("goes on from line"), "{output:?}");
    assert_eq!(output.stdout, format!("{} accepted (0 coalesced), 0 refused\n", changes.len()));
    stage.delivers(changes).await;
    assert!(!beside(file, ".userpilot-gateway-import").exists());
}

#[tokio::test]
async fn an_import_that_was_killed_goes_on_and_sends_nothing_again_that_was_noted() {
    let (stage, file, changes) = crowded("users.ndjson").await;
    stuck_at(&stage, &file, ROOM).await.kill();
    assert_eq!(stage.gateway.app().await.totals.unwrap().accepted_updates, ROOM);
    goes_on(&stage, &file, &changes).await;
    assert_eq!(stage.gateway.app().await.totals.unwrap().accepted_updates, 4 * ROOM);
}

#[tokio::test]
async fn an_import_whose_gateway_went_away_says_so_and_goes_on_with_the_next() {
    let (mut stage, file, changes) = crowded("users.csv").await;
    let mut process = stuck_at(&stage, &file, ROOM + 1).await;
    stage.gateway.kill();
    let output = process.end().await;
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = format!("run it again, and it goes on from line {}", ROOM + 2);
    assert!(output.stderr.contains(&said), "{output:?}");
    stage.restart().await;
    goes_on(&stage, &file, &changes).await;
    // What the first gateway took is not sent to the second.
    assert_eq!(stage.gateway.app().await.totals.unwrap().accepted_updates, 3 * ROOM);
}

#[tokio::test]
async fn an_import_is_stopped_by_a_signal_and_does_not_go_on_with_another_file() {
    let (stage, file, changes) = crowded("users.ndjson").await;
    let mut process = stuck_at(&stage, &file, ROOM).await;
    process.terminate();
    let output = process.end().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("goes on from line"), "{output:?}");

    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("user-0", "user-x", 1)).unwrap();
    let other = import(&stage, &file, &[]).await;
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    assert!(other.stderr.contains("has changed") && other.stderr.contains("--from-start"));
    fs::write(&file, text).unwrap();
    ask(&stage, &["resume"]).await;
    let anew = import(&stage, &file, &["--from-start"]).await;
    assert!(anew.status.success(), "{anew:?}");
    assert!(anew.stdout.starts_with(&format!("{} accepted", 4 * ROOM)), "{anew:?}");
    stage.delivers(&changes).await;
    assert_eq!(stage.gateway.app().await.totals.unwrap().accepted_updates, 5 * ROOM);
}
