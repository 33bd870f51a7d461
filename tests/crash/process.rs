//! The processes: this test binary once more, told by its environment what to do.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use userpilot_gateway::store::engine::{Engine, RedbEngine, RedbOptions, SledEngine, SledOptions};

use crate::workload::{self, Workload};

/// A process that takes so long hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// Small, so that pages are read back from the disk.
const CACHE_BYTES_MAX: u64 = 4 << 20;

const STORE: &str = "POWER_STORE";
const ENGINE: &str = "POWER_ENGINE";
const SEED: &str = "POWER_WORKLOAD_SEED";
const FIRST: &str = "POWER_FIRST";
const ACKNOWLEDGED: &str = "POWER_ACKNOWLEDGED";
/// A folder of the file system whose shutdown is to be noticed.
const ALIVE: &str = "POWER_ALIVE";
const ENTRIES: &str = "POWER_ENTRIES";
const SIGKILL: i32 = 9;

/// Not a test: where the processes begin. Does nothing unless it is one of them.
#[test]
fn entry() {
    let path = |name| env::var_os(name).map(PathBuf::from);
    let (Some(path), cache_bytes_max) = (path(STORE), CACHE_BYTES_MAX) else { return };
    match env::var(ENGINE).unwrap().as_str() {
        "sled" => begin(SledEngine::open(&SledOptions { path, cache_bytes_max }).unwrap()),
        "redb" => begin(RedbEngine::open(&RedbOptions { path, cache_bytes_max }).unwrap()),
        other => panic!("there is no engine {other}"),
    }
}

fn begin(engine: impl Engine) {
    let path = |name| env::var_os(name).map(PathBuf::from);
    let number = |name| env::var(name).unwrap().parse::<u64>().unwrap();
    if let Some(file) = path(ACKNOWLEDGED) {
        work(engine, number(SEED), number(FIRST), &file);
    } else if let Some(file) = path(ENTRIES) {
        write_entries(&file, &workload::entries(&engine));
    }
}

/// Works until the power is cut. What is acknowledged is in the page cache of the kernel at
/// once, which outlives the process.
fn work(engine: impl Engine, seed: u64, first: u64, file: &Path) -> ! {
    let mut acknowledged = fs::File::create(file).unwrap();
    let alive = env::var_os(ALIVE).map(|folder| fs::File::open(folder).unwrap());
    let mut acknowledge = || {
        if let Some(folder) = &alive {
            folder.sync_all().expect("the file system is not shut down");
        }
        acknowledged.write_all(b".").unwrap();
    };
    let mut workload = Workload::open(engine, seed);
    if first == 0 {
        acknowledge();
    }
    for number in first.max(1).. {
        workload.step(number);
        acknowledge();
    }
    unreachable!("numbers do not end")
}

/// A store, and the name of the engine that keeps it.
#[derive(Clone, Copy)]
pub(crate) struct Store<'a> {
    pub(crate) engine: &'static str,
    pub(crate) path: &'a Path,
}

/// A process that works on a store.
pub(crate) struct Work<'a> {
    pub(crate) store: Store<'a>,
    /// Gets a byte for each op that is acknowledged.
    pub(crate) acknowledged: &'a Path,
    pub(crate) seed: u64,
    /// The first op that may not be done yet.
    pub(crate) first: u64,
}

/// What the process runs under.
pub(crate) struct Shim<'a> {
    pub(crate) library: &'a Path,
    pub(crate) disk: &'a Path,
    /// At which call the power is cut.
    pub(crate) cut_at: u64,
    pub(crate) flush_is_honest: bool,
}

impl Work<'_> {
    /// Works for ever on a file system that is going to be shut down. While that happens, an
    /// `fdatasync` may succeed and its data be gone: a plain file, appended to and flushed, lost
    /// its last acknowledged write in 19 of 210 cuts (Linux 6.18). So an op counts as acknowledged
    /// where the file system was not shut down yet when it was done.
    pub(crate) fn start(&self) -> Child {
        let mut command = self.command();
        command.env(ALIVE, self.store.path);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Works until the power is cut. Returns how many ops were acknowledged, or how it ended
    /// before that.
    pub(crate) fn run_until_cut(&self, shim: &Shim<'_>) -> Result<u64, String> {
        let mut command = self.command();
        command
            .env("LD_PRELOAD", shim.library)
            .env("POWER_LIVE", self.store.path)
            .env("POWER_DISK", shim.disk)
            .env("POWER_CUT_AT", shim.cut_at.to_string());
        if !shim.flush_is_honest {
            command.env("POWER_DISHONEST", "1");
        }
        let ended = run(command)?;
        if ended.signal != Some(SIGKILL) {
            return Err(format!("the process ended before the cut: {}", ended.said));
        }
        Ok(fs::metadata(self.acknowledged).unwrap().len())
    }

    fn command(&self) -> Command {
        // Of the last round; the cut may come before the process has made it anew.
        fs::write(self.acknowledged, b"").unwrap();
        let mut command = this_binary(self.store);
        command
            .env(ACKNOWLEDGED, self.acknowledged)
            .env(SEED, self.seed.to_string())
            .env(FIRST, self.first.to_string());
        command
    }
}

/// Opens the store, in a process of its own, since a damaged one can hang or end it, and reads
/// everything.
pub(crate) fn read(store: Store<'_>, file: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let mut command = this_binary(store);
    command.env(ENTRIES, file);
    let ended = run(command)?;
    match ended.succeeded {
        true => Ok(read_entries(file)),
        false => Err(format!("the store does not open: {}", ended.said)),
    }
}

fn this_binary(store: Store<'_>) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "process::entry", "--nocapture", "--test-threads=1"]);
    command.env(STORE, store.path).env(ENGINE, store.engine).env("RUST_BACKTRACE", "0");
    command
}

struct Ended {
    succeeded: bool,
    signal: Option<i32>,
    said: String,
}

fn run(mut command: Command) -> Result<Ended, String> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (sender, receiver) = sync_channel(1);
    let listener = thread::spawn(move || {
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).unwrap();
        sender.send(String::from_utf8_lossy(&said).into_owned()).ok();
    });
    // It closes its end when it dies.
    let said = receiver.recv_timeout(DEADLINE);
    if said.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    listener.join().unwrap();
    let said = said.map_err(|_| format!("the process hangs: after {DEADLINE:?} it was ended"))?;
    Ok(Ended { succeeded: status.success(), signal: status.signal(), said })
}

fn write_entries(file: &Path, entries: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut bytes = Vec::new();
    for part in entries.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    fs::write(file, bytes).unwrap();
}

fn read_entries(file: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let mut rest = bytes.as_slice();
    let mut next = || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap();
        let (part, after) = after.split_at(length);
        rest = after;
        Some(part.to_vec())
    };
    let mut entries = BTreeMap::new();
    while let (Some(key), Some(value)) = (next(), next()) {
        entries.insert(key, value);
    }
    entries
}
