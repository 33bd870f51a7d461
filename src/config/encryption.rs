//! The keys that a store's values are encrypted under.

use std::path::{self, Path, PathBuf};

use secrecy::{ExposeSecret, SecretBox};
use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use super::{api_key, reader::Reader};

const KEY_BYTES: usize = 32;

/// The bytes of a key.
pub type StoreKeyBytes = SecretBox<[u8; KEY_BYTES]>;

/// What a store's values are encrypted under.
#[derive(Debug, Default, Serialize)]
pub struct EncryptionConfig {
    /// The file of the key; without one, values are in clear.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_file")]
    pub encryption_key_file: Option<PathBuf>,
    /// The files of keys that older values may be encrypted under.
    #[serde(serialize_with = "display_files")]
    pub old_encryption_key_files: Vec<PathBuf>,
    /// The key.
    #[serde(skip)]
    pub key: Option<StoreKeyBytes>,
    /// The older keys.
    #[serde(skip)]
    pub old_keys: Vec<StoreKeyBytes>,
}

impl Clone for EncryptionConfig {
    fn clone(&self) -> Self {
        let copy = |key: &StoreKeyBytes| SecretBox::new(Box::new(*key.expose_secret()));
        Self {
            encryption_key_file: self.encryption_key_file.clone(),
            old_encryption_key_files: self.old_encryption_key_files.clone(),
            key: self.key.as_ref().map(copy),
            old_keys: self.old_keys.iter().map(copy).collect(),
        }
    }
}

pub(super) fn encryption(reader: &mut Reader<'_>, folder: &Path) -> EncryptionConfig {
    let absolute = |file: String| {
        let path = folder.join(file);
        path::absolute(&path).unwrap_or(path)
    };
    let name = "encryption_key_file";
    let file = reader.has(name).then(|| reader.optional(name)).flatten();
    let file = file.map(|(file, _)| absolute(file));
    let key = file.as_ref().and_then(|file| key(reader, name, file));
    let name = "old_encryption_key_files";
    let old: Vec<PathBuf> = reader.texts(name).into_iter().map(absolute).collect();
    let old_keys = old.iter().filter_map(|file| self::key(reader, name, file)).collect();
    let (encryption_key_file, old_encryption_key_files) = (file, old);
    EncryptionConfig { encryption_key_file, old_encryption_key_files, key, old_keys }
}

/// A key, or a problem that shows nothing of it.
fn key(reader: &mut Reader<'_>, name: &str, file: &Path) -> Option<StoreKeyBytes> {
    let place = file.display();
    let message = match api_key::read_file(file) {
        Ok((text, readable_by_all)) if !readable_by_all => {
            match digits(text.expose_secret().trim()) {
                Some(key) => return Some(key),
                None => format!(
                    "the key in {place} is not 64 hexadecimal digits, as `openssl rand -hex 32` \
                     makes them"
                ),
            }
        }
        Ok(_) => format!("every user of this machine can read the key in {place}: chmod 600 it"),
        Err(error) => format!("cannot read the key in {place}: {error}"),
    };
    reader.refuse(name, message);
    None
}

fn digits(text: &str) -> Option<StoreKeyBytes> {
    let mut key = SecretBox::new(Box::new([0; KEY_BYTES]));
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != KEY_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in secrecy::ExposeSecretMut::expose_secret_mut(&mut key).iter_mut().zip(pairs)
    {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

fn display_file<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.collect_str(&path.display()),
        None => serializer.serialize_none(),
    }
}

fn display_files<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(paths.len()))?;
    for path in paths {
        list.serialize_element(&path.display().to_string())?;
    }
    list.end()
}
