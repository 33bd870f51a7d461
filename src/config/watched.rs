//! The files that a configuration is made of, and whether any of them has changed.

use std::{
    collections::BTreeMap,
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use secrecy::zeroize::Zeroizing;

use super::{Config, JwksSource};

/// No more of a file is looked at than the readers would take.
const BYTES_MAX: u64 = (1 << 20) + 1;

/// What was in files, as far as it takes to tell whether it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents(BTreeMap<PathBuf, Result<u64, io::ErrorKind>>);

impl Config {
    /// Its files, save those of API keys, which are looked after app by app.
    pub fn files(&self) -> Vec<PathBuf> {
        let tls = &self.tls;
        let key_set = self.auth.issuer.as_ref().and_then(|issuer| match &issuer.keys {
            JwksSource::File(path) => Some(path.clone()),
            JwksSource::Url(_) => None,
        });
        [&tls.cert_file, &tls.key_file, &tls.client_ca_file]
            .into_iter()
            .filter_map(Clone::clone)
            .chain(key_set)
            .chain(self.apps.iter().filter_map(|app| app.properties.hash_key_file.clone()))
            .collect()
    }
}

impl Contents {
    /// Looks into each file. Links are followed, as Kubernetes' secrets need it, and no date is
    /// believed.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let look = |path: PathBuf| {
            let content = hash(&path).map_err(|error| error.kind());
            (path, content)
        };
        Self(files.into_iter().map(look).collect())
    }
}

fn hash(path: &Path) -> io::Result<u64> {
    let mut content = Zeroizing::new(Vec::new());
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut content)?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    Ok(hasher.finish())
}
