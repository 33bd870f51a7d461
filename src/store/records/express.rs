//! How what goes by express is marked.

use super::{AppState, InFlight};

/// Stands where the number of a batch does, for what goes by express: batches count from 1.
pub(crate) const EXPRESS: u64 = 0;

impl InFlight {
    /// Whether it goes by express, alone and in no batch.
    pub(crate) fn is_express(&self) -> bool {
        self.batch == EXPRESS
    }
}

impl AppState {
    /// Whether no batch is unsettled, and nothing is under way by express.
    pub(in crate::store) fn has_nothing_in_flight(&self) -> bool {
        self.unsettled.is_none() && self.express_in_flight == 0
    }
}
