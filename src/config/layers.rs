//! Lays the user's file over the defaults, and the environment over both. Every value keeps the
//! name of the layer that it came from.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use config::{Format, Map, Source, Value, ValueKind};

use super::{
    ConfigError, Problem,
    known::{APP_PROPERTIES, Known},
    reference,
};

/// What the names of the gateway's environment variables start with.
pub(super) const PREFIX: &str = "USERPILOT_GATEWAY__";

/// What values of the compiled-in file are marked with.
pub(super) const DEFAULTS: &str = "the defaults";

/// No configuration needs more; a device or a log given by mistake has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The values in force: every table with every key that has a default, and nothing unknown.
pub(super) fn merge(
    file: Option<(&Path, &str)>,
    env: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Result<Map<String, Value>, ConfigError> {
    let known = Known::new();
    let mut defaults = parse(Path::new(DEFAULTS), &reference::complete_toml())?;
    let mut written = match file {
        Some((path, text)) => parse(path, text)?,
        None => Map::new(),
    };
    known.prune(&mut written, problems);
    for list in known.lists() {
        complete(&mut written, &mut defaults, list);
    }

    let count = |list: &str| match tables(&written, list) {
        [] => tables(&defaults, list).len(),
        tables => tables.len(),
    };
    let overrides = overrides(env, &known, count, problems);

    let layers = config::Config::builder()
        .add_source(Layer(defaults))
        .add_source(Layer(written))
        .add_source(Layer(overrides));
    Ok(layers.build().and_then(|merged| merged.collect()).expect("tables in memory always merge"))
}

/// One layer: values by key or, in the environment's, by path.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The text of the user's file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason| ConfigError::Unreadable { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other(format!("it is over {FILE_BYTES_MAX} bytes"))));
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    let origin = path.display().to_string();
    config::FileFormat::Toml.parse(Some(&origin), text).map_err(|error| syntax(path, text, &*error))
}

/// The same error with its place, and without the line, which may hold a key.
fn syntax(path: &Path, text: &str, error: &(dyn std::error::Error + 'static)) -> ConfigError {
    let (message, start) = match text.parse::<toml::Table>() {
        Err(error) => (error.message().to_owned(), error.span().map_or(0, |span| span.start)),
        Ok(_) => (error.to_string(), 0),
    };
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&char| char != '\n').count() + 1;
    ConfigError::Syntax { path: path.to_owned(), line, column, message }
}

/// Gives the tables of a list what they leave out. Who they are, and what they are let in with,
/// stays theirs to say. Nobody is there by default, but for the app.
fn complete(written: &mut Map<String, Value>, defaults: &mut Map<String, Value>, list: &str) {
    let [Value { kind: ValueKind::Table(template), .. }, ..] = tables(defaults, list) else {
        unreachable!("default.toml has one of each")
    };
    let shared = |key: &str| key != "name" && !key.starts_with("api_key_");
    if let Some(Value { kind: ValueKind::Array(tables), .. }) = written.get_mut(list) {
        for table in tables {
            let ValueKind::Table(table) = &mut table.kind else { continue };
            let left_out =
                template.iter().filter(|(key, _)| shared(key) && !table.contains_key(*key));
            let left_out: Vec<_> =
                left_out.map(|(key, value)| (key.clone(), value.clone())).collect();
            table.extend(left_out);
            complete_below(table, template);
        }
    }
    if list != "apps" {
        defaults.remove(list);
    }
}

/// The same in a table of its own.
fn complete_below(table: &mut Map<String, Value>, template: &Map<String, Value>) {
    let ours = table.get_mut(APP_PROPERTIES).map(|value| &mut value.kind);
    let theirs = template.get(APP_PROPERTIES).map(|value| &value.kind);
    if let (Some(ValueKind::Table(ours)), Some(ValueKind::Table(theirs))) = (ours, theirs) {
        let left_out = theirs.iter().filter(|(key, _)| !ours.contains_key(*key));
        let left_out: Vec<_> = left_out.map(|(key, value)| (key.clone(), value.clone())).collect();
        ours.extend(left_out);
    }
}

fn tables<'a>(values: &'a Map<String, Value>, list: &str) -> &'a [Value] {
    match values.get(list) {
        Some(Value { kind: ValueKind::Array(tables), .. }) => tables,
        _ => &[],
    }
}

/// The environment's layer. Its values are text: what they mean is for the reader of the key.
fn overrides(
    env: &BTreeMap<String, String>,
    known: &Known,
    count: impl Fn(&str) -> usize,
    problems: &mut Vec<Problem>,
) -> Map<String, Value> {
    let mut layer = Map::new();
    for (variable, text) in env {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let segments: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
        match known.path(&segments, &count) {
            Ok(path) => {
                layer.insert(path, Value::new(Some(variable), ValueKind::String(text.clone())));
            }
            Err(message) => {
                problems.push(Problem { key: variable.clone(), message, origin: None });
            }
        }
    }
    layer
}
