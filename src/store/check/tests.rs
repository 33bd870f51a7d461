//! A whole store has no problems, and a damaged one has those that were done to it.

use futures_util::FutureExt;

use super::*;
use crate::{
    domain::{
        admission::QueueLimits,
        batch::{BatchLimits, Cut, DeadReason, Settlement},
        memory::Memory,
        time::Timestamp,
        update::{ClientId, Subject, Update, Value},
    },
    store::{
        engine::{MemoryEngine, Transaction},
        queue::{Claim, Queue},
    },
};

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("embedded engines answer at once")
}

const APP: AppId = AppId(0);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A store in which everything occurs: two users delivered, one dead, one in flight in a part of
/// a batch that was split, "u" and others wait.
fn lived() -> MemoryEngine {
    let limits = QueueLimits {
        records_max: 1_000,
        bytes_max: 1 << 30,
        record_bytes_max: 1 << 16,
        record_properties_max: 1_000,
    };
    let engine = MemoryEngine::default();
    let mut queue = now(Queue::open(engine.clone(), limits, 7)).unwrap();
    now(queue.app("production")).unwrap();
    let update = |user: &str, lane| Update {
        app: APP,
        client: ClientId(0),
        subject: Subject::user(user),
        company_id: None,
        properties: vec![("plan".into(), Value::Integer(1))],
        occurred_at: None,
        lane,
    };
    let accept = async |queue: &mut Queue<MemoryEngine>, users: &[&str], lane| {
        let updates = users.iter().map(|user| update(user, lane)).collect();
        queue.accept(updates, at(1)).await.unwrap();
    };
    let batches = BatchLimits { rows_max: 2, bytes_max: 1 << 20 };
    now(accept(&mut queue, &["a", "b", "c", "d"], Lane::Interactive));
    let Claim::Complete(Some(batch)) = now(queue.claim(APP, batches, None, at(2))).unwrap() else {
        panic!("there are two to claim")
    };
    let settlement = Settlement::Delivered;
    now(queue.settle(&batch, settlement, Memory::default(), at(3))).unwrap();
    let Claim::Complete(Some(batch)) = now(queue.claim(APP, batches, None, at(4))).unwrap() else {
        panic!("there are two to claim")
    };
    let mut settle = |batch: &Batch, settlement| {
        now(queue.settle(batch, settlement, Memory::default(), at(5))).unwrap().next
    };
    let part = settle(&batch, Settlement::Split(Cut::Halves)).unwrap();
    settle(&part, Settlement::Dead(DeadReason::BadRow)).unwrap();
    now(accept(&mut queue, &["u", "v", "w"], Lane::Interactive));
    now(accept(&mut queue, &["x", "d"], Lane::Bulk));
    // A place that leads nowhere any more is none of a problem.
    now(accept(&mut queue, &["x"], Lane::Interactive));
    engine
}

fn problems(engine: &MemoryEngine) -> Vec<(&'static str, String, u64)> {
    let problems = now(check(engine)).unwrap().problems;
    let of = |app: &Option<String>| app.as_deref().is_none_or(|app| app == "production");
    assert!(problems.iter().all(|problem| of(&problem.app)), "{problems:?}");
    problems.into_iter().map(|problem| (problem.kind, problem.what, problem.entries)).collect()
}

fn check_problem(harm: impl FnOnce(&MemoryEngine), kind: &str, what: &str) {
    let engine = lived();
    harm(&engine);
    let found = problems(&engine);
    let is = |(of, text, _): &(&str, String, u64)| *of == kind && text.contains(what);
    assert!(found.iter().any(is), "{kind}: {what}: {found:?}");
}

fn value(engine: &MemoryEngine, key: &[u8]) -> Vec<u8> {
    now(now(engine.begin()).unwrap().get(key)).unwrap().unwrap().to_vec()
}

fn flip(engine: &MemoryEngine, key: &[u8]) {
    let mut bytes = value(engine, key);
    // An index has no value.
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    engine.damage(key, &bytes);
}

fn remove(engine: &MemoryEngine, key: &[u8]) {
    let mut transaction = now(engine.begin()).unwrap();
    transaction.delete(key);
    now(transaction.commit()).unwrap();
}

fn first(engine: &MemoryEngine, kind: u8) -> Vec<u8> {
    engine.keys().into_iter().find(|key| key[0] == kind).unwrap()
}

#[test]
fn a_whole_store_has_no_problems_and_each_kind_is_counted() {
    let engine = lived();
    assert_eq!(problems(&engine), []);
    let kinds = now(check(&engine)).unwrap().kinds;
    let entries: Vec<_> =
        kinds.iter().map(|tally| (char::from(tally.byte), tally.entries)).collect();
    let expected = [
        ('a', 1),
        ('b', 4),
        ('d', 2),
        ('f', 1),
        ('h', 1),
        ('l', 1),
        ('m', 1),
        ('n', 1),
        ('q', 3),
        ('r', 5),
    ];
    assert_eq!(entries, expected);
    assert!(kinds.iter().all(|tally| tally.bytes > 0));
}

#[test]
fn an_entry_of_any_kind_that_does_not_read_back_is_found() {
    for (byte, kind) in [
        (b'a', "app state"),
        (b'b', "batch"),
        (b'd', "delivery"),
        (b'f', "record in flight"),
        (b'h', "head"),
        (b'l', "dead letter"),
        (b'n', "name"),
        (b'q', "page of the queue"),
        (b'r', "pending record"),
    ] {
        check_problem(|engine| flip(engine, &first(engine, byte)), kind, "checksum mismatch");
    }
}

#[test]
fn what_does_not_fit_together_is_found() {
    let pending = keys::pending(APP, &Subject::user("u"));
    let lost = |engine: &MemoryEngine| remove(engine, &pending);
    check_problem(lost, "app state", "counts other than what waits");
    let pageless = |engine: &MemoryEngine| remove(engine, &first(engine, b'q'));
    check_problem(pageless, "pending record", "no page leads to it");
    let rowless = |engine: &MemoryEngine| remove(engine, &first(engine, b'f'));
    check_problem(rowless, "batch", "other than the rows");
    // The half that was not tried yet.
    let batchless = |engine: &MemoryEngine| remove(engine, &keys::batch(APP, 3));
    check_problem(batchless, "batch", "is missing or damaged");
    let stateless = |engine: &MemoryEngine| remove(engine, &first(engine, b'a'));
    check_problem(stateless, "app state", "is missing or damaged");
    let unfound = |engine: &MemoryEngine| remove(engine, &first(engine, b'm'));
    check_problem(unfound, "dead letter", "not found by its subject");
    let letterless = |engine: &MemoryEngine| remove(engine, &first(engine, b'l'));
    check_problem(letterless, "app state", "dead letters");
    check_problem(|engine| remove(engine, keys::HEAD), "head", "is missing");
    let nameless = |engine: &MemoryEngine| remove(engine, &first(engine, b'n'));
    check_problem(nameless, "name", "is missing");
    check_problem(|engine| engine.damage(b"?", b""), "unknown entry", "no kind");
    let foreign = |engine: &MemoryEngine| {
        let row = value(engine, &first(engine, b'f'));
        let row = InFlight { batch: 99, ..InFlight::decode(&row).unwrap() };
        engine.damage(&first(engine, b'f'), &row.encode());
    };
    check_problem(foreign, "record in flight", "no unsettled batch");
    let astray = |engine: &MemoryEngine| {
        let key = first(engine, b'q');
        let page = value(engine, &key);
        remove(engine, &key);
        let key_of_companies = [&key[..3], b"c", &key[4..]].concat();
        engine.damage(&key_of_companies, &page);
    };
    check_problem(astray, "page of the queue", "subjects of the other kind");
    let miscounted = |engine: &MemoryEngine| {
        let key = first(engine, b'a');
        let state = AppState::decode(&value(engine, &key)).unwrap();
        let state = AppState { company_records: state.company_records + 1, ..state };
        engine.damage(&key, &state.encode());
    };
    check_problem(miscounted, "app state", "other than the companies that wait");
    let behind = |engine: &MemoryEngine| {
        let head = Head::decode(&value(engine, keys::HEAD)).unwrap();
        engine.damage(keys::HEAD, &Head { last_sequence: 1, ..head }.encode());
    };
    check_problem(behind, "head", "older than records");
}

#[test]
fn problems_name_no_subject() {
    let engine = lived();
    for key in engine.keys() {
        flip(&engine, &key);
    }
    let text = format!("{:?}", now(check(&engine)).unwrap());
    assert!(!text.contains("plan") && text.contains("checksum mismatch"), "{text}");
}
