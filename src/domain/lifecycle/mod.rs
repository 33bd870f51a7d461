//! The life cycle of an app's batches: what to do next, as a state machine without I/O,
//! clock or randomness.
//!
//! [`Lifecycle::next`] says what to do now, or until when to wait; the driver carries the one
//! command out and tells [`Lifecycle::on`] what came of it. Asking twice gives the same
//! answer. A batch goes `claimed → submitting → running → settled`; every arrow is durable
//! before the step it leads to begins, so a crash anywhere comes back to a state from which
//! the machine goes on. Where an answer is lost, the batch is looked for by its file name
//! among upstream's jobs, and waited for, before it is sent again. Where upstream will not take a batch as
//! it is, the batch is split, and its parts follow one after the other, until the rows that it
//! will not take stand alone.

mod answers;
mod halts;
mod isolation;
mod lost;
mod polling;
mod recovery;
mod sizing;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use self::lost::Search;
pub use recovery::{Recovered, Rescue};
pub use view::{Activity, Conflicts, SlotHolder, View};

use super::{
    backoff::{Backoff, BackoffLimits},
    batch::{Batch, BatchId, BatchLimits, BatchState, Claimable, Happening, Settlement},
    budget::Occupancy,
    memory::Memory,
    row::RowValues,
    sizing::{Arrivals, JobSize},
    time::{Instant, Now, Timestamp},
    update::ByKind,
    verdict::{FailureKind, JobPhase, JobReport, Jobs, Poll, Submission},
};

/// What does not change while an app is served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The budget.
    pub users_per_minute: u32,
    /// How long an idle slot waits for a burst to coalesce.
    pub linger: Duration,
    /// How large a batch may become.
    pub batch: BatchLimits,
    /// The least that a batch is made for, where as much waits.
    pub job_users_min: u64,
    /// What jobs may cost beyond their occupancy, as a share of it.
    pub overhead_target: f64,
    /// The share of every batch that is the bulk lane's while it waits.
    pub bulk_share: f64,
    /// The least and the most time between two polls of a job that could be ending.
    pub poll_interval: (Duration, Duration),
    /// How long to wait after failures.
    pub backoff: BackoffLimits,
    /// The longest `Retry-After` that is believed.
    pub retry_after_max: Duration,
    /// How long to wait before upstream is asked again that refuses the API key, or everything.
    pub held_retry: Duration,
    /// How often a job may fail before its batch is split, or its only row given up.
    pub failed_jobs_max: u32,
    /// What becomes of a batch of which upstream took a part.
    pub partial: PartialPolicy,
    /// As what the values of rows go up.
    pub values: RowValues,
}

/// What becomes of a batch whose job completed without some of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartialPolicy {
    /// It is split until the rows that upstream does not take stand alone.
    #[default]
    Isolate,
    /// It counts as delivered.
    Accept,
}

/// What waits in the app's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Pending records.
    pub records: ByKind<u64>,
    /// Since when there have been any.
    pub since: Option<Instant>,
    /// How many updates more urgent than bulk were accepted since the start.
    pub urgent_updates: u64,
}

impl Waiting {
    /// Whether anything does.
    pub fn any(&self) -> bool {
        self.records != ByKind::default()
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The queue is this long now.
    Waiting(Waiting),
    /// A claim found these rows, or none.
    Claimed(Option<Box<Batch>>),
    /// The batch's new state is durable.
    Advanced,
    /// A submission was answered, or not.
    Submitted(Submission),
    /// The list of jobs was read, or not.
    Looked(Jobs),
    /// A job was asked after.
    Polled(Poll),
    /// The batch is settled, and this one is to follow it.
    Settled(Option<Box<Batch>>),
    /// An operator pauses or resumes the app.
    Paused(bool),
    /// An operator wants what waits to go now.
    Flush,
    /// There is another API key.
    KeyChanged,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Move pending records of one kind into a new batch. → [`Event::Claimed`]
    Claim(Box<Claimable>),
    /// Make the batch's new state and the memory durable. → [`Event::Advanced`]
    Advance(Box<Batch>, Box<Memory>),
    /// Upload the batch. → [`Event::Submitted`]
    Submit(BatchId),
    /// Ask upstream for its list of jobs. → [`Event::Looked`]
    Look,
    /// Ask upstream how the job is doing. → [`Event::Polled`]
    Poll(String),
    /// Settle the batch. → [`Event::Settled`]
    Settle(Box<Batch>, Settlement, Box<Memory>),
}

/// The machine's answer to "what now?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do this and say what came of it.
    Do(Command),
    /// Nothing, until then or until something happens.
    Wait(Option<Instant>),
}

/// The state machine of one app.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    phase: Phase,
    waiting: Waiting,
    paused: bool,
    flush: bool,
    memory: Memory,
    /// What of the state was damaged and had to be made anew.
    rescue: Option<Rescue>,
    /// Why nothing can be done for the app.
    held: Option<String>,
    /// When the occupancy that was begun last ends.
    occupied_until: Instant,
    /// The same before the submission that is under way, should it turn out not taken.
    occupied_before: (Occupancy, Instant),
    /// The last submission was answered that the slot is taken, and nobody is known to hold it.
    unexplained_conflict: bool,
    /// The batch that is looked for was answered so: it did not fail.
    lost_by_conflict: bool,
    /// What is known of a submission whose outcome is not.
    search: Search,
    /// Failures to deliver, in a row.
    delivering: ByKind<Backoff>,
    /// Failures to ask (polls, lists), in a row: they say nothing about the job.
    asking: Backoff,
    /// Until when to wait, and for what.
    hold: Option<Hold>,
    /// The kinds of which upstream refuses everything, and until when each is not tried: the
    /// other goes on meanwhile. One that is past is over with the next delivery of its kind.
    halted_until: ByKind<Option<Instant>>,
    /// How many urgent updates arrive of late, and how many had by then.
    arrivals: (Arrivals, u64),
    /// How large jobs are, of each kind.
    size: ByKind<JobSize>,
    /// When the claim of the batch under way began, where nothing has disturbed it since.
    began: Option<Instant>,
    /// How far back the next row is looked for while upstream refuses everything: as likely among
    /// the last ten as among the last ten thousand. Who sends rows that are all bad does so in a
    /// row; what others send since must not wait behind them.
    reach: u64,
    /// Whose job was seen in the slot last, while it is waited for.
    slot_holder: Option<SlotHolder>,
    last_error: String,
    /// The same in the gateway's words.
    last_cause: String,
    /// Since when there has been an error, without a delivery since.
    failing_since: Option<Timestamp>,
    failed_attempts: u64,
    conflicts: u64,
    conflicts_with: Conflicts,
    completed_jobs: u64,
    delivered_rows: u64,
    dead_rows: u64,
}

#[derive(Clone, Debug)]
struct Hold {
    until: Instant,
    reason: HoldReason,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoldReason {
    /// The next try after a failure.
    Backoff,
    /// The end of somebody else's job.
    SlotTaken,
    /// A key that upstream takes.
    KeyRejected,
    /// That upstream answers questions at all.
    Halted,
    /// A moment, since the last batch was refused at once.
    Isolating,
    /// Records that can be claimed.
    NothingToClaim,
}

#[derive(Clone, Debug)]
enum Phase {
    /// No batch.
    Idle,
    /// Pending records are being moved into a batch.
    Claiming,
    /// A batch is to be submitted.
    Claimed(Batch),
    /// `submitting` is being made durable.
    Beginning(Batch),
    /// The request is to be sent, or is under way.
    Submitting(Batch),
    /// The request's outcome is not known.
    Lost(Batch),
    /// The job's id is being made durable. `adopted`: it was found, and may have ended.
    Accepted { batch: Batch, adopted: bool },
    /// The job runs.
    Running { batch: Batch, poll_at: Instant },
    /// The batch is being settled.
    Settling(Batch, Settlement),
}

impl Phase {
    /// Whether a backoff holds it back: not where something durable is half done.
    fn can_wait(&self) -> bool {
        match self {
            Self::Idle | Self::Claimed(_) | Self::Lost(_) | Self::Running { .. } => true,
            Self::Claiming
            | Self::Beginning(_)
            | Self::Submitting(_)
            | Self::Accepted { .. }
            | Self::Settling(..) => false,
        }
    }
}

impl Lifecycle {
    /// The machine as it goes on from what was recovered.
    pub fn new(settings: Settings, recovered: Recovered, now: Now) -> Self {
        let Recovered { unsettled, memory, paused, rescue, held } = recovered;
        let occupied_until = memory.occupancy.end(now);
        let mut machine = Self {
            settings,
            phase: Phase::Idle,
            waiting: Waiting::default(),
            paused,
            flush: false,
            memory,
            rescue,
            held,
            occupied_until,
            occupied_before: (memory.occupancy, occupied_until),
            unexplained_conflict: false,
            lost_by_conflict: false,
            search: Search::default(),
            delivering: ByKind::default(),
            asking: Backoff::default(),
            hold: None,
            halted_until: ByKind::default(),
            arrivals: (Arrivals::default(), 0),
            size: ByKind::default(),
            began: None,
            reach: u64::MAX,
            slot_holder: None,
            last_error: String::new(),
            last_cause: String::new(),
            failing_since: None,
            failed_attempts: 0,
            conflicts: 0,
            conflicts_with: Conflicts::default(),
            completed_jobs: 0,
            delivered_rows: 0,
            dead_rows: 0,
        };
        if let Some(batch) = unsettled {
            machine.resume(batch, now);
        }
        machine
    }

    /// What to do now.
    pub fn next(&mut self, now: Now) -> Step {
        self.hold = self.hold.take().filter(|hold| hold.until > now.instant);
        if let Some(hold) = &self.hold
            && self.phase.can_wait()
        {
            return Step::Wait(Some(hold.until));
        }
        if self.must_look_first(now) {
            return Step::Do(Command::Look);
        }
        self.begin_if_due(now);
        match &self.phase {
            Phase::Idle => Step::Wait(self.claim_at()),
            Phase::Claiming => Step::Do(Command::Claim(Box::new(self.claimable(now)))),
            Phase::Claimed(_) if self.paused => Step::Wait(None),
            Phase::Claimed(_) => Step::Wait(Some(self.occupied_until)),
            Phase::Beginning(batch) | Phase::Accepted { batch, .. } => {
                Step::Do(Command::Advance(Box::new(batch.clone()), Box::new(self.memory)))
            }
            Phase::Submitting(batch) => Step::Do(Command::Submit(batch.id)),
            Phase::Lost(_) => Step::Do(match &self.search.holder {
                Some(job_id) => Command::Poll(job_id.clone()),
                None => Command::Look,
            }),
            Phase::Running { poll_at, .. } if *poll_at > now.instant => Step::Wait(Some(*poll_at)),
            Phase::Running { batch, .. } => {
                Step::Do(Command::Poll(batch.job_id.clone().unwrap_or_default()))
            }
            Phase::Settling(batch, settlement) => Step::Do(Command::Settle(
                Box::new(batch.clone()),
                *settlement,
                Box::new(self.memory),
            )),
        }
    }

    /// When the next batch may be claimed: something waits, has lingered, and the budget is
    /// free. `None` while nothing may.
    fn claim_at(&self) -> Option<Instant> {
        let open_at = self.open_at().filter(|_| !self.paused)?;
        let lingered = match self.waiting.since {
            Some(since) if !self.flush => since.plus(self.settings.linger),
            Some(_) | None => Instant::default(),
        };
        Some(lingered.max(self.occupied_until).max(open_at))
    }

    /// Takes the step whose time has come: to claim, or to submit what was claimed. A batch's
    /// occupancy begins here, so that a crash cannot forget that it may have begun.
    fn begin_if_due(&mut self, now: Now) {
        if matches!(self.phase, Phase::Idle)
            && self.claim_at().is_some_and(|due| due <= now.instant)
        {
            self.phase = Phase::Claiming;
            self.began = Some(now.instant);
        }
        let Phase::Claimed(batch) = &self.phase else { return };
        if self.paused || self.occupied_until > now.instant {
            return;
        }
        let mut begun = Batch {
            state: BatchState::Submitting,
            submissions: batch.submissions + 1,
            submitted_at: Some(now.wall),
            ..batch.clone()
        };
        begun.note(Happening::Submitted, now.wall, "");
        self.occupied_before = (self.memory.occupancy, self.occupied_until);
        self.occupy(&begun, now);
        self.phase = Phase::Beginning(begun);
    }

    /// Begins the batch's occupancy of the budget now.
    fn occupy(&mut self, batch: &Batch, now: Now) {
        let occupancy = Occupancy::begin(batch.rows, self.settings.users_per_minute, now);
        self.memory.occupancy = occupancy;
        self.occupied_until = occupancy.end(now);
    }

    /// Takes the occupancy of the submission under way back: upstream did not take it.
    fn release(&mut self) {
        (self.memory.occupancy, self.occupied_until) = self.occupied_before;
    }
}
