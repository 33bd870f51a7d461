//! What the queue does, over every engine.

mod crowd;
mod damage;
mod fleet;
mod held;
mod leases;
mod rescue;

use futures_util::FutureExt;

use super::*;
use crate::{
    domain::{
        admission::QueueRefusal,
        batch::{BatchLimits, BatchState, Settlement},
        budget::Occupancy,
        time::Now,
        update::{ByKind, ClientId, Lane, Subject, SubjectKind, Update, Value},
    },
    store::engine::{MemoryEngine, RedbEngine, RedbOptions, SledEngine, SledOptions},
};

const LIMITS: QueueLimits = QueueLimits {
    records_max: 1_000_000,
    bytes_max: 1 << 30,
    record_bytes_max: 1 << 16,
    record_properties_max: 1_000,
};
const BATCH: BatchLimits = BatchLimits { rows_max: 10_000, bytes_max: 50_000_000 };

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("embedded engines answer at once")
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn update(app: AppId, user: &str, property: &str, value: i64) -> Update {
    Update {
        app,
        client: ClientId(0),
        subject: Subject::user(user),
        company_id: None,
        properties: vec![(property.to_owned(), Value::Integer(value))],
        occurred_at: None,
        lane: Lane::Interactive,
    }
}

/// A queue with one app, and hands to work it.
struct Bench<E> {
    queue: Queue<E>,
    reads: Reads<E>,
    app: AppId,
}

impl<E: Engine + Clone> Bench<E> {
    fn new(engine: E) -> Self {
        Self::with_limits(engine, LIMITS)
    }

    fn with_limits(engine: E, limits: QueueLimits) -> Self {
        let mut queue = now(Queue::open(engine.clone(), limits, 7)).unwrap();
        let app = now(queue.app("production")).unwrap();
        now(fleet::take_over(&engine, &mut queue, app));
        Self { queue, reads: Reads::new(engine), app }
    }

    fn accept(&mut self, updates: Vec<Update>) -> Vec<Result<Accepted, QueueRefusal>> {
        now(self.queue.accept(updates, at(1))).unwrap()
    }

    fn set(&mut self, user: &str, property: &str, value: i64) -> Accepted {
        self.accept(vec![update(self.app, user, property, value)])[0].unwrap()
    }

    /// These sequences were given. Where they are dealt out to stripes, they only rise.
    fn assert_given(&self, given: &[u64], expected: &[u64]) {
        match self.queue.stripes() {
            1 => assert_eq!(given, expected),
            _ => assert!(given.is_sorted_by(|a, b| a < b) && given.len() == expected.len()),
        }
    }

    fn claim_with(&mut self, limits: BatchLimits) -> Option<Batch> {
        let mut continued = None;
        loop {
            match now(self.queue.claim(self.app, limits, continued, at(2))).unwrap() {
                Claim::Continues(batch) => continued = Some(batch),
                Claim::Complete(batch) => return batch.map(|batch| *batch),
            }
        }
    }

    fn claim(&mut self) -> Option<Batch> {
        self.claim_with(BATCH)
    }

    fn settle(&mut self, batch: &Batch, settlement: Settlement) {
        while !now(self.queue.settle(batch, settlement, Memory::default(), at(3))).unwrap().complete
        {
        }
    }

    fn upload(&self, batch: &Batch) -> String {
        String::from_utf8(now(self.reads.upload(batch)).unwrap()).unwrap()
    }

    fn find(&self, user: &str, sequence: u64) -> Found {
        now(self.reads.find(self.app, &Subject::user(user), sequence)).unwrap()
    }
}

/// Runs `check` over every engine.
macro_rules! over_every_engine {
    ($($name:ident => $check:ident;)+) => {
        mod over_memory {
            $(#[test] fn $name() { super::$check(super::MemoryEngine::default()); })+
        }
        /// Others may write to it, and do not.
        mod over_shared_memory {
            $(#[test] fn $name() { super::$check(super::MemoryEngine::shared(8)); })+
        }
        mod over_sled {
            $(#[test] fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().to_owned();
                let options = super::SledOptions { path, cache_bytes_max: 16 << 20 };
                super::$check(super::SledEngine::open(&options).unwrap());
            })+
        }
        mod over_redb {
            $(#[test] fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().to_owned();
                let options = super::RedbOptions { path, cache_bytes_max: 16 << 20 };
                super::$check(super::RedbEngine::open(&options).unwrap());
            })+
        }
    };
}

// Here, since they use the macro.
mod clients;
mod dead;
mod express;
mod forget;
mod guests;
mod in_flight;
mod jobs;
mod kinds;
mod subject;
mod suppression;
mod turns;

over_every_engine! {
    updates_of_one_user_that_wait_go_as_one_row => coalesces;
    a_row_keeps_the_place_of_its_first_update => keeps_its_place;
    a_batch_that_went_back_merges_under_newer_values => requeues_under;
    an_update_during_its_users_flight_waits_for_the_next_batch => waits_for_the_next;
    a_batch_keeps_to_its_limits => keeps_to_limits;
    a_full_queue_still_takes_what_coalesces => full;
    urgent_news_move_a_record_to_the_urgent_lane => changes_lane;
    an_update_can_be_followed_to_its_delivery => follows;
    large_batches_are_moved_in_chunks => chunks;
    everything_is_there_after_a_restart => restarts;
    history_is_forgotten => forgets;
}

fn coalesces(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    assert_eq!(bench.set("u", "a", 1).disposition, Disposition::Queued);
    assert_eq!(bench.set("u", "b", 2).disposition, Disposition::Coalesced);
    let group = vec![update(bench.app, "u", "a", 3), update(bench.app, "v", "a", 4)];
    let accepted: Vec<_> = bench.accept(group).into_iter().map(|a| a.unwrap().sequence).collect();
    bench.assert_given(&accepted, &[3, 4]);
    let batch = bench.claim().unwrap();
    assert_eq!((batch.rows, batch.updates, batch.state), (2, 4, BatchState::Claimed));
    let expected = "{\"user_id\":\"u\",\"metadata\":{\"a\":3,\"b\":2}}\n\
                    {\"user_id\":\"v\",\"metadata\":{\"a\":4}}\n";
    assert_eq!(bench.upload(&batch), expected);
    assert_eq!(batch.bytes, expected.len() as u64);
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
    assert_eq!(bench.claim(), None);
}

fn keeps_its_place(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    for (user, value) in [("first", 1), ("second", 1), ("third", 1), ("first", 2)] {
        bench.set(user, "p", value);
    }
    let one = BatchLimits { rows_max: 1, ..BATCH };
    for user in ["first", "second", "third"] {
        let batch = bench.claim_with(one).unwrap();
        assert!(bench.upload(&batch).contains(user));
        bench.settle(&batch, Settlement::Delivered);
    }
}

fn requeues_under(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.set("u", "a", 1);
    bench.set("u", "b", 1);
    bench.set("v", "a", 1);
    let batch = bench.claim().unwrap();
    bench.set("w", "a", 1);
    bench.set("u", "a", 2);
    bench.settle(&batch, Settlement::Requeued);
    assert_eq!(bench.queue.depth(bench.app).records, 3);
    let next = bench.claim().unwrap();
    // In the order of first updates: u came first of all.
    let expected = "{\"user_id\":\"u\",\"metadata\":{\"a\":2,\"b\":1}}\n\
                    {\"user_id\":\"v\",\"metadata\":{\"a\":1}}\n\
                    {\"user_id\":\"w\",\"metadata\":{\"a\":1}}\n";
    assert_eq!(bench.upload(&next), expected);
    assert_eq!(next.id.number, batch.id.number + 1);
}

fn waits_for_the_next(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.set("u", "a", 1);
    let batch = bench.claim().unwrap();
    assert_eq!(bench.set("u", "a", 2).disposition, Disposition::Queued);
    // A claim while the user is in flight leaves the record where it is.
    assert_eq!(bench.claim(), None);
    bench.settle(&batch, Settlement::Delivered);
    let next = bench.claim().unwrap();
    assert!(bench.upload(&next).contains("\"a\":2"));
}

fn keeps_to_limits(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    for user in 0..10 {
        bench.set(&format!("user-{user}"), "p", 1);
    }
    let row = "{\"user_id\":\"user-0\",\"metadata\":{\"p\":1}}\n".len() as u64;
    let mut rows = vec![];
    let limits = BatchLimits { rows_max: 9, bytes_max: 4 * row + row / 2 };
    while let Some(batch) = bench.claim_with(limits) {
        assert!(batch.bytes <= limits.bytes_max);
        rows.push(batch.rows);
        bench.settle(&batch, Settlement::Delivered);
    }
    assert_eq!(rows, [4, 4, 2]);
}

fn full(engine: impl Engine + Clone) {
    let limits = QueueLimits { records_max: 2, record_properties_max: 2, ..LIMITS };
    let mut bench = Bench::with_limits(engine, limits);
    bench.set("u", "a", 1);
    let app = bench.app;
    let group = ["v", "w", "u", "v"].map(|user| update(app, user, "b", 1)).to_vec();
    let outcomes = bench.accept(group);
    assert_eq!(outcomes[1], Err(QueueRefusal::TooManyRecords));
    let given: Vec<_> = outcomes.iter().flatten().map(|accepted| accepted.sequence).collect();
    bench.assert_given(&given, &[2, 3, 4]);
    let third = bench.accept(vec![update(app, "u", "c", 1)]);
    assert_eq!(third, [Err(QueueRefusal::RecordTooLarge)]);
    let last = bench.set("u", "b", 2).sequence;
    bench.assert_given(&[given[2], last], &[4, 5]);
    assert_eq!(bench.queue.depth(app).records, 2);
}

fn changes_lane(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let app = bench.app;
    let bulk = |user| Update { lane: Lane::Bulk, ..update(app, user, "a", 1) };
    bench.accept(vec![bulk("u"), bulk("v"), bulk("w")]);
    bench.set("x", "a", 1);
    bench.set("v", "a", 2);
    assert_eq!(bench.queue.depth(app).bulk_records, 2);
    let batch = bench.claim().unwrap();
    let upload = bench.upload(&batch);
    let users: Vec<_> = upload.lines().map(|line| &line[12..13]).collect();
    assert_eq!(users, ["v", "x", "u", "w"]);
    assert_eq!(bench.queue.depth(app), QueueDepth::default());
}

fn follows(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.set("other", "a", 1);
    let first = bench.set("u", "a", 1).sequence;
    let second = bench.set("u", "a", 2).sequence;
    let Found::Pending { place, last_sequence, .. } = bench.find("u", first) else { panic!() };
    assert_eq!((place, last_sequence), (1, second));
    let batch = bench.claim().unwrap();
    let Found::InFlight(found) = bench.find("u", first) else { panic!() };
    assert_eq!(found.id, batch.id);
    let third = bench.set("u", "a", 3).sequence;
    assert!(matches!(bench.find("u", third), Found::Pending { .. }));
    bench.settle(&batch, Settlement::Delivered);
    for sequence in [first, second] {
        let Found::Delivered { last_sequence, batch: found, .. } = bench.find("u", sequence) else {
            panic!()
        };
        assert_eq!((last_sequence, found.unwrap().id), (second, batch.id));
    }
    assert!(matches!(bench.find("u", third), Found::Pending { .. }));
    assert_eq!(bench.find("u", 99), Found::Unknown);
}

fn chunks(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let app = bench.app;
    for group in 0..5 {
        let users = (0..500).map(|user| update(app, &format!("{group}-{user}"), "a", 1));
        bench.accept(users.collect());
    }
    let first = now(bench.queue.claim(app, BATCH, None, at(2))).unwrap();
    assert_eq!(first, Claim::Continues(1));
    // What comes during the claim is left for the next batch, whoever it is about.
    bench.set("0-0", "a", 2);
    let mut batch = None;
    while batch.is_none() {
        match now(bench.queue.claim(app, BATCH, Some(1), at(2))).unwrap() {
            Claim::Continues(_) => {}
            Claim::Complete(complete) => batch = complete,
        }
    }
    let batch = batch.unwrap();
    assert_eq!((batch.rows, bench.upload(&batch).lines().count()), (2_500, 2_500));
    bench.settle(&batch, Settlement::Requeued);
    assert_eq!(bench.queue.depth(app).records, 2_500);
    let batch = bench.claim().unwrap();
    assert_eq!(batch.rows, 2_500);
    assert!(bench.upload(&batch).starts_with("{\"user_id\":\"0-0\",\"metadata\":{\"a\":2}}\n"));
}

fn restarts(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine.clone());
    bench.set("u", "a", 1);
    let batch = bench.claim().unwrap();
    let last = bench.set("u", "a", 2).sequence;
    let wall = Now { wall: at(50), ..Now::default() };
    let memory = Memory { occupancy: Occupancy::begin(1_800, 1_800, wall), ..Memory::default() };
    let begun = Batch { state: BatchState::Submitting, ..batch };
    now(bench.queue.advance(&begun, memory)).unwrap();
    now(bench.queue.pause(bench.app, true)).unwrap();
    let depth = bench.queue.depth(bench.app);
    drop(bench);

    let mut bench = Bench::new(engine);
    assert_eq!(bench.queue.store(), 7);
    let recovered = now(bench.queue.recover(bench.app, at(2))).unwrap();
    assert_eq!(recovered.unsettled.as_ref(), Some(&begun));
    assert_eq!((recovered.memory, recovered.paused), (memory, true));
    assert_eq!(bench.queue.depth(bench.app), depth);
    assert_eq!(bench.upload(&begun).lines().count(), 1);
    bench.settle(&begun, Settlement::Delivered);
    assert!(bench.set("v", "a", 1).sequence > last);
}

fn forgets(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let mut given = Vec::new();
    for user in ["u", "v", "w"] {
        given.push(bench.set(user, "a", 1).sequence);
        let batch = bench.claim().unwrap();
        bench.settle(&batch, Settlement::Delivered);
    }
    let keep =
        |before, batches_max| Retention { before: at(before), batches_max, ..Retention::default() };
    assert_eq!(
        now(bench.queue.prune(PruneCursor::default(), keep(3, 1))).unwrap(),
        PruneCursor::default()
    );
    assert!(matches!(bench.find("u", given[0]), Found::Delivered { batch: None, .. }));
    assert!(matches!(bench.find("w", given[2]), Found::Delivered { batch: Some(_), .. }));
    now(bench.queue.prune(PruneCursor::default(), keep(4, 1))).unwrap();
    assert_eq!(bench.find("w", given[2]), Found::DeliveredLongAgo);
    let batches = now(bench.reads.batches(bench.app, u64::MAX, 9)).unwrap();
    assert_eq!(batches, []);
}
