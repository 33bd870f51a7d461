//! Bugs to plant: a simulation that cannot fail proves nothing.

use userpilot_gateway::domain::{
    batch::{BatchId, BatchState},
    lifecycle::{Event, Recovered, Waiting},
    update::AppId,
    verdict::{FailureKind, JobPhase, JobReport},
};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Acknowledges updates whose commit failed.
    AnswerBeforeCommit,
    /// Rows of a batch that was not delivered are thrown away.
    DropRequeued,
    /// They go over what came to wait meanwhile rather than under it.
    RequeueOnTop,
    /// A batch's new state is said to be durable, and is not.
    ForgetAdvance,
    /// The occupancy is not stored.
    ForgetOccupancy,
    /// The budget is taken for four times as large.
    RushBudget,
    /// Each submission is sent twice.
    SubmitTwice,
    /// A lost answer is taken for a request that was not sent.
    UnknownIsNotSent,
    /// What ended badly or in part is taken for complete.
    PartialIsComplete,
    /// A job that is forgotten is taken for complete.
    ForgottenIsComplete,
    /// The list of jobs is never read, as though another batch alone stood in it.
    NeverLooks,
    /// After a restart, what was being submitted is submitted without looking.
    ResumesBlindly,
    /// A restart resumes what an operator had paused.
    ForgetPause,
    /// A single record that waits does not wake delivery.
    OneIsNone,
    /// Dead letters are taken for delivered.
    HideTheDead,
    /// The parts of a split batch are not delivered.
    ForgetParts,
    /// Jobs of companies go where users go.
    WrongEndpoint,
    /// Companies go only where no user waits.
    UsersFirst,
    /// A batch takes rows of both kinds.
    MixesKinds,
    /// A replayed letter comes after everything else, as though it were new.
    ReplayAsNew,
    /// Who was to be forgotten is not.
    ForgetNobody,
    /// Express does not look whether something of the subject is in flight.
    ExpressIgnoresFlight,
    /// What was in flight by express at a death is not put back.
    ForgetExpress,
    /// Express keeps to four times its pace.
    RushExpress,
    /// Express takes a lost answer for a good one.
    ExpressUnknownIsDelivered,
    /// What was not delivered, or not for certain, is remembered as though it were.
    LearnsFromDoubt,
    /// Who repeats what upstream holds is not told that something else is in flight.
    IgnoresFlight,
    /// What was remembered counts again after a time without memory.
    KeepsMemory,
    /// What was delivered is never sent again.
    NeverRefreshes,
}

impl Sabotage {
    /// All of them.
    pub(crate) const ALL: [Self; 29] = [
        Self::AnswerBeforeCommit,
        Self::DropRequeued,
        Self::RequeueOnTop,
        Self::ForgetAdvance,
        Self::ForgetOccupancy,
        Self::RushBudget,
        Self::SubmitTwice,
        Self::UnknownIsNotSent,
        Self::PartialIsComplete,
        Self::ForgottenIsComplete,
        Self::NeverLooks,
        Self::ResumesBlindly,
        Self::ForgetPause,
        Self::OneIsNone,
        Self::HideTheDead,
        Self::ForgetParts,
        Self::WrongEndpoint,
        Self::UsersFirst,
        Self::MixesKinds,
        Self::ReplayAsNew,
        Self::ForgetNobody,
        Self::ExpressIgnoresFlight,
        Self::ForgetExpress,
        Self::RushExpress,
        Self::ExpressUnknownIsDelivered,
        Self::LearnsFromDoubt,
        Self::IgnoresFlight,
        Self::KeepsMemory,
        Self::NeverRefreshes,
    ];

    /// What the bug makes of an event.
    pub(crate) fn distort(self, event: Event) -> Event {
        match (self, event) {
            (Self::UnknownIsNotSent, Event::Submitted(Err(mut failure)))
                if failure.kind == FailureKind::Unknown =>
            {
                failure.kind = FailureKind::NotSent;
                Event::Submitted(Err(failure))
            }
            (Self::PartialIsComplete, Event::Polled(Ok(report)))
                if report.phase != JobPhase::Unfinished =>
            {
                Event::Polled(Ok(complete(report)))
            }
            (Self::ForgottenIsComplete, Event::Polled(Err(failure)))
                if failure.kind == FailureKind::NotFound =>
            {
                Event::Polled(Ok(complete(another())))
            }
            (Self::NeverLooks, Event::Looked(Ok(_))) => Event::Looked(Ok(vec![another()])),
            (Self::OneIsNone, Event::Waiting(waiting))
                if waiting.records.users + waiting.records.companies == 1 =>
            {
                Event::Waiting(Waiting::default())
            }
            (_, event) => event,
        }
    }

    /// What the bug makes of what a restart finds.
    pub(crate) fn distort_recovered(self, mut recovered: Recovered) -> Recovered {
        if self == Self::ResumesBlindly
            && let Some(batch) = &mut recovered.unsettled
            && batch.state == BatchState::Submitting
        {
            batch.state = BatchState::Claimed;
        }
        recovered.paused &= self != Self::ForgetPause;
        recovered
    }
}

fn complete(report: JobReport) -> JobReport {
    JobReport { phase: JobPhase::Completed, completed_rows: None, ..report }
}

/// Another batch's job, which has ended.
fn another() -> JobReport {
    let id = BatchId { opening: 1, number: 1, app: AppId(9) };
    JobReport {
        job_id: "another".into(),
        filename: Some(id.filename()),
        phase: JobPhase::Completed,
        status: "completed".into(),
        total_rows: None,
        completed_rows: None,
    }
}
