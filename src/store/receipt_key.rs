//! What receipts are signed with: random, beside the store, and made with it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::private;

const FILE: &str = "receipts.key";
pub(super) const KEY_BYTES: usize = 32;

/// The key's bytes.
pub type ReceiptKey = [u8; KEY_BYTES];

/// The key of the store in this folder, which is open: so nobody else makes one meanwhile.
pub fn receipt_key(folder: &Path) -> io::Result<ReceiptKey> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => return Ok(key),
            Err(_) => {
                let path = path.display();
                tracing::warn!(%path, "is damaged and made anew: receipts from before are refused");
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: ReceiptKey = rand::random();
    let unfinished = folder.join(format!("{FILE}.new"));
    let mut file =
        private::file_options().create(true).truncate(true).write(true).open(&unfinished)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_store_has_one_key_which_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let key = receipt_key(folder.path()).unwrap();
        assert_eq!(receipt_key(folder.path()).unwrap(), key);
        let file = folder.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(receipt_key(tempfile::tempdir().unwrap().path()).unwrap(), key);
        // Half a key is none.
        fs::write(&file, &key[..16]).unwrap();
        let other = receipt_key(folder.path()).unwrap();
        assert_ne!(other, key);
        assert_eq!(receipt_key(folder.path()).unwrap(), other);
    }
}
