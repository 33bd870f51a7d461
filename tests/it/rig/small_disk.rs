//! A file system of its own, small enough to be filled: needs root, and a loop device.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Enough for a store, whose engine writes segments of 8 MiB.
const BYTES: u64 = 160 << 20;

/// An ext4 that is mounted until this is dropped.
pub(crate) struct SmallDisk {
    image: PathBuf,
    mount: PathBuf,
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this machine cannot do it, which it says.
    #[expect(clippy::print_stderr, reason = "whoever reads the results needs to know")]
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        fs::create_dir(&mount).unwrap();
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let made = made.and_then(|()| attach(&image, &mount));
        if let Err(lacking) = made {
            eprintln!("skipped, since this machine cannot do it: {lacking}");
            return None;
        }
        Some(Self { image, mount, folder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Leaves about so many bytes free. Called again, it makes room or takes it.
    pub(crate) fn leave(&self, bytes: u64) {
        let ballast = self.mount.join("ballast");
        fs::remove_file(&ballast).ok();
        // What was freed counts only once it is committed.
        self.sync();
        let mut file = File::create(&ballast).unwrap();
        let block = vec![0; 1 << 16];
        let free = userpilot_gateway::store::file_system::free_bytes(&self.mount).unwrap();
        for _ in 0..free.saturating_sub(bytes) >> 16 {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        file.sync_all().unwrap();
    }

    /// Makes it read-only, as Linux does after a disk error, or writable again.
    pub(crate) fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        run(Command::new("mount").args(["-o", &option]).arg(&self.mount)).unwrap();
    }

    /// Shuts it down without flushing its journal: from then on, all that is asked of it fails.
    /// Says where the machine cannot do that.
    #[expect(clippy::print_stderr, reason = "whoever reads the results needs to know")]
    pub(crate) fn fail(&self) -> bool {
        let cut = self.folder.path().join("cut");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/cut.c");
        let made = run(Command::new("cc").arg("-o").arg(&cut).arg(source));
        let failed = made.and_then(|()| {
            run(Command::new(cut).args([&self.mount, &self.image]).args(["0", "0"]))
        });
        if let Err(lacking) = &failed {
            eprintln!("skipped, since this machine cannot do it: {lacking}");
        }
        failed.is_ok()
    }

    /// Mounts it anew, as after a repair. Nothing may be open on it.
    pub(crate) fn recover(&self) {
        run(Command::new("umount").arg(&self.mount)).unwrap();
        attach(&self.image, &self.mount).unwrap();
    }

    fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.mount)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Where a process is still in it, it goes when that ends.
        run(Command::new("umount").arg("--lazy").arg(&self.mount)).ok();
    }
}

fn attach(image: &Path, mount: &Path) -> Result<(), String> {
    run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(mount))
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
