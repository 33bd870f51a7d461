//! Every value, as bytes: a version, a CRC-32C of what follows it, and the entry in postcard
//! (<https://postcard.jamesmunns.com/wire-format>). What does not read back is damaged; the
//! queue sets it aside and goes on.

mod course;
mod dead;
mod express;
pub(super) mod jobs;
mod page;
mod remembered;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use self::course::{Course, Present, Tally};
pub(crate) use self::dead::Dead;
pub use self::dead::{Closing, Death};
use self::jobs::{Job, JobRow};
pub(crate) use self::{express::EXPRESS, page::PageEntry, remembered::Remembered};
use crate::domain::{
    admission::Depth,
    ageing::Ageing,
    batch::Batch,
    lease::Lease,
    lifecycle::Rescue,
    memory::Memory,
    merge::{Property, Record, Span, Stamp},
    time::Timestamp,
    turns::Turn,
    update::{ByKind, ClientId, Lane, Sequence, SubjectKind, Value},
};

/// The version of all values that this program writes, and the only one that it reads.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// A stored value that does not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is shorter than its header.
    #[error("too short")]
    Short,
    /// Its checksum is right, and another program wrote it: after an update was taken back.
    #[error("written by another version of this program (value version {0})")]
    Version(u8),
    /// Its checksum is wrong.
    #[error("checksum mismatch")]
    Checksum,
    /// Its checksum is right and its content is not.
    #[error("undecodable")]
    Content,
}

/// The one entry that knows about the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Of the layout of keys.
    pub(crate) format: u32,
    /// Drawn when the store was made: receipts bear it.
    pub(crate) store: u64,
    /// The last sequence that was given.
    pub(crate) last_sequence: Sequence,
    /// The last stamp of an update that did not say when it occurred. Does not go back while
    /// anything waits or is in flight.
    pub(crate) last_accepted_at: Timestamp,
    /// Entries that were set aside.
    pub(crate) quarantined: u64,
}

/// An app's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppState {
    /// What waits.
    pub(crate) depth: StoredDepth,
    /// Of the records that wait, those in the bulk lane.
    pub(crate) bulk_records: u64,
    /// Of the records that wait, those in the express lane.
    pub(crate) express_records: u64,
    /// Of the records that wait, those of companies.
    pub(crate) company_records: u64,
    /// The kind that the last batch passed over, while something of it waited.
    pub(crate) passed_over: Option<SubjectKind>,
    /// Whose turn it is in each lane.
    pub(crate) turns: ByKind<[Turn; Lane::ALL.len()]>,
    /// The number of the last batch.
    pub(crate) last_batch: u64,
    /// The number of the last batch that history has forgotten.
    pub(crate) forgotten_batches: u64,
    /// The number of the batch that is delivered now; others that are not settled follow it.
    pub(crate) unsettled: Option<u64>,
    /// Records in flight by express.
    pub(crate) express_in_flight: u64,
    /// Dead letters that nobody has closed.
    pub(crate) dead_letters: u64,
    /// What delivery must know after a restart.
    pub(crate) memory: Memory,
    /// Whether an operator has paused the app.
    pub(crate) paused: bool,
    /// From the first to the last sequence of the dead letters that were dropped, and whose
    /// updates nobody has delivered: of what is between, no more may be known.
    pub(crate) dropped: Option<Span>,
    /// When dead letters are too old.
    pub(crate) ageing: Ageing,
    /// Whether what is delivered is remembered.
    pub(crate) remembers: bool,
    /// How often that was begun anew: what was remembered before is not true any more.
    pub(crate) epoch: u32,
}

/// [`Depth`], as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDepth {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl From<StoredDepth> for Depth {
    fn from(depth: StoredDepth) -> Self {
        Self { records: depth.records, bytes: depth.bytes }
    }
}

/// A record in flight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InFlight {
    /// Its batch, or [`EXPRESS`].
    pub(crate) batch: u64,
    pub(crate) position: u64,
    pub(crate) record: Record,
    /// Its subject is forgotten: its values are erased, and when its batch is settled it goes
    /// without a trace. Until then it keeps its place, since a batch does not change.
    pub(crate) forgotten: bool,
}

impl InFlight {
    /// Erases the values. What is sent from now on holds the id alone, which changes nothing.
    pub(crate) fn forget(&mut self) {
        self.forgotten = true;
        self.record.company_id = None;
        self.record.properties.clear();
    }
}

/// A subject was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    /// The last sequence that had been given by then.
    pub(crate) up_to: Sequence,
    pub(crate) forgotten_at: Timestamp,
}

/// A delivery of one subject's updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// The first sequence of a span that it took along; the last is in its key.
    pub(crate) first_sequence: Sequence,
    /// The last sequence that it took along.
    pub(crate) last_sequence: Sequence,
    /// The batch that took it, or [`EXPRESS`].
    pub(crate) batch: u64,
    pub(crate) delivered_at: Timestamp,
}

/// A value that can be stored.
pub(crate) trait Stored: Sized {
    /// As bytes.
    fn encode(&self) -> Vec<u8>;
    /// From bytes.
    fn decode(bytes: &[u8]) -> Result<Self, Damage>;
}

macro_rules! stored_as_it_is {
    ($($type:ty),+) => {$(
        impl Stored for $type {
            fn encode(&self) -> Vec<u8> {
                seal(self)
            }
            fn decode(bytes: &[u8]) -> Result<Self, Damage> {
                open(bytes)
            }
        }
    )+};
}

stored_as_it_is!(Head, AppState, Batch, Vec<PageEntry>, Delivery, Tombstone, u16, Job, Vec<JobRow>);
stored_as_it_is!(Rescue, Course, Lease, Present);

fn seal(content: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend([VERSION, 0, 0, 0, 0]);
    let mut bytes = postcard::to_extend(content, bytes).expect("a Vec takes every byte");
    let sum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Damage> {
    postcard::from_bytes(content(bytes)?).map_err(|_| Damage::Content)
}

/// A value with this content: a header is the one thing that no fuzzer finds by itself.
#[cfg(any(test, fuzzing))]
pub(crate) fn sealed_for_fuzzing(content: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c(content).to_le_bytes();
    [&[VERSION], &sum[..], content].concat()
}

/// The content of a value, once its header has been checked.
fn content(bytes: &[u8]) -> Result<&[u8], Damage> {
    let (header, content) = bytes.split_at_checked(HEADER_BYTES).ok_or(Damage::Short)?;
    // First, since damage, too, can look like another version. Every version has this header.
    if header[1..] != crc32c::crc32c(content).to_le_bytes() {
        return Err(Damage::Checksum);
    }
    if header[0] != VERSION {
        return Err(Damage::Version(header[0]));
    }
    Ok(content)
}

/// [`Record`], as it is stored: values share a few stamps, so each names its stamp by number.
#[derive(Serialize, Deserialize)]
struct StoredRecord<'a> {
    stamps: Vec<(Timestamp, Sequence)>,
    #[serde(borrow)]
    company_id: Option<(&'a str, u32)>,
    #[serde(borrow)]
    properties: Vec<(&'a str, StoredValue<'a>, u32)>,
    own: Option<Span>,
    replayed: Vec<Span>,
    first_accepted_at: Timestamp,
    updates: u64,
    lane: Lane,
    client: ClientId,
    guests: Vec<ClientId>,
}

#[derive(Serialize, Deserialize)]
enum StoredValue<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

impl<'a> From<&'a Record> for StoredRecord<'a> {
    fn from(record: &'a Record) -> Self {
        let mut stamps = Vec::new();
        let mut number = |stamp: Stamp| {
            let stamp = (stamp.occurred_at, stamp.sequence);
            // Neighbours mostly come from one update, and lately.
            let known = stamps.iter().rposition(|known| *known == stamp);
            let number = known.unwrap_or_else(|| {
                stamps.push(stamp);
                stamps.len() - 1
            });
            u32::try_from(number).expect("a record has few properties")
        };
        let company_id = record.company_id.as_ref().map(|(id, stamp)| (&**id, number(*stamp)));
        let properties = record.properties.iter();
        let properties =
            properties.map(|p| (&*p.name, StoredValue::from(&p.value), number(p.stamp))).collect();
        Self {
            company_id,
            properties,
            stamps,
            own: record.own,
            replayed: record.replayed.clone(),
            first_accepted_at: record.first_accepted_at,
            updates: record.updates,
            lane: record.lane,
            client: record.client,
            guests: record.guests.clone(),
        }
    }
}

impl StoredRecord<'_> {
    fn read(self) -> Result<Record, Damage> {
        let stamps = &self.stamps;
        let stamp = |number: u32| {
            let stamp = usize::try_from(number).ok().and_then(|number| stamps.get(number));
            let (occurred_at, sequence) = *stamp.ok_or(Damage::Content)?;
            Ok(Stamp { occurred_at, sequence })
        };
        let company_id = match self.company_id {
            Some((id, number)) => Some((id.to_owned(), stamp(number)?)),
            None => None,
        };
        let property = |(name, value, number): (&str, StoredValue<'_>, u32)| {
            Ok(Property { name: name.to_owned(), value: value.into(), stamp: stamp(number)? })
        };
        let spans = || self.replayed.iter().copied().chain(self.own);
        let first_sequence = spans().map(|(first, _)| first).min().ok_or(Damage::Content)?;
        let last_sequence = spans().map(|(_, last)| last).max().ok_or(Damage::Content)?;
        Ok(Record {
            first_sequence,
            last_sequence,
            company_id,
            properties: self.properties.into_iter().map(property).collect::<Result<_, _>>()?,
            own: self.own,
            replayed: self.replayed,
            first_accepted_at: self.first_accepted_at,
            updates: self.updates,
            lane: self.lane,
            client: self.client,
            guests: self.guests,
        })
    }
}

impl<'a> From<&'a Value> for StoredValue<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Text(value) => Self::Text(value),
        }
    }
}

impl From<StoredValue<'_>> for Value {
    fn from(value: StoredValue<'_>) -> Self {
        match value {
            StoredValue::Null => Self::Null,
            StoredValue::Bool(value) => Self::Bool(value),
            StoredValue::Integer(value) => Self::Integer(value),
            StoredValue::Float(value) => Self::Float(value),
            StoredValue::Text(value) => Self::Text(value.to_owned()),
        }
    }
}

impl Stored for Record {
    fn encode(&self) -> Vec<u8> {
        seal(&StoredRecord::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let stored: StoredRecord<'_> =
            postcard::from_bytes(content(bytes)?).map_err(|_| Damage::Content)?;
        stored.read()
    }
}

impl Stored for InFlight {
    fn encode(&self) -> Vec<u8> {
        seal(&(self.batch, self.position, StoredRecord::from(&self.record), self.forgotten))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let (batch, position, record, forgotten): (u64, u64, StoredRecord<'_>, bool) =
            postcard::from_bytes(content(bytes)?).map_err(|_| Damage::Content)?;
        Ok(Self { batch, position, record: record.read()?, forgotten })
    }
}

impl Stored for Dead {
    fn encode(&self) -> Vec<u8> {
        let Self { subject_key, death, closed, record } = self;
        seal(&(subject_key, death, closed, StoredRecord::from(record)))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let (subject_key, death, closed, record): (_, _, _, StoredRecord<'_>) =
            postcard::from_bytes(content(bytes)?).map_err(|_| Damage::Content)?;
        Ok(Self { subject_key, death, closed, record: record.read()? })
    }
}
