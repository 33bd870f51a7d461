//! Cutting the power, again and again, on what survived the last cut, and comparing what is
//! there with what was acknowledged.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    disk::{self, WriteBack},
    model::Model,
    process::{self, Shim, Store, Work},
};

/// How often the power of one database is cut.
pub(crate) const ROUNDS: u64 = 10;

/// What kind of store, disk and flush the cuts meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// The engine's name.
    pub(crate) engine: &'static str,
    /// Of what was not flushed, whether some survives.
    pub(crate) pages_are_written_back: bool,
    /// Whether the flush that engines lean on, `fdatasync`, reaches the disk.
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

impl Tally {
    pub(crate) fn report(&self, name: &str) -> String {
        let Self { cuts, acknowledged, losses } = self;
        let count = losses.len();
        format!("{name}: {cuts} cuts, {acknowledged} acknowledged commits, {count} losses")
    }
}

/// Cuts the power at least `cuts` times, or until a database has been lost where `until_loss`.
pub(crate) fn cut(conditions: Conditions, first_seed: u64, cuts: u64, until_loss: bool) -> Tally {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let shim = folder.path().join("shim.so");
    compile("shim.c", &["-shared", "-fPIC", "-lpthread"], &shim);
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

/// Compiles a file of this folder.
pub(crate) fn compile(source: &str, options: &[&str], target: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash").join(source);
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror"]).args(options);
    let status = compiler.arg("-o").arg(target).arg(&source).status();
    let compiled = status.expect("a C compiler is installed").success();
    assert!(compiled, "{} does not compile", source.display());
}

/// A database, and what it must hold.
struct Database<'a> {
    conditions: Conditions,
    random: StdRng,
    shim: &'a Path,
    folder: PathBuf,
    model: Model,
}

impl<'a> Database<'a> {
    fn new(conditions: Conditions, seed: u64, shim: &'a Path, folder: &Path) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let model = Model::new(seed);
        let folder = folder.join(seed.to_string());
        Self { conditions, random, shim, folder, model }
    }

    fn run(mut self, tally: &mut Tally) {
        let live = self.folder.join("live");
        fs::create_dir_all(&live).unwrap();
        for round in 0..ROUNDS {
            tally.cuts += 1;
            if let Err(what) = self.round(&mut tally.acknowledged) {
                tally.losses.push(format!("seed {}, cut {round}: {what}", self.model.seed));
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
        let acknowledged = self.folder.join("acknowledged");
        let first = self.model.done;
        let Conditions { engine, flush_is_honest, .. } = self.conditions;
        let store = Store { engine, path: &live };
        let work = Work { store, acknowledged: &acknowledged, seed: self.model.seed, first };
        let shim = Shim { library: self.shim, disk: &disk, cut_at, flush_is_honest };
        let acknowledged = work.run_until_cut(&shim)?;
        *acknowledged_ever += acknowledged;
        let write_back = match self.conditions.pages_are_written_back {
            true => WriteBack::Pages([10, 50, 90][self.random.random_range(0..3)]),
            false => WriteBack::Nothing,
        };
        disk::survive(&live, &disk, &survivor, write_back, &mut self.random);
        // Opening repairs, and the next round's cut may come in the middle of that.
        copy_folder(&survivor, &copy);
        let found = process::read(Store { engine, path: &copy }, &self.folder.join("entries"));
        let context = |what| format!("{write_back:?}, call {cut_at}: {what}");
        self.model.compare(&found.map_err(context)?, acknowledged).map_err(context)?;
        for folder in [&live, &disk, &copy] {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::rename(survivor, live).unwrap();
        Ok(())
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
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
