//! Keys of a store that several write to: the courses of an app's stripes, and its lease.

use std::ops::RangeInclusive;

use super::{below, of_app};
use crate::domain::update::AppId;

/// What stands in an app's place where names are numbered. No app comes to have this number.
pub(crate) const OF_NAMES: AppId = AppId(u16::MAX);

/// The course of a stripe of an app. Whoever has locked it may change the stripe's subjects.
pub(crate) fn course(app: AppId, stripe: u16) -> Vec<u8> {
    let mut key = of_app(b'c', app);
    key.extend(stripe.to_be_bytes());
    key
}

/// All courses of an app.
pub(crate) fn courses(app: AppId) -> RangeInclusive<Vec<u8>> {
    below(&of_app(b'c', app))
}

/// Who delivers an app.
pub(crate) fn lease(app: AppId) -> Vec<u8> {
    of_app(b'o', app)
}

/// The stripe, of so many, of the subject that a key ends with. It never changes.
pub(crate) fn stripe_of(app: AppId, subject_key: &[u8], stripes: u16) -> u16 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&app.0.to_be_bytes()), subject_key);
    u16::try_from(sum % u32::from(stripes.max(1))).unwrap_or(0)
}
