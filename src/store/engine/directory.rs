//! The directory of an embedded engine: who holds it, which engine made it, and what to say
//! when it cannot be used.

use std::{fs, io, path::Path};

use super::EngineError;
use crate::store::private;

/// Each engine by its name in the configuration, and what it keeps in the directory.
const CONTENTS: [(&str, &str); 3] =
    [("sled", "sled"), ("redb", "store.redb"), ("postgres", "postgres.id")];

const LOCK_FILE: &str = "LOCK";

/// Takes the directory for `engine`, for as long as what is returned is held. Makes it if it is
/// missing; refuses one that another process holds or another engine made.
pub(super) fn take(path: &Path, engine: &str) -> Result<fs::File, EngineError> {
    private::make_folder(path).map_err(|error| cannot_open(path, error))?;
    let lock = lock(path)?;
    for (other, content) in CONTENTS {
        if other != engine && path.join(content).exists() {
            return Err(cannot_open(path, made_by(other, engine)));
        }
    }
    Ok(lock)
}

/// Takes the directory's lock, and leaves this process's id in it for whoever comes second.
fn lock(path: &Path) -> Result<fs::File, EngineError> {
    let file = path.join(LOCK_FILE);
    let lock = private::file_options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .map_err(|error| cannot_open(path, error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok());
            return Err(EngineError::InUse { path: path.display().to_string(), holder });
        }
        Err(fs::TryLockError::Error(error)) => return Err(cannot_open(path, error)),
    }
    fs::write(&file, std::process::id().to_string()).map_err(|error| cannot_open(path, error))?;
    Ok(lock)
}

fn made_by(other: &str, engine: &str) -> io::Error {
    io::Error::other(format!(
        "the engine {other} made it, and the configuration asks for {engine}. To go on with \
         {other}, set store.engine = \"{other}\". To move to {engine}, write out what the store \
         holds with `userpilot-gateway store export` while the engine is {other}, and take it \
         back with `userpilot-gateway store import` under {engine} and another store.path"
    ))
}

/// The directory, or what is in it, cannot be used.
pub(super) fn cannot_open(path: &Path, error: io::Error) -> EngineError {
    EngineError::Open { path: path.display().to_string(), reason: error.to_string() }
}

/// The engine cannot read what is there.
pub(super) fn damaged(path: &Path, what: &str) -> EngineError {
    let reason = format!(
        "{what}. The files were left as they are. Keep a copy of the directory; to start \
         without what it holds, move it away"
    );
    EngineError::Open { path: path.display().to_string(), reason }
}
