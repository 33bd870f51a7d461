//! Reads the values of one table. A value that will not do becomes a problem, and something
//! stands in for it so that the rest can be read too; a configuration with problems is dropped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use config::{Map, Value, ValueKind};
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

use super::{layers, problem::Problem};

pub(super) struct Reader<'a> {
    path: String,
    table: &'a Map<String, Value>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        path: String,
        table: &'a Map<String, Value>,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        Self { path, table, problems }
    }

    pub(super) fn number<T: TryFrom<u64> + Default>(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> T {
        self.read(key, |value| number(value, &range)).unwrap_or_default()
    }

    /// A share: a number between these.
    pub(super) fn share(&mut self, key: &str, range: RangeInclusive<f64>) -> f64 {
        self.read(key, |value| share(value, &range)).unwrap_or(*range.start())
    }

    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.read(key, flag).unwrap_or_default()
    }

    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        self.read(key, address).unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    pub(super) fn text(&mut self, key: &str) -> String {
        self.read(key, |value| Ok(not_empty(text(value)?)?.to_owned())).unwrap_or_default()
    }

    pub(super) fn folder(&mut self, key: &str) -> PathBuf {
        self.read(key, |value| Ok(PathBuf::from(not_empty(text(value)?)?))).unwrap_or_default()
    }

    pub(super) fn filter(&mut self, key: &str) -> String {
        self.read(key, filter).unwrap_or_default()
    }

    pub(super) fn name(&mut self, key: &str) -> String {
        self.read(key, name).unwrap_or_default()
    }

    pub(super) fn base_url(&mut self, key: &str) -> Option<Url> {
        self.read(key, |value| url(value, "use api_key_file or api_key_env"))
    }

    /// Where an issuer publishes its keys.
    pub(super) fn jwks_url(&mut self, key: &str) -> Option<Url> {
        self.read(key, |value| url(value, "an issuer's public keys are fetched without"))
    }

    /// One of a few words. The first stands in for an unknown one.
    pub(super) fn word<T: Copy, const N: usize>(&mut self, key: &str, words: [(&str, T); N]) -> T {
        self.read(key, |value| word(value, &words)).unwrap_or(words[0].1)
    }

    /// A text that may be left out, and whether somebody wrote it or it is the default.
    pub(super) fn optional(&mut self, key: &str) -> Option<(String, bool)> {
        let written = self.table.get(key)?.origin() != Some(layers::DEFAULTS);
        let text = self.read(key, |value| not_empty(text(value)?))?;
        Some((text.to_owned(), written))
    }

    /// Texts, or one of them; none where there are none. The environment writes them with commas.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        if !self.has(key) {
            return Vec::new();
        }
        self.read(key, list).unwrap_or_default()
    }

    /// The same, of SHA-256 hashes in hex.
    pub(super) fn hashes(&mut self, key: &str) -> Vec<String> {
        let mut hashes = self.list(key);
        for hash in &mut hashes {
            if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                // It may be the token itself: say nothing of it.
                let message = "expected the 64 hex digits of a SHA-256, as `userpilot-gateway \
                               token new` prints them"
                    .to_owned();
                self.refuse(key, message);
                return Vec::new();
            }
            hash.make_ascii_lowercase();
        }
        hashes
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether somebody wrote it, and it is not the default.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.origin() != Some(layers::DEFAULTS))
    }

    /// Reports a problem with a key that has been read.
    pub(super) fn refuse(&mut self, key: &str, message: String) {
        let origin = self.table.get(key).and_then(Value::origin).map(str::to_owned);
        let key = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.problems.push(Problem { key, message, origin });
    }

    /// The table of this key, to be read by a reader of its own.
    pub(super) fn below(&mut self, key: &str) -> Option<Reader<'_>> {
        match self.table.get(key).map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => {
                Some(Reader::new(format!("{}.{key}", self.path), table, self.problems))
            }
            _ => None,
        }
    }

    /// The same, of a table that the defaults have.
    pub(super) fn table(&mut self, key: &str) -> Reader<'_> {
        let table = match self.table.get(key).map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => table,
            _ => self.table,
        };
        Reader::new(format!("{}.{key}", self.path), table, self.problems)
    }

    /// A list of texts, none of them empty.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        self.read(key, texts).unwrap_or_default()
    }

    pub(super) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match self.table.get(key) {
            Some(value) => parse(value),
            None => Err("missing".to_owned()),
        };
        parsed.map_err(|message| self.refuse(key, message)).ok()
    }
}

pub(super) fn number<T: TryFrom<u64>>(
    value: &Value,
    range: &RangeInclusive<u64>,
) -> Result<T, String> {
    let number = match (&value.kind, from_environment(value)) {
        (ValueKind::I64(number), _) => Ok(*number),
        (ValueKind::String(text), true) => {
            text.parse::<i64>().map_err(|_| "expected a whole number".to_owned())
        }
        (other, _) => Err(format!("expected a whole number, found {}", kind(other))),
    }?;
    let in_range = u64::try_from(number).ok().filter(|number| range.contains(number));
    in_range
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{number} is not in {} to {}", range.start(), range.end()))
}

fn share(value: &Value, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let number = match (&value.kind, from_environment(value)) {
        (ValueKind::Float(number), _) => Ok(*number),
        (ValueKind::I64(number @ (0 | 1)), _) => Ok(if *number == 1 { 1.0 } else { 0.0 }),
        (ValueKind::String(text), true) => {
            text.parse().map_err(|_| "expected a number such as 0.2".to_owned())
        }
        (other, _) => Err(format!("expected a number such as 0.2, found {}", kind(other))),
    }?;
    match range.contains(&number) {
        true => Ok(number),
        false => Err(format!("{number} is not in {} to {}", range.start(), range.end())),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match (&value.kind, from_environment(value)) {
        (ValueKind::Boolean(flag), _) => Ok(*flag),
        (ValueKind::String(text), true) => {
            text.parse().map_err(|_| "expected true or false".to_owned())
        }
        (other, _) => Err(format!("expected true or false, found {}", kind(other))),
    }
}

pub(super) fn text(value: &Value) -> Result<&str, String> {
    if let ValueKind::String(text) = &value.kind {
        Ok(text)
    } else {
        Err(format!("expected a text in quotes, found {}", kind(&value.kind)))
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let ValueKind::Array(values) = &value.kind else {
        return Err(format!("expected a list of texts, found {}", kind(&value.kind)));
    };
    values.iter().map(|value| not_empty(text(value)?).map(str::to_owned)).collect()
}

fn list(value: &Value) -> Result<Vec<String>, String> {
    let texts: Vec<&str> = if let ValueKind::Array(values) = &value.kind {
        values.iter().map(text).collect::<Result<_, _>>()?
    } else if let ValueKind::String(text) = &value.kind {
        if from_environment(value) { text.split(',').collect() } else { vec![text] }
    } else {
        let found = kind(&value.kind);
        return Err(format!("expected a text or a list of them, found {found}"));
    };
    texts.into_iter().map(|text| not_empty(text.trim()).map(str::to_owned)).collect()
}

fn not_empty(text: &str) -> Result<&str, String> {
    if text.trim().is_empty() { Err("empty".to_owned()) } else { Ok(text) }
}

fn address(value: &Value) -> Result<SocketAddr, String> {
    text(value)?.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:50051 or [::]:50051".to_owned()
    })
}

fn filter(value: &Value) -> Result<String, String> {
    let text = not_empty(text(value)?)?;
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("expected a level such as info, or directives: {error}")),
    }
}

fn name(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\"".to_owned())
    }
}

/// An address to which an API key may be sent. Its text is not repeated in a refusal, since it
/// may hold a password; `instead` says what to do then.
fn url(value: &Value, instead: &str) -> Result<Url, String> {
    let url = Url::parse(text(value)?).map_err(|error| format!("not a URL: {error}"))?;
    let local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(domain)) => domain == "localhost",
        None => return Err("expected https:// and a host".to_owned()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("credentials do not belong in a URL: {instead}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without ? and #".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err("expected https: plain http is for loopback addresses alone".to_owned()),
        _ => Err("expected https".to_owned()),
    }
}

pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let text = text(value)?;
    let known = words.iter().find(|(word, _)| *word == text);
    known.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("expected {}", words.join(" or "))
    })
}

fn from_environment(value: &Value) -> bool {
    value.origin().is_some_and(|origin| origin.starts_with(layers::PREFIX))
}

pub(super) fn kind(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            "a whole number"
        }
        ValueKind::Float(_) => "a number with a point",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
