//! How much waits, and how it is counted.

use super::{AppState, Engine, Queue};
use crate::domain::update::{AppId, ByKind, Lane, SubjectKind};

/// What waits for an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Pending records.
    pub records: u64,
    /// Bytes of pending records, as stored.
    pub bytes: u64,
    /// Of the records, those in the bulk lane.
    pub bulk_records: u64,
    /// Of the records, those in the express lane.
    pub express_records: u64,
    /// Records that are in flight by express.
    pub express_in_flight: u64,
    /// Of the records, those of companies.
    pub company_records: u64,
    /// Dead letters that nobody has closed.
    pub dead_letters: u64,
}

impl QueueDepth {
    /// The records of each kind.
    pub fn by_kind(&self) -> ByKind<u64> {
        by_kind(self.records, self.company_records)
    }

    /// The records of a lane. Those of all lanes are all records.
    pub fn of_lane(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Express => self.express_records,
            Lane::Interactive => {
                self.records.saturating_sub(self.bulk_records + self.express_records)
            }
            Lane::Bulk => self.bulk_records,
        }
    }
}

fn by_kind(records: u64, companies: u64) -> ByKind<u64> {
    ByKind { users: records.saturating_sub(companies), companies }
}

/// What is counted of a pending record: its subject's kind, its lane, and its bytes as stored.
pub(super) type Counted = (SubjectKind, Lane, usize);

impl AppState {
    /// Whether nothing waits, nothing is in flight, and nothing can be replayed.
    pub(super) fn is_empty(&self) -> bool {
        self.depth.records == 0 && self.has_nothing_in_flight() && self.dead_letters == 0
    }

    /// The pending records of each kind.
    pub(super) fn by_kind(&self) -> ByKind<u64> {
        by_kind(self.depth.records, self.company_records)
    }

    /// No part of what waits is more than all of it. Of damaged records the lane was not known.
    pub(super) fn bounded(mut self) -> Self {
        self.bulk_records = self.bulk_records.min(self.depth.records);
        self.express_records = self.express_records.min(self.depth.records - self.bulk_records);
        self
    }

    /// Counts a pending record in.
    pub(super) fn count_in(&mut self, (kind, lane, bytes): Counted) {
        self.depth.records += 1;
        self.depth.bytes += bytes as u64;
        self.bulk_records += u64::from(lane == Lane::Bulk);
        self.express_records += u64::from(lane == Lane::Express);
        self.company_records += u64::from(kind == SubjectKind::Company);
    }

    /// Counts a pending record out.
    pub(super) fn count_out(&mut self, (kind, lane, bytes): Counted) {
        self.depth.records = self.depth.records.saturating_sub(1);
        self.depth.bytes = self.depth.bytes.saturating_sub(bytes as u64);
        self.bulk_records = self.bulk_records.saturating_sub(u64::from(lane == Lane::Bulk));
        let express = u64::from(lane == Lane::Express);
        self.express_records = self.express_records.saturating_sub(express);
        let company = u64::from(kind == SubjectKind::Company);
        self.company_records = self.company_records.saturating_sub(company);
        *self = self.bounded();
    }

    /// Counts a damaged pending record out. Its lane is not known any more: it is taken for
    /// an interactive one where there can be any. Once nothing waits, that is right again.
    pub(super) fn count_out_damaged(&mut self, kind: SubjectKind, bytes: usize) {
        self.count_out((kind, Lane::Interactive, bytes));
    }
}

impl<E: Engine> Queue<E> {
    /// What waits for an app.
    pub fn depth(&self, app: AppId) -> QueueDepth {
        let state = self.state(app);
        QueueDepth {
            records: state.depth.records,
            bytes: state.depth.bytes,
            bulk_records: state.bulk_records,
            express_records: state.express_records,
            express_in_flight: state.express_in_flight,
            company_records: state.company_records,
            dead_letters: state.dead_letters,
        }
    }

    /// Updates more urgent than bulk that were accepted since the queue was opened.
    pub fn urgent_updates(&self, app: AppId) -> u64 {
        self.urgent.get(&app).copied().unwrap_or(0)
    }
}
