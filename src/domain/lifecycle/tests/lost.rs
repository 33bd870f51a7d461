//! A submission whose outcome is not known.

use super::*;
use crate::domain::batch::DeadReason;

pub(super) const OCCUPANCY: Duration = Duration::from_secs(60);
pub(super) const PATIENCE: Duration = Duration::from_secs(2 * 333);

impl Bench {
    /// The list shows nothing, at once and just before the batch is sent again.
    pub(super) fn look_in_vain(&mut self) -> Duration {
        assert_eq!(self.command(), Command::Look);
        self.on(Event::Looked(Ok(Vec::new())));
        let waited = self.sleep();
        assert_eq!(self.command(), Command::Look);
        self.on(Event::Looked(Ok(Vec::new())));
        waited
    }

    /// The answer to the submission of a minute's rows is lost.
    pub(super) fn lost() -> (Self, BatchId) {
        let mut bench = Self::new(Recovered::default());
        let id = bench.submit(1_800);
        bench.refuse(FailureKind::Unknown);
        (bench, id)
    }

    /// The same of so many rows.
    pub(super) fn lost_of(rows: u64) -> Self {
        let mut bench = Self::new(Recovered::default());
        bench.submit(rows);
        bench.refuse(FailureKind::Unknown);
        bench
    }

    pub(super) fn look(&mut self, jobs: Vec<JobReport>) {
        assert_eq!(self.command(), Command::Look);
        self.on(Event::Looked(Ok(jobs)));
    }

    pub(super) fn deliver(&mut self) {
        self.accept();
        self.sleep();
        self.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
        self.settle(Settlement::Delivered);
    }

    pub(super) fn deny(&mut self) {
        self.sleep();
        assert_eq!(self.command(), Command::Poll("j".into()));
        self.on(Event::Polled(Err(failure(FailureKind::NotFound))));
        self.sleep();
    }

    /// Until something is submitted, at the latest after so long; the same is listed, and found when
    /// it is asked for, at every look.
    pub(super) fn until_resubmitted(&mut self, listed: &[JobReport]) -> Duration {
        let began = self.now.instant;
        for _ in 0..200 {
            self.sleep();
            match self.command() {
                Command::Look => self.on(Event::Looked(Ok(listed.to_vec()))),
                Command::Poll(id) => {
                    let job = listed.iter().find(|job| job.job_id == id).cloned();
                    self.on(Event::Polled(job.ok_or(failure(FailureKind::NotFound))));
                }
                Command::Advance(..) => {
                    self.resubmit();
                    return self.now.instant.since(began);
                }
                other @ (Command::Claim(_) | Command::Submit(_) | Command::Settle(..)) => {
                    panic!("{other:?}")
                }
            }
        }
        panic!("it waits for ever");
    }
}

pub(super) fn named(id: &str, filename: Option<&str>, phase: JobPhase) -> JobReport {
    JobReport { job_id: id.into(), ..job(filename.map(str::to_owned), phase, None) }
}

#[test]
fn a_lost_answer_is_looked_for_and_the_job_adopted() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(100);
    bench.on(Event::Submitted(Err(failure(FailureKind::Unknown))));
    assert_eq!(bench.command(), Command::Look);
    let others = job(Some("theirs.csv".into()), JobPhase::Completed, None);
    let ours = job(Some(id.filename()), JobPhase::Unfinished, None);
    bench.on(Event::Looked(Ok(vec![others, ours])));
    let Command::Advance(running, _) = bench.command() else { panic!("not durable") };
    assert_eq!(running.job_id.as_deref(), Some("j"));
    bench.on(Event::Advanced);
    assert_eq!(bench.command(), Command::Poll("j".into()));
}

#[test]
fn what_a_list_does_not_show_waits_for_its_occupancy_whatever_else_is_shown() {
    let (bench, id) = Bench::lost();
    let earlier = BatchId { number: 99, ..id };
    let of_a_gateway = named("e", Some(&earlier.filename()), JobPhase::Completed);
    for listed in [vec![], vec![named("n", None, JobPhase::Completed)], vec![of_a_gateway]] {
        let mut bench = Bench { machine: bench.machine.clone(), now: bench.now };
        bench.look(listed.clone());
        assert_eq!(bench.activity(), Activity::LookingForJob);
        assert!(bench.sleep() >= OCCUPANCY, "{listed:?}");
        // The list may have been late.
        bench.look(listed);
        bench.resubmit();
    }
}

#[test]
fn a_job_that_the_list_was_late_with_is_adopted_before_anything_is_sent_again() {
    let (mut bench, id) = Bench::lost();
    bench.look(vec![]);
    bench.sleep();
    bench.look(vec![named("j", Some(&id.filename()), JobPhase::Completed)]);
    let Command::Advance(running, _) = bench.command() else { panic!("not durable") };
    assert_eq!((running.state, running.job_id.as_deref()), (BatchState::Running, Some("j")));
}

#[test]
fn answers_that_are_lost_again_and_again_are_waited_for_ever_longer() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        bench.refuse(FailureKind::Unknown);
        assert_eq!(bench.look_in_vain().as_secs_f64().round(), f64::from(seconds));
        bench.resubmit();
    }
    assert_eq!(bench.machine.view(bench.now).failures_in_a_row, 8);
}

#[test]
fn a_job_of_the_same_name_with_other_rows_is_not_adopted() {
    let (mut bench, id) = Bench::lost();
    let other = named("j", Some(&id.filename()), JobPhase::Completed);
    bench.look(vec![JobReport { total_rows: Some(7), ..other }]);
    bench.sleep();
    bench.look(vec![]);
    bench.resubmit();
}

#[test]
fn where_there_is_no_list_the_batch_is_sent_again_after_its_occupancy() {
    for kind in [FailureKind::NotFound, FailureKind::Refused] {
        let (mut bench, _) = Bench::lost();
        let mut waited = Duration::ZERO;
        for _ in 0..2 {
            bench.on(Event::Looked(Err(failure(kind))));
            assert_ne!(bench.activity(), Activity::Halted, "a question is no refusal of rows");
            waited += bench.sleep();
        }
        assert!(waited >= OCCUPANCY && waited < 2 * OCCUPANCY, "{waited:?}");
        bench.resubmit();
    }
}

#[test]
fn a_list_that_always_fails_does_not_stop_the_app() {
    for kind in [
        FailureKind::Unknown,
        FailureKind::Throttled(None),
        FailureKind::KeyRejected,
        FailureKind::BadRows,
    ] {
        let (mut bench, _) = Bench::lost();
        let (mut waited, mut looks) = (Duration::ZERO, 0);
        while bench.command() == Command::Look {
            bench.on(Event::Looked(Err(failure(kind))));
            waited += bench.sleep();
            looks += 1;
            assert!(looks < 20, "{kind:?}");
        }
        assert!(looks >= 5 && waited >= OCCUPANCY, "{kind:?}: {looks} in {waited:?}");
        bench.resubmit();
        // Another loss is looked for anew.
        bench.refuse(FailureKind::Unknown);
        bench.on(Event::Looked(Err(failure(kind))));
        bench.sleep();
        assert_eq!(bench.command(), Command::Look);
    }
}

#[test]
fn a_job_is_found_after_an_outage_however_long() {
    let (mut bench, id) = Bench::lost();
    for _ in 0..1_000 {
        assert_eq!(bench.command(), Command::Look, "nobody is there to take a submission");
        bench.on(Event::Looked(Err(failure(FailureKind::NotSent))));
        assert!(bench.sleep() > Duration::ZERO);
    }
    bench.look(vec![named("j", Some(&id.filename()), JobPhase::Completed)]);
    let Command::Advance(running, _) = bench.command() else { panic!("it is found") };
    assert_eq!((running.state, running.job_id.as_deref()), (BatchState::Running, Some("j")));
}

#[test]
fn where_a_submission_comes_to_nothing_after_a_list_did_the_list_is_asked_again() {
    for kind in [FailureKind::NotSent, FailureKind::Throttled(None), FailureKind::KeyRejected] {
        let (mut bench, id) = Bench::lost();
        while bench.command() == Command::Look {
            bench.on(Event::Looked(Err(failure(FailureKind::Throttled(None)))));
            bench.sleep();
        }
        bench.resubmit();
        bench.refuse(kind);
        bench.sleep();
        for _ in 0..4 {
            bench.on(Event::Looked(Err(failure(FailureKind::Throttled(None)))));
            bench.sleep();
            assert_eq!(bench.command(), Command::Look, "{kind:?}");
        }
        bench.look(vec![named("j", Some(&id.filename()), JobPhase::Unfinished)]);
        assert!(matches!(bench.command(), Command::Advance(..)), "{kind:?}: it is found");
    }
}

#[test]
fn a_list_that_fails_before_the_occupancy_has_passed_is_asked_for_again() {
    let (mut bench, id) = Bench::lost();
    bench.on(Event::Looked(Err(failure(FailureKind::Unknown))));
    assert!(bench.sleep() > Duration::ZERO);
    bench.look(vec![named("j", Some(&id.filename()), JobPhase::Unfinished)]);
    assert!(matches!(bench.command(), Command::Advance(..)), "it is found");
}

#[test]
fn a_forgotten_job_is_looked_for_and_its_occupancy_stands() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(1_800);
    let submitted_at = bench.now.instant;
    bench.accept();
    bench.deny();
    let earlier = named("e", Some(&BatchId { number: 99, ..id }.filename()), JobPhase::Completed);
    bench.until_resubmitted(&[earlier]);
    assert!(bench.now.instant.since(submitted_at) >= OCCUPANCY);
}

#[test]
fn a_poll_that_is_refused_again_and_again_denies_the_job() {
    for kind in [FailureKind::Refused, FailureKind::BadRows, FailureKind::SlotTaken] {
        let mut bench = Bench::new(Recovered::default());
        bench.submit(1_800);
        bench.accept();
        for _ in 0..3 {
            bench.sleep();
            assert_eq!(bench.command(), Command::Poll("j".into()));
            bench.on(Event::Polled(Err(failure(kind))));
            assert_ne!(bench.activity(), Activity::Halted, "a question is no refusal of rows");
        }
        bench.until_resubmitted(&[]);
    }
}

#[test]
fn where_every_job_is_denied_the_list_is_believed() {
    for (phase, settlement) in [
        (JobPhase::Completed, Settlement::Delivered),
        (JobPhase::Failed, Settlement::Split(crate::domain::batch::Cut::Probe(u64::MAX % 1_800))),
    ] {
        let mut bench = Bench::new(Recovered::default());
        bench.machine.settings.failed_jobs_max = 1;
        let id = bench.submit(1_800);
        let listed = named("j", Some(&id.filename()), phase);
        for _ in 0..2 {
            bench.accept();
            bench.deny();
            bench.until_resubmitted(std::slice::from_ref(&listed));
        }
        bench.accept();
        bench.deny();
        bench.look(vec![listed]);
        bench.settle(settlement);
    }
}

#[test]
fn a_job_of_ours_with_a_status_that_nobody_knows_is_not_waited_for_for_ever() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_800);
    bench.accept();
    let began = bench.now.instant;
    while bench.now.instant.since(began) < 2 * PATIENCE {
        bench.sleep();
        assert_eq!(bench.command(), Command::Poll("j".into()), "one that is known is waited for");
        let report = job(None, JobPhase::Unfinished, None);
        bench.on(Event::Polled(Ok(JobReport { status: "processing".into(), ..report })));
    }
    bench.sleep();
    let report = job(None, JobPhase::Unfinished, None);
    bench.on(Event::Polled(Ok(JobReport { status: "cancelled".into(), ..report })));
    assert!(bench.machine.view(bench.now).last_error.contains("cancelled"));
    bench.until_resubmitted(&[]);
}

#[test]
fn a_job_that_was_found_is_not_under_way_any_more_once_it_has_ended() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(1);
    bench.refuse(FailureKind::Unknown);
    bench.look(vec![named("j", Some(&id.filename()), JobPhase::Unfinished)]);
    bench.command();
    bench.on(Event::Advanced);
    bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
    bench.sleep();
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Dead(DeadReason::BadRow));
}

#[test]
fn jobs_that_are_denied_are_not_adopted_again_however_many_there_were() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(1);
    // More than a batch remembers of those that it had.
    let listed: Vec<JobReport> =
        (0..25).map(|n| named(&n.to_string(), Some(&id.filename()), JobPhase::Completed)).collect();
    bench.refuse(FailureKind::Unknown);
    for asked in 0..200 {
        bench.sleep();
        match bench.command() {
            Command::Look => bench.on(Event::Looked(Ok(listed.clone()))),
            Command::Advance(..) => bench.on(Event::Advanced),
            Command::Poll(_) => bench.on(Event::Polled(Err(failure(FailureKind::NotFound)))),
            Command::Settle(..) => return assert!(asked >= 25),
            other @ (Command::Claim(_) | Command::Submit(_)) => panic!("{other:?}"),
        }
    }
    bench.settle(Settlement::Delivered);
}
