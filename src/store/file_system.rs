//! What the file system below a store says of itself.

use std::{io, path::Path};

use crate::domain::space::Concern;

/// How many bytes a process without privileges may still write there.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let numbers = rustix::fs::statvfs(path)?;
    Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize))
}

/// How many bytes may still be written there. Only Unix is asked.
#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The file system's name, and why it is a bad place for a store, if it is known to be.
#[cfg(target_os = "linux")]
pub fn concern(path: &Path) -> Option<(&'static str, Concern)> {
    let magic = rustix::fs::statfs(path).ok()?.f_type;
    // Of 32 bits, in a type whose width and sign differ from machine to machine.
    Concern::of((magic as u64) & 0xffff_ffff)
}

/// Only Linux numbers its file systems.
#[cfg(not(target_os = "linux"))]
pub fn concern(_: &Path) -> Option<(&'static str, Concern)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_free_bytes_and_none_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        assert!(free_bytes(&folder.path().join("missing")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_told_from_a_disk() {
        assert_eq!(concern(Path::new("/dev/shm")), Some(("tmpfs", Concern::Memory)));
        assert_eq!(concern(Path::new("/proc")), None);
    }
}
