//! Receipts: what names an update, for who sent it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::domain::update::{AppId, Sequence, Subject, SubjectKind};

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The store that the update was accepted by.
    pub store: u64,
    /// The app.
    pub app: AppId,
    /// The update's sequence.
    pub sequence: Sequence,
    /// The update's subject.
    pub subject: Subject,
}

const VERSION: u8 = 1;
/// Version, store, app, sequence, kind.
const HEADER_BYTES: usize = 1 + 8 + 2 + 8 + 1;

/// The receipt, as a string that is opaque to its holder.
pub fn encode(store: u64, app: AppId, sequence: Sequence, subject: &Subject) -> String {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + subject.id.len());
    bytes.push(VERSION);
    bytes.extend(store.to_be_bytes());
    bytes.extend(app.0.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.push(match subject.kind {
        SubjectKind::User => b'u',
        SubjectKind::Company => b'c',
    });
    bytes.extend(subject.id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a receipt; `None` where it is none.
pub fn decode(text: &str) -> Option<Receipt> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (store, rest) = rest.split_first_chunk()?;
    let (app, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (kind, id) = rest.split_first()?;
    // No id is longer: its length is stored in two bytes.
    if *version != VERSION || id.len() > usize::from(u16::MAX) {
        return None;
    }
    let kind = match kind {
        b'u' => SubjectKind::User,
        b'c' => SubjectKind::Company,
        _ => return None,
    };
    Some(Receipt {
        store: u64::from_be_bytes(*store),
        app: AppId(u16::from_be_bytes(*app)),
        sequence: Sequence::from_be_bytes(*sequence),
        subject: Subject { kind, id: String::from_utf8(id.to_vec()).ok()? },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::testing;

    proptest! {
        #[test]
        fn a_receipt_reads_back(store: u64, app: u16, sequence: u64, subject in testing::subject()) {
            let text = encode(store, AppId(app), sequence, &subject);
            prop_assert_eq!(decode(&text), Some(Receipt { store, app: AppId(app), sequence, subject }));
        }

        #[test]
        fn no_text_makes_decoding_panic(text in ".{0,60}") {
            decode(&text);
        }
    }

    #[test]
    fn the_receipt_of_the_longest_id_keeps_to_its_documented_length() {
        let subject = Subject::user("x".repeat(512));
        assert!(encode(u64::MAX, AppId(9), u64::MAX, &subject).len() <= 1_024);
    }
}
