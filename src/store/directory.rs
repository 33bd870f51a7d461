//! The directory of a store, from before an engine opens it: whether it can be worked in, and
//! what a crash has left of writing it anew.
//!
//! A store that is written anew is made in `rebuild/`. Once it is whole and on the disk, that
//! becomes `rebuilt/`, and from then on the new store counts: the old one makes room, the new
//! one takes its place, what is left over goes. Each is one step, on the disk before the next,
//! and a crash between any two is gone on from at the next opening.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{engine::EngineError, private};

/// Where a store is made anew.
pub(super) const REBUILD: &str = "rebuild";
/// The same, once it is whole.
pub(super) const REBUILT: &str = "rebuilt";
const LOCK: &str = "OPENING";

/// The folder of a sled store in its directory.
pub const SLED_FOLDER: &str = "sled";
/// The file of a redb store in its directory.
pub const REDB_FILE: &str = "store.redb";

/// An opening that is under way. No two processes open a store at the same time: until its
/// engine has locked it, nothing else keeps them apart.
#[derive(Debug)]
pub struct Opening {
    path: PathBuf,
    /// The engine's folder below `path`.
    engine: &'static str,
    _lock: File,
}

impl Opening {
    /// Makes the directory if it is missing, sees whether it can be worked in, and finishes
    /// what a crash interrupted. `engine` is the engine's folder in it.
    pub fn begin(path: &Path, engine: &'static str) -> Result<Self, EngineError> {
        check(path, engine)?;
        let file = path.join(LOCK);
        let cannot = |error| cannot_use(&file, &error);
        let mut options = private::file_options();
        let options = options.create(true).truncate(false).write(true);
        let lock = options.open(&file).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = path.display().to_string();
                return Err(EngineError::InUse { path, holder: None });
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        refuse_another_engines(path, engine)?;
        let opening = Self { path: path.to_owned(), engine, _lock: lock };
        opening.finish().map_err(|error| cannot_use(path, &error))?;
        private::close_to_others(path).map_err(|error| cannot_use(path, &error))?;
        Ok(opening)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the steps that are left of writing the store anew.
    pub(super) fn finish(&self) -> io::Result<()> {
        while let Some(step) = self.next_step()? {
            self.take(step)?;
        }
        Ok(())
    }

    /// What is to be done next, by what is there.
    fn next_step(&self) -> io::Result<Option<Step>> {
        let Places { rebuild, rebuilt, new, live, old } = self.places();
        let is = |path: &Path| path.try_exists();
        Ok(if is(&rebuild)? {
            Some(Step::DropUnfinished)
        } else if is(&new)? {
            Some(if is(&live)? { Step::MakeRoom } else { Step::MoveIn })
        } else if is(&rebuilt)? {
            Some(if is(&old)? { Step::DropOld } else { Step::DropRest })
        } else {
            None
        })
    }

    fn take(&self, step: Step) -> io::Result<()> {
        let Places { rebuild, rebuilt, new, live, old } = self.places();
        match step {
            Step::DropUnfinished => fs::remove_dir_all(rebuild)?,
            // Fails where there is an old one already: then somebody put the live one there.
            Step::MakeRoom => fs::rename(live, old)?,
            Step::MoveIn => fs::rename(new, live)?,
            Step::DropOld => fs::remove_dir_all(old)?,
            Step::DropRest => fs::remove_dir_all(rebuilt)?,
        }
        sync(&self.path)
    }

    /// Declares what was made in `rebuild/` whole. All of it is made to be on the disk first.
    pub(super) fn declare_whole(&self) -> io::Result<()> {
        let Places { rebuild, rebuilt, .. } = self.places();
        sync_all(&rebuild)?;
        fs::rename(rebuild, rebuilt)?;
        sync(&self.path)
    }

    fn places(&self) -> Places {
        let rebuilt = self.path.join(REBUILT);
        Places {
            rebuild: self.path.join(REBUILD),
            new: rebuilt.join(self.engine),
            rebuilt,
            live: self.path.join(self.engine),
            old: self.path.join(format!("{}.old", self.engine)),
        }
    }
}

struct Places {
    rebuild: PathBuf,
    rebuilt: PathBuf,
    /// The new store in `rebuilt`.
    new: PathBuf,
    live: PathBuf,
    old: PathBuf,
}

/// One step of putting a new store in the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    DropUnfinished,
    MakeRoom,
    MoveIn,
    DropOld,
    DropRest,
}

/// Whether there is a store of this engine in `path`.
pub fn holds_store(path: &Path, engine: &str) -> bool {
    [path.join(engine), path.join(REBUILT).join(engine)].iter().any(|folder| folder.exists())
}

/// A crash may have come while another engine's store was taking its new place: what is there of
/// it is not ours to clear away.
fn refuse_another_engines(path: &Path, engine: &str) -> Result<(), EngineError> {
    for other in [SLED_FOLDER, REDB_FILE] {
        let moving = path.join(REBUILT).join(other);
        if other != engine && moving.exists() {
            let reason = format!(
                "a store of another engine was being written anew, and {} holds it: start once \
                 with that engine, which finishes it",
                moving.display()
            );
            return Err(EngineError::Open { path: path.display().to_string(), reason });
        }
    }
    Ok(())
}

/// Makes the directory, and opens for writing what the engine will.
fn check(path: &Path, engine: &str) -> Result<(), EngineError> {
    private::make_folder(path).map_err(|error| cannot_use(path, &error))?;
    // Made and removed: some file systems tell only then that they are read-only.
    let probe = path.join(".probe");
    File::create(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|error| cannot_use(path, &error))?;
    let engine = path.join(engine);
    if engine.is_file() {
        let opened = File::options().read(true).write(true).open(&engine);
        return opened.map(drop).map_err(|error| cannot_use(&engine, &error));
    }
    let entries = match fs::read_dir(&engine) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot_use(&engine, &error)),
    };
    for entry in entries {
        let file = entry.map_err(|error| cannot_use(&engine, &error))?.path();
        let kind = file.metadata().map_err(|error| cannot_use(&file, &error))?;
        if kind.is_file() {
            let opened = File::options().read(true).write(true).open(&file);
            opened.map_err(|error| cannot_use(&file, &error))?;
        }
    }
    Ok(())
}

fn cannot_use(path: &Path, error: &io::Error) -> EngineError {
    let reason = format!("{error}: {}", advice(error.kind()));
    EngineError::Open { path: path.display().to_string(), reason }
}

/// What to do about an error that a directory answers with.
fn advice(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::PermissionDenied {
        "let the user that the gateway runs as read and write it, or set another store.path"
    } else if kind == ErrorKind::ReadOnlyFilesystem {
        "mount it for writing, or set another store.path; Linux makes a file system read-only \
         after a disk error, which the kernel's log would tell"
    } else if [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].contains(&kind) {
        "make room on it; what was accepted is still there"
    } else if [ErrorKind::NotADirectory, ErrorKind::AlreadyExists].contains(&kind) {
        "store.path has to name a directory, and a file is in its place: move that away, or set \
         another store.path"
    } else {
        "look for disk errors in the kernel's log, or set another store.path"
    }
}

/// Makes a directory's entries be on the disk.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a directory and all that is in it be on the disk.
fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = SLED_FOLDER;

    fn begin(path: &Path) -> Result<Opening, EngineError> {
        Opening::begin(path, ENGINE)
    }

    fn make(folder: &Path, content: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("db"), content).unwrap();
    }

    /// A directory with an old store and a new one that is being made.
    fn rebuilding() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        drop(begin(folder.path()).unwrap());
        make(&folder.path().join(ENGINE), "old");
        make(&folder.path().join(REBUILD).join(ENGINE), "new");
        folder
    }

    #[test]
    fn another_engine_does_not_clear_away_a_store_that_is_being_moved() {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join(REBUILT).join(ENGINE), "new");
        let error = Opening::begin(folder.path(), REDB_FILE).unwrap_err().to_string();
        assert!(error.contains("start once with that engine"), "{error}");
        assert_eq!(opened(folder.path()), "new");
    }

    /// What is in the directory after an opening: the live store's content, and nothing else.
    fn opened(path: &Path) -> String {
        drop(begin(path).unwrap());
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [LOCK, ENGINE]);
        fs::read_to_string(path.join(ENGINE).join("db")).unwrap()
    }

    #[test]
    fn a_new_store_that_is_not_whole_is_dropped() {
        let folder = rebuilding();
        assert_eq!(opened(folder.path()), "old");
    }

    #[test]
    fn a_crash_between_any_two_steps_ends_with_the_new_store() {
        for steps in 0..5 {
            let folder = rebuilding();
            let path = folder.path();
            let opening = Opening {
                path: path.to_owned(),
                engine: ENGINE,
                _lock: File::open(path.join(LOCK)).unwrap(),
            };
            opening.declare_whole().unwrap();
            for _ in 0..steps {
                if let Some(step) = opening.next_step().unwrap() {
                    opening.take(step).unwrap();
                }
            }
            assert_eq!(opening.next_step().unwrap().is_none(), steps == 4);
            assert_eq!(opened(path), "new", "after {steps} steps");
        }
    }

    #[test]
    fn a_crash_while_the_old_store_is_dropped_ends_with_the_new_one() {
        let folder = rebuilding();
        let path = folder.path();
        fs::rename(path.join(REBUILD), path.join(REBUILT)).unwrap();
        fs::rename(path.join(ENGINE), path.join("sled.old")).unwrap();
        fs::rename(path.join(REBUILT).join(ENGINE), path.join(ENGINE)).unwrap();
        fs::remove_file(path.join("sled.old/db")).unwrap();
        assert_eq!(opened(path), "new");
    }

    #[test]
    fn two_do_not_open_a_store_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = begin(folder.path()).unwrap();
        assert!(matches!(begin(folder.path()), Err(EngineError::InUse { .. })));
        drop(first);
        begin(folder.path()).unwrap();
    }

    fn check_refusal(path: &Path, named: &Path, advice: &str) {
        let refusal = begin(path).unwrap_err().to_string();
        assert!(refusal.contains(&named.display().to_string()), "{refusal}");
        assert!(refusal.contains(advice) && !refusal.contains('\n'), "{refusal}");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        fs::write(&file, "").unwrap();
        check_refusal(&file, &file, "a file is in its place");
        check_refusal(&file.join("below"), &file.join("below"), "a file is in its place");
    }

    #[test]
    fn what_cannot_be_written_is_named_with_what_to_do() {
        for (kind, part) in [
            (ErrorKind::PermissionDenied, "the user that the gateway runs as"),
            (ErrorKind::ReadOnlyFilesystem, "mount it for writing"),
            (ErrorKind::StorageFull, "make room"),
            (ErrorKind::Other, "kernel's log"),
        ] {
            let refusal = cannot_use(Path::new("data"), &kind.into()).to_string();
            assert!(refusal.contains(part) && refusal.contains("data"), "{refusal}");
        }
    }
}
