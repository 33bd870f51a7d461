//! The end of an export: a line that says how many records there are before it, with a checksum of
//! their lines. Without it, nobody could tell a whole export from one that was cut off.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What the line begins with: no record's line does.
const BEGINNING: &[u8] = br#"{"end":"#;

/// The last line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    end: End,
}

/// What lines of records come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    /// How many there are.
    pub(super) records: u64,
    /// SHA-256 of them, with the ends of the lines, in hexadecimal digits.
    pub(super) sha256: String,
}

impl EndLine {
    /// Reads the line, if it is one. An error if it is torn.
    pub(super) fn read(line: &[u8]) -> Option<Result<End, serde_json::Error>> {
        let read = |line| serde_json::from_slice(line).map(|Self { end }| end);
        line.starts_with(BEGINNING).then(|| read(line))
    }
}

impl End {
    /// The line that says so, without its end.
    pub(super) fn line(&self) -> EndLine {
        EndLine { end: self.clone() }
    }
}

/// Adds lines up.
#[derive(Clone)]
pub(super) struct Sum {
    records: u64,
    hash: Context,
}

impl Default for Sum {
    fn default() -> Self {
        Self { records: 0, hash: Context::new(&SHA256) }
    }
}

impl Sum {
    /// Adds a record's line, with its end.
    pub(super) fn add(&mut self, line: &[u8]) {
        self.records += 1;
        self.hash.update(line);
    }

    /// How many were added.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// What they come to.
    pub(super) fn end(self) -> End {
        let hash = self.hash.finish();
        let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        End { records: self.records, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_what_is_documented_and_reads_back() {
        let mut sum = Sum::default();
        sum.add(b"abc");
        let end = sum.end();
        let line = serde_json::to_vec(&end.line()).unwrap();
        // The checksum of "abc" in FIPS 180-2.
        let expected = concat!(
            r#"{"end":{"records":1,"sha256":"ba7816bf8f01cfea414140de5dae2223"#,
            r#"b00361a396177a9cb410ff61f20015ad"}}"#
        );
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected);
        assert_eq!(EndLine::read(&line).unwrap().unwrap(), end);
        assert!(EndLine::read(&line[..line.len() - 1]).unwrap().is_err());
        assert!(EndLine::read(br#"{"app":"production"}"#).is_none());
    }
}
