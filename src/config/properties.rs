//! `[apps.properties]`: what an app's properties may be.

use std::{
    collections::BTreeMap,
    path::{self, Path, PathBuf},
};

use config::{Map, Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

use super::{
    Warning, api_key,
    reader::{self, Reader},
};
use crate::domain::property::fold;

/// Shorter keys can be guessed.
const HASH_KEY_BYTES_MIN: usize = 16;
/// A stored string is no longer than a record.
const LENGTH_MAX: u64 = 65_536;

/// What an app's properties may be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PropertiesConfig {
    /// Properties that are not let through.
    pub deny: Vec<String>,
    /// The only ones that are, where there are any.
    pub allow: Vec<String>,
    /// Properties whose values are replaced by their hash.
    pub hash: Vec<String>,
    /// The file of the key that they are hashed under.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_path")]
    pub hash_key_file: Option<PathBuf>,
    /// The text in that file.
    #[serde(skip)]
    pub hash_key: Option<SecretString>,
    /// What becomes of a property that does not fit.
    pub on_mismatch: MismatchWord,
    /// What values must be, by name of the property.
    pub types: BTreeMap<String, PropertyTypeConfig>,
}

/// What a property's values must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PropertyTypeConfig {
    /// Their type.
    #[serde(rename = "type")]
    pub kind: TypeWord,
    /// What a string must look like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<FormatWord>,
    /// How many characters a string may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
}

/// A type of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeWord {
    /// A string.
    String,
    /// A number.
    Number,
    /// A boolean.
    Boolean,
    /// A date.
    Date,
}

/// What a string must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatWord {
    /// An e-mail address.
    Email,
    /// An http or https URL.
    Url,
    /// A UUID.
    Uuid,
}

/// What becomes of a property that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MismatchWord {
    /// Its update is refused.
    #[default]
    Reject,
    /// It is left out.
    Drop,
    /// It is kept, and told of.
    Warn,
}

pub(super) fn properties(
    app: &mut Reader<'_>,
    folder: &Path,
    name: &str,
    warnings: &mut Vec<Warning>,
) -> PropertiesConfig {
    let Some(mut reader) = app.below("properties") else { return PropertiesConfig::default() };
    let reader = &mut reader;
    let words = [
        ("reject", MismatchWord::Reject),
        ("drop", MismatchWord::Drop),
        ("warn", MismatchWord::Warn),
    ];
    let hash = reader.texts("hash");
    let key = hash_key(reader, folder);
    if !hash.is_empty() && !reader.has("hash_key_file") {
        reader.refuse("hash", "needs hash_key_file, the key to hash under".to_owned());
    }
    if let Some((path, _, true)) = &key {
        let (app, path) = (name.to_owned(), path.clone());
        warnings.push(Warning::HashKeyReadableByAll { app, path });
    }
    let (hash_key_file, hash_key) = key.map(|(path, key, _)| (path, key)).unzip();
    PropertiesConfig {
        deny: reader.texts("deny"),
        allow: reader.texts("allow"),
        hash,
        hash_key_file,
        hash_key,
        on_mismatch: reader.word("on_mismatch", words),
        types: reader.read("types", types).unwrap_or_default(),
    }
}

/// The key's file, the key, and whether every user of the machine can read it.
fn hash_key(reader: &mut Reader<'_>, folder: &Path) -> Option<(PathBuf, SecretString, bool)> {
    if !reader.has("hash_key_file") {
        return None;
    }
    let (file, _) = reader.optional("hash_key_file")?;
    let path = folder.join(file);
    let path = path::absolute(&path).unwrap_or(path);
    let (text, readable_by_all) = match api_key::read_file(&path) {
        Ok(read) => read,
        Err(error) => {
            let message = format!("cannot read the hash key in {}: {error}", path.display());
            reader.refuse("hash_key_file", message);
            return None;
        }
    };
    let key = SecretString::from(text.expose_secret().trim());
    if key.expose_secret().len() < HASH_KEY_BYTES_MIN {
        let place = path.display();
        let message = format!("the hash key in {place} is under {HASH_KEY_BYTES_MIN} bytes");
        reader.refuse("hash_key_file", message);
        return None;
    }
    Some((path, key, readable_by_all))
}

fn types(value: &Value) -> Result<BTreeMap<String, PropertyTypeConfig>, String> {
    let ValueKind::Table(types) = &value.kind else {
        return Err(format!("expected a table, found {}", reader::kind(&value.kind)));
    };
    let each = |(name, value): (&String, &Value)| {
        let read = property_type(value).map_err(|message| format!("{name:?}: {message}"))?;
        Ok((name.clone(), read))
    };
    let types: BTreeMap<_, _> = types.iter().map(each).collect::<Result<_, String>>()?;
    let mut folded = BTreeMap::new();
    for name in types.keys() {
        if let Some(other) = folded.insert(fold(name), name) {
            return Err(format!("{other:?} and {name:?} are the same but for case and spaces"));
        }
    }
    Ok(types)
}

fn property_type(value: &Value) -> Result<PropertyTypeConfig, String> {
    let ValueKind::Table(table) = &value.kind else {
        return Ok(PropertyTypeConfig { kind: type_word(value)?, format: None, max_length: None });
    };
    let known = ["type", "format", "max_length"];
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unknown key {key:?}; expected {}", known.join(", ")));
    }
    let kind = table.get("type").ok_or("type is missing".to_owned()).and_then(type_word)?;
    let formats =
        [("email", FormatWord::Email), ("url", FormatWord::Url), ("uuid", FormatWord::Uuid)];
    let format = optional(table, "format", |value| reader::word(value, &formats))?;
    let max_length =
        optional(table, "max_length", |value| reader::number(value, &(1..=LENGTH_MAX)))?;
    if kind != TypeWord::String && (format.is_some() || max_length.is_some()) {
        return Err("format and max_length are for strings".to_owned());
    }
    Ok(PropertyTypeConfig { kind, format, max_length })
}

fn type_word(value: &Value) -> Result<TypeWord, String> {
    let words = [
        ("string", TypeWord::String),
        ("number", TypeWord::Number),
        ("boolean", TypeWord::Boolean),
        ("date", TypeWord::Date),
    ];
    reader::word(value, &words)
}

fn optional<T>(
    table: &Map<String, Value>,
    key: &str,
    read: impl FnOnce(&Value) -> Result<T, String>,
) -> Result<Option<T>, String> {
    table.get(key).map(read).transpose().map_err(|message| format!("{key}: {message}"))
}

fn display_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.collect_str(&path.display()),
        None => serializer.serialize_none(),
    }
}
