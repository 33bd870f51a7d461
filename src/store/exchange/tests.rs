//! An export holds all that waits, and an import brings it back.

use std::io::BufReader;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        admission::{QueueLimits, QueueRefusal},
        batch::{BatchLimits, Settlement},
        memory::Memory,
        testing,
        time::Timestamp,
        update::{AppId, ClientId, Lane, Subject, SubjectKind, Update, Value},
    },
    store::{
        engine::MemoryEngine,
        keys,
        queue::{Claim, Queue, Reads},
    },
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

fn open(engine: &MemoryEngine) -> Queue<MemoryEngine> {
    let mut queue = now(Queue::open(engine.clone(), LIMITS, 7)).unwrap();
    now(queue.app("production")).unwrap();
    now(queue.app("staging")).unwrap();
    for client in ["billing", "crm", "web"] {
        now(queue.client(client)).unwrap();
    }
    queue
}

fn exported(engine: &MemoryEngine) -> (Vec<String>, Exported) {
    let mut out = Vec::new();
    let exported = now(export(engine, &mut out)).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    assert!(lines.pop().unwrap().contains(&exported.sha256), "the last line is its end");
    (lines, exported)
}

/// The lines of records alone.
fn take_back(engine: &MemoryEngine, lines: &[String]) -> Result<Imported, ImportError> {
    let mut queue = open(engine);
    now(import(&mut queue, BufReader::new(lines.join("\n").as_bytes()), Check::None))
}

fn claim(
    queue: &mut Queue<MemoryEngine>,
    app: AppId,
    rows_max: u64,
) -> Option<crate::domain::batch::Batch> {
    let limits = BatchLimits { rows_max, ..BATCH };
    match now(queue.claim(app, limits, None, at(2))).unwrap() {
        Claim::Complete(batch) => batch.map(|batch| *batch),
        Claim::Continues(_) => panic!("few rows are one chunk"),
    }
}

fn update(user: &str, property: &str, value: i64) -> Update {
    Update {
        app: AppId(0),
        client: ClientId(0),
        subject: Subject::user(user),
        company_id: None,
        properties: vec![(property.to_owned(), Value::Integer(value))],
        occurred_at: None,
        lane: Lane::Interactive,
    }
}

fn accept(queue: &mut Queue<MemoryEngine>, update: Update, micros: i64) {
    now(queue.accept(vec![update], at(micros))).unwrap()[0].unwrap();
}

/// An update of one of a few subjects of two apps, so that updates meet.
fn meeting_update() -> impl Strategy<Value = Update> {
    (testing::update(), 0..2_u16, 0..4_usize).prop_map(|(update, app, id)| {
        let subject = Subject { id: ["a", "b\0", "c\n\"", "ü"][id].into(), ..update.subject };
        // A company's own id is its only one.
        let company_id = update.company_id.filter(|_| subject.kind == SubjectKind::User);
        Update { app: AppId(app), subject, company_id, ..update }
    })
}

#[derive(Clone, Debug)]
enum Op {
    Accept(Update),
    Claim(AppId, u64),
    Settle(AppId, Settlement),
}

fn op() -> impl Strategy<Value = Op> {
    let app = || (0..2_u16).prop_map(AppId);
    let settlement = prop_oneof![Just(Settlement::Delivered), Just(Settlement::Requeued)];
    prop_oneof![
        6 => meeting_update().prop_map(Op::Accept),
        1 => (app(), 1..5_u64).prop_map(|(app, rows)| Op::Claim(app, rows)),
        1 => (app(), settlement).prop_map(|(app, settlement)| Op::Settle(app, settlement)),
    ]
}

/// A store that has lived through these, and its queue.
fn lived(ops: Vec<Op>) -> (MemoryEngine, Queue<MemoryEngine>) {
    let engine = MemoryEngine::default();
    let mut queue = open(&engine);
    let mut batches = std::collections::BTreeMap::new();
    for (time, op) in (1..).zip(ops) {
        match op {
            Op::Accept(update) => accept(&mut queue, update, time),
            Op::Claim(app, _) if batches.contains_key(&app) => {}
            Op::Claim(app, rows) => {
                batches.extend(claim(&mut queue, app, rows).map(|batch| (app, batch)));
            }
            Op::Settle(app, settlement) => {
                if let Some(batch) = batches.remove(&app) {
                    let settled = queue.settle(&batch, settlement, Memory::default(), at(3));
                    assert!(now(settled).unwrap().complete);
                }
            }
        }
    }
    (engine, queue)
}

/// What is sent for an app when all of it is. Sorted: a requeue makes pages whose records stand
/// among those of others, and the rows of one batch have no order among subjects.
fn sent(engine: &MemoryEngine, queue: &mut Queue<MemoryEngine>, app: AppId) -> Vec<String> {
    let mut rows = Vec::new();
    let mut batch = now(queue.recover(app, Timestamp::default())).unwrap().unsettled;
    if let Some(batch) = batch.take() {
        now(queue.settle(&batch, Settlement::Requeued, Memory::default(), at(4))).unwrap();
    }
    while let Some(batch) = claim(queue, app, 10_000) {
        let upload = now(Reads::new(engine.clone()).upload(&batch)).unwrap();
        rows.extend(String::from_utf8(upload).unwrap().lines().map(str::to_owned));
        now(queue.settle(&batch, Settlement::Delivered, Memory::default(), at(5))).unwrap();
    }
    rows.sort();
    rows
}

proptest! {
    #[test]
    fn what_is_imported_is_what_was_exported(ops in prop::collection::vec(op(), 0..40)) {
        let (engine, mut queue) = lived(ops);
        let (lines, _) = exported(&engine);
        let copy = MemoryEngine::default();
        let imported = take_back(&copy, &lines).unwrap();
        prop_assert_eq!((imported.records, imported.merged), (lines.len() as u64, 0));
        prop_assert_eq!(&exported(&copy).0, &lines);
        prop_assert_eq!(now(crate::store::check::check(&copy)).unwrap().problems, []);

        // Again changes nothing that would be sent.
        let twice = MemoryEngine::default();
        take_back(&twice, &lines).unwrap();
        take_back(&twice, &lines).unwrap();
        for app in [AppId(0), AppId(1)] {
            let expected = sent(&engine, &mut queue, app);
            for store in [&copy, &twice] {
                prop_assert_eq!(&sent(store, &mut open(store), app), &expected);
            }
        }
    }

    #[test]
    fn what_arrives_after_an_import_is_later_than_what_was_imported(
        micros in -5..20_i64,
        told in prop::option::of(-5..20_i64),
    ) {
        // The first store's clock was ahead of the second's, or not.
        let engine = MemoryEngine::default();
        accept(&mut open(&engine), update("u", "plan", 1), 10);
        let copy = MemoryEngine::default();
        take_back(&copy, &exported(&engine).0).unwrap();
        let later = |value| Update { occurred_at: told.map(at), ..update("u", "plan", value) };
        for store in [&engine, &copy] {
            accept(&mut open(store), later(2), micros);
        }
        let rows = |store| sent(store, &mut open(store), AppId(0));
        prop_assert_eq!(rows(&copy), rows(&engine));
    }
}

#[test]
fn an_import_merges_with_what_waits_by_the_merge_law() {
    let engine = MemoryEngine::default();
    let mut queue = open(&engine);
    accept(&mut queue, update("u", "plan", 1), 10);
    accept(&mut queue, update("u", "seats", 1), 30);
    let copy = MemoryEngine::default();
    let mut queue = open(&copy);
    let properties = ["plan", "seats", "trial"].map(|name| (name.into(), Value::Integer(2)));
    accept(&mut queue, Update { properties: properties.into(), ..update("u", "", 0) }, 20);
    let imported = take_back(&copy, &exported(&engine).0).unwrap();
    assert_eq!((imported.records, imported.merged), (1, 1));
    let rows = sent(&copy, &mut open(&copy), AppId(0));
    assert_eq!(rows, [r#"{"user_id":"u","metadata":{"plan":2,"seats":1,"trial":2}}"#]);
}

#[test]
fn a_line_is_what_the_documentation_shows() {
    let engine = MemoryEngine::default();
    let mut queue = open(&engine);
    let of_acme = Update { company_id: Some("acme".into()), ..update("ada", "plan", 1) };
    accept(&mut queue, of_acme, 1_000_000);
    accept(&mut queue, Update { client: ClientId(1), ..update("ada", "seats", 3) }, 2_500_000);
    let expected = r#"{"app":"production","kind":"user","user_id":"ada","company_id":"acme","metadata":{"plan":1,"seats":3},"occurred_at":"1970-01-01T00:00:02.5Z","company_occurred_at":"1970-01-01T00:00:01Z","property_occurred_at":{"plan":"1970-01-01T00:00:01Z"},"lane":"interactive","client":"billing","first_accepted_at":"1970-01-01T00:00:01Z","updates":2,"stamped_until":"1970-01-01T00:00:02.5Z"}"#;
    assert_eq!(exported(&engine).0, [expected]);
}

#[test]
fn what_is_in_flight_is_exported_and_what_upstream_holds_is_not() {
    for settlement in [None, Some(Settlement::Delivered)] {
        let engine = MemoryEngine::default();
        let mut queue = open(&engine);
        let users = 1_500;
        let updates = (0..users).map(|user| update(&user.to_string(), "plan", 1)).collect();
        now(queue.accept(updates, at(1))).unwrap();
        let mut continued = None;
        let batch = loop {
            match now(queue.claim(AppId(0), BATCH, continued, at(2))).unwrap() {
                Claim::Complete(batch) => break *batch.unwrap(),
                Claim::Continues(number) => continued = Some(number),
            }
        };
        // Of a settlement, the first chunk.
        if let Some(settlement) = settlement {
            let settled = queue.settle(&batch, settlement, Memory::default(), at(3));
            assert!(!now(settled).unwrap().complete);
        }
        accept(&mut queue, update("7", "seats", 2), 4);
        let (lines, exported) = exported(&engine);
        let expected = if settlement.is_some() { (1, 0) } else { (users, users) };
        assert_eq!((exported.records, exported.in_flight), expected);
        assert_eq!(lines.len() as u64, exported.records);
    }
}

#[test]
fn damage_costs_an_export_no_other_record() {
    let engine = MemoryEngine::default();
    let mut queue = open(&engine);
    for user in ["u", "v"] {
        accept(&mut queue, update(user, "plan", 1), 1);
    }
    engine.damage(&keys::pending(AppId(0), &Subject::user("u")), b"nonsense");
    engine.damage(&keys::app(AppId(0)), b"nonsense");
    let (lines, exported) = exported(&engine);
    assert_eq!((lines.len(), exported.damaged), (1, 2));
}

/// An export's only line, with `from` replaced.
fn changed(from: &str, to: &str) -> Vec<String> {
    let engine = MemoryEngine::default();
    accept(&mut open(&engine), update("a-user", "a-property", 77), 1);
    let (lines, _) = exported(&engine);
    assert!(lines[0].contains(from), "{lines:?}");
    vec![lines[0].clone(), lines[0].replace(from, to)]
}

#[test]
fn a_line_that_is_none_is_named_without_its_values() {
    for (from, to) in [
        ("{\"a-property\":77}", "\"secret\""),
        ("77", "[\"secret\"]"),
        ("\"a-user\"", "\"\""),
        ("\"user_id\":\"a-user\",", ""),
        ("\"updates\"", "\"secret\""),
        ("77", "secret"),
        ("\"user\"", "\"company\""),
        ("\"production\"", &format!("{:?}", "x".repeat(65))),
        ("}", ""),
    ] {
        let error = take_back(&MemoryEngine::default(), &changed(from, to)).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("line 2: ") && !text.contains("secret"), "{from}: {text}");
    }
}

#[test]
fn an_export_that_is_not_whole_is_told() {
    let engine = MemoryEngine::default();
    let mut source = open(&engine);
    for user in ["u", "v", "w"] {
        accept(&mut source, update(user, "plan", 1), 1);
    }
    let mut whole = Vec::new();
    now(export(&engine, &mut whole)).unwrap();
    let read = |bytes: &[u8]| now(import(&mut open(&MemoryEngine::default()), bytes, Check::Whole));
    let imported = read(&whole).unwrap();
    assert_eq!((imported.records, imported.exports), (3, 1));
    assert_eq!(read(&[whole.clone(), whole.clone()].concat()).unwrap().exports, 2);

    // Cut off anywhere, it is told, be it after a line; so is a line that was left out or changed.
    for end in 0..whole.len() - 1 {
        assert!(read(&whole[..end]).is_err(), "{end} of {}", whole.len());
    }
    let text = String::from_utf8(whole.clone()).unwrap();
    let first = text.find('\n').unwrap() + 1;
    let error = read(&whole[first..]).unwrap_err();
    assert!(matches!(error, ImportError::NotWhole { line: 3, .. }), "{error}");
    assert!(read(text.replace(r#""plan":1"#, r#""plan":2"#).as_bytes()).is_err());
    let two = [&*whole, &whole[..first]].concat();
    let error = read(&two).unwrap_err();
    assert!(matches!(error, ImportError::NotWhole { line: 6, .. }), "{error}");
}

#[test]
fn an_import_that_does_not_fit_says_which_limit_to_raise() {
    let engine = MemoryEngine::default();
    let (mut queue, lines) = {
        let mut source = open(&engine);
        for user in ["u", "v", "w"] {
            accept(&mut source, update(user, "plan", 1), 1);
        }
        let limits = QueueLimits { records_max: 2, ..LIMITS };
        let copy = MemoryEngine::default();
        (now(Queue::open(copy, limits, 7)).unwrap(), exported(&engine).0)
    };
    let error = now(import(&mut queue, lines.join("\n").as_bytes(), Check::None)).unwrap_err();
    let refusal = QueueRefusal::TooManyRecords;
    assert!(matches!(error, ImportError::Refused { line: 3, refusal: r } if r == refusal));
    assert!(error.to_string().contains("store.pending_records_max"));
    assert_eq!(queue.engine().keys().iter().filter(|key| key[0] == b'r').count(), 2);
}

#[test]
fn what_waits_gets_out_where_names_are_lost() {
    let engine = MemoryEngine::default();
    let mut queue = open(&engine);
    accept(&mut queue, Update { client: ClientId(1), ..update("u", "plan", 1) }, 1);
    accept(&mut queue, Update { app: AppId(1), ..update("v", "plan", 2) }, 2);
    for (space, name) in [
        (keys::NameSpace::App, "production"),
        (keys::NameSpace::App, "staging"),
        (keys::NameSpace::Client, "billing"),
        (keys::NameSpace::Client, "crm"),
    ] {
        engine.damage(&keys::name(space, name), b"nonsense");
    }
    engine.damage(keys::HEAD, b"nonsense");
    let (lines, exported) = exported(&engine);
    assert_eq!((exported.records, exported.damaged), (2, 5));
    assert_eq!(exported.nameless, [("?0".into(), 1), ("?1".into(), 1)].into());
    assert_eq!(exported.lost_apps, ["production", "staging"]);
    assert_eq!(exported.lost_clients, ["billing", "crm"]);
    let error = take_back(&MemoryEngine::default(), &lines).unwrap_err().to_string();
    assert!(error.starts_with("line 1: the name of its app was lost"), "{error}");
    let named = |line: &String| line.replace("?0", "production").replace("?1", "staging");
    let copy = MemoryEngine::default();
    take_back(&copy, &lines.iter().map(named).collect::<Vec<_>>()).unwrap();
    for (app, row) in [
        (0, r#"{"user_id":"u","metadata":{"plan":1}}"#),
        (1, r#"{"user_id":"v","metadata":{"plan":2}}"#),
    ] {
        assert_eq!(sent(&copy, &mut open(&copy), AppId(app)), [row]);
    }
}
