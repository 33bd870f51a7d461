//! Processes that a test starts. Each is ended by its id at the latest when it is dropped.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use super::until;

/// A process, and what it has said so far.
pub(crate) struct Process {
    child: Child,
    stdout: Ear,
    stderr: Ear,
}

/// What a process that has ended leaves behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Listens to one stream until it ends.
struct Ear {
    lines: Arc<Mutex<Vec<String>>>,
    listening: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it, and says `input` to it.
    pub(crate) fn start(command: &mut Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        // One that ends early does not listen to the end.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        Self { child, stdout: Ear::on(stdout), stderr: Ear::on(stderr) }
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines of its log (standard error) so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.stderr.lines.lock().unwrap().clone()
    }

    /// The lines that it has printed so far.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.stdout.lines.lock().unwrap().clone()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to end: SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Tells it to read its configuration again: SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Stops it, as it is: SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on: SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits until a line of its log holds `what`.
    pub(crate) async fn says(&self, what: &str) -> String {
        until(what, async || self.log().into_iter().find(|line| line.contains(what))).await
    }

    /// Ends it at once: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends.
    pub(crate) async fn end(&mut self) -> Output {
        let status = until("the end of a process", async || self.ended()).await;
        Output { status, stdout: self.stdout.heard(), stderr: self.stderr.heard() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            let log = self.log();
            let last = log.len().saturating_sub(20);
            let mut stderr = std::io::stderr().lock();
            writeln!(stderr, "the end of a process's log:\n{}", log[last..].join("\n")).ok();
        }
    }
}

impl Ear {
    fn on(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&lines);
        let listening = thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self { lines, listening: Some(listening) }
    }

    /// All that was said, once the stream has ended.
    fn heard(&mut self) -> String {
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
        self.lines.lock().unwrap().iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// Runs a command of the gateway's binary to its end.
pub(crate) async fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_userpilot-gateway"));
    Process::start(command.args(arguments).env_clear(), input).end().await
}
