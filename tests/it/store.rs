//! The commands that take a store while no gateway runs.

use std::{fs, path::Path};

use futures_util::FutureExt;
use serde_json::{Value, json};
use userpilot_gateway::{
    proto::{AppState, PauseRequest, UpdateState},
    simulator::PoisonMode,
    store::engine::{Engine, SledEngine, SledOptions, Transaction},
};

use crate::rig::{
    Change, Manner, Output, Site, Stage, applied, at_speed, http, run, same_profiles, settled,
    until,
};

/// Runs `store` with these.
async fn store(arguments: &[&str]) -> Output {
    run(&[&["store"], arguments].concat(), "").await
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn changes() -> Vec<Change> {
    let change = |nth: usize| {
        let id = ["ada", "b\u{fc}b", "c \"c\"", "dee"][nth % 4];
        let value = if nth.is_multiple_of(2) { json!(null) } else { json!(0.1) };
        let values = json!({"nth": nth, (nth.to_string()): value});
        Change::new(id, values).of_company(["acme", "umbrella"][nth % 2])
    };
    (0..12).map(change).collect()
}

/// A stage whose gateway has been killed while these waited.
async fn waiting(changes: &[Change]) -> Stage {
    let mut stage = Stage::of(at_speed(100), |site| site).await;
    let all = PauseRequest { app: String::new() };
    stage.gateway.admin().await.pause(all).await.unwrap();
    stage.sent(changes).await;
    stage.gateway.kill();
    stage
}

/// Overwrites what is stored under the first key of a kind.
fn damage(path: &Path, kind: u8) {
    damage_first(path, &[kind]);
}

/// Overwrites what is stored under the first key that begins so.
pub(crate) fn damage_first(path: &Path, prefix: &[u8]) {
    let options = SledOptions { path: path.to_owned(), cache_bytes_max: 16 << 20 };
    let engine = SledEngine::open(&options).unwrap();
    let mut transaction = engine.begin().now_or_never().unwrap().unwrap();
    let range = prefix.to_vec()..=[prefix, &[0xff; 16]].concat();
    let found = transaction.scan(range, 1).now_or_never().unwrap();
    let (key, _) = found.unwrap().into_iter().next().unwrap();
    transaction.put(&key, b"\x01nonsense".to_vec());
    transaction.commit().now_or_never().unwrap().unwrap();
}

const ALL_IMPORTED: &str = "4 records imported, of which 0 were merged into one that waited; the \
                            export is whole, by its checksum\n";

#[tokio::test]
async fn an_export_says_how_many_jobs_of_callers_stay_behind() {
    let mut stage = Stage::start(100).await;
    let all = PauseRequest { app: String::new() };
    stage.gateway.admin().await.pause(all).await.unwrap();
    for users in [["ada", "bob"], ["eve", "bob"]] {
        let rows: Vec<_> = users.iter().map(|id| json!({"user_id": id})).collect();
        let url = format!("http://{}/v1/users/bulk_identify", stage.gateway.addresses.http);
        let answer = http().post(url).json(&json!({"users": rows})).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }
    stage.gateway.kill();
    let exported = store(&["export", "--path", &text(&stage.site.path("data"))]).await;
    assert!(exported.stderr.contains("3 records exported"), "{exported:?}");
    let behind = "app production: 2 jobs of callers over HTTP stay behind";
    assert!(exported.stderr.contains(behind), "{exported:?}");
}

#[tokio::test]
async fn what_is_exported_from_one_store_is_delivered_from_another() {
    let changes = changes();
    let mut stage = waiting(&changes).await;
    let (from, to) = (text(&stage.site.path("data")), text(&stage.site.path("moved")));
    let file = text(&stage.site.path("waiting.ndjson"));
    let exported = store(&["export", "--path", &from, "--file", &file]).await;
    assert!(exported.status.success(), "{exported:?}");
    assert!(exported.stderr.contains("4 records exported"), "{exported:?}");
    assert!(exported.stderr.contains("app production: is paused"), "{exported:?}");
    // The same, and nothing else, to standard output.
    let printed = store(&["export", "--path", &from]).await;
    assert_eq!(printed.stdout, fs::read_to_string(&file).unwrap());
    // Twice is as good as once, from a file and from standard input.
    // What was cut off on the way is not taken for all.
    let (most, _) = printed.stdout.trim_end().rsplit_once('\n').unwrap();
    let cut = run(&["store", "import", "--path", &to, "-"], &format!("{most}\n")).await;
    assert_eq!(cut.status.code(), Some(1));
    assert!(cut.stderr.contains("the end of the export is missing"), "{cut:?}");
    fs::remove_dir_all(&to).unwrap();
    let once = store(&["import", "--path", &to, &file]).await;
    assert_eq!(once.stdout, ALL_IMPORTED);
    let again = run(&["store", "import", "--path", &to, "-"], &printed.stdout).await;
    assert!(again.stdout.contains("of which 4 were merged"), "{again:?}");
    assert!(store(&["check", "--path", &to]).await.status.success());

    stage.site = stage.site.with("store.path", to);
    stage.gateway = stage.site.serve().await;
    stage.delivers(&changes).await;
}

/// The lines of an export, less what names the store that it is of.
fn lines(exported: &Output) -> Vec<Value> {
    assert!(exported.status.success(), "{exported:?}");
    let read = |line: &str| -> Value {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("stamped_until").unwrap();
        line
    };
    let lines = exported.stdout.lines().filter(|line| !line.starts_with("{\"end\":"));
    lines.map(read).collect()
}

/// A stage whose gateway was killed with these delivered, in flight and waiting, and with
/// dead letters.
async fn torn(changes: &[Change], dead: &[String]) -> Stage {
    let settings = |site: Site| site.with("app.request_timeout_ms", 60_000);
    let (mut stage, rogue) = Stage::ambushed("http", Manner::Honest, settings).await;
    stage.simulator.poison(dead.to_vec(), PoisonMode::RejectBatch);
    let bad: Vec<_> = dead.iter().map(|id| Change::new(id, json!({"plan": "bad"}))).collect();
    let (delivered, rest) = changes.split_at(4);
    let (in_flight, pending) = rest.split_at(4);
    stage.sent(&bad).await;
    stage.sent(delivered).await;
    assert_eq!(settled(&stage.gateway).await.dead_letters, dead.len() as u64);
    rogue.turn(Manner::silent());
    let before = rogue.connections();
    stage.sent(in_flight).await;
    until("a submission", async || (rogue.connections() > before).then_some(())).await;
    stage.sent(pending).await;
    assert_eq!(stage.gateway.app().await.state(), AppState::Submitting);
    stage.gateway.kill();
    stage
}

#[tokio::test]
async fn a_queue_moves_from_one_engine_to_the_other_and_back() {
    let changes = changes();
    let dead = ["eve", "mallory"].map(str::to_owned);
    let mut stage = torn(&changes, &dead).await;
    let path = |name: &str| text(&stage.site.path(name));
    let (first, between, last) = (path("data"), path("between"), path("last"));
    let export =
        async |engine, path: &str| store(&["export", "--engine", engine, "--path", path]).await;
    let out_of_sled = export("sled", &first).await;
    for part in ["of which 4 were in flight", "production: 2 dead letters stay behind"] {
        assert!(out_of_sled.stderr.contains(part), "{part}: {out_of_sled:?}");
    }
    let expected = lines(&out_of_sled);
    assert_eq!(expected.len(), 4, "one for each user");
    let mut output = out_of_sled;
    for (engine, path) in [("redb", &between), ("sled", &last)] {
        let arguments = ["store", "import", "--engine", engine, "--path", path, "-"];
        let imported = run(&arguments, &output.stdout).await;
        assert_eq!(imported.stdout, ALL_IMPORTED);
        let checked = store(&["check", "--engine", engine, "--path", path]).await;
        assert!(checked.status.success(), "{checked:?}");
        output = export(engine, path).await;
        assert!(output.stderr.contains("of which 0 were in flight"), "{output:?}");
        assert_eq!(lines(&output), expected, "{engine}");
    }
    // Dead letters go by a file of their own, from the store that they stay in.
    let url = stage.simulator.url();
    stage.site = stage.site.with("app.base_url", url).with("store.path", last);
    stage.gateway = stage.site.serve().await;
    settled(&stage.gateway).await;
    same_profiles(&stage.simulator.profiles(), &applied(&changes));
    assert_eq!(stage.gateway.app().await.dead_letters, 0);
    stage.gateway.kill();
    stage.site = stage.site.with("store.path", first);
    stage.gateway = stage.site.serve().await;
    assert_eq!(stage.gateway.app().await.dead_letters, 2);
}

#[tokio::test]
async fn a_store_is_checked_and_left_as_it_is() {
    let changes = changes();
    let mut stage = waiting(&changes).await;
    let config = text(&stage.site.config());
    let path = text(&stage.site.path("data"));
    let whole = store(&["check", "--config", &config, "--path", &path]).await;
    assert!(whole.status.success(), "{whole:?}");
    for part in ["pending record", "page of the queue", "is whole"] {
        assert!(whole.stdout.contains(part), "{part}: {whole:?}");
    }
    damage(Path::new(&path), b'r');
    let harmed = store(&["check", "--path", &path]).await;
    assert_eq!(harmed.status.code(), Some(1));
    for part in ["problem: 1 ", "pending record of app production", "checksum mismatch"] {
        assert!(harmed.stdout.contains(part), "{part}: {harmed:?}");
    }
    assert!(harmed.stderr.contains(&path) && harmed.stderr.contains("store export"), "{harmed:?}");
    for user in ["ada", "dee", "acme"] {
        assert!(!harmed.stdout.contains(user), "{harmed:?}");
    }
    // The gateway sets it aside, and serves the rest.
    stage.gateway = stage.site.serve().await;
    let resume = userpilot_gateway::proto::ResumeRequest { app: String::new() };
    stage.gateway.admin().await.resume(resume).await.unwrap();
    settled(&stage.gateway).await;
    assert_eq!(stage.simulator.profiles().len(), 3);
    assert_eq!(stage.gateway.status().await.store.unwrap().quarantined_records, 1);
}

#[tokio::test]
async fn a_store_that_does_not_start_is_saved_by_an_export() {
    let changes = changes();
    let mut stage = waiting(&changes).await;
    let path = text(&stage.site.path("data"));
    damage(Path::new(&path), b'h');
    let refused = stage.site.launch().end().await;
    assert_eq!(refused.status.code(), Some(1));
    for part in ["the store in data", "its head (key h)", "store check", "store export"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let file = text(&stage.site.path("saved.ndjson"));
    let exported = store(&["export", "--path", &path, "--file", &file]).await;
    assert_eq!(exported.status.code(), Some(1), "{exported:?}");
    assert!(exported.stderr.contains("1 entries are damaged"), "{exported:?}");
    fs::rename(&path, stage.site.path("data.damaged")).unwrap();
    assert!(store(&["import", "--path", &path, &file]).await.status.success());
    stage.gateway = stage.site.serve().await;
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn clients_whose_numbers_are_lost_stop_the_start_by_name_and_what_waits_gets_out() {
    let changes = changes();
    let clients = "[[clients]]\nname = \"crm\"\napps = [\"production\"]\n\
                   token_sha256 = [\"SHA\"]\n"
        .replace("SHA", &"0".repeat(64));
    let mut stage = waiting(&changes).await;
    let without = std::mem::replace(&mut stage.site, Site::new("http://unused", 1.0));
    stage.site = without.and(&clients);
    stage.gateway = stage.site.serve().await;
    stage.gateway.kill();
    let path = text(&stage.site.path("data"));
    for name in [b"ncanyone".as_slice(), b"nccrm"] {
        damage_first(Path::new(&path), name);
    }
    let refused = stage.site.launch().end().await;
    assert_eq!(refused.status.code(), Some(1));
    for part in [
        "the store in data",
        "the numbers of the clients",
        "anyone",
        "crm",
        "(keys n)",
        "store check",
        "store export",
        "restore a copy",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let checked = store(&["check", "--path", &path]).await;
    assert!(checked.stdout.contains("problem: 2 \u{d7} name"), "{checked:?}");
    let file = text(&stage.site.path("saved.ndjson"));
    let exported = store(&["export", "--path", &path, "--file", &file]).await;
    assert_eq!(exported.status.code(), Some(1), "{exported:?}");
    for part in ["4 records exported", "[\"anyone\", \"crm\"] are lost", "2 entries are damaged"] {
        assert!(exported.stderr.contains(part), "{part}: {exported:?}");
    }
    fs::rename(&path, stage.site.path("data.damaged")).unwrap();
    assert!(store(&["import", "--path", &path, &file]).await.status.success());
    stage.gateway = stage.site.serve().await;
    stage.delivers(&changes).await;
}

#[tokio::test]
async fn an_engine_that_cannot_read_its_files_names_the_directory_and_what_to_do() {
    let stage = waiting(&changes()).await;
    fs::write(stage.site.path("data/sled/conf"), "nonsense\n").unwrap();
    let refused = stage.site.launch().end().await;
    assert_eq!(refused.status.code(), Some(1));
    for part in ["cannot open the store in data", "move it away"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
}

#[tokio::test]
async fn while_a_gateway_runs_its_store_is_not_taken() {
    let stage = Stage::start(100).await;
    let path = text(&stage.site.path("data"));
    for arguments in [
        ["check", "--path", &path].as_slice(),
        &["export", "--path", &path],
        &["import", "--path", &path, "-"],
    ] {
        let output = store(arguments).await;
        assert_eq!(output.status.code(), Some(1));
        for part in ["stop the gateway first", "is in use by another process (process id "] {
            assert!(output.stderr.contains(part), "{part}: {output:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_made_by_looking_at_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = text(&folder.path().join("missing"));
    for command in ["check", "export"] {
        let output = store(&[command, "--path", &path]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stderr.contains("holds no sled store"), "{output:?}");
    }
    assert!(!Path::new(&path).exists());
}

#[tokio::test]
async fn an_empty_store_is_written_anew_at_a_start_and_forgets_nothing() {
    let small =
        |site: Site| site.with("store.rebuild_bytes_min", 1).with("store.free_bytes_min", 0);
    let mut stage = Stage::of(at_speed(100), small).await;
    let changes = changes();
    let receipts = stage.sent(&changes).await;
    stage.delivers(&changes).await;
    let jobs = stage.gateway.jobs(50).await.len();
    stage.restart().await;
    let log = stage.gateway.log().join("\n");
    assert!(log.contains("the store is written anew"), "{log}");
    assert_eq!(stage.gateway.jobs(50).await.len(), jobs);
    let update = stage.gateway.update(receipts.last().unwrap()).await;
    assert_eq!(update.state(), UpdateState::Delivered);
    assert!(update.detail.is_some());
    // And goes on.
    let more = [Change::new("eve", json!({"plan": "pro"}))];
    stage.sent(&more).await;
    stage.delivers(changes.iter().chain(&more)).await;
}
