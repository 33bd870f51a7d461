//! Bugs to plant in a fleet.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// What a holder writes is not held against the token of the lease.
    NoFence,
    /// A holder sends requests without a look at its lease.
    SkipsMayAsk,
    /// A lease is prolonged without a look at whose it is.
    RenewsWithoutLooking,
    /// A replica goes by its own wall clock, whatever the store's says.
    OwnClock,
    /// What is known of an app is not read anew once its stripes are locked.
    StaleState,
    /// A replica deals out sequences as though there were half as many stripes: two give the same.
    SameResidue,
    /// A driver goes on with what it knows after its lease was lost and taken anew.
    KeepsItsDriver,
}

impl Sabotage {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::NoFence,
        Self::SkipsMayAsk,
        Self::RenewsWithoutLooking,
        Self::OwnClock,
        Self::StaleState,
        Self::SameResidue,
        Self::KeepsItsDriver,
    ];
}
