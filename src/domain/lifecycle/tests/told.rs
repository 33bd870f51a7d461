//! What is told to who looks at the machine.

use super::{isolation::part, *};
use crate::domain::batch::Cut;

#[test]
fn what_the_app_is_doing_is_told_at_every_step() {
    let mut bench = Bench::new(Recovered::default());
    assert_eq!(bench.activity(), Activity::Idle);
    bench.wait_for_records(1_800);
    assert_eq!(bench.activity(), Activity::Lingering);
    bench.sleep();
    assert_eq!(bench.activity(), Activity::Submitting, "it is claimed");
    bench.on(Event::Claimed(Some(Box::new(batch(1_800)))));
    assert_eq!(bench.activity(), Activity::Submitting);
    bench.wait_for_records(0);
    let id = bench.resubmit();
    assert_eq!(bench.activity(), Activity::Submitting);
    bench.refuse(FailureKind::Unknown);
    assert_eq!(bench.activity(), Activity::LookingForJob);
    bench.on(Event::Looked(Ok(vec![job(Some(id.filename()), JobPhase::Unfinished, None)])));
    assert_eq!(bench.activity(), Activity::Running, "it is adopted");
    bench.command();
    bench.on(Event::Advanced);
    assert_eq!(bench.activity(), Activity::Running);
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    assert_eq!(bench.activity(), Activity::Running, "it is settled");
    bench.settle(Settlement::Delivered);
    assert_eq!(bench.activity(), Activity::Occupied);
    bench.on(Event::Paused(true));
    assert_eq!(bench.activity(), Activity::Paused);
    bench.on(Event::Paused(false));
    bench.now.instant = bench.machine.view(bench.now).occupied_until;
    assert_eq!(bench.activity(), Activity::Idle);
}

#[test]
fn a_backoff_is_told_until_it_ends() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1);
    bench.refuse(FailureKind::NotSent);
    bench.settle(Settlement::Requeued);
    assert_eq!(bench.activity(), Activity::BackingOff);
    let retry_at = bench.machine.view(bench.now).retry_at.expect("it is known");
    assert_eq!(retry_at.since(bench.now.instant), SETTINGS.backoff.initial);
    bench.now.instant = retry_at;
    let view = bench.machine.view(bench.now);
    assert_eq!((view.activity, view.retry_at), (Activity::Idle, None));
}

#[test]
fn a_part_is_told_from_a_batch_like_any_other() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::TooLarge);
    bench.settle_before(Settlement::Split(Cut::Halves), part(2, 50));
    assert_eq!(bench.activity(), Activity::Isolating);
    bench.resubmit();
    assert_eq!(bench.activity(), Activity::Isolating);
}

#[test]
fn what_was_delivered_is_counted() {
    let mut bench = Bench::new(Recovered::default());
    for (jobs, rows) in [(1, 100), (2, 200)] {
        bench.submit(100);
        bench.accept();
        bench.sleep();
        bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
        bench.settle(Settlement::Delivered);
        let view = bench.machine.view(bench.now);
        assert_eq!((view.completed_jobs, view.delivered_rows), (jobs, rows));
    }
}
