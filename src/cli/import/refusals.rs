//! What was refused of an import: a file beside it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{beside, open, part};
use crate::cli::stream::Place;

/// What the file's name ends with.
const ENDING: &str = ".refused.ndjson";

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    /// Which line of the import it is, from 1.
    line: u64,
    /// Why it was refused.
    reason: String,
    /// What it is.
    input: String,
}

/// Keeps the file. It is there where there is something in it.
pub(super) struct Refusals {
    path: PathBuf,
    input: File,
    out: Option<File>,
    count: u64,
}

impl Refusals {
    /// Keeps what was refused up to `from`; what is behind it is sent again, and refused again.
    pub(super) fn begin(file: &Path, from: Place) -> anyhow::Result<Self> {
        let path = beside(file, ENDING);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let kept = refused_up_to(from.lines, &text);
        if !text.is_empty() {
            fs::remove_file(&path).with_context(|| format!("cannot renew {}", path.display()))?;
        }
        let mut refusals = Self { path, input: open(file)?, out: None, count: 0 };
        for refusal in kept {
            refusals.write(&refusal)?;
        }
        Ok(refusals)
    }

    /// The line that begins on line `line`, and is these bytes of the import, is refused.
    pub(super) fn add(&mut self, line: u64, bytes: Range<u64>, reason: &str) -> anyhow::Result<()> {
        let input = part(&self.input, bytes.start, bytes.end)?;
        let input = String::from_utf8_lossy(input.trim_ascii()).into_owned();
        self.write(&Refusal { line, reason: reason.to_owned(), input })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, refusal: &Refusal) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(refusal)?;
        line.push(b'\n');
        let out = match &mut self.out {
            Some(out) => out,
            None => {
                // It holds what is known of users.
                let file =
                    OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
                let context = || format!("cannot write {}", self.path.display());
                self.out.insert(file.with_context(context)?)
            }
        };
        out.write_all(&line)?;
        self.count += 1;
        Ok(())
    }
}

/// What a file says of lines up to this one. Its last line may be torn.
fn refused_up_to(lines: u64, text: &[u8]) -> Vec<Refusal> {
    let refusals = text.split(|&byte| byte == b'\n');
    let refusals = refusals.filter_map(|line| serde_json::from_slice::<Refusal>(line).ok());
    refusals.filter(|refusal| refusal.line <= lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_behind_the_place_is_forgotten_and_what_was_before_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.ndjson");
        fs::write(&file, "one\ntwo\nthree\n").unwrap();
        let mut refusals = Refusals::begin(&file, Place::default()).unwrap();
        assert!(!refusals.path().exists());
        refusals.add(1, 0..4, "is bad").unwrap();
        refusals.add(3, 8..14, "is worse").unwrap();
        let path = refusals.path().to_owned();
        let mut torn = fs::read(&path).unwrap();
        torn.extend(br#"{"line":2,"rea"#);
        fs::write(&path, torn).unwrap();

        let again = Refusals::begin(&file, Place { lines: 2, offset: 8 }).unwrap();
        assert_eq!(again.count(), 1);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"line\":1,\"reason\":\"is bad\",\"input\":\"one\"}\n");
        assert_eq!(Refusals::begin(&file, Place::default()).unwrap().count(), 0);
        assert!(!path.exists());
    }
}
