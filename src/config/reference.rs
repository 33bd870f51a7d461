//! The keys as `default.toml` documents them, and docs/configuration.md made of them.

use std::fmt::Write;

use super::DEFAULT_TOML;

/// A table of `default.toml`.
#[derive(Debug, PartialEq)]
pub(super) struct Section {
    pub(super) name: String,
    /// Whether there may be several.
    pub(super) is_list: bool,
    pub(super) meaning: String,
    pub(super) keys: Vec<Key>,
}

/// A key of `default.toml`, as its comment describes it.
#[derive(Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    /// As written; none where the key stands in a comment, as an example.
    pub(super) default: Option<String>,
    /// The least and the greatest value, of a number.
    pub(super) range: Option<(f64, f64)>,
    pub(super) meaning: String,
}

/// The page docs/configuration.md, out of the comments of `default.toml`.
pub fn reference_markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for section in sections() {
        let heading = heading(&section);
        let _ = write!(page, "\n## `{heading}`\n\n{}\n\n", section.meaning);
        page.push_str("| key | default | range | meaning |\n|---|---|---|---|\n");
        for key in &section.keys {
            page.push_str(&row(key));
        }
    }
    page
}

const INTRODUCTION: &str = "\
<!-- Made of src/config/default.toml. To renew: UPDATE_DOCS=1 cargo test --lib config -->

# Configuration

Three layers, the later wins: the defaults below, a TOML file, environment variables.

- The file is the one that `--config` names; without it, `gateway.toml` in the working directory, if
  there is one. It needs only what differs from the defaults. `userpilot-gateway print-default-config`
  prints a file with every key, to start from.
- A variable is `USERPILOT_GATEWAY`, the table and the key, in capitals, joined by two underscores:
  `USERPILOT_GATEWAY__STORE__PATH=/var/lib/userpilot-gateway`. Apps, clients and admins go by their
  place in the file, from 0: `USERPILOT_GATEWAY__APPS__0__USERS_PER_MINUTE=1200`. A list is written
  with commas.
- `userpilot-gateway check-config` reads all of it, reports every problem together, and prints the
  configuration in force. API keys are never printed.

An unknown key, in the file or in a variable, is an error that names the nearest known one.
";

fn heading(section: &Section) -> String {
    if section.is_list { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) }
}

/// `default.toml` with every table that it has as an example alone put in force.
pub(super) fn complete_toml() -> String {
    let mut is_example = false;
    let mut complete = String::with_capacity(DEFAULT_TOML.len());
    for line in DEFAULT_TOML.lines() {
        match line.strip_prefix("# [[") {
            Some(_) => is_example = true,
            None if line.is_empty() => is_example = false,
            None => {}
        }
        let commented = line.strip_prefix("# ").or(line.strip_prefix('#'));
        complete.push_str(commented.filter(|_| is_example).unwrap_or(line));
        complete.push('\n');
    }
    complete
}

fn row(key: &Key) -> String {
    let default = match &key.default {
        Some(default) => format!("`{default}`"),
        None => "none".to_owned(),
    };
    let range = match key.range {
        Some((least, greatest)) => format!("{least} to {greatest}"),
        None => String::new(),
    };
    format!("| `{}` | {default} | {range} | {} |\n", key.name, key.meaning)
}

/// The tables and keys of `default.toml`, in its order. Its form is fixed by the tests: comments
/// stand right above what they describe, and an empty line ends them.
pub(super) fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let complete = complete_toml();
    let mut comments: Vec<&str> = Vec::new();
    for line in complete.lines() {
        let comment = line.strip_prefix('#').map(str::trim_start);
        if let Some(name) = line.strip_prefix('[') {
            let is_list = name.starts_with('[');
            let (name, meaning) = (name.trim_matches(['[', ']']).to_owned(), meaning(&comments));
            sections.push(Section { name, is_list, meaning, keys: Vec::new() });
            comments.clear();
        } else if let Some((name, default)) = assignment(comment.unwrap_or(line)) {
            let section = sections.last_mut().expect("a key stands in a table");
            let default = comment.is_none().then(|| default.to_owned());
            let (name, meaning) = (name.to_owned(), meaning(&comments));
            section.keys.push(Key { name, default, range: range(&comments), meaning });
            comments.clear();
        } else if let Some(comment) = comment {
            comments.push(comment);
        } else {
            comments.clear();
        }
    }
    sections
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(" = ")?;
    let is_name =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then_some((name, value))
}

fn meaning(comments: &[&str]) -> String {
    let sentences: Vec<&str> =
        comments.iter().copied().filter(|line| !line.starts_with("Range: ")).collect();
    sentences.join(" ")
}

fn range(comments: &[&str]) -> Option<(f64, f64)> {
    let line = comments.iter().find_map(|line| line.strip_prefix("Range: "))?;
    let (least, greatest) = line.trim_end_matches('.').split_once(" to ")?;
    Some((least.parse().ok()?, greatest.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn the_reference_in_docs_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, reference_markdown()).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == reference_markdown(),
            "docs/configuration.md is not what src/config/default.toml says; \
             renew it: UPDATE_DOCS=1 cargo test --lib config"
        );
    }

    #[test]
    fn every_key_and_table_says_what_it_means() {
        for section in sections() {
            assert!(!section.meaning.is_empty(), "{}", section.name);
            for key in &section.keys {
                assert!(key.meaning.ends_with('.'), "{}.{}", section.name, key.name);
                assert!(!key.meaning.contains('|'), "{} breaks the table", key.name);
                let is_number =
                    key.default.as_ref().is_some_and(|text| text.parse::<f64>().is_ok());
                assert_eq!(key.range.is_some(), is_number, "{} has a range", key.name);
            }
        }
    }

    #[test]
    fn the_parsed_keys_are_the_ones_toml_sees() {
        let document: toml::Table = complete_toml().parse().unwrap();
        for section in sections() {
            let (name, below) = match section.name.split_once('.') {
                Some((name, below)) => (name, Some(below)),
                None => (&*section.name, None),
            };
            let table = &document[name];
            let table = table.get(0).unwrap_or(table);
            let table = below.map_or(table, |below| &table[below]).as_table().unwrap();
            let written = section.keys.iter().filter(|key| key.default.is_some());
            let mut names: Vec<&String> = written.map(|key| &key.name).collect();
            names.sort();
            let values = table.iter().filter(|(_, value)| below.is_some() || !value.is_table());
            assert_eq!(names, values.map(|(key, _)| key).collect::<Vec<_>>());
        }
        let sections = sections();
        let tables = sections.iter().filter(|section| !section.name.contains('.'));
        assert_eq!(document.len(), tables.count());
    }
}
