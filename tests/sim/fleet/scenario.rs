//! What a seed makes of a fleet: how many replicas there are, and what befalls them.

use std::{collections::BTreeSet, time::Duration};

use userpilot_gateway::domain::{admission::QueueLimits, batch::BatchLimits, lease::LeaseTerms};

use super::sabotage::Sabotage;
use crate::{
    random::Random,
    scenario::{Fault, Poison, Scenario},
};

/// Stripes of an app: fewer than there are in truth, so that subjects meet.
pub(crate) const STRIPES: u16 = 4;

/// What befalls replicas and their way to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// A process stands still for a while, at any point, and goes on as though nothing had been.
    Stop,
    /// It stands still for longer than any lease.
    LongStop,
    /// A process dies.
    Kill,
    /// A process is asked to stop, and gives up what it has.
    Leave,
    /// A replica is cut off from the store. What it has begun there goes on holding its locks,
    /// and what it has asked to commit is committed, or not, or late.
    Cut,
    /// The store is away, for all.
    StoreAway,
    /// Some connection to the store breaks.
    Reset,
    /// The store takes its time.
    SlowStore,
    /// Clocks run at rates of their own, and are wrong until they are set by the store's.
    Drift,
    /// A process stands still after it has looked at its lease for the last time, and before its
    /// request leaves: when it goes on, the request does. No look can be made in one with what the
    /// kernel does, so this is not promised against; the next holder looks for the batch by its name
    /// and begins an occupancy of its own, so that it does harm only in a few worlds.
    StopBeforeSending,
}

impl Trouble {
    /// Against these the promises are kept.
    pub(crate) const EXPECTED: [Self; 9] = [
        Self::Stop,
        Self::LongStop,
        Self::Kill,
        Self::Leave,
        Self::Cut,
        Self::StoreAway,
        Self::Reset,
        Self::SlowStore,
        Self::Drift,
    ];
}

/// What upstream does to fleets. That lists do not show all is for one gateway to get right: how it
/// goes on from what it recovers is the same.
const UPSTREAM: [Fault; 12] = [
    Fault::Express,
    Fault::NotSent,
    Fault::LostRequest,
    Fault::LostAnswer,
    Fault::FalseConflict,
    Fault::DoubledByProxy,
    Fault::Throttled,
    Fault::JobFails,
    Fault::JobIsPartial,
    Fault::PollFails,
    Fault::Overrun,
    Fault::NoNames,
];

/// A fleet, all of it from the seed.
#[derive(Clone, Debug)]
pub(crate) struct FleetScenario {
    pub(crate) seed: u64,
    pub(crate) troubles: BTreeSet<Trouble>,
    /// How often they come, in percent.
    pub(crate) trouble_percent: u64,
    pub(crate) replicas: usize,
    pub(crate) apps: usize,
    pub(crate) clients: usize,
    /// How many groups of updates are sent.
    pub(crate) actions: u64,
    /// How long clients rest between them, at the most.
    pub(crate) rest_max_ms: u64,
    pub(crate) terms: LeaseTerms,
    /// Upstream, its faults, and the settings of delivery.
    pub(crate) base: Scenario,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) trace: bool,
}

impl FleetScenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "fleet");
        let share = random.between(10, 60);
        let troubles = Trouble::EXPECTED.into_iter().filter(|_| random.percent(share));
        let troubles = troubles.collect();
        let lease = Duration::from_secs(if random.percent(30) { 4 } else { 10 });
        Self {
            seed,
            troubles,
            trouble_percent: random.between(10, 100),
            replicas: usize::try_from(random.between(2, 3)).unwrap_or(2),
            apps: if random.percent(20) { 2 } else { 1 },
            clients: usize::try_from(random.between(2, 4)).unwrap_or(2),
            actions: random.between(15, 50),
            rest_max_ms: [500, 4_000, 15_000][usize::try_from(random.below(3)).unwrap_or(0)],
            terms: LeaseTerms::of(lease),
            base: base(seed, &mut random),
            sabotage: None,
            trace: false,
        }
    }

    /// Whether something may befall them.
    pub(crate) fn has(&self, trouble: Trouble) -> bool {
        self.troubles.contains(&trouble)
    }
}

/// Upstream's part of the world.
fn base(seed: u64, random: &mut Random) -> Scenario {
    let base = Scenario::new(seed);
    let share = random.between(0, 50);
    let mut settings = base.settings;
    // Where an occupancy is longer than a lease, others come to wait for its end.
    let (least, most) = if random.percent(50) { (5, 20) } else { (20, 600) };
    settings.users_per_minute = u32::try_from(random.between(least, most)).unwrap_or(60);
    settings.batch = BatchLimits { rows_max: random.between(1, 6), bytes_max: 100_000 };
    let faults = UPSTREAM.into_iter().filter(|_| random.percent(share));
    Scenario {
        faults: faults.collect(),
        fault_percent: random.between(5, 30),
        settings,
        subjects: random.between(1, 8),
        properties: random.between(1, 3),
        poison: Poison::Refused,
        queue: QueueLimits {
            records_max: 1_000_000,
            bytes_max: 1 << 30,
            record_bytes_max: 1 << 16,
            record_properties_max: 1_000,
        },
        ..base
    }
}
