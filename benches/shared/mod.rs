//! What both benches say of the machine, and how they write their tables into pages.

use std::{fs, process::Command, thread};

use anyhow::{Context, ensure};

/// One line about each thing that any figure may depend on.
pub fn machine() -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal:").and_then(|kib| {
        let kib: u64 = kib.trim_end_matches(" kB").parse().ok()?;
        Some(format!("{} GiB", kib >> 20))
    });
    let unknown = || "unknown".to_owned();
    vec![
        ("date", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
        ("commit", commit().unwrap_or_else(unknown)),
        ("processor", field("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
        ("cores", cores.to_string()),
        ("memory", memory.unwrap_or_else(unknown)),
        ("kernel", output("uname", &["-sr"]).unwrap_or_else(unknown)),
    ]
}

fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

fn commit() -> Option<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let commit = output("git", &["-C", root, "rev-parse", "--short=12", "HEAD"])?;
    let changed = output("git", &["-C", root, "status", "--porcelain", "-uno"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} and changes") })
}

/// What a command says.
pub fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A table of facts, as Markdown.
pub fn facts(command: &str, facts: &[(&'static str, String)]) -> String {
    let mut text = format!("Made by `{command}`.\n\n| the machine | |\n|---|---|\n");
    for (what, value) in facts {
        text += &format!("| {what} | {value} |\n");
    }
    text
}

const BEGIN: &str = "<!-- the last table: begin -->\n";
const END: &str = "<!-- the last table: end -->";

/// Puts the table in the place of the last one, in a page of the project.
pub fn write(page: &str, table: &str) -> anyhow::Result<()> {
    let file = format!("{}/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let begin = text.find(BEGIN).with_context(|| format!("{page} has no place for the table"))?;
    let end = text.find(END).with_context(|| format!("{page} has no end of the table"))?;
    let begin = begin + BEGIN.len();
    ensure!(begin <= end, "the marks in {page} are in the wrong order");
    fs::write(file, format!("{}\n{table}\n{}", &text[..begin], &text[end..]))?;
    Ok(())
}
