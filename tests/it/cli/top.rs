//! `top`, at a terminal that `script` (util-linux) gives it.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use super::{BINARY, ask};
use crate::rig::{Stage, until};

/// A terminal in which `top` runs.
struct Screen {
    script: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn of(stage: &Stage) -> Self {
        let admin = &stage.gateway.addresses.admin;
        let command =
            format!("stty cols 120 rows 40; exec '{BINARY}' top --address http://{admin}");
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, seen) = (script.stdout.take().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                seen.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { script, shown }
    }

    async fn shows(&self, what: &str) {
        let seen = || String::from_utf8_lossy(&self.shown.lock().unwrap()).contains(what);
        until(what, async || seen().then_some(())).await;
    }

    fn types(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended already.
        self.script.kill().ok();
        self.script.wait().ok();
    }
}

#[tokio::test]
async fn top_shows_each_app_pauses_it_when_asked_to_and_ends_with_q() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped, since there is no `script` on this machine");
        return;
    }
    let mut stage = Stage::start(100).await;
    let mut screen = Screen::of(&stage);
    for part in ["production", "idle", "delivered/s", "q quit"] {
        screen.shows(part).await;
    }
    screen.types("f");
    screen.shows("flush production? [y/N]").await;
    screen.types("n");
    screen.shows("nothing was done").await;
    screen.types("pn");
    screen.shows("nothing was done").await;
    assert!(!stage.gateway.app().await.paused);
    screen.types("py");
    until("a pause", async || stage.gateway.app().await.paused.then_some(())).await;
    // What the gateway says, and not what the answer to the key does.
    screen.shows("Paused by an operator").await;
    // It goes on over a restart.
    let admin = stage.gateway.addresses.admin.clone();
    stage.gateway.kill();
    screen.shows("no answer since").await;
    stage.site = stage.site.with("server.admin_listen", admin);
    stage.gateway = stage.site.serve().await;
    let before = screen.shown.lock().unwrap().len();
    ask(&stage, &["resume"]).await;
    until("the state of the new one", async || {
        let shown = String::from_utf8_lossy(&screen.shown.lock().unwrap()[before..]).into_owned();
        shown.contains("idle").then_some(())
    })
    .await;
    screen.types("q");
    let script = &mut screen.script;
    let ended = until("the end of top", async || script.try_wait().unwrap()).await;
    assert!(ended.success(), "{ended:?}");
}

#[tokio::test]
async fn without_a_terminal_top_says_what_to_use() {
    let stage = Stage::start(100).await;
    let output = ask(&stage, &["top"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.contains("status --watch"), "{output:?}");
}
