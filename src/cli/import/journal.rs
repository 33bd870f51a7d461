//! How far an import has come: a note beside the file.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use ring::digest::{self, SHA256};
use serde::{Deserialize, Serialize};

use super::{beside, open, part};
use crate::{cli::stream::Place, clock, domain::time::Instant};

/// What the note's name ends with.
const ENDING: &str = ".userpilot-gateway-import";
/// What is sent again after a crash is what was accepted in this time.
const SAVE_INTERVAL: Duration = Duration::from_millis(250);
/// What is read at once to be hashed.
const PIECE_BYTES: u64 = 1 << 20;

/// What was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    pub(super) coalesced: u64,
}

/// What the note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Which app it goes to.
    app: String,
    /// The file's size, in bytes.
    size: u64,
    /// Everything up to here is accepted or refused.
    done: Place,
    /// The SHA-256 of the bytes up to there.
    sha256: String,
    tally: Tally,
}

/// Why a note does not fit to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfit {
    App,
    File,
}

impl Note {
    /// Whether an import of a file goes on where the note says. `sha256` is that of the bytes up to
    /// there.
    fn fits(&self, app: &str, size: u64, sha256: &str) -> Result<(), Misfit> {
        if self.app != app {
            return Err(Misfit::App);
        }
        if self.size != size || self.sha256 != sha256 {
            return Err(Misfit::File);
        }
        Ok(())
    }
}

/// Keeps the note.
pub(super) struct Journal {
    path: PathBuf,
    input: File,
    hash: digest::Context,
    hashed: u64,
    note: Note,
    /// What is done, and may not be noted yet.
    done: (Place, Tally),
    saved_at: Instant,
}

impl Journal {
    /// Begins at the start of the file.
    pub(super) fn anew(file: &Path, app: &str) -> anyhow::Result<Self> {
        let input = open(file)?;
        let (size, done, tally) = (input.metadata()?.len(), Place::default(), Tally::default());
        let hash = digest::Context::new(&SHA256);
        let note = Note { app: app.to_owned(), size, done, sha256: hex(hash.clone()), tally };
        let saved_at = clock::now().instant;
        let (path, done) = (beside(file, ENDING), (done, tally));
        Ok(Self { path, input, hash, hashed: 0, note, done, saved_at })
    }

    /// Goes on where the note says, if there is one.
    pub(super) fn begin(file: &Path, app: &str) -> anyhow::Result<Self> {
        let mut journal = Self::anew(file, app)?;
        let text = match fs::read(&journal.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(journal),
            Err(error) => return Err(error).context(journal.path.display().to_string()),
        };
        let path = journal.path.display().to_string();
        let note: Note = serde_json::from_slice(&text)
            .with_context(|| format!("{path} does not say how far it has come"))
            .context("give --from-start, and it begins anew")?;
        journal.hash_up_to(note.done.offset)?;
        match note.fits(app, journal.note.size, &hex(journal.hash.clone())) {
            Ok(()) => {}
            Err(Misfit::App) => bail!(
                "the import that was stopped goes to app {:?}: give --app, or --from-start to begin \
                 anew",
                note.app
            ),
            Err(Misfit::File) => bail!(
                "{} has changed since its import was stopped at line {}: give --from-start, and it \
                 begins anew",
                file.display(),
                note.done.lines
            ),
        }
        journal.done = (note.done, note.tally);
        journal.note = note;
        Ok(journal)
    }

    /// Up to where everything is accepted or refused.
    pub(super) fn place(&self) -> Place {
        self.done.0
    }

    /// What was taken up to there.
    pub(super) fn tally(&self) -> Tally {
        self.done.1
    }

    /// The file's size, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.note.size
    }

    /// Everything up to here is done. It is noted now and then.
    pub(super) fn pass(&mut self, place: Place, tally: Tally) -> anyhow::Result<()> {
        self.done = (place, tally);
        if clock::now().instant.since(self.saved_at) < SAVE_INTERVAL {
            return Ok(());
        }
        self.save()
    }

    /// Notes what is done.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        self.saved_at = clock::now().instant;
        (self.note.done, self.note.tally) = self.done;
        self.hash_up_to(self.note.done.offset)?;
        self.note.sha256 = hex(self.hash.clone());
        let new = beside(&self.path, ".new");
        let written = fs::write(&new, serde_json::to_vec(&self.note)?);
        let written = written.and_then(|()| fs::rename(&new, &self.path));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Everything is done.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn hash_up_to(&mut self, offset: u64) -> io::Result<()> {
        while self.hashed < offset {
            let end = offset.min(self.hashed + PIECE_BYTES);
            let bytes = part(&self.input, self.hashed, end)?;
            if bytes.is_empty() {
                break;
            }
            self.hash.update(&bytes);
            self.hashed += bytes.len() as u64;
        }
        Ok(())
    }
}

fn hex(hash: digest::Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_fits_to_the_file_and_the_app_that_it_was_made_for() {
        let done = Place { lines: 2, offset: 20 };
        let (app, sha256) = ("production".to_owned(), "ab".to_owned());
        let note = Note { app, size: 100, done, sha256, tally: Tally::default() };
        assert_eq!(note.fits("production", 100, "ab"), Ok(()));
        assert_eq!(note.fits("staging", 100, "ab"), Err(Misfit::App));
        assert_eq!(note.fits("production", 101, "ab"), Err(Misfit::File));
        assert_eq!(note.fits("production", 100, "cd"), Err(Misfit::File));
    }

    #[test]
    fn an_import_goes_on_where_it_stopped_unless_the_file_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.ndjson");
        fs::write(&file, "first\nsecond\n").unwrap();
        let begin = || Journal::begin(&file, "");
        let (place, tally) = (Place { lines: 1, offset: 6 }, Tally { accepted: 1, coalesced: 0 });
        let mut journal = begin().unwrap();
        assert_eq!(journal.place(), Place::default());
        journal.pass(place, tally).unwrap();
        journal.save().unwrap();
        let again = begin().unwrap();
        assert_eq!((again.place(), again.tally()), (place, tally));

        // What is not taken yet may change.
        fs::write(&file, "first\nSECOND\n").unwrap();
        assert_eq!(begin().unwrap().place(), place);
        for changed in ["First\nsecond\n", "first\nsecond\nthird\n", "firs"] {
            fs::write(&file, changed).unwrap();
            let error = begin().err().unwrap();
            assert!(format!("{error:#}").contains("--from-start"), "{error:#}");
        }
        assert_eq!(Journal::anew(&file, "").unwrap().place(), Place::default());
        again.remove().unwrap();
        assert_eq!(begin().unwrap().place(), Place::default());
    }
}
