//! The slot is taken, or seems to be.

use super::{
    lost::{OCCUPANCY, PATIENCE, named},
    *,
};

impl Bench {
    fn slot_is_taken() -> (Self, BatchId) {
        let mut bench = Self::new(Recovered::default());
        let id = bench.submit(1_800);
        bench.refuse(FailureKind::SlotTaken);
        (bench, id)
    }
}

fn theirs(phase: JobPhase) -> JobReport {
    named("t", Some("theirs.csv"), phase)
}

#[test]
fn an_entry_without_a_name_or_a_status_holds_no_slot() {
    let (mut bench, _) = Bench::lost();
    let odd = [
        named("", Some("theirs"), JobPhase::Unfinished),
        JobReport { status: String::new(), ..theirs(JobPhase::Unfinished) },
    ];
    assert!(bench.until_resubmitted(&odd) < OCCUPANCY + SETTINGS.poll_interval.1);
}

#[test]
fn an_entry_that_never_ends_is_waited_for_twice_as_long_as_any_job_takes() {
    let (mut bench, _) = Bench::lost();
    let zombie = [JobReport { status: "cancelled".into(), ..theirs(JobPhase::Unfinished) }];
    let waited = bench.until_resubmitted(&zombie);
    assert!(waited >= PATIENCE && waited < PATIENCE + OCCUPANCY, "{waited:?}");
    // The slot is taken indeed: as long again until the next upload.
    bench.refuse(FailureKind::SlotTaken);
    assert!(bench.until_resubmitted(&zombie) >= PATIENCE);
    assert_eq!(bench.machine.view(bench.now).failures_in_a_row, 1, "of the answer that was lost");
    // It was not: nobody waits for the entry any more.
    bench.deliver();
    bench.submit(1_800);
    bench.refuse(FailureKind::Unknown);
    assert!(bench.until_resubmitted(&zombie) < OCCUPANCY + SETTINGS.poll_interval.1);
}

#[test]
fn a_taken_slot_is_waited_for_and_is_not_a_failure() {
    let (mut bench, _) = Bench::slot_is_taken();
    bench.look(vec![theirs(JobPhase::Unfinished)]);
    let mut asked = 0;
    let began = bench.now.instant;
    while bench.now.instant.since(began) < OCCUPANCY / 2 {
        assert_eq!(bench.activity(), Activity::SlotTaken);
        let waited = bench.sleep();
        assert!(waited <= SETTINGS.poll_interval.1, "{waited:?}");
        assert_eq!(bench.command(), Command::Poll("t".into()), "it is asked after by its id");
        bench.on(Event::Polled(Ok(theirs(JobPhase::Unfinished))));
        asked += 1;
    }
    assert!(asked < 20, "{asked} times");
    bench.sleep();
    bench.on(Event::Polled(Ok(theirs(JobPhase::Completed))));
    // It held the slot by then, so ours did not: the next one need not wait. The list may be late.
    bench.look(vec![theirs(JobPhase::Unfinished)]);
    bench.resubmit();
    let view = bench.machine.view(bench.now);
    assert_eq!((view.conflicts, view.failed_attempts, view.failures_in_a_row), (1, 0, 0));
    assert_eq!(view.conflicts_with, Conflicts { other: 1, ..Conflicts::default() });
}

#[test]
fn anothers_job_that_is_met_while_ours_is_looked_for_is_counted_once() {
    let (mut bench, id) = Bench::lost();
    let conflicts = |bench: &Bench| {
        let view = bench.machine.view(bench.now);
        (view.conflicts, view.conflicts_with.other)
    };
    bench.look(vec![theirs(JobPhase::Unfinished)]);
    assert_eq!((bench.activity(), conflicts(&bench)), (Activity::SlotTaken, (1, 1)));
    bench.sleep();
    assert_eq!(bench.command(), Command::Poll("t".into()));
    bench.on(Event::Polled(Err(failure(FailureKind::NotFound))));
    for _ in 0..2 {
        bench.sleep();
        bench.look(vec![theirs(JobPhase::Unfinished)]);
        assert_eq!((bench.activity(), conflicts(&bench)), (Activity::SlotTaken, (1, 1)));
    }
    bench.sleep();
    // A gateway's job is none of those that take the budget away.
    let (mut bench_of_ours, ours) = Bench::lost();
    bench_of_ours.look(vec![named("z", Some(&ours.filename()), JobPhase::Unfinished)]);
    assert_eq!(conflicts(&bench_of_ours), (0, 0));
    bench.look(vec![named("j", Some(&id.filename()), JobPhase::Unfinished)]);
    assert_eq!(conflicts(&bench), (1, 1));
}

#[test]
fn a_holder_that_cannot_be_asked_after_is_waited_for_by_the_list() {
    let (mut bench, _) = Bench::slot_is_taken();
    bench.look(vec![theirs(JobPhase::Unfinished)]);
    bench.sleep();
    assert_eq!(bench.command(), Command::Poll("t".into()));
    bench.on(Event::Polled(Err(failure(FailureKind::NotFound))));
    bench.sleep();
    for _ in 0..3 {
        bench.look(vec![theirs(JobPhase::Unfinished)]);
        assert_eq!(bench.sleep(), SETTINGS.poll_interval.1);
    }
    bench.look(vec![theirs(JobPhase::Completed)]);
    bench.resubmit();
}

#[test]
fn that_a_job_runs_disproves_a_submission_only_with_a_conflict_and_a_name() {
    for (answer, filename, is_disproved) in [
        (FailureKind::SlotTaken, Some("theirs"), true),
        (FailureKind::SlotTaken, None, false),
        (FailureKind::Unknown, Some("theirs"), false),
    ] {
        let mut bench = Bench::new(Recovered::default());
        bench.submit(1_800);
        bench.refuse(answer);
        bench.look(vec![named("t", filename, JobPhase::Unfinished)]);
        let mut waited = bench.sleep();
        bench.on(Event::Polled(Ok(named("t", filename, JobPhase::Completed))));
        waited += bench.until_resubmitted(&[]);
        assert_eq!(waited < OCCUPANCY, is_disproved, "{answer:?}");
    }
}

#[test]
fn a_conflict_that_the_list_does_not_explain_is_waited_out_ever_longer() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    for seconds in [15, 30, 60, 60] {
        bench.refuse(FailureKind::SlotTaken);
        assert_eq!(bench.look_in_vain().as_secs(), seconds);
        bench.resubmit();
    }
    let conflicts = bench.machine.view(bench.now).conflicts_with;
    assert_eq!(conflicts, Conflicts { unknown: 4, ..Conflicts::default() });
    bench.deliver();
    bench.submit(100);
    bench.refuse(FailureKind::SlotTaken);
    assert_eq!(bench.look_in_vain().as_secs(), 15);
}

#[test]
fn a_job_that_was_taken_and_answered_with_a_conflict_is_adopted_with_its_occupancy() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(1_800);
    bench.on(Event::Submitted(Err(failure(FailureKind::SlotTaken))));
    bench.on(Event::Looked(Ok(vec![job(Some(id.filename()), JobPhase::Unfinished, None)])));
    let Command::Advance(_, memory) = bench.command() else { panic!("not durable") };
    assert_eq!(memory.occupancy.end(bench.now).since(bench.now.instant).as_secs(), 60);
    let conflicts = bench.machine.view(bench.now).conflicts_with;
    assert_eq!(conflicts, Conflicts { gateway: 1, ..Conflicts::default() });
    bench.on(Event::Advanced);
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    bench.settle(Settlement::Delivered);
    bench.wait_for_records(1);
    assert!(bench.sleep() >= Duration::from_secs(60));
}
