//! What a gateway says of a directory that it may not use, when it does not run as root.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::rig::{Output, Process, Site, Stage};

/// Nobody, by the custom of most systems.
const NOBODY: u32 = 65_534;

/// Runs the gateway on a site as somebody who owns nothing there. `None` where the tests run as
/// one who may not do that, which it says.
#[expect(clippy::print_stderr, reason = "whoever reads the results needs to know")]
fn as_nobody(site: &Site) -> Option<Process> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped, since only root can start a process as somebody else");
        return None;
    }
    // The folders of tests are their owner's alone; who may not enter them sees nothing.
    let folder = site.path("");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(site.path("userpilot.key"), Some(NOBODY), Some(NOBODY)).unwrap();
    // The binary may lie where only root can come.
    let binary = site.path("userpilot-gateway");
    fs::copy(env!("CARGO_BIN_EXE_userpilot-gateway"), &binary).unwrap();
    let mut command = Command::new(binary);
    command.args(["serve", "--config"]).arg(site.config());
    command.env_clear().current_dir(folder).uid(NOBODY).gid(NOBODY);
    Some(Process::start(&mut command, ""))
}

/// It ends at once, with an error that has all of these in one line.
async fn is_refused(mut process: Process, parts: &[&str]) {
    let Output { status, stderr, .. } = process.end().await;
    assert_eq!(status.code(), Some(1), "{stderr}");
    let error = stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
    for part in parts {
        assert!(error.contains(part), "{part}: {stderr}");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const ADVICE: &str = "let the user that the gateway runs as read and write it";

#[tokio::test]
async fn who_may_not_make_the_directory_or_write_in_it_is_told_which_and_what_to_do() {
    let site = Site::new("http://127.0.0.1:9", 100.0);
    // The folder is root's: no `data` can be made in it.
    let Some(process) = as_nobody(&site) else { return };
    is_refused(process, &["the store in data", "Permission denied", ADVICE]).await;
    for mode in [0o555, 0o000] {
        let data = site.path("data");
        fs::create_dir_all(&data).unwrap();
        set_mode(&data, mode);
        let process = as_nobody(&site).unwrap();
        is_refused(process, &["data", "Permission denied", ADVICE]).await;
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "something was made");
    }
}

#[tokio::test]
async fn a_store_that_root_has_made_is_refused_to_others_file_by_file() {
    let mut stage = Stage::start(100).await;
    stage.gateway.kill();
    let data = stage.site.path("data");
    set_mode(&data, 0o777);
    let Some(process) = as_nobody(&stage.site) else { return };
    is_refused(process, &["data/", "Permission denied", ADVICE]).await;
    // It is as good as before.
    stage.gateway = stage.site.serve().await;
}

#[tokio::test]
async fn a_key_file_that_cannot_be_read_is_named() {
    let site = Site::new("http://127.0.0.1:9", 100.0);
    let Some(process) = as_nobody(&site) else { return };
    drop(process);
    std::os::unix::fs::chown(site.path("userpilot.key"), Some(0), Some(0)).unwrap();
    let mut command = Command::new(site.path("userpilot-gateway"));
    command.args(["serve", "--config"]).arg(site.config());
    command.env_clear().current_dir(site.path("")).uid(NOBODY).gid(NOBODY);
    let Output { status, stderr, .. } = Process::start(&mut command, "").end().await;
    assert_eq!(status.code(), Some(1), "{stderr}");
    for part in ["userpilot.key", "Permission denied"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}
