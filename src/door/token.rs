//! Tokens: made once, shown once, and known by their hashes from then on.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header::AUTHORIZATION};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use subtle::{Choice, ConstantTimeEq};

/// What every token begins with, so that scanners for secrets know one.
pub const PREFIX: &str = "upg_";

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a token.
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// Reads 64 hex digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (place, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Self(hash))
    }

    /// The one of `known` with this hash. How long it takes tells nothing but how many there are.
    pub fn find<'a, T>(&self, known: &'a [(Self, T)]) -> Option<&'a T> {
        let mut found = None;
        for (hash, value) in known {
            let same: Choice = hash.0.ct_eq(&self.0);
            if bool::from(same) {
                found = Some(value);
            }
        }
        found
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// The machine gives no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

/// A new token, of 256 random bits.
pub fn new() -> Result<String, NoRandomness> {
    let mut bits = [0; 32];
    SystemRandom::new().fill(&mut bits).map_err(|_| NoRandomness)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)))
}

/// The words before a token that a door knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// `Bearer`.
    Bearer,
    /// `Token`, too, as Userpilot's own clients write.
    BearerOrToken,
}

/// What stands where a token could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// Something that is no token.
    Malformed,
    /// A token.
    Token(&'a str),
}

/// The token in a request's `authorization` header.
pub fn presented(headers: &HeaderMap, schemes: Schemes) -> Presented<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, others) = (values.next(), values.next());
    let Some(value) = value else { return Presented::Nothing };
    let split = value.to_str().ok().and_then(|value| value.split_once(' '));
    let (Some((scheme, token)), None) = (split, others) else { return Presented::Malformed };
    let is_known = scheme.eq_ignore_ascii_case("bearer")
        || (schemes == Schemes::BearerOrToken && scheme.eq_ignore_ascii_case("token"));
    let token = token.trim_matches(' ');
    if is_known && !token.is_empty() && !token.contains(' ') {
        Presented::Token(token)
    } else {
        Presented::Malformed
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_new_token_has_256_bits_and_a_prefix() {
        let (one, other) = (new().unwrap(), new().unwrap());
        assert_ne!(one, other);
        assert_eq!(URL_SAFE_NO_PAD.decode(one.strip_prefix("upg_").unwrap()).unwrap().len(), 32);
    }

    #[test]
    fn a_hash_is_that_of_sha256sum_and_reads_back() {
        let hash = Hash::of("abc").to_string();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Hash::parse(&hash), Some(Hash::of("abc")));
        for wrong in ["", "ba", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_stands_behind_one_known_word() {
        let check = |values: &[&str], schemes, expected| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(presented(&headers, schemes), expected, "{values:?}");
        };
        use Presented::{Malformed, Nothing, Token};
        use Schemes::{Bearer, BearerOrToken};
        check(&[], Bearer, Nothing);
        check(&["Bearer t"], Bearer, Token("t"));
        check(&["bearer  t "], Bearer, Token("t"));
        check(&["Token t"], Bearer, Malformed);
        check(&["Token t"], BearerOrToken, Token("t"));
        check(&["Bearer t", "Bearer t"], Bearer, Malformed);
        for malformed in ["t", "Bearer", "Bearer ", "Bearer a b", "Basic dDp0", ""] {
            check(&[malformed], BearerOrToken, Malformed);
        }
    }
}
