//! Cutting the power of a real ext4, on a loop device: needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    model::Model,
    process::{self, Store, Work},
    rounds::{self, ROUNDS, Tally},
};

const IMAGE_BYTES: u64 = 1 << 30;

/// Cuts the power at least `cuts` times. An error says what the machine lacks for that.
pub(crate) fn cut(engine: &'static str, first_seed: u64, cuts: u64) -> Result<Tally, String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cutter = folder.path().join("cut");
    rounds::compile("cut.c", &[], &cutter);
    rehearse(folder.path(), &cutter)?;
    let mut tally = Tally::default();
    for seed in first_seed.. {
        if tally.cuts >= cuts {
            break;
        }
        database(engine, seed, folder.path(), &cutter, &mut tally).expect("what the rehearsal did");
    }
    Ok(tally)
}

/// Does once what needs root, a loop device and the ioctl.
fn rehearse(folder: &Path, cutter: &Path) -> Result<(), String> {
    let image = make_image(folder)?;
    let mount = Mount::new(&image, folder)?;
    run(Command::new(cutter).args([&mount.path, &image]).args(["0", "0"]))
}

fn make_image(folder: &Path) -> Result<PathBuf, String> {
    let image = folder.join("image");
    fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    Ok(image)
}

fn database(
    engine: &'static str,
    seed: u64,
    folder: &Path,
    cutter: &Path,
    tally: &mut Tally,
) -> Result<(), String> {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut model = Model::new(seed);
    let image = make_image(folder)?;
    for round in 0..ROUNDS {
        let acknowledged = work_and_cut(engine, folder, cutter, &model, random)?;
        tally.cuts += 1;
        tally.acknowledged += acknowledged;
        let copy = folder.join("copy");
        {
            let mount = Mount::new(&image, folder)?;
            // An early cut leaves not even the folder.
            fs::create_dir_all(mount.store()).unwrap();
            // Opening repairs; the next round's process shall find it as it is.
            rounds::copy_folder(&mount.store(), &copy);
        }
        let found = process::read(Store { engine, path: &copy }, &folder.join("entries"));
        fs::remove_dir_all(copy).unwrap();
        if let Err(what) = found.and_then(|found| model.compare(&found, acknowledged)) {
            tally.losses.push(format!("seed {seed}, cut {round}: {what}"));
            break;
        }
    }
    Ok(())
}

/// Returns how many ops were acknowledged. None is once the file system is shut down, since
/// no flush succeeds from then on.
fn work_and_cut(
    engine: &'static str,
    folder: &Path,
    cutter: &Path,
    model: &Model,
    random: &mut StdRng,
) -> Result<u64, String> {
    let mount = Mount::new(&folder.join("image"), folder)?;
    fs::create_dir_all(mount.store()).unwrap();
    let acknowledged = folder.join("acknowledged");
    let store = Store { engine, path: &mount.store() };
    let (seed, first) = (model.seed, model.done);
    let work = Work { store, acknowledged: &acknowledged, seed, first };
    let mut worker = work.start();
    let after_ops = if random.random_ratio(1, 4) { 0 } else { random.random_range(1..200) };
    let after_us = random.random_range(0..20_000);
    let cut = run(Command::new(cutter)
        .args([&mount.path, &acknowledged])
        .args([after_ops.to_string(), after_us.to_string()]));
    worker.kill().unwrap();
    worker.wait().unwrap();
    cut?;
    Ok(fs::metadata(&acknowledged).unwrap().len())
}

/// A mounted image.
struct Mount {
    path: PathBuf,
}

impl Mount {
    fn new(image: &Path, folder: &Path) -> Result<Self, String> {
        let path = folder.join("mount");
        fs::create_dir_all(&path).unwrap();
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(&path))?;
        Ok(Self { path })
    }

    fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.path)).expect("what was mounted is unmounted");
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
