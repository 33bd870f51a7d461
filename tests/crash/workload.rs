//! What the process does whose power is cut: one op after the other on a queue, each decided
//! by the seed, the op's number and what is stored. So the same ops can be done again on a
//! queue in memory, and what is on the disk can be compared with it, byte for byte.

use std::{collections::BTreeMap, future::Future};

use futures_util::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use userpilot_gateway::{
    domain::{
        admission::QueueLimits,
        batch::{Batch, BatchLimits, BatchState, Settlement},
        memory::Memory,
        time::Timestamp,
        update::{AppId, ClientId, Lane, Subject, Update, Value},
    },
    store::{
        engine::{Engine, Transaction},
        queue::{PruneCursor, Queue, Retention},
    },
};

const LIMITS: QueueLimits = QueueLimits {
    records_max: 1_000_000,
    bytes_max: 1 << 30,
    record_bytes_max: 1 << 16,
    record_properties_max: 1_000,
};
const GROUP_UPDATES_MAX: u64 = 48;
const TEXT_BYTES: usize = 160;
/// Just under the largest record. A few of them side by side are more than a page of sled's
/// holds by default.
const LARGE_TEXT_BYTES: usize = 60_000;
const BATCHES_KEPT: u64 = 5;

/// A queue that is worked on.
pub(crate) struct Workload<E> {
    queue: Queue<E>,
    app: AppId,
    seed: u64,
}

impl<E: Engine> Workload<E> {
    /// Op 0: makes the queue, or opens it.
    pub(crate) fn open(engine: E, seed: u64) -> Self {
        let mut queue = open_queue(engine);
        let app = now(queue.app("production")).expect("the app can be made");
        Self { queue, app, seed }
    }

    /// Does op `number`, which is one durable commit.
    pub(crate) fn step(&mut self, number: u64) {
        let random = &mut StdRng::seed_from_u64(self.seed ^ (number << 20));
        let at = Timestamp::from_micros(i64::try_from(number).expect("few ops") * 1_000);
        let dice = random.random_range(0..100);
        let recovered = now(self.queue.recover(self.app, at)).expect("the batch is there");
        match recovered.unsettled {
            // What has begun goes on.
            Some(batch) if batch.state == BatchState::Claiming => {
                self.claim(random, Some(batch.id.number), at);
            }
            Some(batch) if matches!(batch.state, BatchState::Settling(_)) => {
                self.settle(&batch, random, at);
            }
            _ if dice < 90 => self.accept(number, random, at),
            _ if dice == 90 => self.prune(number),
            None => self.claim(random, None, at),
            Some(batch) => self.move_on(batch, random, at),
        }
    }

    fn accept(&mut self, number: u64, random: &mut StdRng, at: Timestamp) {
        let count = random.random_range(1..=GROUP_UPDATES_MAX);
        let updates = (0..count).map(|n| update(self.app, number * 1_000 + n, random)).collect();
        let outcomes = now(self.queue.accept(updates, at)).expect("the store accepts");
        assert!(outcomes.iter().all(Result::is_ok), "the queue has room");
    }

    fn claim(&mut self, random: &mut StdRng, continued: Option<u64>, at: Timestamp) {
        let rows_max = random.random_range(1..3_000);
        let limits = BatchLimits { rows_max, bytes_max: 50_000_000 };
        now(self.queue.claim(self.app, limits, continued, at)).expect("the store claims");
    }

    /// Takes a batch to its next state, or back into the queue.
    fn move_on(&mut self, mut batch: Batch, random: &mut StdRng, at: Timestamp) {
        match batch.state {
            BatchState::Claimed => batch.state = BatchState::Submitting,
            BatchState::Submitting if random.random_bool(0.7) => {
                batch.state = BatchState::Running;
                batch.job_id = Some(format!("bulk:jobs:{}", batch.id.number));
            }
            BatchState::Submitting | BatchState::Running => {
                return self.settle(&batch, random, at);
            }
            BatchState::Claiming | BatchState::Settling(_) | BatchState::Settled(_) => {
                unreachable!("it goes on by itself")
            }
        }
        now(self.queue.advance(&batch, Memory::default())).expect("the store advances");
    }

    fn settle(&mut self, batch: &Batch, random: &mut StdRng, at: Timestamp) {
        let settlement = if let BatchState::Settling(settlement) = batch.state {
            settlement
        } else if random.random_bool(0.3) {
            Settlement::Requeued
        } else {
            Settlement::Delivered
        };
        now(self.queue.settle(batch, settlement, Memory::default(), at))
            .expect("the store settles");
    }

    fn prune(&mut self, number: u64) {
        let before = Timestamp::from_micros(i64::try_from(number).expect("few ops") * 500);
        let retention = Retention { before, batches_max: BATCHES_KEPT, ..Retention::default() };
        now(self.queue.prune(PruneCursor::default(), retention)).expect("the store prunes");
    }

    pub(crate) fn entries(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        entries(self.queue.engine())
    }
}

pub(crate) fn open_queue<E: Engine>(engine: E) -> Queue<E> {
    now(Queue::open(engine, LIMITS, 7)).expect("the queue opens")
}

/// Everything that the queue has stored.
pub(crate) fn entries(engine: &impl Engine) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // Keys begin with a letter; 0xff is the engine's own.
    let all = Vec::new()..=vec![0xfe];
    let mut transaction = now(engine.begin()).expect("the engine reads");
    let entries = now(transaction.scan(all, usize::MAX)).expect("the engine reads");
    entries.into_iter().map(|(key, value)| (key, value.as_ref().to_vec())).collect()
}

/// Mostly small and about some users out of many, often about one of a few, seldom large.
fn update(app: AppId, n: u64, random: &mut StdRng) -> Update {
    let (user, text_bytes) = match random.random_range(0..200) {
        0..4 => (format!("large-{:02}", random.random_range(0..20)), LARGE_TEXT_BYTES),
        4..90 => (format!("hot-{}", random.random_range(0..40)), TEXT_BYTES),
        _ => (format!("user-{}", random.random_range(0..5_000)), TEXT_BYTES),
    };
    let number = Value::Integer(i64::try_from(n).expect("few updates"));
    let text = format!("{n:x}-").chars().cycle().take(text_bytes).collect();
    Update {
        app,
        client: ClientId(0),
        subject: Subject::user(user),
        company_id: None,
        properties: vec![
            ("n".to_owned(), number.clone()),
            (format!("p{}", n % 5), number),
            ("text".to_owned(), Value::Text(text)),
        ],
        occurred_at: None,
        lane: if random.random_bool(0.2) { Lane::Bulk } else { Lane::Interactive },
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("embedded engines answer at once")
}
