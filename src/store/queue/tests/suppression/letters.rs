//! Dead letters and damage, where what was delivered is remembered.

use super::*;
use crate::store::queue::{DeadFilter, DeadId, Replay};

over_every_engine! {
    what_is_accepted_and_not_sent_is_struck_from_dead_letters => strikes_letters;
    what_is_refused_strikes_nothing => strikes_nothing;
    of_what_express_left_behind_nothing_is_known => forgets_what_express_left;
    what_a_death_left_under_way_may_be_carried_out_late => doubts_after_a_death;
}

/// A record of `u` dies, and becomes a dead letter.
fn dies<E: Engine + Clone>(bench: &mut Bench<E>, property: &str, value: i64) -> DeadId {
    bench.put("u", property, value);
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Dead(DeadReason::BadRow));
    let filter = DeadFilter::default();
    let letters = now(bench.reads.dead_letters(bench.app, &filter, None, 99)).unwrap().letters;
    letters.last().unwrap().id
}

fn strikes_letters(engine: impl Engine + Clone) {
    for with_another in [false, true] {
        let mut bench = remembering(engine.clone());
        let (app, base) = (bench.app, if with_another { 100 } else { 0 });
        let first = dies(&mut bench, "a", base + 1);
        let second = dies(&mut bench, "a", base + 2);
        assert_eq!(now(bench.queue.replay(app, first, at(9))).unwrap(), Replay::Replayed);
        let batch = bench.claim_all();
        bench.settle(&batch, Settlement::Delivered);
        // As upstream has it: it stays so whatever is replayed, also where something else of the
        // update is sent.
        let mut last = update(app, "u", "a", base + 1);
        if with_another {
            last.properties.push(("b".to_owned(), Value::Integer(1)));
        }
        // Twice in one group: that is counted once.
        let outcomes = bench.accept_later(vec![last.clone(), last]);
        let expected = [Disposition::Unchanged, Disposition::Queued][usize::from(with_another)];
        assert_eq!(outcomes[0].unwrap().disposition, expected);
        assert_eq!(bench.queue.depth(app).dead_letters, 0);
        assert_eq!(now(bench.queue.replay(app, second, at(9))).unwrap(), Replay::NotThere);
        // A letter that came later is not older news.
        let third = dies(&mut bench, "a", base + 3);
        bench.accept_later(vec![update(app, "u", "c", 7)]);
        assert_eq!(now(bench.queue.replay(app, third, at(9))).unwrap(), Replay::Replayed);
        while bench.claim().is_some_and(|batch| {
            bench.settle(&batch, Settlement::Delivered);
            true
        }) {}
    }
}

fn strikes_nothing(engine: impl Engine + Clone) {
    let mut bench = Bench::with_limits(engine, QueueLimits { records_max: 1, ..LIMITS });
    let suppression = Suppression { refresh_after: WEEK, properties_max: 3, account: 0 };
    now(bench.queue.suppress(bench.app, Some(suppression))).unwrap();
    let app = bench.app;
    let first = dies(&mut bench, "a", 1);
    let second = dies(&mut bench, "a", 2);
    now(bench.queue.replay(app, first, at(9))).unwrap();
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Delivered);
    // There is no room for the half of it that is to be sent: none of it was accepted.
    bench.put("v", "a", 1);
    let mut refused = update(app, "u", "a", 1);
    refused.properties.push(("b".to_owned(), Value::Integer(1)));
    assert!(bench.accept_later(vec![refused])[0].is_err());
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(now(bench.queue.replay(app, second, at(9))).unwrap(), Replay::Replayed);
}

fn forgets_what_express_left(engine: impl Engine + Clone) {
    let mut bench = remembering(engine.clone());
    bench.deliver_of("u", &[("a", 1)]);
    let express = Update { lane: Lane::Express, ..update(bench.app, "u", "a", 2) };
    bench.accept_later(vec![express]);
    assert_eq!(now(bench.queue.take_express(bench.app, 9, at(9))).unwrap().subjects.len(), 1);
    // The process dies while the request is under way.
    let mut bench = remembering(engine.clone());
    now(bench.queue.recover(bench.app, at(9))).unwrap();
    let key = keys::pending(bench.app, &Subject::user("u"));
    let mut transaction = now(bench.queue.begin(Scope::App(bench.app), &[])).unwrap();
    transaction.put(&key, b"damaged".to_vec());
    now(transaction.commit()).unwrap();
    // What express carried may be upstream.
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
    let batch = bench.claim_all();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"a\":1}}\n");
}

fn doubts_after_a_death(engine: impl Engine + Clone) {
    let mut bench = remembering(engine.clone());
    let express = || Update { lane: Lane::Express, ..update(AppId(0), "u", "a", 1) };
    now(bench.queue.accept(vec![express()], at(1_000_000))).unwrap()[0].unwrap();
    now(bench.queue.take_express(bench.app, 9, at(1_000_000))).unwrap();
    // The process dies while the request is under way. Of the user nothing was remembered.
    let mut bench = remembering(engine);
    now(bench.queue.recover(bench.app, at(100_000_000))).unwrap();
    let mut goes = |micros| {
        let accepted = now(bench.queue.accept(vec![express()], at(micros))).unwrap()[0].unwrap();
        now(bench.queue.take_express(bench.app, 9, at(micros))).unwrap();
        let ends = [(Subject::user("u"), ExpressEnd::Delivered)];
        now(bench.queue.settle_express(bench.app, &ends, at(micros))).unwrap();
        accepted.disposition
    };
    // For five minutes from the next start on, what is sent may be overwritten by that.
    assert_eq!(goes(101_000_000), Disposition::Coalesced);
    assert_eq!(goes(399_000_000), Disposition::Queued);
    assert_eq!(goes(401_000_000), Disposition::Queued);
    assert_eq!(goes(402_000_000), Disposition::Unchanged);
}

#[test]
fn where_a_record_is_damaged_it_is_not_known_what_upstream_holds() {
    for is_in_flight in [false, true] {
        let engine = MemoryEngine::default();
        let mut bench = remembering(engine.clone());
        bench.deliver_of("u", &[("a", 1), ("b", 1)]);
        bench.put("u", "a", 2);
        let subject = Subject::user("u");
        let mut key = keys::pending(bench.app, &subject);
        let mut batch = None;
        if is_in_flight {
            batch = Some(bench.claim_all());
            key = keys::in_flight(bench.app, &subject);
        }
        engine.damage(&key, b"\x01nonsense");
        for (property, value) in [("a", 1), ("b", 1)] {
            assert_ne!(bench.sent(property, value), Disposition::Unchanged, "{is_in_flight}");
        }
        if let Some(batch) = batch {
            bench.settle(&batch, Settlement::Delivered);
        }
        let batch = bench.claim_all();
        let row = "{\"user_id\":\"u\",\"metadata\":{\"a\":1,\"b\":1}}\n";
        assert_eq!(bench.upload(&batch), row);
    }
}

#[test]
fn a_damaged_record_that_a_claim_meets_takes_what_is_held_along() {
    let engine = MemoryEngine::default();
    let mut bench = remembering(engine.clone());
    bench.deliver_of("u", &[("a", 1)]);
    bench.put("u", "a", 2);
    let key = keys::pending(bench.app, &Subject::user("u"));
    engine.damage(&key, b"\x01nonsense");
    assert_eq!(bench.claim(), None);
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
}
