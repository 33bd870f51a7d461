//! Receipts: what names an update, for who sent it. They are signed, so that nobody asks after an
//! update of which it has none.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::domain::update::{AppId, Sequence, Subject, SubjectKind};

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The app.
    pub app: AppId,
    /// The update's sequence.
    pub sequence: Sequence,
    /// The update's subject.
    pub subject: Subject,
}

/// Why a text is of no use as a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReceipt {
    /// It is none, or somebody has changed it.
    Unreadable,
    /// Another store's.
    AnotherStores,
}

/// The receipts of a store.
#[derive(Clone, Debug)]
pub struct Receipts {
    store: u64,
    key: hmac::Key,
}

/// Version 1 had no signature.
const VERSION: u8 = 2;
/// Version, store, app, sequence, kind.
const HEADER_BYTES: usize = 1 + 8 + 2 + 8 + 1;
/// Of HMAC-SHA-256's 32: nobody has time for 2^128 guesses.
const SIGNATURE_BYTES: usize = 16;

impl Receipts {
    /// Those of the store with this id, and this key.
    pub fn new(store: u64, key: &[u8]) -> Self {
        Self { store, key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The receipt, as a string that is opaque to its holder.
    pub fn encode(&self, app: AppId, sequence: Sequence, subject: &Subject) -> String {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + subject.id.len() + SIGNATURE_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.store.to_be_bytes());
        bytes.extend(app.0.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.push(match subject.kind {
            SubjectKind::User => b'u',
            SubjectKind::Company => b'c',
        });
        bytes.extend(subject.id.as_bytes());
        let signature = self.sign(&bytes);
        bytes.extend(signature);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a receipt.
    pub fn decode(&self, text: &str) -> Result<Receipt, NoReceipt> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoReceipt::Unreadable)?;
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(NoReceipt::Unreadable)?;
        let (store, receipt) = read(signed).ok_or(NoReceipt::Unreadable)?;
        if store != self.store {
            return Err(NoReceipt::AnotherStores);
        }
        match self.sign(signed).ct_eq(signature).into() {
            true => Ok(receipt),
            false => Err(NoReceipt::Unreadable),
        }
    }

    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let tag = hmac::sign(&self.key, bytes);
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(&tag.as_ref()[..SIGNATURE_BYTES]);
        signature
    }
}

fn read(bytes: &[u8]) -> Option<(u64, Receipt)> {
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
    let receipt = Receipt {
        app: AppId(u16::from_be_bytes(*app)),
        sequence: Sequence::from_be_bytes(*sequence),
        subject: Subject { kind, id: String::from_utf8(id.to_vec()).ok()? },
    };
    Some((u64::from_be_bytes(*store), receipt))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::testing;

    fn receipts(store: u64) -> Receipts {
        Receipts::new(store, &[7; 32])
    }

    proptest! {
        #[test]
        fn a_receipt_reads_back(store: u64, app: u16, sequence: u64, subject in testing::subject()) {
            let receipts = receipts(store);
            let text = receipts.encode(AppId(app), sequence, &subject);
            prop_assert_eq!(receipts.decode(&text), Ok(Receipt { app: AppId(app), sequence, subject }));
            prop_assert_eq!(
                self::receipts(store ^ 1).decode(&text), Err(NoReceipt::AnotherStores)
            );
            let other_key = Receipts::new(store, &[8; 32]);
            prop_assert_eq!(other_key.decode(&text), Err(NoReceipt::Unreadable));
        }

        #[test]
        fn no_text_makes_decoding_panic(text in ".{0,60}") {
            prop_assert!(receipts(7).decode(&text).is_err());
        }

        #[test]
        fn a_receipt_that_was_changed_is_none(subject in testing::subject(), at: prop::sample::Index, bit in 0_u8..8) {
            let receipts = receipts(7);
            let text = receipts.encode(AppId(1), 9, &subject);
            let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(receipts.decode(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }
    }

    #[test]
    fn the_receipt_of_the_longest_id_keeps_to_its_documented_length() {
        let subject = Subject::user("x".repeat(512));
        assert!(receipts(u64::MAX).encode(AppId(9), u64::MAX, &subject).len() <= 1_024);
    }

    #[test]
    fn a_receipt_without_a_signature_is_none() {
        // As version 1 was: of store 7, app 1, sequence 9, user ada.
        let bytes =
            [&[1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9][..], b"uada"].concat();
        let text = URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!(receipts(7).decode(&text), Err(NoReceipt::Unreadable));
    }
}
