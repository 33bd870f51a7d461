//! Which table a key is in: one for each kind of key, so that an operator can count and look.

use std::ops::RangeInclusive;

/// The byte that keys begin with, and their table, in the order of the bytes.
pub(super) const KINDS: [(u8, &str); 19] = [
    (b'a', "app_state"),
    (b'b', "batch"),
    (b'c', "course"),
    (b'd', "delivery"),
    (b'f', "in_flight"),
    (b'g', "forgotten"),
    (b'h', "head"),
    (b'j', "job"),
    (b'k', "job_page"),
    (b'l', "dead_letter"),
    (b'm', "dead_letter_index"),
    (b'n', "name"),
    (b'o', "app_lease"),
    (b'p', "pages_damaged"),
    (b'q', "page"),
    (b'r', "pending"),
    (b'u', "rescue"),
    (b'v', "held"),
    (b'x', "quarantine"),
];

/// Everything else: the engines' own entries, and kinds that came later.
pub(super) const REST: &str = "meta";

/// The table of a key.
pub(super) fn of(key: &[u8]) -> &'static str {
    known(key).unwrap_or(REST)
}

/// The tables that may have keys of a range.
pub(super) fn within(range: &RangeInclusive<Vec<u8>>) -> Vec<&'static str> {
    let (start, end) = (range.start().first(), range.end().first());
    if start == end
        && let Some(table) = known(range.start())
    {
        return vec![table];
    }
    let (Some(start), Some(end)) = (start.or(Some(&0)), end) else { return vec![REST] };
    let within = KINDS.iter().filter(|(byte, _)| (start..=end).contains(&byte));
    within.map(|(_, table)| *table).chain([REST]).collect()
}

fn known(key: &[u8]) -> Option<&'static str> {
    let first = key.first()?;
    KINDS.iter().find(|(byte, _)| byte == first).map(|(_, table)| *table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::walk::Kind;

    #[test]
    fn every_kind_of_key_has_a_table_of_its_own() {
        for kind in Kind::ALL {
            let own = KINDS.iter().any(|(byte, _)| *byte == kind.byte());
            assert_eq!(own, kind != Kind::Engine, "{kind:?}");
        }
        assert!(KINDS.is_sorted_by_key(|(byte, _)| *byte));
        assert_eq!((of(b"r1"), of(b"\xffs"), of(b"e"), of(b"")), ("pending", REST, REST, REST));
    }

    #[test]
    fn a_range_goes_through_the_tables_that_it_touches() {
        let within = |start: &[u8], end: &[u8]| within(&(start.to_vec()..=end.to_vec()));
        assert_eq!(within(b"r\0", b"r\xff"), ["pending"]);
        assert_eq!(within(b"e1", b"e2"), [REST]);
        assert_eq!(within(b"p", b"q\xff"), ["pages_damaged", "page", REST]);
        assert_eq!(within(b"", b"b"), ["app_state", "batch", REST]);
        assert_eq!(within(b"", b"\xff").len(), KINDS.len() + 1);
    }
}
