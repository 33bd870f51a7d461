//! Cutting the power, again and again, on what survived the last cut, and comparing what is
//! there with what was acknowledged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use userpilot_gateway::store::engine::MemoryEngine;

use crate::{
    disk::{self, WriteBack},
    process::{self, Work},
    workload::{self, Workload},
};

/// How often the power of one database is cut.
const ROUNDS: u64 = 10;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What kind of disk and flush the cuts meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// Of what was not flushed, whether some survives.
    pub(crate) pages_are_written_back: bool,
    /// Whether `sync_file_range` reaches the disk.
    pub(crate) flush_is_honest: bool,
}

/// What came of the cuts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: u64,
    /// Durable commits that were acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) losses: Vec<String>,
}

/// Cuts the power at least `cuts` times, or until a database has been lost where `until_loss`.
pub(crate) fn cut(conditions: Conditions, first_seed: u64, cuts: u64, until_loss: bool) -> Tally {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let shim = build_shim(&folder);
    let mut tally = Tally::default();
    for seed in first_seed.. {
        if tally.cuts >= cuts || (until_loss && !tally.losses.is_empty()) {
            break;
        }
        let database = Database::new(conditions, seed, &shim, folder.path());
        database.run(&mut tally);
    }
    tally
}

fn build_shim(folder: &TempDir) -> PathBuf {
    let shim = folder.path().join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/shim.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
    let status = compiler.arg(&shim).arg(source).arg("-lpthread").status();
    assert!(status.expect("a C compiler is installed").success(), "the shim does not compile");
    shim
}

/// A database, and a queue in memory that has gone through the same.
struct Database<'a> {
    conditions: Conditions,
    seed: u64,
    random: StdRng,
    shim: &'a Path,
    folder: PathBuf,
    model: Workload<MemoryEngine>,
    /// The ops that `model` has gone through, and the disk with it. The first opens the queue.
    done: u64,
}

impl<'a> Database<'a> {
    fn new(conditions: Conditions, seed: u64, shim: &'a Path, folder: &Path) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let model = Workload::open(MemoryEngine::default(), seed);
        let folder = folder.join(seed.to_string());
        Self { conditions, seed, random, shim, folder, model, done: 0 }
    }

    fn run(mut self, tally: &mut Tally) {
        let live = self.folder.join("live");
        fs::create_dir_all(&live).unwrap();
        for round in 0..ROUNDS {
            tally.cuts += 1;
            if let Err(what) = self.round(&mut tally.acknowledged) {
                tally.losses.push(format!("seed {}, cut {round}: {what}", self.seed));
                break;
            }
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }

    fn round(&mut self, acknowledged_ever: &mut u64) -> Result<(), String> {
        let [live, disk, survivor, copy] =
            ["live", "disk", "survivor", "copy"].map(|name| self.folder.join(name));
        disk::format(&live, &disk);
        let cut_at = match self.random.random_ratio(1, 4) {
            true => self.random.random_range(1..40),
            false => self.random.random_range(40..1_500),
        };
        let work = Work {
            shim: self.shim,
            live: &live,
            disk: &disk,
            acknowledged: &self.folder.join("acknowledged"),
            cut_at,
            flush_is_honest: self.conditions.flush_is_honest,
            seed: self.seed,
            first: self.done,
        };
        let acknowledged = work.run()?;
        *acknowledged_ever += acknowledged;
        let write_back = match self.conditions.pages_are_written_back {
            true => WriteBack::Pages([10, 50, 90][self.random.random_range(0..3)]),
            false => WriteBack::Nothing,
        };
        disk::survive(&live, &disk, &survivor, write_back, &mut self.random);
        // Opening repairs, and the next round's cut may come in the middle of that.
        copy_folder(&survivor, &copy);
        let found = process::read(&copy, &self.folder.join("entries"));
        let context = |what| format!("{write_back:?}, call {cut_at}: {what}");
        self.compare(&found.map_err(context)?, acknowledged).map_err(context)?;
        for folder in [&live, &disk, &copy] {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::rename(survivor, live).unwrap();
        Ok(())
    }

    /// What is found must be what was acknowledged; the op that the cut came into may be there
    /// too, whole.
    fn compare(&mut self, found: &Entries, acknowledged: u64) -> Result<(), String> {
        if self.done + acknowledged == 0 {
            return self.compare_new(found);
        }
        for number in self.done..self.done + acknowledged {
            self.advance(number);
        }
        let expected = self.model.entries();
        if *found == expected {
            return Ok(());
        }
        self.advance(self.done);
        if *found == self.model.entries() {
            return Ok(());
        }
        let missing = expected.keys().filter(|key| !found.contains_key(*key)).count();
        let added = found.keys().filter(|key| !expected.contains_key(*key)).count();
        let other = expected.len()
            - missing
            - expected.iter().filter(|(key, value)| found.get(*key) == Some(value)).count();
        Err(format!(
            "after {} ops, of {} entries {missing} are missing and {other} are not as \
             acknowledged, and {added} should not be there",
            self.done - 1,
            expected.len()
        ))
    }

    /// Opening a new queue commits twice: nothing, the one or both may be there.
    fn compare_new(&mut self, found: &Entries) -> Result<(), String> {
        let half_open = workload::open_queue(MemoryEngine::default());
        if found.is_empty() || *found == workload::entries(half_open.engine()) {
            return Ok(());
        }
        self.done = 1;
        let expected = self.model.entries();
        if *found == expected { Ok(()) } else { Err(format!("a new queue holds {found:?}")) }
    }

    fn advance(&mut self, number: u64) {
        // The model is open from the start.
        if number > 0 {
            self.model.step(number);
        }
        self.done = number + 1;
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
