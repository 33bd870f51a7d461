mod isolation;
mod lost;
mod noted;
mod rescued;
mod sizing;
mod slot;
mod steps;
mod told;
mod unheard;

use super::*;
use crate::domain::{
    time::Timestamp,
    update::{AppId, SubjectKind},
    verdict::{AcceptedJob, Failure, JobPhase},
};

const SETTINGS: Settings = Settings {
    users_per_minute: 1_800,
    linger: Duration::from_secs(1),
    batch: BatchLimits { rows_max: 10_000, bytes_max: 50_000_000 },
    job_users_min: 10_000,
    overhead_target: 0.03,
    bulk_share: 0.0,
    poll_interval: (Duration::from_secs(1), Duration::from_secs(15)),
    backoff: BackoffLimits { initial: Duration::from_secs(1), max: Duration::from_secs(60) },
    retry_after_max: Duration::from_secs(3_600),
    held_retry: Duration::from_secs(180),
    failed_jobs_max: 3,
    partial: PartialPolicy::Isolate,
    values: RowValues::Primitive,
};

/// A machine with its clock, driven by hand.
struct Bench {
    machine: Lifecycle,
    now: Now,
}

impl Bench {
    fn new(recovered: Recovered) -> Self {
        let now = at(1_000);
        Self { machine: Lifecycle::new(SETTINGS, recovered, now), now }
    }

    fn next(&mut self) -> Step {
        let step = self.machine.next(self.now);
        assert_eq!(step, self.machine.next(self.now), "asking twice gives the same answer");
        step
    }

    fn command(&mut self) -> Command {
        match self.next() {
            Step::Do(command) => command,
            Step::Wait(until) => panic!("waits until {until:?} at {:?}", self.now),
        }
    }

    /// Sleeps until the machine has something to do, and says how long that took.
    fn sleep(&mut self) -> Duration {
        let began = self.now;
        while let Step::Wait(until) = self.next() {
            let until = until.expect("a moment to wait for");
            let wait = until.since(self.now.instant);
            assert!(wait > Duration::ZERO, "waits for the past");
            self.now = Now { instant: until, wall: self.now.wall.plus(wait), uptime: None };
        }
        self.now.instant.since(began.instant)
    }

    fn on(&mut self, event: Event) {
        // The largest jitter there is.
        self.machine.on(event, self.now, u64::MAX);
    }

    fn wait_for_records(&mut self, records: u64) {
        let records = ByKind { users: records, companies: 0 };
        self.on(Event::Waiting(Waiting {
            records,
            since: Some(self.now.instant),
            urgent_updates: 0,
        }));
    }

    /// Claims a batch of `rows` and gets as far as its submission.
    fn submit(&mut self, rows: u64) -> BatchId {
        self.wait_for_records(rows);
        self.sleep();
        assert_eq!(self.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
        self.on(Event::Claimed(Some(Box::new(batch(rows)))));
        self.wait_for_records(0);
        self.resubmit()
    }

    fn resubmit(&mut self) -> BatchId {
        let Command::Advance(begun, memory) = self.command() else { panic!("not durable") };
        assert_eq!(begun.state, BatchState::Submitting);
        assert!(memory.occupancy.until > self.now.wall);
        self.on(Event::Advanced);
        let Command::Submit(id) = self.command() else { panic!("does not submit") };
        id
    }

    fn accept(&mut self) {
        self.on(Event::Submitted(Ok(AcceptedJob { job_id: "j".into(), request_id: None })));
        let Command::Advance(running, _) = self.command() else { panic!("not durable") };
        assert_eq!((running.state, running.job_id.as_deref()), (BatchState::Running, Some("j")));
        self.on(Event::Advanced);
    }

    fn settle(&mut self, expected: Settlement) {
        let Command::Settle(_, settlement, _) = self.command() else { panic!("does not settle") };
        assert_eq!(settlement, expected);
        self.on(Event::Settled(None));
    }
}

fn at(seconds: u64) -> Now {
    let wall = i64::try_from(seconds).unwrap() * 1_000_000;
    Now {
        instant: Instant::from_origin(Duration::from_secs(seconds)),
        wall: Timestamp::from_micros(wall),
        uptime: None,
    }
}

fn batch(rows: u64) -> Batch {
    let id = BatchId { opening: 7, number: 1, app: AppId(0) };
    Batch {
        rows,
        state: BatchState::Claimed,
        ..Batch::new(id, SubjectKind::User, 9, Timestamp::default())
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, cause: "no".into(), detail: "no".into(), request_id: None }
}

fn job(filename: Option<String>, phase: JobPhase, completed_rows: Option<u64>) -> JobReport {
    JobReport {
        job_id: "j".into(),
        filename,
        phase,
        status: "s".into(),
        total_rows: None,
        completed_rows,
    }
}

#[test]
fn a_burst_lingers_and_then_goes() {
    let mut bench = Bench::new(Recovered::default());
    assert_eq!(bench.next(), Step::Wait(None));
    bench.wait_for_records(1);
    assert_eq!(bench.sleep(), SETTINGS.linger);
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn a_second_job_waits_for_the_first_ones_occupancy() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_800);
    bench.accept();
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, Some(1_800)))));
    bench.settle(Settlement::Delivered);
    bench.wait_for_records(5);
    let polled_at_half = Duration::from_secs(30);
    assert!(bench.sleep() >= Duration::from_secs(60) - polled_at_half);
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn a_failed_poll_says_nothing_about_the_job() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(10);
    bench.accept();
    for kind in [FailureKind::Unknown, FailureKind::NotSent, FailureKind::KeyRejected] {
        bench.sleep();
        assert_eq!(bench.command(), Command::Poll("j".into()));
        bench.on(Event::Polled(Err(failure(kind))));
    }
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    bench.settle(Settlement::Delivered);
}

#[test]
fn what_upstream_did_not_take_meets_newer_values_after_a_backoff() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(1_800);
    bench.on(Event::Submitted(Err(failure(FailureKind::NotSent))));
    bench.settle(Settlement::Requeued);
    bench.wait_for_records(1_800);
    // The linger and the backoff, but not the occupancy: nothing was taken.
    assert!(bench.sleep() <= Duration::from_secs(1));
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn a_retry_after_is_believed_up_to_its_cap() {
    for (asked, expected) in [(90, 90), (90_000, 3_600)] {
        let mut bench = Bench::new(Recovered::default());
        bench.submit(1);
        let asked = Some(Duration::from_secs(asked));
        bench.on(Event::Submitted(Err(failure(FailureKind::Throttled(asked)))));
        bench.settle(Settlement::Requeued);
        bench.wait_for_records(1);
        assert_eq!(bench.sleep().as_secs(), expected);
    }
}

#[test]
fn a_pause_stops_claims_but_not_the_running_job() {
    let mut bench = Bench::new(Recovered::default());
    bench.submit(100);
    bench.accept();
    bench.on(Event::Paused(true));
    bench.sleep();
    bench.on(Event::Polled(Ok(job(None, JobPhase::Completed, None))));
    bench.settle(Settlement::Delivered);
    bench.wait_for_records(3);
    assert_eq!(bench.next(), Step::Wait(None));
    bench.on(Event::Paused(false));
    bench.sleep();
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn flush_does_not_linger_but_keeps_to_the_budget() {
    let mut bench = Bench::new(Recovered {
        memory: Memory { occupancy: Occupancy::begin(300, 1_800, at(1_000)), ..Memory::default() },
        ..Recovered::default()
    });
    bench.wait_for_records(1);
    bench.on(Event::Flush);
    assert_eq!(bench.sleep().as_secs(), 10);
    assert_eq!(bench.command(), Command::Claim(Box::new(SETTINGS.batch.into())));
}

#[test]
fn every_unsettled_state_is_resumed() {
    let recovered = |state, job_id: Option<&str>| {
        let unsettled = Batch { state, job_id: job_id.map(str::to_owned), ..batch(100) };
        Bench::new(Recovered { unsettled: Some(unsettled), ..Recovered::default() })
    };
    for state in [BatchState::Claiming, BatchState::Claimed] {
        recovered(state, None).resubmit();
    }
    assert_eq!(recovered(BatchState::Submitting, None).command(), Command::Look);
    let running = recovered(BatchState::Running, Some("j")).command();
    assert_eq!(running, Command::Poll("j".into()));
    for settlement in [Settlement::Delivered, Settlement::Requeued] {
        recovered(BatchState::Settling(settlement), Some("j")).settle(settlement);
    }
}
