//! What is remembered of what happened to a batch.

use super::*;
use crate::domain::batch::Happening::{
    self, Accepted, Adopted, Completed, Conflict, Failed, Lost, Refused, Requeued, Submitted,
};

/// What the batch that is to be settled knows of its life.
fn told(bench: &mut Bench) -> Vec<Happening> {
    let Command::Settle(batch, ..) = bench.command() else { panic!("does not settle") };
    assert!(batch.events.windows(2).all(|two| two[0].at <= two[1].at));
    batch.events.iter().map(|event| event.what).collect()
}

#[test]
fn a_job_that_goes_well_was_submitted_accepted_and_completed() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(10);
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    assert_eq!(told(&mut bench), [Submitted, Accepted, Completed]);
}

#[test]
fn a_submission_without_an_answer_is_lost_until_its_job_is_adopted() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(10);
    bench.on(Event::Submitted(Err(failure(FailureKind::Unknown))));
    bench.sleep();
    let found = job(Some(id.filename()), JobPhase::Completed, Some(10));
    bench.on(Event::Looked(Ok(vec![found.clone()])));
    let Command::Advance(adopted, _) = bench.command() else { panic!("not durable") };
    assert_eq!(adopted.events.last().unwrap().what, Adopted, "durable with the job's id");
    bench.on(Event::Advanced);
    bench.sleep();
    bench.on(Event::Polled(Ok(found)));
    assert_eq!(told(&mut bench), [Submitted, Lost, Adopted, Completed]);
}

#[test]
fn whatever_goes_wrong_is_told_in_its_turn() {
    for (kind, expected) in [
        (FailureKind::NotSent, Failed),
        (FailureKind::Throttled(None), Refused),
        (FailureKind::KeyRejected, Refused),
        (FailureKind::NotFound, Refused),
    ] {
        let mut bench = Bench::new(Recovered::default());
        bench.submit(10);
        bench.on(Event::Submitted(Err(failure(kind))));
        assert_eq!(told(&mut bench), [Submitted, expected, Requeued], "{kind:?}");
    }
    let mut bench = Bench::new(Recovered::default());
    bench.submit(10);
    bench.on(Event::Submitted(Err(failure(FailureKind::SlotTaken))));
    let batch = bench.machine.view(bench.now).batch.unwrap();
    assert_eq!(batch.events.last().unwrap().what, Conflict);
}

#[test]
fn a_start_finds_a_submission_lost() {
    let begun = Batch { state: BatchState::Submitting, ..batch(10) };
    let recovered = Recovered { unsettled: Some(begun), ..Recovered::default() };
    let bench = Bench::new(recovered);
    let batch = bench.machine.view(bench.now).batch.unwrap();
    assert_eq!(batch.events.last().unwrap().what, Lost);
}
