//! Lines out of chunks.

use axum::body::Bytes;

/// More than any row takes as a line: each byte of a text may be written as six.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Bytes),
    /// It was too long to be kept.
    TooLong,
}

/// Makes lines of what is pushed. Holds one line at the most, and the chunk pushed last.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What has no end yet.
    held: Vec<u8>,
    /// Whether that is the rest of a line that is too long.
    too_long: bool,
    /// The number of the line that `held` begins.
    number: usize,
    chunk: Bytes,
    ended: bool,
}

impl Lines {
    /// More bytes; `ended` if they are the last.
    pub(super) fn push(&mut self, chunk: &[u8], ended: bool) {
        self.chunk = Bytes::copy_from_slice(chunk);
        self.ended = ended;
    }

    /// The next line that is not blank, and its number from 1.
    pub(super) fn next(&mut self) -> Option<(usize, Line)> {
        loop {
            let end = self.chunk.iter().position(|byte| *byte == b'\n');
            let (part, ends) = match end {
                Some(end) => {
                    let part = self.chunk.split_to(end);
                    self.chunk = self.chunk.slice(1..);
                    (part, true)
                }
                None => (std::mem::take(&mut self.chunk), std::mem::take(&mut self.ended)),
            };
            if self.held.len() + part.len() > LINE_BYTES_MAX {
                self.too_long = true;
                self.held.clear();
            } else if !self.too_long {
                self.held.extend_from_slice(&part);
            }
            if !ends {
                return None;
            }
            self.number += 1;
            let line = std::mem::take(&mut self.held);
            if std::mem::take(&mut self.too_long) {
                return Some((self.number, Line::TooLong));
            }
            if !line.trim_ascii().is_empty() {
                return Some((self.number, Line::Whole(line.into())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8], chunk: usize) -> Vec<(usize, Line)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for part in text.chunks(chunk) {
            lines.push(part, false);
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        lines.push(b"", true);
        found.extend(std::iter::from_fn(|| lines.next()));
        found
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_where_chunks_end(text in "[a\n ]{0,40}", chunk in 1_usize..9) {
            let expected: Vec<_> = (1..).zip(text.split('\n'))
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(number, line)| (number, Line::Whole(line.to_owned().into())))
                .collect();
            prop_assert_eq!(read(text.as_bytes(), chunk), expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_not_held() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        let text = [b"a\n", &long[..], b"x\nb"].concat();
        let found = read(&text, 1 << 16);
        assert_eq!(found[1], (2, Line::TooLong));
        assert_eq!(found[2], (3, Line::Whole(Bytes::from_static(b"b"))));
        let mut lines = Lines::default();
        for part in text.chunks(1 << 16) {
            lines.push(part, false);
            while lines.next().is_some() {}
            assert!(lines.held.len() <= LINE_BYTES_MAX);
        }
    }
}
