//! Keys of what upstream holds of subjects.

use std::ops::RangeInclusive;

use super::{below, of_app};
use crate::domain::update::AppId;

/// What upstream holds of the subject that another key ends with.
pub(crate) fn held_of(app: AppId, subject_key: &[u8]) -> Vec<u8> {
    let mut key = of_app(b'v', app);
    key.extend(subject_key);
    key
}

/// What upstream holds of the subject of a record, pending or in flight, that has this key.
pub(crate) fn held_beside(key: &[u8]) -> Option<Vec<u8>> {
    let (kind, rest) = key.split_first()?;
    matches!(kind, b'r' | b'f').then(|| [b"v", rest].concat())
}

/// The app whose subject a key of kind `v` is of.
pub(crate) fn app_of_held(key: &[u8]) -> Option<AppId> {
    Some(AppId(u16::from_be_bytes(*key.get(1..3)?.first_chunk()?)))
}

/// What upstream holds of an app's subjects, from a key on.
pub(crate) fn all_held_of(app: AppId, from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(&of_app(b'v', app)).into_inner();
    from.unwrap_or(start)..=end
}

/// What upstream holds of all subjects, from a key on.
pub(crate) fn all_held(from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(b"v").into_inner();
    from.unwrap_or(start)..=end
}
