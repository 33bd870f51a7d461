//! The rules. Each takes a file and says what in it breaks the rule.

use crate::{
    File,
    rust::{before_tests, code, paths},
};

/// The top modules, in the order in which an update meets them. Each imports from those after it.
const ORDER: [&str; 20] = [
    "main",
    "fuzzing",
    "cli",
    "gateway",
    "config",
    "telemetry",
    "console",
    "admin",
    "door",
    "intake",
    "plan",
    "delivery",
    "store",
    "upstream",
    "simulator",
    "audit",
    "trace",
    "clock",
    "domain",
    "proto",
];

/// The only files that read a clock.
const CLOCKS: [&str; 2] = ["src/clock.rs", "src/simulator/clock.rs"];

const LINES_MAX: usize = 400;

/// Imports go down `ORDER`; domain imports nothing, the simulator a clock, and only the wiring
/// knows the configuration.
pub(crate) fn imports(file: &File) -> Vec<String> {
    let Some(module) = module(file) else { return Vec::new() };
    let Some(from) = place(module) else {
        return vec![format!(
            "{module} has no place in the order of modules in tests/tidy/rules.rs"
        )];
    };
    let code = code(&file.text);
    let code = match module {
        "domain" if is_test(file) => "",
        "domain" => before_tests(&code),
        _ => &code,
    };
    // In the tests' module one `super` leads only back into the file.
    let own_lines = before_tests(code).lines().count();
    let mut broken = Vec::new();
    for (line, path) in paths(code) {
        let depth = depth(file) + usize::from(line > own_lines);
        let Some(to) = imported(depth, &path).filter(|&to| to != module) else { continue };
        let allowed = match (module, to) {
            ("domain", _) => false,
            ("simulator", to) => to == "clock",
            (module, "config") => ["fuzzing", "cli", "gateway"].contains(&module),
            (_, to) => place(to).is_some_and(|to| to > from),
        };
        if !allowed {
            broken.push(format!("line {line}: {module} must not import {to}"));
        }
    }
    broken
}

/// The domain decides from facts alone.
pub(crate) fn domain_is_pure(file: &File) -> Vec<String> {
    if module(file) != Some("domain") || is_test(file) {
        return Vec::new();
    }
    let code = code(&file.text);
    let code = before_tests(&code);
    let mut broken = Vec::new();
    for (line, path) in paths(code) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if let ["tokio" | "tracing" | "rand", ..] | ["std", "time", "Instant" | "SystemTime", ..] =
            path.as_slice()
        {
            broken.push(format!("line {line}: domain must not use {}", path.join("::")));
        }
    }
    for (index, line) in code.lines().enumerate() {
        let words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
        for word in words.filter(|word| ["async", "await"].contains(word)) {
            broken.push(format!("line {}: domain must not {word}", index + 1));
        }
    }
    broken
}

/// The clock is read in two places. Clippy bans it everywhere; this bans asking clippy to look away.
pub(crate) fn clocks(file: &File) -> Vec<String> {
    if module(file).is_none() || CLOCKS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let code = code(&file.text);
    let mut broken = Vec::new();
    for (line, path) in paths(&code) {
        let path = path.join("::");
        let reads = ["Instant::now", "SystemTime::now", "Timestamp::now"];
        if path == "clippy::disallowed_methods" || reads.iter().any(|read| path.ends_with(read)) {
            broken.push(format!("line {line}: {path} is for {} alone", CLOCKS.join(" and ")));
        }
    }
    broken
}

/// A file can be read in one sitting.
pub(crate) fn length(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    match file.path.ends_with(".rs") && lines > LINES_MAX {
        true => vec![format!("{lines} lines, over {LINES_MAX}: split it by what it does")],
        false => Vec::new(),
    }
}

/// What is committed is finished, and what is tested is tested always.
pub(crate) fn undone(file: &File) -> Vec<String> {
    let mark = concat!("FIX", "ME");
    let mut broken = found(&file.text, mark);
    if file.path.ends_with(".rs") {
        let code = code(&file.text);
        for word in ["todo!", "unimplemented!", "#[ignore"] {
            broken.extend(found(&code, word));
        }
    }
    broken
}

/// What is committed works anywhere.
pub(crate) fn machine_paths(file: &File) -> Vec<String> {
    let folders = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/t", "mp/")];
    folders.iter().flat_map(|folder| found(&file.text, folder)).collect()
}

/// The lines that hold `what`, not as the end of a longer word or path.
fn found(text: &str, what: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let stands_alone = line.match_indices(what).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|char| char.is_alphanumeric() || "_-.}".contains(char))
        });
        if stands_alone {
            broken.push(format!("line {}: {what}", index + 1));
        }
    }
    broken
}

/// The top module that a file of src/ belongs to. lib.rs is the map, and belongs to none.
fn module(file: &File) -> Option<&str> {
    let path = file.path.strip_prefix("src/")?;
    let module = path.split('/').next()?;
    let module = module.strip_suffix(".rs").unwrap_or(module);
    (file.path.ends_with(".rs") && module != "lib").then_some(module)
}

/// Whether all of a file is test code.
fn is_test(file: &File) -> bool {
    file.path.ends_with("/tests.rs") || file.path.contains("/tests/")
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|&it| it == module)
}

/// The top module that a path leads to, if it starts at the root of the crate, `depth` up.
fn imported(depth: usize, path: &[String]) -> Option<&str> {
    let start = match path[0].as_str() {
        "crate" | "userpilot_gateway" => 1,
        "super" if path.iter().take_while(|segment| *segment == "super").count() == depth => depth,
        _ => return None,
    };
    path.get(start).map(String::as_str).filter(|module| place(module).is_some())
}

/// How many times `super` it takes from a file to the root of the crate.
fn depth(file: &File) -> usize {
    let folders = file.path.split('/').count() - 1;
    if file.path.ends_with("/mod.rs") { folders - 1 } else { folders }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&File) -> Vec<String>, path: &str, text: &str, broken: usize) {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let found = rule(&file);
        assert_eq!(found.len(), broken, "{path}: {text}\n{found:?}");
    }

    #[test]
    fn an_import_upward_is_found() {
        check(imports, "src/store/queue.rs", "use crate::domain::Update;", 0);
        check(imports, "src/store/queue.rs", "use crate::store::keys;", 0);
        check(imports, "src/store/queue.rs", "use crate::{clock, proto};", 0);
        check(imports, "src/store/queue.rs", "// see crate::door", 0);
        check(imports, "src/store/queue.rs", "use crate::door::Refusal;", 1);
        check(imports, "src/store/queue.rs", "use crate::{clock, door::wire, intake};", 2);
        check(imports, "src/store/queue.rs", "fn f() -> crate::gateway::Gateway {}", 1);
        check(imports, "src/store/queue.rs", "use super::super::door::wire;", 1);
        check(imports, "src/store/mod.rs", "use super::door::wire;", 1);
        check(imports, "src/store.rs", "use super::door::wire;", 1);
        let test =
            "#[cfg(test)]\nmod tests {\n    use super::super::door;\n    use super::door;\n}\n";
        check(imports, "src/store.rs", test, 1);
        check(imports, "src/proto.rs", "use crate::domain;", 1);
        check(imports, "src/main.rs", "use userpilot_gateway::cli;", 0);
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        check(imports, "src/helpers.rs", "", 1);
        check(imports, "src/lib.rs", "pub mod helpers;", 0);
        check(imports, "tests/it/main.rs", "use userpilot_gateway::config;", 0);
    }

    #[test]
    fn an_import_into_the_domain_is_found() {
        check(imports, "src/domain/batch.rs", "use crate::domain::Update;", 0);
        check(imports, "src/domain/batch.rs", "use crate::clock;", 1);
        let test = "#[cfg(test)]\nmod tests {\n    use crate::store;\n}\n";
        check(imports, "src/domain/batch.rs", test, 0);
        check(imports, "src/domain/tests/merge.rs", "use crate::store;", 0);
    }

    #[test]
    fn an_import_into_the_simulator_is_found() {
        check(imports, "src/simulator/jobs.rs", "use crate::{clock, simulator::state};", 0);
        check(imports, "src/simulator/jobs.rs", "use crate::domain;", 1);
        check(imports, "src/simulator/jobs.rs", "use crate::proto;", 1);
    }

    #[test]
    fn an_import_of_the_configuration_is_found() {
        check(imports, "src/cli/serve.rs", "use crate::config::Config;", 0);
        check(imports, "src/gateway.rs", "use crate::config::Config;", 0);
        check(imports, "src/main.rs", "use userpilot_gateway::config;", 1);
        check(imports, "src/door/grpc.rs", "use crate::config::Config;", 1);
    }

    #[test]
    fn an_impure_domain_is_found() {
        let check = |text, broken| check(domain_is_pure, "src/domain/budget.rs", text, broken);
        check("use std::time::Duration; fn awaited() {} // async", 0);
        check("use std::{collections::BTreeMap, time::{Duration, Instant}};", 1);
        check("fn f(now: std::time::SystemTime) {}", 1);
        check("use tokio::sync::mpsc;", 1);
        check("tracing::info!(\"x\")", 1);
        check("rand::random()", 1);
        check("async fn f() { g().await }", 2);
        check("#[cfg(test)]\nmod tests {\n    use rand::random;\n}\n", 0);
    }

    #[test]
    fn a_second_reader_of_the_clock_is_found() {
        let excuse = "#[expect(clippy::disallowed_methods, reason = \"the clock\")]";
        check(clocks, "src/clock.rs", excuse, 0);
        check(clocks, "src/simulator/clock.rs", excuse, 0);
        check(clocks, "src/door/grpc.rs", excuse, 1);
        check(clocks, "src/door/grpc.rs", "let now = std::time::Instant::now();", 1);
        check(clocks, "src/door/grpc.rs", "let now = clock.now(); // Instant::now", 0);
    }

    #[test]
    fn a_long_file_is_found() {
        check(length, "src/a.rs", &"\n".repeat(400), 0);
        check(length, "src/a.rs", &"\n".repeat(401), 1);
        check(length, "docs/a.md", &"\n".repeat(401), 0);
    }

    #[test]
    fn undone_work_is_found() {
        check(undone, "src/a.rs", "fn f() { todo!() }", 1);
        check(undone, "src/a.rs", "fn f() { unimplemented!(\"x\") }", 1);
        check(undone, "src/a.rs", "#[ignore = \"slow\"]\n#[ignore]", 2);
        check(undone, "docs/a.md", &format!("a {}: b", concat!("FIX", "ME")), 1);
        check(undone, "src/a.rs", "let ignore = \"todo!\"; // todo!", 0);
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        check(machine_paths, "docs/a.md", concat!("see /ho", "me/me/x"), 1);
        check(machine_paths, "src/a.rs", concat!("open(\"/t", "mp/x\")"), 1);
        check(machine_paths, "docs/a.md", concat!("https://example.com/ho", "me/x"), 0);
    }
}
