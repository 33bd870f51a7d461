//! A client that is not Rust: tests/clients/python, with stubs generated from proto/.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::rig::{Change, Output, Process, Stage};

pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python that has what the client needs.
pub(crate) fn python() -> PathBuf {
    let prepared = || project("target/tools/python/bin/python");
    let python = env::var_os("CLIENT_PYTHON").map_or_else(prepared, PathBuf::from);
    assert!(python.exists(), "there is no {}: run `make prepare` once", python.display());
    python
}

async fn run_script(name: &str, arguments: &[&Path], modules: &Path) -> Output {
    let mut command = Command::new(python());
    command.arg(project("tests/clients/python").join(name)).args(arguments);
    command.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = Process::start(&mut command, "").end().await;
    assert!(output.status.success(), "{output:?}");
    output
}

#[tokio::test]
async fn a_python_client_sends_is_refused_and_follows_its_update() {
    let stage = Stage::start(100).await;
    let modules = tempfile::tempdir().unwrap();
    run_script("generate.py", &[&project("proto"), modules.path()], modules.path()).await;
    let address = Path::new(&stage.gateway.addresses.grpc);
    let output = run_script("client.py", &[address], modules.path()).await;

    let mut lines = output.stdout.lines();
    for expected in [
        "accepted as number 1",
        "accepted as number 2",
        "refused because of updates[1].user_id",
        "accepted as number 3",
        "1000 of 1000 accepted",
        "refused with INVALID_ARGUMENT",
        "wrong field update.metadata[\"tags\"]: is a list; only string, number, boolean and null \
         are taken",
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

#[test]
fn the_documents_show_the_clients_that_there_are() {
    check("python", "python/client.py", 10);
    check("js", "node/client.mjs", 5);
    check("go", "go/main.go", 2);
    check("java", "java/src/main/java/Client.java", 1);
}

/// Whether each part of what docs/clients.md shows in a language stands in the client.
fn check(language: &str, client: &str, parts_min: usize) {
    let client = fs::read_to_string(project("tests/clients").join(client)).unwrap();
    let document = fs::read_to_string(project("docs/clients.md")).unwrap();
    let mut parts = 0;
    for block in document.split(&format!("```{language}\n")).skip(1) {
        let block = block.split("```").next().unwrap();
        for part in block.split("\n\n").map(str::trim_end) {
            assert!(client.contains(part), "docs/clients.md shows what is not there:\n{part}");
            parts += 1;
        }
    }
    assert!(parts >= parts_min, "{language}: {parts}");
}
