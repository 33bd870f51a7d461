//! Every key, as bytes. One byte says what kind of entry it is; numbers are big-endian, so
//! that byte order is their order.
//!
//! | kind | key | holds |
//! |---|---|---|
//! | `h` | | the head: format, store id, last sequence |
//! | `n` | space, name | the number of a name |
//! | `a` | app | the app's state: depth, occupancy, pause, unsettled batch |
//! | `o` | app | who delivers the app; only where several write to the store |
//! | `r` | app, subject | a pending record |
//! | `q` | app, kind of subject, lane, client, first sequence | a page of the queue: subjects in order |
//! | `p` | app | that pages are damaged, and are to be made anew |
//! | `f` | app, subject | a record in flight, with its batch and position |
//! | `b` | app, number, descending | a batch |
//! | `c` | app, stripe | a stripe's numbers, and its lock; only where several write to the store |
//! | `d` | app, subject, last sequence | a delivery |
//! | `l` | app, time, last sequence | a dead letter |
//! | `g` | app, digest of a subject | until when the subject was forgotten |
//! | `m` | app, subject, time, last sequence | that the subject has this dead letter |
//! | `u` | app | what the app's state was made anew for, until an operator resumes it |
//! | `j` | app, client, number, descending | a virtual job |
//! | `k` | app, client, number, descending, page | a page of its rows that are not final |
//! | `v` | app, subject | what upstream holds of the subject |
//! | `x` | the damaged entry's key, last sequence then | an entry that did not decode, as it was found |

pub(crate) mod course;
mod held;
pub(crate) mod jobs;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use ring::hmac;

pub(crate) use self::held::{all_held, all_held_of, app_of_held, held_beside, held_of};
use crate::domain::{
    time::Timestamp,
    update::{AppId, ClientId, Lane, Sequence, Subject, SubjectKind},
};

/// Where the subject begins in keys of the kinds `r`, `f` and `d`.
pub(crate) const SUBJECT_AT: usize = 3;

/// The head's key.
pub(crate) const HEAD: &[u8] = b"h";

/// What names are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameSpace {
    /// Apps.
    App,
    /// Clients.
    Client,
}

/// The number of a name.
pub(crate) fn name(space: NameSpace, name: &str) -> Vec<u8> {
    let space = match space {
        NameSpace::App => b'a',
        NameSpace::Client => b'c',
    };
    [&[b'n', space], name.as_bytes()].concat()
}

/// All names of a space.
pub(crate) fn names(space: NameSpace) -> RangeInclusive<Vec<u8>> {
    below(&name(space, ""))
}

/// An app's state.
pub(crate) fn app(app: AppId) -> Vec<u8> {
    of_app(b'a', app)
}

/// A subject's pending record.
pub(crate) fn pending(app: AppId, subject: &Subject) -> Vec<u8> {
    of_subject(b'r', app, subject)
}

/// The pending record of the subject that a key of kind `r` or `f` ends with.
pub(crate) fn pending_of(app: AppId, subject_key: &[u8]) -> Vec<u8> {
    let mut key = of_app(b'r', app);
    key.extend(subject_key);
    key
}

/// The same for its record in flight.
pub(crate) fn in_flight_of(app: AppId, subject_key: &[u8]) -> Vec<u8> {
    let mut key = of_app(b'f', app);
    key.extend(subject_key);
    key
}

/// All pending records of an app, from a key on.
pub(crate) fn all_pending(app: AppId, from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(&of_app(b'r', app)).into_inner();
    from.unwrap_or(start)..=end
}

/// A subject's record in flight.
pub(crate) fn in_flight(app: AppId, subject: &Subject) -> Vec<u8> {
    of_subject(b'f', app, subject)
}

/// All records of an app that are in flight, from a key on.
pub(crate) fn all_in_flight(app: AppId, from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(&of_app(b'f', app)).into_inner();
    from.unwrap_or(start)..=end
}

/// A page of the queue: the record with this first sequence stands first in it.
pub(crate) fn page(
    app: AppId,
    (kind, lane): (SubjectKind, Lane),
    client: ClientId,
    first: Sequence,
) -> Vec<u8> {
    let mut key = of_lane(app, kind, lane);
    key.extend(client.0.to_be_bytes());
    key.extend(first.to_be_bytes());
    key
}

/// The client whose records a page holds.
pub(crate) fn client_of_page(key: &[u8]) -> Option<ClientId> {
    // After the kind, the app, the kind of subject and the lane.
    let number = key.get(5..)?.first_chunk()?;
    Some(ClientId(u16::from_be_bytes(*number)))
}

/// The sequence in a page's key: no entry of the page is older.
pub(crate) fn first_of_page(key: &[u8]) -> Option<Sequence> {
    key.last_chunk().map(|first| Sequence::from_be_bytes(*first))
}

/// The pages of a client in a lane, from a key on.
pub(crate) fn pages_of(
    app: AppId,
    (kind, lane): (SubjectKind, Lane),
    client: ClientId,
    from: Option<Vec<u8>>,
) -> RangeInclusive<Vec<u8>> {
    let first = page(app, (kind, lane), client, 0);
    from.unwrap_or(first)..=page(app, (kind, lane), client, Sequence::MAX)
}

/// The pages of the clients behind one in a lane.
pub(crate) fn pages_behind(
    app: AppId,
    (kind, lane): (SubjectKind, Lane),
    client: ClientId,
) -> RangeInclusive<Vec<u8>> {
    let last = page(app, (kind, lane), client, Sequence::MAX);
    pages(app, (kind, lane), Some(after(last)))
}

/// All pages of a kind of subject and a lane, from a key on.
pub(crate) fn pages(
    app: AppId,
    (kind, lane): (SubjectKind, Lane),
    from: Option<Vec<u8>>,
) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(&of_lane(app, kind, lane)).into_inner();
    from.unwrap_or(start)..=end
}

/// All pages of an app.
pub(crate) fn all_pages(app: AppId) -> RangeInclusive<Vec<u8>> {
    below(&of_app(b'q', app))
}

/// That an app's pages are damaged.
pub(crate) fn pages_damaged(app: AppId) -> Vec<u8> {
    of_app(b'p', app)
}

/// That an app's state or unsettled batch was damaged and made anew.
pub(crate) fn rescue(app: AppId) -> Vec<u8> {
    of_app(b'u', app)
}

/// A batch. Later numbers come first.
pub(crate) fn batch(app: AppId, number: u64) -> Vec<u8> {
    let mut key = of_app(b'b', app);
    key.extend((u64::MAX - number).to_be_bytes());
    key
}

/// The batches of an app with a number of at most `newest`, newest first.
pub(crate) fn batches(app: AppId, newest: u64) -> RangeInclusive<Vec<u8>> {
    batch(app, newest)..=batch(app, 0)
}

/// The number of the batch of a key.
pub(crate) fn number_of_batch(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::MAX - u64::from_be_bytes(*number))
}

/// A delivery of a subject's updates up to `last`.
pub(crate) fn delivery(app: AppId, subject: &Subject, last: Sequence) -> Vec<u8> {
    let mut key = of_subject(b'd', app, subject);
    key.extend(last.to_be_bytes());
    key
}

/// The same, of the subject that another key ends with.
pub(crate) fn delivery_of(app: AppId, subject_key: &[u8], last: Sequence) -> Vec<u8> {
    let mut key = of_app(b'd', app);
    key.extend(subject_key);
    key.extend(last.to_be_bytes());
    key
}

/// A subject's deliveries that took along a sequence of at least `from`.
pub(crate) fn deliveries(app: AppId, subject: &Subject, from: Sequence) -> RangeInclusive<Vec<u8>> {
    delivery(app, subject, from)..=delivery(app, subject, Sequence::MAX)
}

/// All deliveries of an app, from a key on.
pub(crate) fn all_deliveries_of(app: AppId, from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(&of_app(b'd', app)).into_inner();
    from.unwrap_or(start)..=end
}

/// All deliveries, from a key on.
pub(crate) fn all_deliveries(from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(b"d").into_inner();
    from.unwrap_or(start)..=end
}

/// A dead letter, by when it died and the last sequence in it.
pub(crate) fn dead(app: AppId, died_at: Timestamp, last: Sequence) -> Vec<u8> {
    let mut key = of_app(b'l', app);
    key.extend(place_of_dead(died_at, last));
    key
}

/// When the dead letter of a key of kind `l` or `m` died, and its last sequence.
pub(crate) fn dead_at(key: &[u8]) -> Option<(Timestamp, Sequence)> {
    let (rest, last) = key.split_last_chunk()?;
    let (_, died_at) = rest.split_last_chunk()?;
    let died_at = u64::from_be_bytes(*died_at) ^ (1 << 63);
    Some((Timestamp::from_micros(died_at.cast_signed()), Sequence::from_be_bytes(*last)))
}

/// All dead letters of an app, from a key on.
pub(crate) fn all_dead(app: AppId, from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(&of_app(b'l', app)).into_inner();
    from.unwrap_or(start)..=end
}

/// That the subject that another key ends with has this dead letter.
pub(crate) fn dead_of(
    app: AppId,
    subject_key: &[u8],
    died_at: Timestamp,
    last: Sequence,
) -> Vec<u8> {
    let mut key = of_app(b'm', app);
    key.extend(subject_key);
    key.extend(place_of_dead(died_at, last));
    key
}

/// All dead letters of a subject.
pub(crate) fn all_dead_of(app: AppId, subject_key: &[u8]) -> RangeInclusive<Vec<u8>> {
    let first = dead_of(app, subject_key, Timestamp::from_micros(i64::MIN), 0);
    let last = dead_of(app, subject_key, Timestamp::from_micros(i64::MAX), Sequence::MAX);
    first..=last
}

/// Byte order is the order of time, before 1970, too.
fn place_of_dead(died_at: Timestamp, last: Sequence) -> [u8; 16] {
    let mut place = [0; 16];
    let died_at = died_at.as_micros().cast_unsigned() ^ (1 << 63);
    place[..8].copy_from_slice(&died_at.to_be_bytes());
    place[8..].copy_from_slice(&last.to_be_bytes());
    place
}

/// That a subject was forgotten. It does not hold the subject, only a digest under the store's
/// number: enough to answer whoever has the id.
pub(crate) fn forgotten(app: AppId, store: u64, subject_key: &[u8]) -> Vec<u8> {
    let under = hmac::Key::new(hmac::HMAC_SHA256, &store.to_be_bytes());
    let mut key = of_app(b'g', app);
    key.extend(&hmac::sign(&under, subject_key).as_ref()[..16]);
    key
}

/// All that was set aside.
pub(crate) fn all_quarantines() -> RangeInclusive<Vec<u8>> {
    below(b"x")
}

/// The batches of an app that were set aside.
pub(crate) fn quarantined_batches(app: AppId) -> RangeInclusive<Vec<u8>> {
    below(&[b"x".as_slice(), &of_app(b'b', app)].concat())
}

/// The key that a damaged entry had before it was set aside.
pub(crate) fn quarantined_key(key: &[u8]) -> &[u8] {
    let inner = key.get(1..).unwrap_or_default();
    inner.split_last_chunk::<8>().map_or(&[], |(inner, _)| inner)
}

/// Where a damaged entry is set aside. What it holds had been accepted up to `last`.
pub(crate) fn quarantine(key: &[u8], last: Sequence) -> Vec<u8> {
    [b"x", key, &last.to_be_bytes()].concat()
}

/// The damaged entries of a key of kind `r` or `f` that may hold the update with `sequence`.
pub(crate) fn quarantines(key: &[u8], sequence: Sequence) -> RangeInclusive<Vec<u8>> {
    quarantine(key, sequence)..=quarantine(key, Sequence::MAX)
}

/// The kind of the subject that keys end with so. One that is none counts as a user, until it
/// is set aside.
pub(crate) fn kind_of(subject_key: &[u8]) -> SubjectKind {
    subject_key.first().and_then(|byte| kind_of_byte(*byte)).unwrap_or_default()
}

fn kind_of_byte(byte: u8) -> Option<SubjectKind> {
    SubjectKind::ALL.into_iter().find(|kind| kind_byte(*kind) == byte)
}

fn kind_byte(kind: SubjectKind) -> u8 {
    match kind {
        SubjectKind::User => b'u',
        SubjectKind::Company => b'c',
    }
}

/// The subject that a key of kind `r` or `f` ends with.
pub(crate) fn subject_of(key: &[u8]) -> Option<Subject> {
    let (kind, rest) = key.get(SUBJECT_AT..)?.split_first()?;
    let kind = kind_of_byte(*kind)?;
    let (length, id) = rest.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    let id = id.get(..usize::from(length))?;
    Some(Subject { kind, id: String::from_utf8(id.to_vec()).ok()? })
}

fn of_app(kind: u8, app: AppId) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    key.push(kind);
    key.extend(app.0.to_be_bytes());
    key
}

/// The id's length goes before it, so that no key is the beginning of another subject's.
fn of_subject(kind: u8, app: AppId, subject: &Subject) -> Vec<u8> {
    let length = u16::try_from(subject.id.len()).expect("ids are limited to 65,535 bytes");
    let mut key = Vec::with_capacity(16 + subject.id.len());
    key.push(kind);
    key.extend(app.0.to_be_bytes());
    key.push(kind_byte(subject.kind));
    key.extend(length.to_be_bytes());
    key.extend(subject.id.as_bytes());
    key
}

fn of_lane(app: AppId, kind: SubjectKind, lane: Lane) -> Vec<u8> {
    let mut key = of_app(b'q', app);
    key.extend([kind_byte(kind), lane_byte(lane)]);
    key
}

fn lane_byte(lane: Lane) -> u8 {
    match lane {
        Lane::Express => 0,
        Lane::Interactive => 1,
        Lane::Bulk => 2,
    }
}

/// Every key that begins with `prefix`, which is not all 0xff.
fn below(prefix: &[u8]) -> RangeInclusive<Vec<u8>> {
    let mut last = prefix.to_vec();
    // No key is longer than 700 bytes: the configuration limits ids to 512, names to fewer.
    last.resize(prefix.len() + 1_024, 0xff);
    prefix.to_vec()..=last
}

/// The key right after `key`, to go on from.
pub(crate) fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
