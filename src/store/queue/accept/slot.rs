//! One subject's pending record in a group that is being accepted.

use super::super::{depth::Counted, remember::Memory};
use crate::{
    domain::{
        admission::{self, QueueLimits, QueueRefusal},
        delivered::Delivered,
        merge::Record,
        update::{AppId, ClientId, Lane, Sequence},
    },
    store::records::InFlight,
};

/// One subject's pending record, as it was and as it becomes.
pub(super) struct Slot {
    pub(super) app: AppId,
    pub(super) stripe: u16,
    pub(super) key: Vec<u8>,
    pub(super) record: Option<Record>,
    /// The subject's record in flight: should its batch come back, they become one.
    pub(super) in_flight: Option<InFlight>,
    /// That record was changed: it does not span what came since.
    pub(super) is_apart: bool,
    /// The lane in whose pages the record stands.
    pub(super) placed: Option<Lane>,
    /// What the app's depth counts of the record.
    pub(super) counted: Counted,
    pub(super) changed: bool,
    /// What upstream holds of the subject, once that was read, and where the app remembers it.
    pub(super) held: Option<(Memory, Delivered)>,
    /// Something of it is damaged, and upstream may hold that: what it holds is not known.
    pub(super) is_blind: bool,
    /// What was accepted of it and is not sent, since upstream holds it.
    pub(super) unchanged: Option<Record>,
    /// Where else the record comes to stand: clients, and the sequences of their updates.
    pub(super) guests: Vec<(ClientId, Sequence)>,
}

impl Slot {
    /// Whether the record that `arrived` becomes part of keeps to the limits of one, and
    /// would do so together with what is in flight, too: that may have to come back.
    pub(super) fn admit(
        &self,
        arrived: &Record,
        arrived_bytes: usize,
        limits: &QueueLimits,
    ) -> Result<(), QueueRefusal> {
        let in_flight = self.in_flight.as_ref().map(|row| &row.record);
        let others = || in_flight.into_iter().chain(&self.record);
        if others().next().is_none() {
            // Alone it was measured at the door.
            return Ok(());
        }
        let bytes = others().map(Record::size).sum::<usize>() + arrived_bytes;
        let properties = others().map(|other| other.properties.len()).sum::<usize>();
        let properties = properties + arrived.properties.len();
        if admission::admit_merged(bytes, properties, limits).is_ok() {
            return Ok(());
        }
        // Too large if nothing overlaps; mostly something does.
        let merged = others().cloned().fold(arrived.clone(), Record::merge);
        admission::admit_merged(merged.size(), merged.properties.len(), limits)
    }
}
