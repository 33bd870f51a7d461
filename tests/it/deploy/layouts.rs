//! What the documents have people type, in each layout, and what the package puts where.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    process::Command,
};

use toml::Table;

use super::{read, text};
use crate::{python::project, rig::Process};

/// The lines of the runbook that call `check-key`, less what is before the gateway's own name: what they
/// set, and the arguments.
fn checks() -> Vec<(Vec<String>, Vec<String>)> {
    let runbook = read("docs/operations.md").replace("\\\n", "");
    let section =
        runbook.split("\n### check-key and check-config, in each layout\n").nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let words = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let called = words.map(|words| {
        let own = words.iter().rposition(|word| word == "userpilot-gateway").unwrap();
        (words[..own].to_vec(), words[own + 1..].to_vec())
    });
    called.collect()
}

#[tokio::test]
async fn the_runbooks_checks_find_the_configuration_and_the_key_in_each_layout() {
    let calls = checks();
    assert_eq!(calls.len(), 5, "{calls:?}");
    for (before, arguments) in calls {
        let place = before.first().unwrap().as_str();
        let config = match (place, before.get(1).map(String::as_str)) {
            ("kubectl", _) => "deploy/kubernetes/base/gateway.toml",
            ("docker", _) => "deploy/compose/gateway.toml",
            ("sudo", _) => "deploy/systemd/gateway.toml",
            other => panic!("{other:?}"),
        };
        assert_eq!(arguments[0], "check-key", "{arguments:?}");
        let etc = tempfile::tempdir().unwrap();
        let moved = |path: &str| path.replace("/etc/userpilot-gateway", text(etc.path()));
        let file = PathBuf::from(moved(&arguments[2]));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, moved(&read(config))).unwrap();
        let keys = if place == "kubectl" { etc.path().join("keys") } else { etc.path().into() };
        fs::create_dir_all(&keys).unwrap();
        let key = keys.join("userpilot.key");
        fs::write(&key, "a-key-of-userpilot").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

        // It asks nobody, and reads the same.
        let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
        command.env_clear().args(["check-config", &arguments[1], text(&file)]);
        command.current_dir(etc.path().parent().unwrap());
        for word in &before {
            if let Some((name, value)) = word.split_once('=').filter(|_| !word.starts_with("--")) {
                command.env(name, moved(value));
            }
            // As systemd-run would, and Compose.
            if word.starts_with("--property=LoadCredential") {
                command.env("CREDENTIALS_DIRECTORY", etc.path());
            }
        }
        if place == "docker" {
            command.env("USERPILOT_API_KEY", "a-key-of-userpilot");
        }
        let output = Process::start(&mut command, "").end().await;
        assert!(output.status.success(), "{before:?}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_check_that_finds_no_configuration_or_no_credential_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
        command.env_clear().args(arguments).current_dir(folder.path());
        let output = Process::start(&mut command, "").end().await;
        assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
        output.stderr
    };
    for command in ["check-key", "check-config"] {
        let told = check(&[command]).await;
        assert!(told.contains("name the file that the gateway reads, such as --config"), "{told}");
        let systemd = project("deploy/systemd/gateway.toml");
        let told = check(&[command, "--config", text(&systemd)]).await;
        assert!(told.contains("set it to the folder that has the file userpilot.key"), "{told}");
        assert!(!told.contains("--config"), "{told}");
    }
}

#[test]
fn how_long_a_stop_takes_is_said_alike_everywhere() {
    for path in [
        "docs/operations.md",
        "deploy/compose.yaml",
        "deploy/Dockerfile",
        "deploy/kubernetes/base/gateway.toml",
        "deploy/kubernetes/base/statefulset.yaml",
        "deploy/kubernetes/fleet/deployment.yaml",
        "deploy/kubernetes/fleet/gateway.toml",
        "deploy/systemd/gateway.toml",
        "deploy/systemd/userpilot-gateway.service",
    ] {
        let text = read(path);
        assert!(text.contains("six seconds") && !text.contains("seven seconds"), "{path}");
    }
}

/// What the package installs: where from, and where to.
fn installed() -> Vec<(PathBuf, PathBuf)> {
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap().clone();
    let mut installed = Vec::new();
    for asset in assets {
        let (from, to) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let folder = Path::new(from).parent().unwrap();
        let Some((head, tail)) = from.split_once('*') else {
            installed.push((from.into(), to.into()));
            continue;
        };
        let head = head.rsplit('/').next().unwrap();
        let before = installed.len();
        for entry in fs::read_dir(project(text(folder))).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with(head) && name.ends_with(tail) {
                installed.push((folder.join(&name), Path::new(to).join(&name)));
            }
        }
        assert!(installed.len() > before, "{from} is nothing");
    }
    installed
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
        plain
    })
}

#[test]
fn the_package_has_every_licence_and_what_its_documents_lead_to() {
    let installed = installed();
    let places: BTreeSet<_> = installed.iter().map(|(_, to)| to.clone()).collect();
    let names = |folder: &str| {
        let files = fs::read_dir(project(folder)).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let ours = names("").into_iter().filter(|name| name.starts_with("LICENSE"));
    let theirs = names("src/console/assets/vendor").into_iter();
    let theirs = theirs.filter(|name| name.ends_with(".LICENSE") || name == "NOTICE.md");
    let licences: Vec<_> = ours.chain(theirs).collect();
    assert_eq!(licences.len(), 6, "{licences:?}");
    let image = read("deploy/Dockerfile");
    for name in licences {
        let is_there = places.iter().any(|place| place.ends_with(&name));
        assert!(is_there, "{name} is not in the package");
    }
    for part in ["LICENSE-*", "vendor/NOTICE.md", "vendor/*.LICENSE"] {
        assert!(image.contains(part), "{part} is not in the image");
    }
    for (from, to) in installed.iter().filter(|(from, _)| from.starts_with("docs")) {
        if from.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        // Less what is between fences: code has brackets of its own.
        let document = read(text(from)).split("```").step_by(2).collect::<String>();
        let links = document.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        let own = links.filter(|link| !link.is_empty() && !link.contains(':'));
        // How it is tested is read where it is developed.
        for link in own.filter(|link| !link.starts_with("../tests/")) {
            let there = plain(&to.parent().unwrap().join(link));
            let leads = places.iter().any(|place| place.starts_with(&there));
            assert!(leads, "{} leads to {link}, which is not in the package", from.display());
        }
    }
}
