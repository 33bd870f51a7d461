//! What neither the compiler nor clippy checks: who imports whom, who reads the clock, how long
//! a file is, and what is never committed. ARCHITECTURE.md says why.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the project fails")]

use std::{fs, path::Path};

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/rust.rs"]
mod rust;

/// A file of the project, by its path from the root.
struct File {
    path: String,
    text: String,
}

#[test]
fn imports_go_down() {
    check(rules::imports);
}

#[test]
fn the_domain_neither_awaits_nor_logs_nor_reads_time_nor_draws() {
    check(rules::domain_is_pure);
}

#[test]
fn only_the_clocks_read_a_clock() {
    check(rules::clocks);
}

#[test]
fn files_are_short() {
    check(rules::length);
}

#[test]
fn nothing_is_left_undone() {
    check(rules::undone);
}

#[test]
fn no_path_of_a_developers_machine_is_committed() {
    check(rules::machine_paths);
}

fn check(rule: impl Fn(&File) -> Vec<String>) {
    let files = project();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "no project here");
    let broken: Vec<String> = files
        .iter()
        .flat_map(|file| rule(file).into_iter().map(|what| format!("{}: {what}", file.path)))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// All texts of the project, save what is made by building and running it.
fn project() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && is_ours(&path) {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let made = ["target", "data", "demo-data", "node_modules", "__pycache__"];
    let hidden = name.starts_with('.') && ![".ci", ".config"].contains(&name);
    !made.contains(&name) && !hidden
}
