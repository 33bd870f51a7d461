//! What the figures were taken on.

use std::{fs, path::Path, process::Command, thread};

use super::disk::Fdatasync;

/// One line about each thing that the figures depend on.
pub fn describe(folder: &Path, fdatasync: Fdatasync) -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal:").and_then(|kib| {
        let kib: u64 = kib.trim_end_matches(" kB").parse().ok()?;
        Some(format!("{} GiB", kib >> 20))
    });
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|load| Some(load.split_whitespace().next()?.to_owned()));
    let Fdatasync { p50_ms, p99_ms } = fdatasync;
    let unknown = || "unknown".to_owned();
    vec![
        ("date", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
        ("commit", commit().unwrap_or_else(unknown)),
        ("processor", field("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
        ("cores, shared by server and load", cores.to_string()),
        ("memory", memory.unwrap_or_else(unknown)),
        ("kernel", output("uname", &["-sr"]).unwrap_or_else(unknown)),
        ("file system of the store", file_system(folder).unwrap_or_else(unknown)),
        ("fdatasync of 512 B, idle", format!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms")),
        ("load average at the start", load.unwrap_or_else(unknown)),
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

fn file_system(folder: &Path) -> Option<String> {
    let table = output("df", &["--output=fstype", folder.to_str()?])?;
    table.lines().last().map(str::to_owned)
}

fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
