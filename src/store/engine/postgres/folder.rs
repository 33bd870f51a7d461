//! A folder of the gateway's own. Whoever has it locked knows that a process which had it locked
//! before is dead, and so need not wait for that one's lease to end.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::{
    clock,
    store::{
        engine::{
            EngineError,
            directory::{self, cannot_open},
        },
        private,
    },
};

/// What tells the folder from a copy of it, or another on the same machine.
const ID: &str = "postgres.id";

/// Takes the folder, and says what only whoever has it can say: empty where the machine cannot tell
/// that it is the same.
pub(super) fn take(path: &Path, engine: &str) -> Result<(File, String), EngineError> {
    let lock = directory::take(path, engine)?;
    let proof = proof(path).map_err(|error| cannot_open(path, error))?;
    Ok((lock, proof))
}

/// The folder's number, the place of its file on the disk, and the run of the machine: a copy has
/// another place, and a copy on another machine another run.
fn proof(path: &Path) -> io::Result<String> {
    let path = path.join(ID);
    let id = match fs::read_to_string(&path) {
        Ok(id) => id,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = format!("{:032x}", rand::random::<u128>());
            let mut file = private::file_options().create_new(true).write(true).open(&path)?;
            file.write_all(id.as_bytes())?;
            id
        }
        Err(error) => return Err(error),
    };
    let metadata = fs::metadata(&path)?;
    let Some(uptime) = clock::now().uptime else { return Ok(String::new()) };
    Ok(format!("{:016x}-{}-{}-{}", uptime.boot, metadata.dev(), metadata.ino(), id.trim()))
}
