//! The rows of a CSV file.

use std::{fs::File, io};

use csv::{ErrorKind, Reader, StringRecord};

use super::{
    columns::{Columns, Wanted},
    part,
};
use crate::cli::{
    stream::Place,
    updates::{Defaults, Row},
};

/// A CSV file that is being read.
pub(super) struct Csv {
    reader: Reader<File>,
    bytes: File,
    columns: Columns,
    /// 1 where lines end with CR LF: a row then ends between the two, and its line is behind it.
    lines_ahead: u64,
    defaults: Defaults,
}

impl Csv {
    /// Reads the header, and goes to `from`.
    pub(super) fn begin(
        input: File,
        wanted: Wanted,
        from: Place,
        defaults: Defaults,
    ) -> anyhow::Result<Self> {
        let bytes = input.try_clone()?;
        let mut reader = Reader::from_reader(input);
        let columns = Columns::of(reader.headers()?.iter(), wanted)?;
        let behind = reader.position().byte();
        let lines_ahead = u64::from(part(&bytes, behind, behind + 1)? == b"\n");
        let mut begin = reader.position().clone();
        if from != Place::default() {
            begin.set_byte(from.offset).set_line((from.lines + 1).saturating_sub(lines_ahead));
        }
        reader.seek_raw(io::SeekFrom::Start(begin.byte()), begin)?;
        Ok(Self { reader, bytes, columns, lines_ahead, defaults })
    }

    /// The next row.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Row>> {
        let begin = self.reader.position().clone();
        let mut record = StringRecord::new();
        let update = match self.reader.read_record(&mut record) {
            Ok(false) => return Ok(None),
            Ok(true) => {
                self.columns.update(|place| record.get(place).unwrap_or_default(), &self.defaults)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Io(_)) => return Err(error.into()),
            Err(error) => Err(anyhow::anyhow!(why(error.kind()))),
        };
        let number = begin.line() + self.empty_lines(begin.byte())?;
        let end = self.reader.position();
        let lines = (end.line().saturating_sub(1) + self.lines_ahead).max(number);
        let end = Place { lines, offset: end.byte() };
        Ok(Some(Row { number, start: begin.byte(), end, update }))
    }

    /// How many ends of lines there are before the row that is read next from here.
    fn empty_lines(&self, mut offset: u64) -> io::Result<u64> {
        let mut lines = 0;
        loop {
            match part(&self.bytes, offset, offset + 1)?.as_slice() {
                b"\n" => lines += 1,
                b"\r" => {}
                _ => return Ok(lines),
            }
            offset += 1;
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it grows")]
fn why(error: &ErrorKind) -> String {
    match error {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} cells where the header has {expected_len}")
        }
        ErrorKind::Utf8 { .. } => "is not UTF-8".into(),
        _ => "is not CSV".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn begin(text: &str, from: Place) -> Csv {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        Csv::begin(file, Wanted::default(), from, Defaults::default()).unwrap()
    }

    /// The line, the user and the end of each row; no user where it is none.
    fn rows(mut csv: Csv) -> Vec<(u64, Option<String>, Place)> {
        let mut rows = Vec::new();
        while let Some(Row { number, end, update, .. }) = csv.next().unwrap() {
            rows.push((number, update.ok().and_then(|update| update.user_id), end));
        }
        rows
    }

    const TEXT: &str = "user_id,plan\na,\"two\nlines\"\nb,pro\n\nc\nd,free";

    #[test]
    fn rows_have_their_lines_whatever_ends_a_line() {
        for text in [TEXT.to_owned(), TEXT.replace('\n', "\r\n"), format!("\u{feff}{TEXT}")] {
            let rows = rows(begin(&text, Place::default()));
            let found: Vec<_> =
                rows.iter().map(|(line, user, _)| (*line, user.as_deref())).collect();
            assert_eq!(found, [(2, Some("a")), (4, Some("b")), (6, None), (7, Some("d"))]);
        }
    }

    #[test]
    fn reading_goes_on_behind_any_row() {
        for text in [TEXT.to_owned(), TEXT.replace('\n', "\r\n"), format!("\u{feff}{TEXT}")] {
            let all = rows(begin(&text, Place::default()));
            for nth in 0..all.len() {
                assert_eq!(rows(begin(&text, all[nth].2)), all[nth + 1..], "{nth} of {text:?}");
            }
        }
    }
}
