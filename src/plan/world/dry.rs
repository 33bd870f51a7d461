//! After the end: whether all that was accepted comes to be upstream.

use std::time::Duration;

use super::{World, express::ExpressLane, now};
use crate::{domain::budget::occupancy, plan::traffic::Arrivals, store::StoreError};

/// How much longer than it should take what waits is given to be delivered.
const DRAIN_SPARE: Duration = Duration::from_secs(6 * 60 * 60);

impl World<'_> {
    /// Plays on without anything new, until nothing waits, or should long not do so any more.
    pub(super) fn drain(&mut self) -> Result<(), StoreError> {
        self.arrivals = Arrivals::new(&[], self.plan.seed);
        let pace = &self.plan.pace;
        let outages = pace.outages.iter().map(|outage| outage.end);
        let from = outages.fold(self.time, Duration::max);
        let waits = occupancy(self.depth().records, self.plan.pace.users_per_minute);
        self.end = from + 2 * waits + DRAIN_SPARE;
        while self.time < self.end && !self.is_dry() {
            self.turn()?;
        }
        Ok(())
    }

    /// Whether nothing waits or is in flight.
    fn is_dry(&mut self) -> bool {
        let idle = self.machine.view(now(self.time)).batch.is_none();
        idle && self.depth().records == 0
            && !self.express.as_ref().is_some_and(ExpressLane::is_busy)
    }

    /// Updates that upstream does not hold, of the profiles that are not as they should be.
    pub(super) fn lost_updates(&self) -> u64 {
        let upstream = &self.network.inside().profiles;
        let wrong = self.profiles.not_as_in(upstream);
        wrong.map(|user| self.ages.waiting_of(user).max(1)).sum()
    }
}
