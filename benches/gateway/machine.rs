//! What the figures were taken on.

use std::{fs, path::Path};

use super::disk::Fdatasync;
use crate::shared::{self, output};

/// One line about each thing that the figures depend on.
pub fn describe(folder: &Path, fdatasync: Fdatasync) -> Vec<(&'static str, String)> {
    let load = fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|load| Some(load.split_whitespace().next()?.to_owned()));
    let Fdatasync { p50_ms, p99_ms } = fdatasync;
    let unknown = || "unknown".to_owned();
    let mut machine = shared::machine();
    machine.extend([
        ("file system of the store", file_system(folder).unwrap_or_else(unknown)),
        ("fdatasync of 512 B, idle", format!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms")),
        ("load average at the start", load.unwrap_or_else(unknown)),
    ]);
    machine
}

fn file_system(folder: &Path) -> Option<String> {
    let table = output("df", &["--output=fstype", folder.to_str()?])?;
    table.lines().last().map(str::to_owned)
}
