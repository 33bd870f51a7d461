use super::*;
use crate::domain::{
    batch::{Cut, DeadReason, Part},
    memory::UNPROVEN_MAX,
};

impl Bench {
    /// Upstream refuses what is being submitted, in this way.
    pub(super) fn refuse(&mut self, kind: FailureKind) {
        self.on(Event::Submitted(Err(failure(kind))));
    }

    /// The machine settles so, and another batch is to follow.
    pub(super) fn settle_before(&mut self, expected: Settlement, next: Batch) {
        let Command::Settle(_, settlement, _) = self.command() else { panic!("does not settle") };
        assert_eq!(settlement, expected);
        self.on(Event::Settled(Some(Box::new(next))));
        self.sleep();
    }

    /// The job that is being submitted is taken and delivered, and another batch follows.
    pub(super) fn deliver_before(&mut self, next: Option<Batch>) {
        self.accept();
        self.sleep();
        self.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
        let Command::Settle(_, settlement, memory) = self.command() else { panic!("no settling") };
        let unproven = memory.of(SubjectKind::User).unproven;
        assert_eq!((settlement, unproven), (Settlement::Delivered, 0));
        self.on(Event::Settled(next.map(Box::new)));
        self.sleep();
    }

    fn claimable(&mut self) -> Claimable {
        let Command::Claim(claimable) = self.command() else { panic!("does not claim") };
        *claimable
    }

    pub(super) fn activity(&self) -> Activity {
        self.machine.view(self.now).activity
    }
}

/// A part of a batch that was refused.
pub(super) fn part(number: u64, rows: u64) -> Batch {
    let whole = batch(rows);
    let id = BatchId { number, ..whole.id };
    let part = Part { origin: 1, first: 0, end: rows };
    Batch { id, part, refused_at: Some(at(1_000).wall), ..whole }
}

/// Ten rows of this kind have died, and upstream has taken none.
fn in_doubt_of(kind: SubjectKind) -> Recovered {
    let mut memory = Memory::default();
    memory.of_mut(kind).unproven = UNPROVEN_MAX;
    Recovered { memory, ..Recovered::default() }
}

/// The machine of an app of which both kinds wait, and its batch of companies.
fn with_companies(recovered: Recovered) -> (Bench, Batch) {
    let mut bench = Bench::new(recovered);
    let records = ByKind { users: 5, companies: 5 };
    bench.on(Event::Waiting(Waiting {
        records,
        since: Some(bench.now.instant),
        urgent_updates: 0,
    }));
    bench.sleep();
    bench.command();
    let companies = Batch { kind: SubjectKind::Company, ..batch(5) };
    bench.on(Event::Claimed(Some(Box::new(companies.clone()))));
    bench.resubmit();
    (bench, companies)
}

#[test]
fn where_companies_are_refused_users_go_on() {
    for kind in [FailureKind::BadRows, FailureKind::NotFound, FailureKind::Refused] {
        let (mut bench, companies) = with_companies(in_doubt_of(SubjectKind::Company));
        bench.refuse(kind);
        // What is left of their batch does not hold users up.
        bench.settle_before(Settlement::Requeued, companies);
        bench.settle(Settlement::Requeued);
        let halted = bench.machine.view(bench.now).halted;
        assert_eq!(halted, ByKind { users: false, companies: true });
        assert!(bench.sleep() < Duration::from_secs(1));
        let claimable = bench.claimable();
        assert_eq!((claimable.users.is_some(), claimable.companies), (true, None));
        bench.on(Event::Claimed(Some(Box::new(batch(5)))));
        bench.resubmit();
        bench.deliver_before(None);
        // Its job ended well, and what is wrong with companies still stands.
        assert_eq!(bench.machine.view(bench.now).last_error, "no");
        bench.sleep();
        bench.command();
        // They are tried again later, while nobody else waits, too.
        bench.on(Event::Claimed(None));
        let records = ByKind { users: 0, companies: 5 };
        bench.on(Event::Waiting(Waiting {
            records,
            since: Some(bench.now.instant),
            urgent_updates: 0,
        }));
        let waited = bench.sleep();
        assert!(waited <= SETTINGS.held_retry && waited > Duration::ZERO, "{waited:?}");
        assert!(bench.claimable().companies.is_some());
    }
}

#[test]
fn that_users_are_taken_is_no_proof_that_companies_are() {
    let mut recovered = Recovered::default();
    recovered.memory.of_mut(SubjectKind::User).take(at(1_000).wall);
    let (mut bench, _) = with_companies(recovered);
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Split(Cut::Probe(u64::MAX % 5)));
}

const PROBE: u64 = u64::MAX % 100;

#[test]
fn a_refused_batch_tries_one_row_before_it_is_halved() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::BadRows);
    bench.settle_before(Settlement::Split(Cut::Probe(PROBE)), part(2, 1));
    bench.resubmit();
    // Upstream takes rows: what it refuses is the rows.
    bench.deliver_before(Some(part(3, 50)));
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle_before(Settlement::Split(Cut::Halves), part(4, 1));
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Dead(DeadReason::BadRow));
    assert_eq!(bench.machine.view(bench.now).dead_rows, 1);
    assert_eq!(bench.activity(), Activity::Isolating);
}

#[test]
fn where_upstream_refuses_everything_a_few_rows_die_and_the_app_halts() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::BadRows);
    bench.settle_before(Settlement::Split(Cut::Probe(PROBE)), part(2, 1));
    for number in 0..u64::from(UNPROVEN_MAX) {
        bench.resubmit();
        bench.refuse(FailureKind::BadRows);
        let next = part(3 + number, 1);
        bench.settle_before(Settlement::Dead(DeadReason::BadRow), next);
    }
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Requeued);
    assert_eq!(bench.activity(), Activity::Halted);
    bench.wait_for_records(1);
    assert_eq!(bench.sleep(), SETTINGS.held_retry);
    // The next try is one row, which may stand anywhere.
    assert_eq!(bench.claimable().users.map(|limits| limits.batch.rows_max), Some(1));
    // Once upstream takes something again, rows may die again.
    bench.on(Event::Claimed(Some(Box::new(batch(1)))));
    bench.resubmit();
    bench.deliver_before(Some(part(40, 1)));
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Dead(DeadReason::BadRow));
}

#[test]
fn while_everything_is_refused_a_batch_goes_back_whole() {
    let mut bench = Bench::new(in_doubt_of(SubjectKind::User));
    bench.wait_for_records(9);
    bench.sleep();
    bench.command();
    bench.on(Event::Claimed(Some(Box::new(part(2, 5_000)))));
    bench.resubmit();
    bench.refuse(FailureKind::BadRows);
    bench.settle(Settlement::Requeued);
    assert_eq!(bench.activity(), Activity::Halted);
}

#[test]
fn the_failed_job_of_a_batch_is_not_adopted_for_the_next_one() {
    let mut bench = Bench::new(Recovered::default());
    let id = bench.submit(100);
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
    bench.sleep();
    bench.resubmit();
    bench.refuse(FailureKind::Unknown);
    let failed = job(Some(id.filename()), JobPhase::Failed, None);
    for _ in 0..2 {
        bench.on(Event::Looked(Ok(vec![failed.clone()])));
        bench.sleep();
    }
    bench.resubmit();
    bench.refuse(FailureKind::Unknown);
    let next = job(Some(id.filename()), JobPhase::Completed, None);
    bench.on(Event::Looked(Ok(vec![JobReport { job_id: "k".into(), ..next }, failed])));
    let Command::Advance(running, _) = bench.command() else { panic!("not adopted") };
    assert_eq!(running.job_id.as_deref(), Some("k"));
}

#[test]
fn a_batch_that_is_too_large_is_halved_and_its_size_remembered() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_000);
    bench.refuse(FailureKind::TooLarge);
    let Command::Settle(_, settlement, memory) = bench.command() else { panic!("no settling") };
    assert_eq!(settlement, Settlement::Split(Cut::Halves));
    let limits = |kind| memory.of(kind).limits(SETTINGS.batch, at(1_001).wall).rows_max;
    assert_eq!((limits(SubjectKind::User), limits(SubjectKind::Company)), (500, 10_000));
    bench.on(Event::Settled(Some(Box::new(part(2, 500)))));
    bench.resubmit();
    bench.deliver_before(Some(part(3, 500)));
    bench.resubmit();
    bench.wait_for_records(1_000);
    bench.deliver_before(None);
    assert_eq!(bench.claimable().users.map(|limits| limits.batch.rows_max), Some(500));
    assert_eq!(bench.machine.view(bench.now).failures_in_a_row, 0);
}

#[test]
fn a_single_row_that_is_too_large_dies() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1);
    bench.refuse(FailureKind::TooLarge);
    bench.settle(Settlement::Dead(DeadReason::TooLarge));
}

#[test]
fn a_failed_job_is_tried_again_before_its_batch_is_split() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    for _ in 1..SETTINGS.failed_jobs_max {
        bench.accept();
        bench.sleep();
        bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
        bench.sleep();
        bench.resubmit();
    }
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
    bench.settle_before(Settlement::Split(Cut::Probe(PROBE)), part(2, 50));
    // A part is not given as many times, unless it is a single row.
    bench.resubmit();
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
    bench.settle(Settlement::Split(Cut::Probe(u64::MAX % 50)));
}

#[test]
fn a_job_that_took_a_part_proves_that_upstream_takes_rows() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, Some(99)))));
    bench.settle_before(Settlement::Split(Cut::Halves), part(2, 50));
    bench.resubmit();
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, Some(0)))));
    bench.settle(Settlement::Split(Cut::Halves));
}

#[test]
fn a_partial_job_may_count_as_delivered() {
    let mut bench = Bench::new(Recovered::default());
    bench.machine.settings.partial = PartialPolicy::Accept;
    bench.submit(100);
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, Some(99)))));
    bench.settle(Settlement::Delivered);
}

#[test]
fn a_part_keeps_its_rows_through_an_outage() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::TooLarge);
    bench.settle_before(Settlement::Split(Cut::Halves), part(2, 50));
    bench.resubmit();
    for kind in [FailureKind::NotSent, FailureKind::Throttled(None), FailureKind::KeyRejected] {
        bench.refuse(kind);
        bench.sleep();
        assert_eq!(bench.resubmit().number, 2);
    }
}

#[test]
fn a_rejected_key_is_tried_again_after_minutes_or_when_it_changes() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::KeyRejected);
    bench.settle(Settlement::Requeued);
    bench.wait_for_records(100);
    assert_eq!(bench.activity(), Activity::KeyRejected);
    assert_eq!(bench.sleep(), SETTINGS.held_retry);
    bench.on(Event::Claimed(Some(Box::new(batch(100)))));
    bench.resubmit();
    bench.refuse(FailureKind::KeyRejected);
    bench.settle(Settlement::Requeued);
    bench.wait_for_records(100);
    bench.on(Event::KeyChanged);
    assert!(bench.sleep() <= SETTINGS.linger);
}

#[test]
fn a_wrong_address_is_no_fault_of_the_rows() {
    for kind in [FailureKind::NotFound, FailureKind::Refused] {
        let mut bench = Bench::new(Recovered::default());
        bench.submit(100);
        bench.refuse(kind);
        bench.settle(Settlement::Requeued);
        assert_eq!(bench.activity(), Activity::Halted);
    }
}

#[test]
fn whose_job_holds_the_slot_is_told() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::SlotTaken);
    bench.on(Event::Looked(Ok(vec![job(Some("theirs".into()), JobPhase::Unfinished, None)])));
    let holder = bench.machine.view(bench.now).slot_holder.expect("it is known");
    assert_eq!((&*holder.filename, holder.is_gateway), ("theirs", false));
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    bench.on(Event::Looked(Ok(vec![])));
    assert_eq!(bench.machine.view(bench.now).slot_holder, None);
}

#[test]
fn refusals_do_not_become_a_flood() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.refuse(FailureKind::BadRows);
    bench.command();
    bench.on(Event::Settled(Some(Box::new(part(2, 1)))));
    assert_eq!(bench.sleep(), SETTINGS.poll_interval.0 / 2);
}

#[test]
fn a_job_that_took_nothing_proves_nothing() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, Some(0)))));
    bench.settle(Settlement::Split(Cut::Probe(PROBE)));
}

#[test]
fn a_single_row_has_as_many_jobs_as_a_whole_batch() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(2);
    bench.refuse(FailureKind::TooLarge);
    bench.settle_before(Settlement::Split(Cut::Halves), part(2, 1));
    for _ in 1..SETTINGS.failed_jobs_max {
        bench.resubmit();
        bench.accept();
        bench.sleep();
        bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
        bench.sleep();
    }
    bench.resubmit();
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Failed, None))));
    bench.settle(Settlement::Dead(DeadReason::JobFailed));
}

#[test]
fn a_job_that_took_a_part_keeps_its_occupancy() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_800);
    let submitted_at = bench.now.instant;
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, Some(1_799)))));
    bench.settle_before(Settlement::Split(Cut::Halves), part(2, 900));
    bench.resubmit();
    assert!(bench.now.instant.since(submitted_at) >= Duration::from_secs(60));
}
