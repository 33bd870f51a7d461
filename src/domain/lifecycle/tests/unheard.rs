//! A job that may run, and of which nothing was heard.

use super::{
    lost::{OCCUPANCY, named},
    *,
};
use crate::domain::batch::DeadReason;

impl Bench {
    /// Upstream was away, so its list is asked again before anything is submitted.
    fn look_unless_rows_are_refused(&mut self, kind: FailureKind) {
        if !matches!(kind, FailureKind::BadRows | FailureKind::TooLarge) {
            self.look(Vec::new());
        }
    }
}

#[test]
fn what_may_be_under_way_stays_in_flight_until_upstream_takes_a_job() {
    for kind in [
        FailureKind::NotSent,
        FailureKind::Throttled(None),
        FailureKind::KeyRejected,
        FailureKind::NotFound,
        FailureKind::Refused,
    ] {
        let (bench, _) = Bench::lost();
        stays_until_taken(bench, kind, 1_800);
    }
    // What is split stays in flight, too; what stands alone would not.
    for kind in [FailureKind::BadRows, FailureKind::TooLarge] {
        stays_until_taken(Bench::lost_of(1), kind, 1);
    }
}

fn stays_until_taken(mut bench: Bench, kind: FailureKind, rows: u64) {
    bench.look_in_vain();
    bench.resubmit();
    for _ in 0..2 {
        bench.refuse(kind);
        assert!(bench.sleep() > Duration::ZERO, "{kind:?}: a hot loop");
        bench.look_unless_rows_are_refused(kind);
        bench.resubmit();
    }
    bench.deliver();
    // From now on it is as ever.
    bench.submit(rows);
    bench.refuse(kind);
    assert!(matches!(bench.command(), Command::Settle(..)), "{kind:?}");
}

#[test]
fn what_is_refused_and_left_in_doubt_is_told_with_its_end() {
    let mut bench = Bench::lost_of(1);
    let in_doubt = |bench: &Bench| {
        let until = bench.machine.view(bench.now).in_doubt_until?;
        Some(until.since(bench.now.instant))
    };
    bench.look_in_vain();
    bench.resubmit();
    assert_eq!(in_doubt(&bench), None);
    bench.refuse(FailureKind::NotSent);
    assert_eq!(in_doubt(&bench), None, "an outage is told as one");
    bench.sleep();
    bench.look(Vec::new());
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    let left = in_doubt(&bench).unwrap();
    assert!(left > Duration::ZERO && left <= Duration::from_secs(900), "{left:?}");
    bench.sleep();
    bench.resubmit();
    bench.deliver();
    assert_eq!(in_doubt(&bench), None);
}

#[test]
fn what_was_lost_and_not_heard_of_for_long_is_given_up() {
    let (mut bench, _) = Bench::lost();
    let lost_at = bench.now.instant;
    bench.look_in_vain();
    bench.resubmit();
    loop {
        bench.refuse(FailureKind::NotSent);
        if let Step::Do(Command::Settle(_, settlement, _)) = bench.next() {
            assert_eq!(settlement, Settlement::Requeued);
            break;
        }
        bench.sleep();
        bench.look(Vec::new());
        bench.resubmit();
    }
    let waited = bench.now.instant.since(lost_at);
    assert!(waited >= OCCUPANCY + Duration::from_secs(900) && waited < Duration::from_secs(1_080));
}

#[test]
fn what_a_death_left_under_way_stays_in_flight_too() {
    let unsettled = Batch { state: BatchState::Submitting, ..batch(1_800) };
    let mut bench = Bench::new(Recovered { unsettled: Some(unsettled), ..Recovered::default() });
    assert!(bench.look_in_vain() >= OCCUPANCY);
    bench.resubmit();
    bench.refuse(FailureKind::NotSent);
    bench.sleep();
    bench.look(Vec::new());
    bench.resubmit();
}

/// A part of a batch, of so many rows.
fn part(rows: u64) -> Batch {
    let whole = batch(1_800);
    let id = BatchId { number: 2, ..whole.id };
    Batch { id, rows, parent: Some(whole.id), ..whole }
}

#[test]
fn bad_rows_of_what_may_be_under_way_are_looked_for_at_once() {
    for kind in [FailureKind::BadRows, FailureKind::TooLarge] {
        let (mut bench, _) = Bench::lost();
        bench.look_in_vain();
        bench.resubmit();
        bench.refuse(kind);
        let Command::Settle(_, Settlement::Split(_), _) = bench.command() else {
            panic!("{kind:?}: it is not split")
        };
        // A row that stands alone dies once upstream has taken another.
        bench.on(Event::Settled(Some(Box::new(part(1)))));
        bench.sleep();
        bench.resubmit();
        bench.refuse(kind);
        bench.sleep();
        bench.resubmit();
        bench.accept();
        bench.sleep();
        bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
        let Command::Settle(_, Settlement::Delivered, _) = bench.command() else {
            panic!("{kind:?}")
        };
        bench.on(Event::Settled(Some(Box::new(part(1)))));
        bench.sleep();
        bench.resubmit();
        bench.refuse(kind);
        assert!(matches!(bench.command(), Command::Settle(_, Settlement::Dead(_), _)), "{kind:?}");
    }
}

#[test]
fn rows_of_what_may_be_under_way_go_not_back_although_upstream_seems_to_refuse_everything() {
    let (mut bench, _) = Bench::lost();
    bench.machine.memory.of_mut(SubjectKind::User).unproven = 10;
    stays_until_taken(bench, FailureKind::BadRows, 1_800);
}

#[test]
fn what_a_part_left_under_way_is_not_known_after_a_death() {
    let unsettled = Some(part(1));
    let mut bench = Bench::new(Recovered { unsettled, ..Recovered::default() });
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    assert!(bench.sleep() > Duration::ZERO);
    bench.resubmit();
}

#[test]
fn where_a_denied_job_is_believed_nothing_is_under_way_any_more() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(1);
    let listed = named("j", Some(&id.filename()), JobPhase::Failed);
    for _ in 0..2 {
        bench.accept();
        bench.deny();
        bench.until_resubmitted(&[]);
    }
    bench.accept();
    bench.deny();
    bench.look(vec![listed]);
    bench.sleep();
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Dead(DeadReason::BadRow));
}
