//! The redo entry: a small commit as one value.
//!
//! sled makes a batch of several keys atomic by a manifest that it writes, and flushes, beside
//! the data: two writes by two threads. One key alone takes one. So a commit of a few keys goes
//! to disk as the value of one, which is applied to the others afterwards, and once more at the
//! next opening, since a crash may have come in between. To apply it twice changes nothing.

use serde::{Deserialize, Serialize};

/// The puts of a commit.
#[derive(Serialize, Deserialize)]
struct Redo<'a> {
    #[serde(borrow)]
    puts: Vec<(&'a [u8], &'a [u8])>,
}

/// The most bytes of keys and values that a redo entry is made for. What is larger would cost
/// more to write twice than its manifest does.
pub(super) const REDO_BYTES_MAX: usize = 8_192;

const CHECKSUM_BYTES: usize = 4;

/// The entry that holds `puts`.
pub(in crate::store) fn encode(puts: &[(&[u8], &[u8])]) -> Vec<u8> {
    let entry = postcard::to_extend(&Redo { puts: puts.to_vec() }, vec![0; CHECKSUM_BYTES]);
    let mut entry = entry.expect("a Vec takes every byte");
    let sum = crc32c::crc32c(&entry[CHECKSUM_BYTES..]);
    entry[..CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    entry
}

/// The puts that an entry holds; `None` if it is damaged.
pub(in crate::store) fn decode(entry: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (sum, content) = entry.split_first_chunk::<CHECKSUM_BYTES>()?;
    let whole = u32::from_le_bytes(*sum) == crc32c::crc32c(content);
    whole.then(|| postcard::from_bytes::<Redo<'_>>(content).ok())?.map(|redo| redo.puts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_reads_back(puts: Vec<(Vec<u8>, Vec<u8>)>, flipped: prop::sample::Index) {
            let puts: Vec<(&[u8], &[u8])> = puts.iter().map(|(k, v)| (&**k, &**v)).collect();
            let mut entry = encode(&puts);
            prop_assert_eq!(decode(&entry), Some(puts));
            let at = flipped.index(entry.len());
            entry[at] ^= 0x10;
            prop_assert_eq!(decode(&entry), None);
            prop_assert_eq!(decode(&entry[..at]), None);
        }
    }
}
