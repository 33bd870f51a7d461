//! What may go wrong in a world.

/// What may go wrong, or make things difficult.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A submission does not reach upstream.
    NotSent,
    /// A submission has an unknown outcome, and was not taken.
    LostRequest,
    /// A submission has an unknown outcome, and was taken.
    LostAnswer,
    /// A submission is answered 409 although nothing runs.
    FalseConflict,
    /// A submission is taken, sent again by a proxy, and that is answered 409.
    DoubledByProxy,
    /// Somebody else's jobs hold the slot now and then.
    ForeignJobs,
    /// Somebody else's jobs are not listed.
    ForeignJobsAreHidden,
    /// 429, with or without `Retry-After`.
    Throttled,
    /// 401.
    KeyRejected,
    /// 413, though the limits were kept. Passes.
    TooLarge,
    /// 422 for rows that are good. Passes.
    BadRows,
    /// Some values are refused for ever: see [`Poison`](crate::scenario::Poison).
    Poison,
    /// Upstream refuses everything for a while, as though the rows were to blame.
    RefusesAll,
    /// Upstream refuses all companies for as long as anything goes wrong.
    RefusesCompanies,
    /// 404 or another refusal of a submission. Passes.
    Refused,
    /// A job fails after none or some of its rows.
    JobFails,
    /// A job completes without some of its rows.
    JobIsPartial,
    /// An ended job is forgotten.
    JobIsForgotten,
    /// Polls fail.
    PollFails,
    /// Lists of jobs fail.
    ListFails,
    /// There is no list of jobs.
    NoList,
    /// Lists do not echo file names.
    NoNames,
    /// Jobs take longer than their occupancy.
    Overrun,
    /// The power goes at a commit.
    PowerCut,
    /// The process dies between any two steps, requests under way included.
    Kill,
    /// The wall clock is set back, while the process runs or is down.
    ClockSetBack,
    /// It is set forward, while the machine runs.
    ClockSetForward,
    /// Updates say when they occurred.
    OccurredAt,
    /// An operator pauses, resumes and flushes.
    Operator,
    /// The queue is short, and refuses.
    ShortQueue,
    /// History is pruned early.
    Prune,
    /// Operators have users forgotten.
    Forget,
    /// An app's state or a batch is damaged on the disk while the process is down.
    Damage,
    /// The app has an express lane, and clients use it.
    Express,
    /// Lists show a job only a while after it was taken.
    ListLags,
    /// Lists of jobs fail, each and every one.
    ListIsBroken,
    /// Lists show a few jobs only.
    ListIsPaged,
    /// They show the oldest first.
    ListIsOldestFirst,
    /// They show entries that never end, or have no name or status.
    OddEntries,
    /// Whichever job is asked after, there is none.
    PollDenies,
    /// A request whose answer was lost is carried out later. Not promised against.
    LateArrival,
    /// The wall clock is ahead after a reboot. Not promised against.
    ClockAheadAfterReboot,
}

impl Fault {
    /// Against these the promises are kept.
    pub(crate) const EXPECTED: [Self; 40] = [
        Self::NotSent,
        Self::LostRequest,
        Self::LostAnswer,
        Self::FalseConflict,
        Self::DoubledByProxy,
        Self::ForeignJobs,
        Self::ForeignJobsAreHidden,
        Self::Throttled,
        Self::KeyRejected,
        Self::TooLarge,
        Self::BadRows,
        Self::Poison,
        Self::RefusesAll,
        Self::RefusesCompanies,
        Self::Refused,
        Self::JobFails,
        Self::JobIsPartial,
        Self::JobIsForgotten,
        Self::PollFails,
        Self::ListFails,
        Self::NoList,
        Self::NoNames,
        Self::Overrun,
        Self::PowerCut,
        Self::Kill,
        Self::ClockSetBack,
        Self::ClockSetForward,
        Self::OccurredAt,
        Self::Operator,
        Self::ShortQueue,
        Self::Prune,
        Self::Forget,
        Self::Damage,
        Self::Express,
        Self::ListLags,
        Self::ListIsBroken,
        Self::ListIsPaged,
        Self::ListIsOldestFirst,
        Self::OddEntries,
        Self::PollDenies,
    ];

    /// Of these, those that are drawn apart, each by its own dice: seeds keep the worlds that they
    /// had before there were such faults.
    pub(crate) const LATER: [Self; 7] = [
        Self::Damage,
        Self::ListLags,
        Self::ListIsBroken,
        Self::ListIsPaged,
        Self::ListIsOldestFirst,
        Self::OddEntries,
        Self::PollDenies,
    ];

    /// Where one of these is, lists do not show every job that runs.
    pub(crate) const OF_LISTS: [Self; 8] = [
        Self::NoList,
        Self::ListFails,
        Self::ListLags,
        Self::ListIsBroken,
        Self::ListIsPaged,
        Self::ListIsOldestFirst,
        Self::OddEntries,
        Self::PollDenies,
    ];

    /// Against these they are not, for want of a way to know; the simulation shows what
    /// comes of them.
    pub(crate) const BEYOND: [Self; 2] = [Self::LateArrival, Self::ClockAheadAfterReboot];
}
