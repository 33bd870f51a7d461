//! What is on the disk, who may read it, and how it is got rid of.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use toml::{Table, Value};
use userpilot_gateway::proto::{PauseRequest, ResumeRequest, UpdateState};

use crate::rig::{Change, Gateway, Output, Process, Stage, at_speed, run, settled};

/// All files and folders below a folder, and itself.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            all.extend(all_below(&entry.unwrap().path()));
        }
    }
    all
}

/// Whether a file below the folder holds the text.
fn holds(folder: &Path, text: &str) -> bool {
    let within = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let files = all_below(folder);
    files.iter().filter(|path| path.is_file()).any(|path| within(fs::read(path).unwrap()))
}

fn key_file(stage: &Stage, name: &str, digit: &str) {
    let path = stage.site.path(name);
    fs::write(&path, digit.repeat(64)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn pause(gateway: &Gateway) {
    let all = PauseRequest { app: String::new() };
    gateway.admin().await.pause(all).await.unwrap();
}

async fn resume(gateway: &Gateway) {
    let all = ResumeRequest { app: String::new() };
    gateway.admin().await.resume(all).await.unwrap();
}

#[tokio::test]
async fn whatever_the_umask_nobody_else_can_read_what_is_stored() {
    for engine in ["sled", "redb"] {
        let mut stage = Stage::of(at_speed(100), |site| site.with("store.engine", engine)).await;
        stage.gateway.kill();
        let data = stage.site.path("data");
        // As an earlier version left it.
        for path in all_below(&data) {
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0; exec \"$0\" serve --config \"$1\""]);
        command.arg(env!("CARGO_BIN_EXE_userpilot-gateway")).arg(stage.site.config());
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(stage.site.path(""));
        stage.gateway = Gateway::of(Process::start(&mut command, "")).await;
        let changes = [Change::new("ada", json!({"plan": "pro"}))];
        stage.sent(&changes).await;
        stage.delivers(&changes).await;
        stage.gateway.terminate();
        stage.gateway.end().await;
        for path in all_below(&data) {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}: {mode:o}", path.display());
        }
    }
}

#[tokio::test]
async fn what_the_rules_take_out_of_an_update_is_on_no_disk_and_in_no_profile() {
    let rules = r#"
        deny = ["ssn"]
        hash = ["email"]
        hash_key_file = "hash.key"
        on_mismatch = "drop"
        types = { seats = "number", since = "date" }
    "#;
    let rules: Table = rules.parse().unwrap();
    let mut stage = Stage::of(at_speed(100), |site| {
        fs::write(site.path("hash.key"), "a key to hash under").unwrap();
        site.with("app.properties", rules).with("app.stringify_values", true)
    })
    .await;
    pause(&stage.gateway).await;
    let values = json!({
        "email": "ada@example.com", "SSN": "078-05-1120", "seats": "three", "plan": "pro",
        "since": "2026-11-24T10:30:00+02:00", "paying": true, "left": null, "score": 0.5,
    });
    stage.sent(&[Change::new("ada", values)]).await;
    let data = stage.site.path("data");
    resume(&stage.gateway).await;
    settled(&stage.gateway).await;
    let page = stage.gateway.page("/metrics").await.2;
    for line in [
        "properties_mismatched_total{app=\"production\",reason=\"denied\",outcome=\"dropped\"} 1",
        "properties_mismatched_total{app=\"production\",reason=\"wrong_type\",outcome=\"dropped\"} 1",
        "properties_hashed_total{app=\"production\"} 1",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    stage.gateway.kill();
    for gone in ["ada@example.com", "078-05-1120", "three"] {
        assert!(!holds(&data, gone), "{gone}");
        assert!(!stage.gateway.log().iter().any(|line| line.contains(gone)), "{gone}");
    }
    let profiles = format!("{:?}", stage.simulator.profiles());
    for gone in ["ada@example.com", "078-05-1120", "three", "SSN", "seats"] {
        assert!(!profiles.contains(gone), "{gone}: {profiles}");
    }
    for there in ["\"true\"", "\"0.5\"", "2026-11-24T08:30:00Z", "email"] {
        assert!(profiles.contains(there), "{there}: {profiles}");
    }
}

async fn forget(stage: &Stage, id: &str, more: &[&str]) -> Output {
    let address = format!("http://{}", stage.gateway.addresses.admin);
    run(&[&["user", "forget", id, "--address", &address], more].concat(), "").await
}

#[tokio::test]
async fn a_forgotten_user_is_known_nowhere_and_delivered_again_only_by_what_comes_later() {
    let mut stage = Stage::start(100).await;
    let before = [Change::new("ada", json!({"plan": "free"}))];
    let delivered = stage.sent(&before).await.remove(0);
    stage.delivers(&before).await;
    pause(&stage.gateway).await;
    let waiting =
        stage.sent(&[Change::new("ada", json!({"secret": "hidden-4711"}))]).await.remove(0);
    let others = [Change::new("bob", json!({"plan": "pro"}))];
    stage.sent(&others).await;

    // Nobody can be asked here.
    let asked = forget(&stage, "ada", &[]).await;
    assert!(!asked.status.success() && asked.stderr.contains("--yes"), "{asked:?}");
    let forgotten = forget(&stage, "ada", &["--yes"]).await;
    assert!(forgotten.status.success(), "{forgotten:?}");
    for part in ["production: erased 1 pending, 0 in flight", "1 deliveries", "0 name it"] {
        assert!(forgotten.stdout.contains(part), "{part}: {forgotten:?}");
    }
    for receipt in [&delivered, &waiting] {
        let state = stage.gateway.update(receipt).await.state();
        assert_eq!(state, UpdateState::Forgotten);
    }
    let again = forget(&stage, "ada", &["--yes", "--app", "production"]).await;
    assert!(again.stdout.contains("erased 0 pending"), "{again:?}");
    let nobody = forget(&stage, "ada", &["--yes", "--app", "prod"]).await;
    assert!(nobody.stderr.contains("no app is called"), "{nobody:?}");

    // The engine's files may hold what was erased until they overwrite it; a new store does not.
    stage.gateway.kill();
    let (data, moved) = (stage.site.path("data"), stage.site.path("moved"));
    let [from, to] = [&data, &moved].map(|path| path.to_str().unwrap());
    let exported = run(&["store", "export", "--path", from], "").await;
    let imported = run(&["store", "import", "--path", to, "-"], &exported.stdout).await;
    assert!(imported.status.success(), "{imported:?}");
    assert!(holds(&moved, "bob") && !holds(&moved, "ada") && !holds(&moved, "hidden-4711"));
    stage.gateway = stage.site.serve().await;

    let later = [Change::new("ada", json!({"plan": "pro"}))];
    stage.sent(&later).await;
    stage.restart().await;
    resume(&stage.gateway).await;
    stage.delivers(before.iter().chain(&others).chain(&later)).await;
    assert!(!stage.gateway.log().iter().any(|line| line.contains("ada")));
}

#[tokio::test]
async fn an_encrypted_store_shows_no_value_and_opens_with_its_keys_alone() {
    encrypts("sled").await;
}

#[tokio::test]
async fn so_does_one_of_redb() {
    encrypts("redb").await;
}

/// Turns encryption on, changes the key, and looks at what the files show.
async fn encrypts(engine: &str) {
    let mut stage = Stage::of(at_speed(100), |site| site.with("store.engine", engine)).await;
    pause(&stage.gateway).await;
    let changes = [Change::new("ada", json!({"note": "in-clear-4711"}))];
    stage.sent(&changes).await;
    stage.gateway.kill();
    let data = stage.site.path("data");
    assert!(holds(&data, "in-clear-4711"));
    let command = async |stage: &Stage, command: &str, more: &[&str]| {
        let (config, data) = (stage.site.config(), stage.site.path("data"));
        let place = ["--config", config.to_str().unwrap(), "--path", data.to_str().unwrap()];
        run(&[&["store", command], &place[..], more].concat(), "").await
    };
    let exported = command(&stage, "export", &[]).await.stdout;

    // Turned on: what is new is encrypted, and then everything is.
    key_file(&stage, "a.key", "a");
    stage.site = stage.site.with("store.encryption_key_file", "a.key");
    stage.gateway = stage.site.serve().await;
    let hidden = [Change::new("bob", json!({"note": "hidden-4711"}))];
    stage.sent(&hidden).await;
    stage.gateway.kill();
    assert!(stage.gateway.log().iter().any(|line| line.contains("store reencrypt")));
    assert!(!holds(&data, "hidden-4711"));
    let rewritten = command(&stage, "reencrypt", &[]).await;
    assert!(rewritten.stdout.contains("values rewritten"), "{rewritten:?}");
    let again = command(&stage, "reencrypt", &[]).await;
    assert!(again.stdout.starts_with("0 values rewritten"), "{again:?}");
    let checked = command(&stage, "check", &[]).await;
    assert!(checked.status.success(), "{checked:?}");
    let (first, _end) = exported.split_once('\n').unwrap();
    assert!(command(&stage, "export", &[]).await.stdout.starts_with(first));

    // With another key, or none, it does not open, and nothing is done to it.
    key_file(&stage, "b.key", "b");
    stage.site = stage.site.with("store.encryption_key_file", "b.key");
    let refused = stage.site.launch().end().await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("encrypted under the key"), "{refused:?}");
    // With the old one beside it the key is changed.
    let old = Value::from(vec!["a.key"]);
    stage.site = stage.site.with("store.old_encryption_key_files", old);
    assert!(command(&stage, "reencrypt", &[]).await.status.success());
    stage.site = stage.site.with("store.old_encryption_key_files", Value::Array(Vec::new()));
    stage.gateway = stage.site.serve().await;
    assert!(!stage.gateway.log().iter().any(|line| line.contains("store reencrypt")));
    resume(&stage.gateway).await;
    stage.delivers(changes.iter().chain(&hidden)).await;
    assert_eq!(stage.gateway.status().await.store.unwrap().quarantined_records, 0);
}
