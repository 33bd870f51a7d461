//! Keys of a store that several write to: the courses of an app's stripes, its lease, and the
//! replicas.

use std::ops::RangeInclusive;

use super::{below, of_app};
use crate::domain::{lease::ReplicaId, update::AppId};

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

/// Where all replicas begin, among what is of no app.
const REPLICAS: &[u8] = &[0xff, b'R'];

/// What receipts are signed with.
pub(crate) const RECEIPT_KEY: &[u8] = &[0xff, b'r'];

/// That a replica takes part.
pub(crate) fn replica(id: ReplicaId) -> Vec<u8> {
    [REPLICAS, &id.0.to_be_bytes()].concat()
}

/// The replica of a key.
pub(crate) fn replica_of(key: &[u8]) -> Option<ReplicaId> {
    key.last_chunk().map(|id| ReplicaId(u64::from_be_bytes(*id)))
}

/// All replicas.
pub(crate) fn replicas() -> RangeInclusive<Vec<u8>> {
    below(REPLICAS)
}

/// The stripe, of so many, of the subject that a key ends with. It never changes.
pub(crate) fn stripe_of(app: AppId, subject_key: &[u8], stripes: u16) -> u16 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&app.0.to_be_bytes()), subject_key);
    u16::try_from(sum % u32::from(stripes.max(1))).unwrap_or(0)
}
