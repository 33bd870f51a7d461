//! What strings look like.

use std::fmt;

use jiff::civil::Date;
use url::Url;

/// What a string must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Something, an @, and a domain of two parts or more.
    Email,
    /// An http or https URL.
    Url,
    /// 32 hexadecimal digits in five groups.
    Uuid,
}

impl TextFormat {
    /// Whether the text looks so. It is a look, not a proof: no mail is sent to find out.
    pub fn fits(self, text: &str) -> bool {
        match self {
            Self::Email => is_email(text),
            Self::Url => {
                let url = Url::parse(text);
                url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            }
            Self::Uuid => is_uuid(text),
        }
    }
}

impl fmt::Display for TextFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email => "an e-mail address",
            Self::Url => "an http or https URL",
            Self::Uuid => "a UUID",
        })
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_part = |part: &str| {
        let ends = |edge: char| part.starts_with(edge) || part.ends_with(edge);
        let is_known = |char: char| char.is_alphanumeric() || char == '-';
        !part.is_empty() && part.len() <= 63 && !ends('-') && part.chars().all(is_known)
    };
    let is_local = |char: char| !char.is_whitespace() && !char.is_control() && char != '@';
    (1..=64).contains(&local.len())
        && local.chars().all(is_local)
        && text.len() <= 254
        && domain.contains('.')
        && domain.split('.').all(is_part)
}

fn is_uuid(text: &str) -> bool {
    let groups = text.split('-').map(str::len);
    groups.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A date of RFC 3339, or a day alone, as ISO 8601 in UTC: `2026-11-24T09:30:00Z`.
pub(super) fn as_date(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let has = |place: usize, byte: u8| bytes.get(place) == Some(&byte);
    // Jiff reads more than RFC 3339 allows: years of six digits, weeks, names of time zones.
    let is_day = has(4, b'-') && has(7, b'-') && bytes[..4].iter().all(u8::is_ascii_digit);
    if !is_day || text.contains('[') {
        return None;
    }
    if bytes.len() == 10 {
        return text.parse::<Date>().ok().map(|day| day.to_string());
    }
    let is_time =
        matches!(bytes.get(10), Some(b'T' | b't' | b' ')) && has(13, b':') && has(16, b':');
    if !is_time {
        return None;
    }
    text.parse::<jiff::Timestamp>().ok().map(|at| at.to_string())
}
