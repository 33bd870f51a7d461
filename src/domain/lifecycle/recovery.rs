//! Where the machine begins: at what a process that died left, as far as that can be read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Batch, BatchState, Happening, Lifecycle, Memory, Now, Phase, Timestamp};

/// What an app's driver finds at its start.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The batch that is not settled, if there is one.
    pub unsettled: Option<Batch>,
    /// What else delivery must know.
    pub memory: Memory,
    /// Whether an operator has paused the app.
    pub paused: bool,
    /// What of this was damaged and had to be made anew.
    pub rescue: Option<Rescue>,
    /// Why nothing can be done for the app, where too much of it is damaged. Nothing waits then.
    pub held: Option<String>,
}

/// What an app's state or unsettled batch was damaged and made anew for, until that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// When.
    pub at: Timestamp,
    /// Whether the app was paused for it, and nobody has resumed it.
    pub paused: bool,
    /// Whether a job may run under a name that is lost, of a batch whose rows went back.
    pub job_unknown: bool,
}

impl Rescue {
    /// Whether it is over: nobody needs to know of it any more.
    pub fn is_over(self) -> bool {
        !self.paused && !self.job_unknown
    }
}

impl Lifecycle {
    pub(super) fn resume(&mut self, mut batch: Batch, now: Now) {
        self.last_error.clone_from(&batch.last_error);
        batch.last_cause().clone_into(&mut self.last_cause);
        // What is known of it is that it had begun by now.
        self.failing_since = (!self.last_error.is_empty()).then_some(now.wall);
        self.phase = match batch.state {
            BatchState::Claiming | BatchState::Claimed => {
                // What it is a part of may have been sent and lost before it was split.
                if batch.is_part() {
                    self.doubt(now);
                }
                Phase::Claimed(batch)
            }
            // The crash may have come before the request left, or after upstream took it.
            BatchState::Submitting => {
                self.occupy(&batch, now);
                batch.note(Happening::Lost, now.wall, "the gateway stopped before the answer");
                return self.lose(batch, Duration::ZERO, now);
            }
            BatchState::Running => Phase::Running { batch, poll_at: now.instant },
            BatchState::Settling(settlement) => Phase::Settling(batch, settlement),
            BatchState::Settled(_) => Phase::Idle,
        };
    }

    pub(super) fn on_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.began = None;
        if let Some(rescue) = &mut self.rescue {
            rescue.paused &= paused;
        }
    }

    /// Whether a job of a batch that is lost may run, and upstream has not been asked yet.
    pub(super) fn looks_first(&self) -> bool {
        let idle = match &self.phase {
            Phase::Idle | Phase::Claimed(_) => true,
            Phase::Claiming
            | Phase::Beginning(_)
            | Phase::Submitting(_)
            | Phase::Lost(_)
            | Phase::Accepted { .. }
            | Phase::Running { .. }
            | Phase::Settling(..) => false,
        };
        idle && !self.search.asks && self.rescue.is_some_and(|rescue| rescue.job_unknown)
    }

    /// Whether that is to be done now: the next batch would be claimed or submitted.
    pub(super) fn must_look_first(&self, now: Now) -> bool {
        let is_due = match matches!(self.phase, Phase::Idle) {
            true => self.claim_at().is_some_and(|due| due <= now.instant),
            false => !self.paused && self.occupied_until <= now.instant,
        };
        is_due && self.looks_first()
    }
}
