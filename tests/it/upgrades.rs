//! Stores that earlier versions wrote: fixtures/README.md says how they were made.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::FutureExt;
use serde_json::json;
use userpilot_gateway::{
    proto::{AppState, PauseRequest, ResumeRequest},
    simulator::{PoisonMode, Simulator},
    store::engine::{Engine, RedbEngine, RedbOptions, SledEngine, SledOptions, Transaction as _},
};

use crate::{
    python::project,
    rig::{Change, Gateway, Site, Stage, applied, at_speed, run, same_profiles, settled},
};

const ENGINES: [&str; 2] = ["sled", "redb"];
/// The key of the store's head.
const HEAD: &[u8] = b"h";
/// A value's version and checksum. The head begins with its format.
const HEADER_BYTES: usize = 5;
/// Long enough that what is in a fixture is never too old.
const DEAD_LETTERS_DAYS: i64 = 3_650;

/// What waits in a fixture, in order.
fn waiting() -> Vec<Change> {
    vec![
        Change::new("ada", json!({"plan": "free", "seats": 3})).of_company("acme"),
        Change::new("b\u{fc}b", json!({"trial": null})),
        Change::new("ada", json!({"plan": "pro"})),
    ]
}

/// A store of a format, packed.
struct Fixture {
    format: u8,
    engine: &'static str,
    path: PathBuf,
}

fn fixtures() -> Vec<Fixture> {
    let files = fs::read_dir(project("tests/it/fixtures")).unwrap();
    let mut fixtures: Vec<_> = files.filter_map(|file| fixture(&file.unwrap().path())).collect();
    fixtures.sort_by_key(|fixture| fixture.format);
    fixtures
}

fn fixture(path: &Path) -> Option<Fixture> {
    let name = path.file_name()?.to_str()?.strip_prefix("store-format-")?;
    let (format, engine) = name.strip_suffix(".tar.gz")?.split_once('-')?;
    let engine = ENGINES.into_iter().find(|known| *known == engine)?;
    Some(Fixture { format: format.parse().ok()?, engine, path: path.to_owned() })
}

/// Fixtures of the format that this program writes, and older ones.
async fn current_and_older() -> (Vec<Fixture>, Vec<Fixture>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let path_of = path.to_str().unwrap();
    let import = ["store", "import", "--engine", "sled", "--path", path_of, "--unchecked", "-"];
    assert!(run(&import, "").await.status.success());
    let current = format_of(&path, "sled");
    let (current, older) =
        fixtures().into_iter().partition(|fixture: &Fixture| fixture.format == current);
    (current, older)
}

/// What is done to the head of a store, whatever its engine; and the format that it had.
fn with_head(path: &Path, engine: &str, put: Option<u8>) -> u8 {
    let cache_bytes_max = 16 << 20;
    let path = path.to_owned();
    match engine {
        "sled" => on(&SledEngine::open(&SledOptions { path, cache_bytes_max }).unwrap(), put),
        _ => on(&RedbEngine::open(&RedbOptions { path, cache_bytes_max }).unwrap(), put),
    }
}

fn on(engine: &impl Engine, put: Option<u8>) -> u8 {
    let mut transaction = engine.begin().now_or_never().unwrap().unwrap();
    let head = transaction.get(HEAD).now_or_never().unwrap().unwrap().unwrap();
    let mut head = head.as_ref().to_vec();
    let format = head[HEADER_BYTES];
    if let Some(put) = put {
        head[HEADER_BYTES] = put;
        let sum = crc32c::crc32c(&head[HEADER_BYTES..]);
        head[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        transaction.put(HEAD, head);
        transaction.commit().now_or_never().unwrap().unwrap();
    }
    format
}

/// The format of a store, by its own word.
fn format_of(path: &Path, engine: &str) -> u8 {
    with_head(path, engine, None)
}

fn tar(arguments: &[&str]) {
    let done = Command::new("tar").args(arguments).status().unwrap();
    assert!(done.success(), "tar {arguments:?}");
}

/// A place for a gateway of this engine, with what a fixture needs.
fn site(upstream: &str, engine: &str) -> Site {
    let site = Site::new(upstream, 100.0).with("store.engine", engine);
    site.with("dead_letters.days", DEAD_LETTERS_DAYS)
}

/// The place of a gateway whose store is this one.
fn unpacked(fixture: &Fixture, upstream: &str) -> Site {
    let site = site(upstream, fixture.engine);
    tar(&["xzf", fixture.path.to_str().unwrap(), "-C", site.path("").to_str().unwrap()]);
    assert_eq!(format_of(&site.path("data"), fixture.engine), fixture.format, "by its name");
    site
}

async fn pause(gateway: &Gateway) {
    gateway.admin().await.pause(PauseRequest { app: String::new() }).await.unwrap();
}

#[tokio::test]
async fn a_store_of_this_format_opens_and_what_waited_in_it_is_delivered() {
    if env::var_os("UPDATE_FIXTURES").is_some() {
        for engine in ENGINES {
            make(engine).await;
        }
    }
    let (current, _) = current_and_older().await;
    let engines: Vec<_> = current.iter().map(|fixture| fixture.engine).collect();
    assert!(
        ENGINES.iter().all(|engine| engines.contains(engine)),
        "there is no store of this format in tests/it/fixtures: `make fixtures` makes it. Stores \
         of the format before stay: they are to be taken over, or refused as the test below says"
    );
    for fixture in current {
        let simulator = Simulator::start(at_speed(100)).await.unwrap();
        let site = unpacked(&fixture, &simulator.url());
        let gateway = site.serve().await;
        let app = gateway.app().await;
        assert_eq!((app.pending_records, app.dead_letters), (2, 1), "{}", fixture.engine);
        assert_eq!(app.state(), AppState::Paused);
        gateway.admin().await.resume(ResumeRequest { app: String::new() }).await.unwrap();
        settled(&gateway).await;
        same_profiles(&simulator.profiles(), &applied(&waiting()));
    }
}

/// Makes the fixture of this engine and of the format that this program writes.
async fn make(engine: &str) {
    let mut stage = Stage::of(at_speed(100), |site| {
        site.with("store.engine", engine).with("dead_letters.days", DEAD_LETTERS_DAYS)
    })
    .await;
    stage.simulator.poison(vec!["eve".to_owned()], PoisonMode::RejectBatch);
    stage.sent(&["dee", "eve"].map(|user| Change::new(user, json!({"plan": "bad"})))).await;
    settled(&stage.gateway).await;
    pause(&stage.gateway).await;
    stage.sent(&waiting()).await;
    stage.gateway.terminate();
    assert!(stage.gateway.end().await.status.success());
    let format = format_of(&stage.site.path("data"), engine);
    let packed = project(&format!("tests/it/fixtures/store-format-{format}-{engine}.tar.gz"));
    let folder = stage.site.path("");
    tar(&["czf", packed.to_str().unwrap(), "-C", folder.to_str().unwrap(), "data"]);
}

#[tokio::test]
async fn a_store_of_another_format_is_refused_with_the_way_to_take_it_over() {
    let (current, older) = current_and_older().await;
    let reads = current[0].format;
    for fixture in &older {
        is_refused(&unpacked(fixture, "http://127.0.0.1:1"), fixture.engine, reads).await;
    }
    // The one before and the one to come, where no store of theirs was kept.
    for fixture in &current {
        for format in [reads - 1, reads + 1] {
            let site = unpacked(fixture, "http://127.0.0.1:1");
            with_head(&site.path("data"), fixture.engine, Some(format));
            is_refused(&site, fixture.engine, reads).await;
        }
    }
}

/// Whether a gateway does not start there, says what to do, and leaves the store as it is.
async fn is_refused(site: &Site, engine: &str, reads: u8) {
    let format = format_of(&site.path("data"), engine);
    assert_ne!(format, reads);
    let refused = site.launch().end().await;
    assert_eq!(refused.status.code(), Some(1));
    for part in [
        format!("the store has format {format}, this program reads format {reads}"),
        "`store export` of the version that wrote it".to_owned(),
        "`store import` of this one".to_owned(),
    ] {
        assert!(refused.stderr.contains(&part), "{part}: {}", refused.stderr);
    }
    assert_eq!(format_of(&site.path("data"), engine), format);
}
