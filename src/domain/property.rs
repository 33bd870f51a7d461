//! What a property may be: an app's rules, applied to the properties of one update.
//!
//! There is one law of names: every rule means a property by its name without regard to case and
//! white space. A rule that a sender could get around by another spelling would protect nothing.
//!
//! Wrong types spoil segments upstream for good, and some values must not leave in clear: so
//! the rules are applied before an update is stored. An explicit null clears a property and
//! fits every type. What is said here of a property names it, and never quotes its value.

mod folded;
mod format;
mod names;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};

use ring::hmac;

use self::format::as_date;
pub use self::{
    folded::{Folded, FoldedNames, fold},
    format::TextFormat,
    names::SeenNames,
};
use super::update::Value;

/// An app's rules for the properties of users and companies.
#[derive(Clone, Debug, Default)]
pub struct PropertyRules {
    /// Properties that do not get through.
    pub deny: FoldedNames,
    /// The only properties that get through, where there are any.
    pub allow: FoldedNames,
    /// Properties whose values are replaced by their hash.
    pub hash: FoldedNames,
    /// What they are hashed under. Without it they do not get through.
    pub hash_key: Option<HashKey>,
    /// What values must be.
    pub types: Folded<PropertyType>,
    /// What becomes of those that are not.
    pub on_mismatch: OnMismatch,
}

/// The key that values are hashed under. Its text shows nothing of it.
#[derive(Clone, Debug)]
pub struct HashKey(hmac::Key);

impl HashKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// HMAC-SHA-256 of the text that a value has in JSON, a string without its quotes, as 64
    /// hexadecimal digits. A null stays null.
    fn hash(&self, value: Value) -> Value {
        let text = match value {
            Value::Null => return Value::Null,
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => value.as_text(),
            Value::Text(text) => text,
        };
        let tag = hmac::sign(&self.0, text.as_bytes());
        let mut hex = String::with_capacity(64);
        for byte in tag.as_ref() {
            // Writing to a String does not fail.
            write!(hex, "{byte:02x}").ok();
        }
        Value::Text(hex)
    }
}

/// What a property's values must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyType {
    /// Their type.
    pub kind: PropertyKind,
    /// What a string must look like.
    pub format: Option<TextFormat>,
    /// How many characters a string may have.
    pub max_length: Option<usize>,
}

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// A string.
    String,
    /// A number, whole or not.
    Number,
    /// A boolean.
    Boolean,
    /// RFC 3339 in, ISO 8601 in UTC out.
    Date,
}

impl fmt::Display for PropertyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Date => "a date (RFC 3339)",
        })
    }
}

/// What becomes of a property that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// Its update is refused.
    #[default]
    Reject,
    /// It is left out of its update.
    Drop,
    /// It is kept as it is, if it is of the wrong type; what is denied is left out.
    Warn,
}

/// What is wrong with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is denied.
    Denied,
    /// It is not among those that are allowed.
    NotAllowed,
    /// It would have to be hashed, and there is no key.
    NoHashKey,
    /// It is of another type.
    WrongType {
        /// What it must be.
        expected: PropertyKind,
        /// What it is.
        found: &'static str,
    },
    /// It looks otherwise.
    WrongFormat(TextFormat),
    /// It has more characters than it may.
    TooLong {
        /// How many it may have.
        max: usize,
    },
}

impl Mismatch {
    /// Its name in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
            Self::NoHashKey => "no_hash_key",
            Self::WrongType { .. } => "wrong_type",
            Self::WrongFormat(_) => "wrong_format",
            Self::TooLong { .. } => "too_long",
        }
    }

    /// Whether the property must not get through, whatever is done about wrong types.
    fn is_forbidden(self) -> bool {
        match self {
            Self::Denied | Self::NotAllowed | Self::NoHashKey => true,
            Self::WrongType { .. } | Self::WrongFormat(_) | Self::TooLong { .. } => false,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("is denied for this app"),
            Self::NotAllowed => f.write_str("is not among the properties that this app allows"),
            Self::NoHashKey => f.write_str("is to be hashed, and there is no key for it"),
            Self::WrongType { expected, found } => write!(f, "must be {expected}, and is {found}"),
            Self::WrongFormat(format) => write!(f, "must be {format}"),
            Self::TooLong { max } => write!(f, "has more than {max} characters"),
        }
    }
}

/// What was done with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Its update is refused for it.
    Rejected(Mismatch),
    /// It was left out.
    Dropped(Mismatch),
    /// It does not fit, and was kept.
    Kept(Mismatch),
    /// Its value was replaced by its hash.
    Hashed,
}

/// The properties of an update under the rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Those that go on, in their order.
    pub properties: Vec<(String, Value)>,
    /// What was done with those that the rules have something to say about.
    pub treated: Vec<(String, Treatment)>,
}

impl PropertyRules {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self { deny, allow, hash, hash_key: _, types, on_mismatch: _ } = self;
        deny.is_empty() && allow.is_empty() && hash.is_empty() && types.is_empty()
    }

    /// Applies the rules.
    pub fn apply(&self, properties: Vec<(String, Value)>) -> Applied {
        if self.is_empty() {
            return Applied { properties, treated: Vec::new() };
        }
        let mut applied = Applied::default();
        for (name, value) in properties {
            let folded = fold(&name);
            let (kept, mismatch) = self.check(&folded, value);
            let treatment = mismatch.map(|mismatch| self.treatment(mismatch));
            let hashed = self.hash.hold(&folded);
            let kept = kept.filter(|_| match treatment {
                Some(Treatment::Rejected(_) | Treatment::Dropped(_)) => false,
                Some(Treatment::Kept(_) | Treatment::Hashed) | None => true,
            });
            applied.treated.extend(treatment.map(|treatment| (name.clone(), treatment)));
            let Some(mut value) = kept else { continue };
            if let (true, Some(key)) = (hashed, &self.hash_key) {
                if value != Value::Null {
                    applied.treated.push((name.clone(), Treatment::Hashed));
                }
                value = key.hash(value);
            }
            applied.properties.push((name, value));
        }
        applied
    }

    /// The value as it goes on, a date in its one form; and what is wrong with it. `name` is folded.
    fn check(&self, name: &str, value: Value) -> (Option<Value>, Option<Mismatch>) {
        if self.deny.hold(name) {
            return (None, Some(Mismatch::Denied));
        }
        if !self.allow.is_empty() && !self.allow.hold(name) {
            return (None, Some(Mismatch::NotAllowed));
        }
        if self.hash_key.is_none() && self.hash.hold(name) {
            return (None, Some(Mismatch::NoHashKey));
        }
        match self.types.get(name) {
            Some(expected) => match expected.fit(&value) {
                Ok(Some(rewritten)) => (Some(rewritten), None),
                Ok(None) => (Some(value), None),
                Err(mismatch) => (Some(value), Some(mismatch)),
            },
            None => (Some(value), None),
        }
    }

    fn treatment(&self, mismatch: Mismatch) -> Treatment {
        match self.on_mismatch {
            OnMismatch::Reject => Treatment::Rejected(mismatch),
            OnMismatch::Drop => Treatment::Dropped(mismatch),
            OnMismatch::Warn if mismatch.is_forbidden() => Treatment::Dropped(mismatch),
            OnMismatch::Warn => Treatment::Kept(mismatch),
        }
    }
}

impl PropertyType {
    /// Whether the value fits, and what it is to be written as, where that is another.
    fn fit(&self, value: &Value) -> Result<Option<Value>, Mismatch> {
        let wrong = |found| Err(Mismatch::WrongType { expected: self.kind, found });
        let text = match (self.kind, value) {
            (_, Value::Null)
            | (PropertyKind::Number, Value::Integer(_) | Value::Float(_))
            | (PropertyKind::Boolean, Value::Bool(_)) => return Ok(None),
            (PropertyKind::String | PropertyKind::Date, Value::Text(text)) => text,
            (_, Value::Bool(_)) => return wrong("a boolean"),
            (_, Value::Integer(_) | Value::Float(_)) => return wrong("a number"),
            (_, Value::Text(_)) => return wrong("a string"),
        };
        if let Some(max) = self.max_length.filter(|max| text.chars().count() > *max) {
            return Err(Mismatch::TooLong { max });
        }
        if let Some(format) = self.format.filter(|format| !format.fits(text)) {
            return Err(Mismatch::WrongFormat(format));
        }
        match self.kind {
            PropertyKind::String | PropertyKind::Number | PropertyKind::Boolean => Ok(None),
            PropertyKind::Date => match as_date(text) {
                Some(date) => Ok(Some(Value::Text(date))),
                None => wrong("a string that is no such date"),
            },
        }
    }
}
