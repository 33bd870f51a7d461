//! A PostgreSQL cluster of a test's own, from the distribution's packages. Nothing of a cluster that
//! the system runs is touched, and it ends with the test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use tempfile::TempDir;

/// A cluster that runs. It trusts whoever comes by its socket, and asks others for a password.
pub(crate) struct Cluster {
    folder: TempDir,
    pub(crate) port: u16,
    pub(super) settings: Vec<String>,
    pub(super) server: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// Makes one, with these settings, such as `ssl=on`.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_with(&[], settings)
    }

    /// The same, with these files in its data folder, which the server alone may read.
    pub(crate) fn start_with(files: &[(&str, &str)], settings: &[&str]) -> Self {
        let folder = folder_of_servers();
        let data = folder.path().join("data");
        let mut initdb = program("initdb");
        initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pgdata"]).arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (name, content) in files {
            use std::os::unix::fs::PermissionsExt as _;
            let path = data.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            give(&path);
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::of(folder, settings)
    }

    /// Serves what is in a folder, at a port that is free.
    pub(super) fn of(folder: TempDir, settings: Vec<String>) -> Self {
        let mut cluster = Self { folder, port: 0, settings, server: None, log: Arc::default() };
        for _ in 0..5 {
            // Free now; where somebody takes it meanwhile, another one is.
            cluster.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if cluster.try_serve() {
                return cluster;
            }
            assert!(cluster.log().contains("could not bind"), "no server: {}", cluster.log());
        }
        panic!("no port is free: {}", cluster.log());
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// What its log says so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Starts the server, and returns once it takes connections.
    pub(crate) fn serve(&mut self) {
        assert!(self.try_serve(), "no server: {}", self.log());
    }

    /// Whether the server takes connections. Where it does not, it has ended.
    fn try_serve(&mut self) -> bool {
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(self.folder.path().join("data"));
        let socket = format!("unix_socket_directories={}", self.folder.path().display());
        let (port, listen) = (format!("port={}", self.port), "listen_addresses=127.0.0.1");
        let small = ["shared_buffers=16MB", "max_connections=40", "lc_messages=C"];
        // In its folder, so that nothing is left of a server that is killed.
        let memory = ["dynamic_shared_memory_type=mmap"];
        let all = memory.into_iter().chain(small).chain([&*socket, &*port, listen]);
        for setting in all.chain(self.settings.iter().map(String::as_str)) {
            postgres.args(["-c", setting]);
        }
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = postgres.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        self.server = Some(server);
        let log = self.log.clone();
        loop {
            let Some(Ok(line)) = lines.next() else {
                self.end("QUIT");
                return false;
            };
            let is_ready = line.contains("database system is ready to accept");
            log.lock().unwrap().push(line);
            if is_ready {
                break;
            }
        }
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().unwrap().push(line);
            }
        });
        true
    }

    /// Stops the server as an operator would, and those that use it with it.
    pub(crate) fn stop(&mut self) {
        self.end("INT");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut server) = self.server.take() {
            let kill = format!("kill -{signal} {}", server.id());
            Command::new("sh").args(["-c", &kill]).status().unwrap();
            server.wait().unwrap();
        }
    }

    /// Has SQL run by the superuser. Returns what it prints, without headings.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(folder_of_programs().join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=postgres"]);
        psql.arg("--host").arg(self.socket()).args(["--set", "ON_ERROR_STOP=1"]);
        psql.args(["--port", &self.port.to_string(), "--dbname", database, "--command", sql]);
        // A standby that is to be waited for may not be there.
        psql.env("PGOPTIONS", "-c synchronous_commit=local");
        let done = psql.output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end("QUIT");
    }
}

/// The newest version's.
fn folder_of_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path));
    let newest = newest.expect("no server of PostgreSQL is installed: see tests/tools/prepare");
    newest.join("bin")
}

/// A program of the server's. They refuse to run as root: then another user runs them. They end
/// with the test, however that ends.
pub(super) fn program(name: &str) -> Command {
    let program = folder_of_programs().join(name);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

/// A new folder of theirs.
pub(super) fn folder_of_servers() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    give(folder.path());
    folder
}

/// Makes a file belong to whoever runs the server.
fn give(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres:").arg(path).status().unwrap().success());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
