//! What the queue bears, and what it keeps apart.

use super::{
    rescue::{is_whole, set_aside, torn},
    *,
};
use crate::{
    domain::batch::{ClaimLimits, Claimable, DeadReason},
    store::{engine::Crash, records::PageEntry},
};

#[test]
fn names_keep_their_numbers() {
    let engine = MemoryEngine::default();
    let mut numbers = vec![];
    for _ in 0..2 {
        let mut queue = now(Queue::open(engine.clone(), LIMITS, 1)).unwrap();
        numbers.push(["a", "b", "a"].map(|name| now(queue.app(name)).unwrap()));
    }
    assert_eq!(numbers[0], [AppId(0), AppId(1), AppId(0)]);
    assert_eq!(numbers[0], numbers[1]);
}

#[test]
fn apps_do_not_see_each_other() {
    let mut bench = Bench::new(MemoryEngine::default());
    let staging = now(bench.queue.app("staging")).unwrap();
    bench.set("u", "a", 1);
    bench.accept(vec![update(staging, "u", "a", 2)]);
    let batch = bench.claim().unwrap();
    assert_eq!((batch.rows, bench.queue.depth(staging).records), (1, 1));
    assert!(bench.upload(&batch).contains("\"a\":1"));
}

#[test]
fn a_damaged_record_is_set_aside_and_the_rest_goes_on() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    bench.set("u", "a", 1);
    bench.set("v", "a", 1);
    engine.damage(&keys::pending(bench.app, &Subject::user("u")), b"\x01nonsense");
    let batch = bench.claim().unwrap();
    assert_eq!(batch.rows, 1);
    assert_eq!(bench.queue.head().1, 1);
    assert_eq!(bench.queue.depth(bench.app).records, 0);
    assert!(engine.keys().iter().any(|key| key.starts_with(b"x")));
    assert_eq!(bench.set("u", "a", 2).disposition, Disposition::Queued);
}

pub(super) fn flip_a_bit(engine: &MemoryEngine, key: &[u8]) {
    let mut bytes = stored(engine, key);
    *bytes.last_mut().unwrap() ^= 1;
    engine.damage(key, &bytes);
}

fn stored(engine: &MemoryEngine, key: &[u8]) -> Vec<u8> {
    now(now(engine.begin()).unwrap().get(key)).unwrap().unwrap().to_vec()
}

#[test]
fn a_damaged_record_that_an_update_meets_is_counted_out_and_told() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set("u", "a", 1).sequence;
    flip_a_bit(&engine, &keys::pending(bench.app, &Subject::user("u")));
    assert_eq!(bench.find("u", first), Found::Damaged);
    let second = bench.set("u", "a", 2).sequence;
    assert_eq!(bench.queue.depth(bench.app).records, 1);
    assert_eq!(bench.find("u", first), Found::Damaged);
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
    now(bench.queue.prune(
        PruneCursor::default(),
        Retention { before: at(9), batches_max: 0, ..Retention::default() },
    ))
    .unwrap();
    assert_eq!(bench.find("u", first), Found::Damaged);
    assert_eq!(bench.find("u", second), Found::DeliveredLongAgo);
    // Nor is anything else left of it after a restart.
    let mut bench = Bench::new(engine);
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
    assert_eq!(bench.claim(), None);
}

#[test]
fn a_damaged_record_that_an_update_meets_in_vain_is_counted_out_for_good() {
    let engine = MemoryEngine::default();
    let limits = QueueLimits { records_max: 0, ..LIMITS };
    let mut bench = Bench::new(engine.clone());
    bench.set("u", "a", 1);
    flip_a_bit(&engine, &keys::pending(bench.app, &Subject::user("u")));
    let mut bench = Bench::with_limits(engine.clone(), limits);
    let update = update(bench.app, "u", "a", 1);
    assert_eq!(bench.accept(vec![update]), [Err(QueueRefusal::TooManyRecords)]);
    let bench = Bench::new(engine);
    assert_eq!(bench.queue.depth(bench.app).records, 0);
}

#[test]
fn a_damaged_record_that_a_requeue_meets_is_counted_out_and_told() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set("u", "a", 1).sequence;
    let batch = bench.claim().unwrap();
    let second = bench.set("u", "a", 2).sequence;
    flip_a_bit(&engine, &keys::pending(bench.app, &Subject::user("u")));
    bench.settle(&batch, Settlement::Requeued);
    assert_eq!(bench.queue.depth(bench.app).records, 1);
    assert!(matches!(bench.find("u", first), Found::Pending { .. }));
    assert_eq!(bench.find("u", second), Found::Damaged);
}

#[test]
fn a_row_that_is_damaged_in_flight_is_told() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set("u", "a", 1).sequence;
    let batch = bench.claim().unwrap();
    flip_a_bit(&engine, &keys::in_flight(bench.app, &Subject::user("u")));
    assert_eq!(bench.find("u", first), Found::Damaged);
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.find("u", first), Found::Damaged);
}

#[test]
fn a_row_whose_batch_is_damaged_is_not_told_as_delivered() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set("u", "a", 1).sequence;
    let batch = bench.claim().unwrap();
    flip_a_bit(&engine, &keys::batch(bench.app, batch.id.number));
    assert_eq!(bench.find("u", first), Found::Damaged);
}

#[test]
fn a_damaged_page_loses_no_record() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let app = bench.app;
    bench.accept((0..100).map(|user| update(app, &format!("{user}"), "a", 1)).collect());
    let page = engine.keys().into_iter().find(|key| key.starts_with(b"q")).unwrap();
    engine.damage(&page, b"nonsense");
    let mut users = 0;
    while let Some(batch) = bench.claim() {
        users += bench.upload(&batch).lines().count();
        bench.settle(&batch, Settlement::Delivered);
    }
    assert_eq!(users, 100);
}

#[test]
fn a_damaged_page_whose_place_another_takes_is_set_aside_and_nobody_loses_a_place() {
    for requeues in [true, false] {
        let engine = MemoryEngine::default();
        let mut bench = Bench::new(engine.clone());
        let app = bench.app;
        bench.accept(["u", "v", "w"].map(|user| update(app, user, "a", 1)).to_vec());
        // The page keeps its key although the first of it has left.
        let batch = bench.claim_with(BatchLimits { rows_max: 1, ..BATCH }).unwrap();
        let page = engine.keys().into_iter().find(|key| key.starts_with(b"q")).unwrap();
        flip_a_bit(&engine, &page);
        if requeues {
            bench.settle(&batch, Settlement::Requeued);
        } else {
            bench.settle(&batch, Settlement::Dead(DeadReason::BadRow));
            let letters = now(bench.reads.dead_letters(app, &DeadFilter::default(), None, 9));
            let letter = letters.unwrap().letters.remove(0);
            assert_eq!(now(bench.queue.replay(app, letter.id, at(9))).unwrap(), Replay::Replayed);
        }
        assert!(set_aside(&engine, &page), "it is kept, and named by an export");
        assert_eq!((bench.queue.head().1, bench.queue.depth(app).records), (1, 3));
        is_whole(&engine);
        let batch = bench.claim().unwrap();
        let users: Vec<_> =
            bench.upload(&batch).lines().map(|row| row[12..13].to_owned()).collect();
        assert_eq!(users, ["u", "v", "w"]);
        assert!(!engine.keys().iter().any(|key| matches!(key[0], b'q' | b'p')));
    }
}

#[test]
fn a_damaged_record_in_another_lane_than_its_old_place_is_counted_out_of_none_but_its_own() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let app = bench.app;
    let bulk = |user| Update { lane: Lane::Bulk, ..update(app, user, "a", 1) };
    bench.accept(["i", "j"].map(|user| update(app, user, "a", 1)).to_vec());
    bench.accept(["u", "v", "w"].map(bulk).to_vec());
    // It leaves a place behind in the bulk lane.
    bench.set("u", "a", 2);
    flip_a_bit(&engine, &keys::pending(app, &Subject::user("u")));
    let for_bulk = BatchLimits { rows_max: 1, bytes_max: 0 };
    let limits = ClaimLimits { for_bulk, ..BatchLimits { rows_max: 2, ..BATCH }.into() };
    let claimable = Claimable { users: Some(limits), companies: None };
    let claim = now(bench.queue.claim(app, claimable, None, at(2))).unwrap();
    let Claim::Complete(Some(batch)) = claim else { panic!("two rows are one chunk") };
    let users: Vec<_> = bench.upload(&batch).lines().map(|row| row[12..13].to_owned()).collect();
    assert_eq!(users, ["i", "v"]);
    let depth = bench.queue.depth(app);
    assert_eq!((depth.records, depth.bulk_records), (2, 1));
    bench.settle(&batch, Settlement::Delivered);
    is_whole(&engine);
}

#[test]
fn what_is_counted_of_lanes_is_right_once_nothing_waits_whatever_was_damaged() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let app = bench.app;
    let bulk = |user| Update { lane: Lane::Bulk, ..update(app, user, "a", 1) };
    bench.accept(["u", "v"].map(bulk).to_vec());
    bench.set("i", "a", 1);
    flip_a_bit(&engine, &keys::pending(app, &Subject::user("u")));
    bench.set("u", "a", 2);
    let batch = bench.claim().unwrap();
    assert_eq!(batch.rows, 3);
    assert_eq!(bench.queue.depth(app), QueueDepth::default());
}

#[test]
fn a_power_cut_while_pages_are_made_anew_loses_no_record() {
    const USERS: usize = 1_200;
    for (cut, side) in
        (0..8).flat_map(|cut| [(cut, Crash::BeforeCommit), (cut, Crash::AfterCommit)])
    {
        let engine = MemoryEngine::default();
        let mut bench = Bench::new(engine.clone());
        let app = bench.app;
        bench.accept((0..USERS).map(|user| update(app, &format!("{user}"), "a", 1)).collect());
        let page = engine.keys().into_iter().find(|key| key.starts_with(b"q")).unwrap();
        engine.damage(&page, b"nonsense");
        engine.crash_at(cut, side);
        // Few at a time, so that pages are taken in part.
        let few = BatchLimits { rows_max: 90, ..BATCH };
        let first = now(bench.queue.claim(app, few, None, at(2)));
        assert_eq!(first.is_err(), engine.has_crashed());
        engine.restart();

        let mut bench = Bench::new(engine.clone());
        let mut batch = now(bench.queue.recover(app, at(3))).unwrap().unsettled;
        let mut users = 0;
        while let Some(next) = batch.take().or_else(|| bench.claim_with(few)) {
            users += bench.upload(&next).lines().count();
            bench.settle(&next, Settlement::Delivered);
        }
        assert_eq!((users, bench.queue.depth(app).records), (USERS, 0), "{side:?} {cut}");
        assert!(!engine.keys().iter().any(|key| matches!(key[0], b'q' | b'p' | b'r')));
    }
}

#[test]
fn records_that_no_page_leads_to_are_found_again() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    bench.set("u", "a", 1);
    let page = engine.keys().into_iter().find(|key| key.starts_with(b"q")).unwrap();
    engine.damage(&page, &Vec::<PageEntry>::new().encode());
    assert_eq!(bench.claim(), None);
    assert_eq!(bench.claim().unwrap().rows, 1);
}

#[test]
fn an_entry_of_another_version_ends_the_process_and_stays() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    bench.set("u", "a", 1);
    let key = keys::pending(bench.app, &Subject::user("u"));
    let mut bytes = stored(&engine, &key);
    bytes[0] += 1;
    engine.damage(&key, &bytes);
    let of_another = |error| matches!(error, StoreError::Version { version: 2 });
    assert!(of_another(now(bench.queue.claim(bench.app, BATCH, None, at(2))).unwrap_err()));
    let update = update(bench.app, "u", "a", 2);
    assert!(of_another(now(bench.queue.accept(vec![update], at(2))).unwrap_err()));
    assert!(engine.keys().contains(&key));
}

#[test]
fn a_clock_that_goes_back_does_not_reorder_updates() {
    let mut bench = Bench::new(MemoryEngine::default());
    let app = bench.app;
    now(bench.queue.accept(vec![update(app, "u", "a", 1)], at(1_000))).unwrap()[0].unwrap();
    now(bench.queue.accept(vec![update(app, "u", "a", 2)], at(10))).unwrap()[0].unwrap();
    let batch = bench.claim().unwrap();
    assert!(bench.upload(&batch).contains("\"a\":2"));
}

#[test]
fn a_clock_that_was_far_ahead_once_is_forgotten_when_nothing_waits() {
    let mut bench = Bench::new(MemoryEngine::default());
    let app = bench.app;
    let ahead = at(1_000_000_000_000_000);
    let set = |value| vec![update(app, "u", "a", value)];
    let first = now(bench.queue.accept(set(1), ahead)).unwrap()[0].unwrap();
    // While that waits, what comes later counts as later, and is as old as it is.
    now(bench.queue.accept(vec![update(app, "v", "a", 2)], at(10))).unwrap()[0].unwrap();
    let Found::Pending { first_accepted_at, .. } = bench.find("v", 2) else { panic!() };
    assert_eq!(first_accepted_at, at(10));
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    assert!(matches!(bench.find("u", first.sequence), Found::Delivered { .. }));
    // Then an update that says when it occurred stands again where it belongs.
    now(bench.queue.accept(set(3), at(20))).unwrap()[0].unwrap();
    let told = Update { occurred_at: Some(at(30)), ..update(app, "u", "a", 4) };
    now(bench.queue.accept(vec![told], at(40))).unwrap()[0].unwrap();
    let batch = bench.claim().unwrap();
    assert!(bench.upload(&batch).contains("\"a\":4"));
}

#[test]
fn a_damaged_batch_does_not_stop_the_forgetting() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    for user in ["u", "v", "w"] {
        bench.set(user, "a", 1);
        let batch = bench.claim().unwrap();
        bench.settle(&batch, Settlement::Delivered);
    }
    flip_a_bit(&engine, &keys::batch(bench.app, 1));
    let keep = Retention { before: at(0), batches_max: 1, ..Retention::default() };
    now(bench.queue.prune(PruneCursor::default(), keep)).unwrap();
    let batches = now(bench.reads.batches(bench.app, u64::MAX, 9)).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.id.number).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_store_of_another_format_is_refused() {
    let engine = MemoryEngine::default();
    let head = Head { format: 1, ..now(Queue::open(engine.clone(), LIMITS, 1)).unwrap().head };
    engine.damage(keys::HEAD, &head.encode());
    let error = now(Queue::open(engine, LIMITS, 1)).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 1 }));
}

#[test]
fn apps_that_are_not_configured_are_counted_although_they_are_damaged() {
    let engine = MemoryEngine::default();
    let (bench, batch) = torn(&engine, BatchState::Running);
    let configured = ["other".to_owned()];
    let orphans = || now(crate::store::orphans(&engine, &configured)).unwrap();
    let whole = orphans();
    assert_eq!((whole[0].pending_records, whole[0].in_flight_records), (3, 3));
    flip_a_bit(&engine, &keys::batch(bench.app, batch.id.number));
    assert_eq!(orphans(), whole);
    flip_a_bit(&engine, &keys::app(bench.app));
    assert_eq!(orphans(), whole);
}
