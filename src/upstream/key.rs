//! The API key that requests bear, and which may change while they are under way.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The key in force and those before it that answers may still quote.
const KEYS_MAX: usize = 4;
const REDACTED: &str = "<redacted>";

/// An app's API key. Clones hold the same one.
#[derive(Clone, Debug)]
pub struct ApiKey(Arc<Mutex<Keys>>);

#[derive(Debug)]
struct Keys {
    authorization: HeaderValue,
    /// The one in force first.
    known: Vec<SecretString>,
}

/// The API key has bytes that a header cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API key cannot be sent: it holds a character that HTTP headers cannot")]
pub struct UnfitKey;

impl ApiKey {
    /// With this key in force.
    pub fn new(key: SecretString) -> Result<Self, UnfitKey> {
        let authorization = authorization(&key)?;
        Ok(Self(Arc::new(Mutex::new(Keys { authorization, known: vec![key] }))))
    }

    /// Puts another key in force: the next request bears it.
    pub fn replace(&self, key: SecretString) -> Result<(), UnfitKey> {
        let authorization = authorization(&key)?;
        let mut keys = self.keys();
        keys.authorization = authorization;
        keys.known.insert(0, key);
        keys.known.truncate(KEYS_MAX);
        Ok(())
    }

    pub(super) fn authorization(&self) -> HeaderValue {
        self.keys().authorization.clone()
    }

    /// Whether bytes hold any of the keys.
    pub(super) fn is_quoted_in(&self, bytes: &[u8]) -> bool {
        let holds = |key: &SecretString| {
            let key = key.expose_secret().as_bytes();
            !key.is_empty() && bytes.windows(key.len()).any(|window| window == key)
        };
        self.keys().known.iter().any(holds)
    }

    /// The text without any of the keys. What is not UTF-8 was not made of a key.
    pub(super) fn redact(&self, text: Vec<u8>) -> Vec<u8> {
        let text = String::from_utf8(text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        self.redact_text(text).into_bytes()
    }

    pub(super) fn redact_text(&self, mut text: String) -> String {
        for secret in &self.keys().known {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), REDACTED);
            }
        }
        text
    }

    /// What an answer passes back, without any of the keys, or nothing where it quotes none and may go
    /// as it is. In JSON a key may be written with escapes (`\/`, `\u0041`): what it means counts.
    pub(super) fn redact_passed(&self, body: &[u8]) -> Option<Vec<u8>> {
        let plain = self.is_quoted_in(body).then(|| self.redact(body.to_vec()));
        let left = plain.as_deref().unwrap_or(body);
        let escaped = left.contains(&b'\\').then(|| self.redact_json(left)).flatten();
        escaped.or(plain)
    }

    fn redact_json(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut value = serde_json::from_slice(body).ok()?;
        let found = self.strike_strings(&mut value);
        found.then(|| value.to_string().into_bytes())
    }

    /// Whether any string, or name of a member, held a key. None does afterwards.
    fn strike_strings(&self, value: &mut Value) -> bool {
        let strike = |text: &mut String| {
            let found = self.is_quoted_in(text.as_bytes());
            if found {
                *text = self.redact_text(mem::take(text));
            }
            found
        };
        let mut found = false;
        match value {
            Value::String(text) => found = strike(text),
            Value::Array(items) => {
                for item in items {
                    found |= self.strike_strings(item);
                }
            }
            Value::Object(members) => {
                for (mut name, mut member) in mem::take(members) {
                    found |= strike(&mut name);
                    found |= self.strike_strings(&mut member);
                    members.insert(name, member);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        found
    }

    /// A text that was redacted, as upstream wrote it: what it names things by is asked for in full.
    /// Where another key has come into force since, it cannot be told.
    pub(super) fn in_full(&self, text: &str) -> String {
        match self.keys().known.first() {
            Some(key) if text.contains(REDACTED) => text.replace(REDACTED, key.expose_secret()),
            Some(_) | None => text.to_owned(),
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn authorization(key: &SecretString) -> Result<HeaderValue, UnfitKey> {
    let token = SecretString::from(format!("Token {}", key.expose_secret()));
    let mut authorization = HeaderValue::from_str(token.expose_secret()).map_err(|_| UnfitKey)?;
    authorization.set_sensitive(true);
    Ok(authorization)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_quotes_the_key_is_redacted() {
        let key = ApiKey::new("secret".into()).unwrap();
        for (text, expected) in [
            (&b"no: Token secret!"[..], &b"no: Token <redacted>!"[..]),
            (b"\xffsecret", "\u{fffd}<redacted>".as_bytes()),
            (b"nothing", b"nothing"),
        ] {
            assert_eq!(key.redact(text.to_vec()), expected);
        }
    }

    #[test]
    fn what_is_passed_back_is_redacted_however_json_writes_the_key() {
        let key = ApiKey::new("a/secret+key".into()).unwrap();
        for (body, expected) in [
            (r#"{"error": "no: a/secret+key"}"#, r#"{"error": "no: <redacted>"}"#),
            (r#"{"error":"no: a\/secret+key"}"#, r#"{"error":"no: <redacted>"}"#),
            (r#"[{"a\u002fsecret\u002Bkey":[1]}]"#, r#"[{"<redacted>":[1]}]"#),
            (r#"["a/secret+key","a\/secret+key"]"#, r#"["<redacted>","<redacted>"]"#),
        ] {
            let struck = key.redact_passed(body.as_bytes()).map(String::from_utf8);
            assert_eq!(struck, Some(Ok(expected.to_owned())), "{body}");
        }
        for body in [&br#"{"a":  "\/"}"#[..], b"a\\/secret+key", b"\xff\\", b""] {
            assert_eq!(key.redact_passed(body), None);
        }
    }

    #[test]
    fn a_name_that_was_redacted_is_asked_for_in_full() {
        let key = ApiKey::new("bulk:jobs".into()).unwrap();
        for name in ["bulk:jobs:NX-1:c6", "7", "bulk:jobs:bulk:jobs"] {
            assert_eq!(key.in_full(&key.redact_text(name.to_owned())), name);
        }
    }

    #[test]
    fn a_new_key_is_sent_and_neither_is_shown() {
        let key = ApiKey::new("first-secret".into()).unwrap();
        key.replace("second-secret".into()).unwrap();
        assert_eq!(key.authorization(), "Token second-secret");
        let quoted = key.redact_text("first-secret, then second-secret".into());
        assert_eq!(quoted, "<redacted>, then <redacted>");
        assert!(!format!("{key:?}").contains("secret"), "{key:?}");
    }

    #[test]
    fn a_key_that_cannot_be_sent_leaves_the_one_before_in_force() {
        let key = ApiKey::new("secret".into()).unwrap();
        assert_eq!(key.replace("two\nlines".into()), Err(UnfitKey));
        assert_eq!(key.authorization(), "Token secret");
    }
}
