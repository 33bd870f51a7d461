//! An app whose state or unsettled batch is damaged: nothing of it is lost, and its order holds.

use super::{damage::flip_a_bit, *};
use crate::{
    domain::{
        batch::{Cut, DeadReason},
        lifecycle::Recovered,
    },
    store::engine::Crash,
};

const FULL_JOB: Occupancy =
    Occupancy { until: Timestamp::from_micros(333_000_000), ..EMPTY_OCCUPANCY };
const EMPTY_OCCUPANCY: Occupancy = Occupancy {
    until: Timestamp::from_micros(0),
    until_uptime: None,
    length: std::time::Duration::from_secs(333),
};

/// Starts again on what is in the store.
pub(super) fn serve(engine: &MemoryEngine) -> (Bench<MemoryEngine>, Recovered) {
    let mut queue = now(Queue::open(engine.clone(), LIMITS, 8)).unwrap();
    let (app, recovered) = now(recover(&mut queue, FULL_JOB, at(5))).unwrap();
    (Bench { queue, reads: Reads::new(engine.clone()), app }, recovered)
}

type Served = Result<(AppId, Recovered), StoreError>;

/// The app, and what its driver goes on from.
async fn recover(queue: &mut Queue<MemoryEngine>, job: Occupancy, now: Timestamp) -> Served {
    let app = queue.serve("production", job, now).await?;
    Ok((app, queue.recover(app, now).await?))
}

/// Delivers all there is. What upstream holds then, by user: the uploads in their order.
fn deliver(bench: &mut Bench<MemoryEngine>, recovered: Recovered) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::<String, Profile>::new();
    let mut next = recovered.unsettled;
    while let Some(batch) = next.take().or_else(|| bench.claim()) {
        for line in bench.upload(&batch).lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let profile = profiles.entry(row["user_id"].as_str().unwrap().to_owned()).or_default();
            for (name, value) in row["metadata"].as_object().unwrap() {
                profile.insert(name.clone(), value.as_i64().unwrap());
            }
        }
        next = settle(bench, &batch, Settlement::Delivered);
    }
    profiles
}

fn settle(bench: &mut Bench<MemoryEngine>, batch: &Batch, settlement: Settlement) -> Option<Batch> {
    loop {
        let settling = now(bench.queue.settle(batch, settlement, Memory::default(), at(6)));
        let settling = settling.unwrap();
        if settling.complete {
            return settling.next.map(|batch| *batch);
        }
    }
}

type Profile = BTreeMap<String, i64>;

fn profiles(expected: &[(&str, &[(&str, i64)])]) -> BTreeMap<String, Profile> {
    let profile = |values: &[(&str, i64)]| {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    };
    expected.iter().map(|(user, values)| ((*user).to_owned(), profile(values))).collect()
}

/// Three users in flight, of whom one has newer values waiting, and one who only waits.
pub(super) fn torn(engine: &MemoryEngine, state: BatchState) -> (Bench<MemoryEngine>, Batch) {
    let mut bench = Bench::new(engine.clone());
    for user in ["u", "v", "w"] {
        bench.set(user, "a", 1);
        bench.set(user, "b", 1);
    }
    let claimed = bench.claim().unwrap();
    let batch = Batch { state, ..claimed };
    now(bench.queue.advance(&batch, Memory::default())).unwrap();
    bench.set("u", "b", 2);
    bench.set("x", "a", 3);
    let bulk = Update { lane: Lane::Bulk, ..update(bench.app, "y", "a", 4) };
    bench.accept(vec![bulk]);
    (bench, batch)
}

fn all() -> BTreeMap<String, Profile> {
    profiles(&[
        ("u", &[("a", 1), ("b", 2)]),
        ("v", &[("a", 1), ("b", 1)]),
        ("w", &[("a", 1), ("b", 1)]),
        ("x", &[("a", 3)]),
        ("y", &[("a", 4)]),
    ])
}

pub(super) fn set_aside(engine: &MemoryEngine, key: &[u8]) -> bool {
    engine.keys().iter().any(|it| it.first() == Some(&b'x') && keys::quarantined_key(it) == key)
}

/// The store is whole, apart from what was set aside.
pub(super) fn is_whole(engine: &MemoryEngine) {
    let findings = now(crate::store::check::check(engine)).unwrap();
    assert_eq!(findings.problems, []);
}

#[test]
fn an_app_whose_state_is_damaged_comes_up_paused_and_loses_nothing() {
    for state in [BatchState::Claimed, BatchState::Submitting, BatchState::Running] {
        let engine = MemoryEngine::default();
        let (bench, batch) = torn(&engine, state);
        let before = bench.queue.depth(bench.app);
        let key = keys::app(bench.app);
        flip_a_bit(&engine, &key);
        let (mut bench, recovered) = serve(&engine);
        assert_eq!(bench.queue.depth(bench.app), before, "counted anew");
        assert!(set_aside(&engine, &key));
        assert_eq!(bench.queue.head().1, 1);
        assert!(recovered.paused);
        assert_eq!(recovered.memory.occupancy, FULL_JOB);
        // Its batch is known: it goes on with it, and knows which job is its own.
        assert_eq!(recovered.unsettled.as_ref().map(|batch| batch.id), Some(batch.id));
        let rescue = recovered.rescue.unwrap();
        assert_eq!((rescue.at, rescue.paused, rescue.job_unknown), (at(5), true, false));
        is_whole(&engine);
        assert_eq!(deliver(&mut bench, recovered), all());
        assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
        is_whole(&engine);
    }
}

#[test]
fn why_an_app_is_paused_is_known_until_it_is_resumed() {
    let engine = MemoryEngine::default();
    let (bench, _) = torn(&engine, BatchState::Running);
    flip_a_bit(&engine, &keys::app(bench.app));
    serve(&engine);
    // A restart later it still stands, and the occupancy is not begun anew.
    let mut queue = now(Queue::open(engine.clone(), LIMITS, 9)).unwrap();
    let later = Occupancy { until: at(9), ..FULL_JOB };
    let (app, recovered) = now(recover(&mut queue, later, at(7))).unwrap();
    assert_eq!(recovered.memory.occupancy, FULL_JOB);
    assert_eq!(recovered.rescue.map(|rescue| rescue.at), Some(at(5)));
    now(queue.pause(app, false)).unwrap();
    let (mut bench, recovered) = serve(&engine);
    assert_eq!((recovered.rescue, recovered.paused), (None, false));
    now(bench.queue.pause(bench.app, true)).unwrap();
    let (_, recovered) = serve(&engine);
    assert_eq!((recovered.rescue, recovered.paused), (None, true), "that is an operator's");
}

#[test]
fn what_history_knows_is_told_rightly_after_a_state_was_lost() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set("u", "a", 1).sequence;
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Dead(DeadReason::BadRow));
    let second = bench.set("u", "a", 2).sequence;
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Requeued);
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    let third = bench.set("v", "a", 3).sequence;
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    let keep = Retention { before: at(9), batches_max: 0, ..Retention::default() };
    now(bench.queue.prune(PruneCursor::default(), keep)).unwrap();
    let letters = bench.queue.depth(bench.app).dead_letters;
    flip_a_bit(&engine, &keys::app(bench.app));
    let (mut bench, _) = serve(&engine);
    assert_eq!(bench.queue.depth(bench.app).dead_letters, letters);
    // The letter was struck by what was delivered since, and still says so.
    assert!(matches!(bench.find("u", first), Found::Dead(_)));
    for (user, sequence) in [("u", second), ("v", third)] {
        // It may have been in a letter that was dropped.
        assert_eq!(bench.find(user, sequence), Found::Forgotten);
    }
    let fourth = bench.set("v", "a", 4).sequence;
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    assert!(matches!(bench.find("v", fourth), Found::Delivered { .. }));
    is_whole(&engine);
}

#[test]
fn a_batchs_number_is_not_given_twice_after_a_state_was_lost() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    for value in 1..4 {
        bench.set("u", "a", value);
        let batch = bench.claim().unwrap();
        bench.settle(&batch, Settlement::Delivered);
    }
    // History has forgotten its batches, and remembers their deliveries.
    let keep = Retention { before: at(0), batches_max: 0, ..Retention::default() };
    now(bench.queue.prune(PruneCursor::default(), keep)).unwrap();
    assert!(!engine.keys().iter().any(|key| key.starts_with(b"b")));
    flip_a_bit(&engine, &keys::app(bench.app));
    let (mut bench, _) = serve(&engine);
    bench.set("u", "a", 4);
    assert_eq!(bench.claim().unwrap().id.number, 4);
}

#[test]
fn rows_whose_batch_is_damaged_go_back_under_what_waits() {
    for lose_the_state in [false, true] {
        for settling in [None, Some(Settlement::Requeued), Some(Settlement::Delivered)] {
            let engine = MemoryEngine::default();
            let state = settling.map_or(BatchState::Submitting, BatchState::Settling);
            let (bench, batch) = torn(&engine, state);
            let app = bench.app;
            let key = keys::batch(app, batch.id.number);
            flip_a_bit(&engine, &key);
            if lose_the_state {
                flip_a_bit(&engine, &keys::app(app));
            }
            let (mut bench, recovered) = serve(&engine);
            assert!(set_aside(&engine, &key));
            assert_eq!(recovered.paused, lose_the_state);
            assert_eq!(recovered.unsettled, None);
            assert_eq!(recovered.memory.occupancy, FULL_JOB);
            assert!(recovered.rescue.unwrap().job_unknown);
            assert!(matches!(bench.find("v", 4), Found::Pending { .. }));
            assert_eq!(bench.queue.depth(app).records, 5);
            is_whole(&engine);
            // The older first sequence is kept, and with it the place.
            let batch = bench.claim().unwrap();
            let users: Vec<_> =
                bench.upload(&batch).lines().map(|line| line[12..13].to_owned()).collect();
            assert_eq!(users, ["u", "v", "w", "x", "y"]);
            let recovered = Recovered { unsettled: Some(batch), ..recovered };
            assert_eq!(deliver(&mut bench, recovered), all());
        }
    }
}

#[test]
fn that_a_job_may_run_is_known_until_upstream_takes_another() {
    let engine = MemoryEngine::default();
    let (bench, batch) = torn(&engine, BatchState::Running);
    flip_a_bit(&engine, &keys::batch(bench.app, batch.id.number));
    serve(&engine);
    let (mut bench, recovered) = serve(&engine);
    assert!(recovered.rescue.unwrap().job_unknown);
    let batch = bench.claim().unwrap();
    for (state, is_known) in [(BatchState::Submitting, false), (BatchState::Running, true)] {
        let batch = Batch { state, ..batch.clone() };
        now(bench.queue.advance(&batch, recovered.memory)).unwrap();
        let rescue = serve(&engine).1.rescue;
        assert_eq!(rescue.is_none_or(|rescue| !rescue.job_unknown), is_known, "{state:?}");
    }
    assert_eq!(serve(&engine).1.rescue, None);
    assert!(!engine.keys().contains(&keys::rescue(bench.app)));
}

#[test]
fn a_second_rescue_knows_what_the_first_did_not() {
    let engine = MemoryEngine::default();
    let (bench, batch) = torn(&engine, BatchState::Running);
    flip_a_bit(&engine, &keys::batch(bench.app, batch.id.number));
    serve(&engine);
    flip_a_bit(&engine, &keys::app(bench.app));
    let (mut bench, recovered) = serve(&engine);
    let rescue = recovered.rescue.unwrap();
    assert!(rescue.paused && rescue.job_unknown);
    assert_eq!(bench.claim().unwrap().id.number, batch.id.number + 1, "its number is taken");
}

/// Four rows, split twice: the parts of the first, then the second half.
fn split(engine: &MemoryEngine) -> (Bench<MemoryEngine>, Vec<Batch>) {
    let mut bench = Bench::new(engine.clone());
    for user in ["t", "u", "v", "w"] {
        bench.set(user, "a", 1);
    }
    let mut parts = vec![bench.claim().unwrap()];
    for _ in 0..2 {
        let whole = parts.remove(0);
        let mut next = settle(&mut bench, &whole, Settlement::Split(Cut::Halves));
        parts.clear();
        while let Some(part) = next {
            let then = part.then;
            parts.push(part);
            let mut transaction = now(bench.queue.engine.begin()).unwrap();
            let mut read = |number| {
                now(bench.queue.batch(&mut transaction, (bench.app, number), "read")).unwrap()
            };
            next = then.map(&mut read);
        }
    }
    (bench, parts)
}

#[test]
fn one_damaged_part_of_a_split_batch_takes_no_other_along() {
    for lose_the_state in [false, true] {
        for lost in 0..3 {
            let engine = MemoryEngine::default();
            let (bench, parts) = split(&engine);
            let app = bench.app;
            assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [1, 1, 2]);
            flip_a_bit(&engine, &keys::batch(app, parts[lost].id.number));
            if lose_the_state {
                flip_a_bit(&engine, &keys::app(app));
            }
            let (mut bench, recovered) = serve(&engine);
            is_whole(&engine);
            let left: Vec<u64> =
                (0..3).filter(|part| *part != lost).map(|part| parts[part].id.number).collect();
            assert_eq!(recovered.unsettled.as_ref().map(|it| it.id.number), Some(left[0]));
            assert_eq!(recovered.unsettled.as_ref().unwrap().then, Some(left[1]));
            assert_eq!(bench.queue.depth(app).records, parts[lost].rows);
            let users: &[(&str, &[(&str, i64)])] =
                &["t", "u", "v", "w"].map(|user| (user, &[("a", 1)][..]));
            assert_eq!(deliver(&mut bench, recovered), profiles(users));
            is_whole(&engine);
        }
    }
}

#[test]
fn a_damaged_batch_of_history_is_set_aside_and_nothing_else() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    for value in 1..3 {
        bench.set("u", "a", value);
        let batch = bench.claim().unwrap();
        bench.settle(&batch, Settlement::Delivered);
    }
    let key = keys::batch(bench.app, 1);
    flip_a_bit(&engine, &key);
    let (bench, recovered) = serve(&engine);
    assert!(set_aside(&engine, &key) && !engine.keys().contains(&key));
    assert_eq!((recovered.rescue, recovered.paused), (None, false));
    assert_eq!(recovered.memory.occupancy, Occupancy::default());
    let batches = now(bench.reads.batches(bench.app, u64::MAX, 9)).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.id.number).collect::<Vec<_>>(), [2]);
    assert!(matches!(bench.find("u", 1), Found::Delivered { batch: None, .. }));
    is_whole(&engine);
}

#[test]
fn a_power_cut_in_the_middle_of_a_rescue_loses_nothing() {
    for (cut, side) in
        (0..8).flat_map(|cut| [(cut, Crash::BeforeCommit), (cut, Crash::AfterCommit)])
    {
        let engine = MemoryEngine::default();
        let (bench, batch) = torn(&engine, BatchState::Running);
        flip_a_bit(&engine, &keys::app(bench.app));
        flip_a_bit(&engine, &keys::batch(bench.app, batch.id.number));
        engine.crash_at(cut, side);
        let opened = now(Queue::open(engine.clone(), LIMITS, 8));
        let served = opened.map(|mut queue| now(recover(&mut queue, FULL_JOB, at(5))));
        let crashed = !matches!(served, Ok(Ok(_)));
        assert_eq!(crashed, engine.has_crashed(), "{side:?} {cut}");
        engine.restart();
        let (mut bench, recovered) = serve(&engine);
        assert!(recovered.paused && recovered.rescue.unwrap().job_unknown, "{side:?} {cut}");
        assert_eq!(recovered.memory.occupancy, FULL_JOB);
        is_whole(&engine);
        assert_eq!(deliver(&mut bench, recovered), all(), "{side:?} {cut}");
    }
}

#[test]
fn an_app_whose_state_is_missing_is_rescued_too() {
    let engine = MemoryEngine::default();
    let (bench, _) = torn(&engine, BatchState::Running);
    let mut transaction = now(engine.begin()).unwrap();
    transaction.delete(&keys::app(bench.app));
    now(transaction.commit()).unwrap();
    let (mut bench, recovered) = serve(&engine);
    assert!(recovered.paused);
    assert_eq!(deliver(&mut bench, recovered), all());
}

#[test]
fn a_state_of_another_version_ends_the_process_and_stays() {
    let engine = MemoryEngine::default();
    let (bench, batch) = torn(&engine, BatchState::Running);
    for key in [keys::app(bench.app), keys::batch(bench.app, batch.id.number)] {
        let whole = now(now(engine.begin()).unwrap().get(&key)).unwrap().unwrap().to_vec();
        let mut newer = whole.clone();
        newer[0] += 1;
        engine.damage(&key, &newer);
        let mut queue = now(Queue::open(engine.clone(), LIMITS, 8)).unwrap();
        let error = now(queue.serve("production", FULL_JOB, at(5))).unwrap_err();
        assert!(matches!(error, StoreError::Version { version: 2 }), "{error}");
        assert_eq!(now(now(engine.begin()).unwrap().get(&key)).unwrap().unwrap().to_vec(), newer);
        engine.damage(&key, &whole);
    }
}
