//! How commands show what they have found: tables for people, JSON for programs.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use comfy_table::{CellAlignment, presets::NOTHING};
use prost_types::{Struct, value::Kind};

use crate::proto::{self, Subject, subject::Id};

/// As what something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// For programs: a document a line, with the names of the contract's fields.
    Json,
}

/// Says as what to show it.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// As what to show it: json is a document a line, with the names of proto/ where it is of there.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Output,
}

/// A message of the contract as JSON on one line. `name` is the message's.
pub(super) fn json_line<T: prost::Message>(name: &str, message: &T) -> anyhow::Result<Vec<u8>> {
    let message = proto::dynamic(name, message).context("the contract does not know its name")?;
    let mut line = proto::json(&message)?;
    line.push(b'\n');
    Ok(line)
}

/// Prints messages as JSON, one a line.
pub(super) fn print_json<T: prost::Message>(name: &str, messages: &[T]) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for message in messages {
        out.write_all(&json_line(name, message)?)?;
    }
    out.flush()?;
    Ok(())
}

/// Prints a document that is no message of the contract, on one line.
pub(super) fn print_document(document: &serde_json::Value) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{document}")?;
    Ok(())
}

/// Text of others', such as ids and what Userpilot said, as a terminal may show it: it stays within
/// its line. What steers a terminal, breaks a line or turns the direction of writing is shown as its
/// code, as `\u{1b}`.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, char| {
        match char.is_control() || steers(char) {
            true => all.extend(char.escape_default()),
            false => all.push(char),
        }
        all
    })
}

/// The same of a text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Whether it turns the direction of writing, or breaks a line, without being a control character.
fn steers(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A table without lines, whose cells are printable.
pub(super) struct Table(comfy_table::Table);

/// An empty one.
pub(super) fn table() -> Table {
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING);
    Table(table)
}

impl Table {
    /// Says what the columns are.
    pub(super) fn set_header<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.set_header(cells.into_iter().map(|cell| printable(cell.as_ref())));
    }

    /// Adds a line.
    pub(super) fn add_row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.add_row(cells.into_iter().map(|cell| printable(cell.as_ref())));
    }

    /// Sets all columns but the first to the right, as figures stand.
    pub(super) fn align_figures(&mut self) {
        for column in self.0.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A file that was not there, for its owner alone: it will hold what is known of users.
pub(super) fn new_private_file(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot make a new file {}", path.display()))
}

/// An enum's name in the contract as a word.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

/// A moment, to the microsecond; empty where there is none.
pub(super) fn moment(at: Option<&prost_types::Timestamp>) -> String {
    let at = at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    at.map_or(String::new(), |at| at.to_string())
}

/// A length of time in rough words, as "3 minutes".
pub(super) fn human(duration: &prost_types::Duration) -> String {
    let duration = Duration::try_from(*duration).unwrap_or_default();
    indicatif::HumanDuration(duration).to_string()
}

/// A length of time to three figures or so, as "2.5 s"; "-" where there is none.
pub(super) fn short(duration: Option<&prost_types::Duration>) -> String {
    let Some(duration) = duration else { return "-".into() };
    match Duration::try_from(*duration).unwrap_or_default().as_secs_f64() {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6_000.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

/// Whom something is about.
pub(super) fn subject(subject: Option<&Subject>) -> String {
    match subject.and_then(|subject| subject.id.as_ref()) {
        Some(Id::UserId(id)) => format!("user {id}"),
        Some(Id::CompanyId(id)) => format!("company {id}"),
        None => String::new(),
    }
}

/// Properties, with their values as JSON writes them.
pub(super) fn properties(metadata: Option<&Struct>) -> Vec<(String, String)> {
    let fields = metadata.map(|metadata| &metadata.fields).into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), property(value.kind.as_ref()))).collect()
}

/// Records hold nothing but primitives.
fn property(kind: Option<&Kind>) -> String {
    match kind {
        Some(Kind::BoolValue(value)) => value.to_string(),
        Some(Kind::StringValue(value)) => serde_json::Value::from(value.clone()).to_string(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        Some(Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_)) | None => {
            "null".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_steers_the_terminal() {
        for (text, expected) in [
            ("Zoë 42 \\ \"é\" 数", "Zoë 42 \\ \"é\" 数"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("a\nb\r\tc\u{9b}2J\u{7f}", "a\\nb\\r\\tc\\u{9b}2J\\u{7f}"),
            ("abc\u{202e}fed\u{2066}\u{2028}", "abc\\u{202e}fed\\u{2066}\\u{2028}"),
        ] {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable_lines("a\u{1b}\nb\n"), "a\\u{1b}\nb");
        let mut cells = table();
        cells.set_header(["id", "said"]);
        cells.add_row(["eve\u{1b}]0;owned\u{7}", "422\nproduction: all is well"]);
        let shown = cells.to_string();
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(!shown.contains('\u{1b}') && shown.contains("\\u{1b}]0;owned"), "{shown}");
    }

    #[test]
    fn lengths_of_time_have_three_figures() {
        let short_of = |seconds, nanos| short(Some(&prost_types::Duration { seconds, nanos }));
        assert_eq!(short_of(2, 540_000_000), "2.5 s");
        assert_eq!(short_of(150, 0), "2.5 min");
        assert_eq!(short_of(9_000, 0), "2.5 h");
        assert_eq!(short(None), "-");
    }

    #[test]
    fn values_are_shown_as_json_writes_them() {
        for (kind, expected) in [
            (Kind::NullValue(0), "null"),
            (Kind::NumberValue(3.0), "3"),
            (Kind::NumberValue(-0.5), "-0.5"),
            (Kind::StringValue("a \"b\"".into()), "\"a \\\"b\\\"\""),
        ] {
            assert_eq!(property(Some(&kind)), expected);
        }
    }
}
