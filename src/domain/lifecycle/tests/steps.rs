//! When each step comes, and what it leaves for the next.

use proptest::prelude::*;

use super::{super::answers::reach, *};

proptest! {
    #[test]
    fn how_far_back_is_looked_is_as_likely_ten_as_ten_million(random: u64) {
        prop_assert_eq!(u64::from(reach(random).ilog2()), random % 24);
    }
}

#[test]
fn a_job_is_first_asked_after_when_it_could_be_half_done() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_800);
    bench.accept();
    assert_eq!(bench.sleep().as_secs(), 30);
    assert_eq!(bench.command(), Command::Poll("j".into()));
}

#[test]
fn what_is_claimed_waits_while_the_app_is_paused() {
    let mut bench = Bench::new(Recovered::default());
    bench.wait_for_records(100);
    bench.sleep();
    bench.on(Event::Paused(true));
    bench.on(Event::Claimed(Some(Box::new(batch(100)))));
    assert_eq!(bench.next(), Step::Wait(None));
    bench.on(Event::Paused(false));
    bench.resubmit();
}

#[test]
fn a_flush_ends_the_linger() {
    let mut bench = Bench::new(Recovered::default());
    bench.wait_for_records(1);
    bench.on(Event::Flush);
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn a_flush_of_nothing_does_not_hurry_what_comes_later() {
    let mut bench = Bench::new(Recovered::default());
    bench.on(Event::Flush);
    bench.wait_for_records(1);
    assert_eq!(bench.sleep(), SETTINGS.linger);
}

#[test]
fn a_flush_asks_after_the_running_job_at_once() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_800);
    bench.accept();
    bench.on(Event::Flush);
    assert_eq!(bench.command(), Command::Poll("j".into()));
}

#[test]
fn every_submission_is_counted_with_its_time() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(10);
    for submissions in 2..5 {
        bench.on(Event::Submitted(Err(failure(FailureKind::Unknown))));
        bench.look_in_vain();
        bench.resubmit();
        let batch = bench.machine.view(bench.now).batch.expect("it is being submitted");
        assert_eq!((batch.submissions, batch.submitted_at), (submissions, Some(bench.now.wall)));
    }
}

#[test]
fn a_claim_that_finds_nothing_is_not_repeated_in_a_hot_loop() {
    let mut bench = Bench::new(Recovered::default());
    bench.wait_for_records(1);
    bench.sleep();
    bench.on(Event::Claimed(None));
    assert_eq!(bench.sleep(), SETTINGS.poll_interval.0);
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn what_cannot_be_asked_is_asked_again_after_a_growing_backoff() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(10);
    bench.accept();
    bench.sleep();
    for seconds in [1, 2, 4] {
        bench.on(Event::Polled(Err(failure(FailureKind::Unknown))));
        assert_eq!(bench.sleep().as_secs_f64().round(), f64::from(seconds));
    }
    let view = bench.machine.view(bench.now);
    assert_eq!((view.failed_attempts, view.failures_in_a_row, &*view.last_error), (3, 3, "no"));
    bench.on(Event::Polled(Ok(job(None, JobPhase::Unfinished, None))));
    assert_eq!(bench.machine.view(bench.now).failures_in_a_row, 0);
}
