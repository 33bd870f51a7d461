//! What upstream holds is not sent again.

use std::time::Duration;

use super::*;
use crate::{
    domain::{batch::DeadReason, delivered::Suppression, update::Lane},
    store::queue::{DeadFilter, DeadId, Replay},
};

over_every_engine! {
    what_upstream_holds_is_not_sent_again => is_not_sent_again;
    what_changed_goes_without_the_rest => goes_without_the_rest;
    what_waits_or_is_in_flight_decides_first => decides_first;
    what_may_be_upstream_or_not_is_sent => is_sent_in_doubt;
    what_is_remembered_outlives_a_restart_and_ends_with_the_setting => outlives_a_restart;
    a_value_is_sent_again_after_a_while => is_sent_after_a_while;
    older_news_than_what_was_delivered_come_too_late => come_too_late;
    a_forgotten_user_is_not_remembered => is_forgotten;
    what_is_accepted_and_not_sent_is_struck_from_dead_letters => strikes_letters;
    what_is_refused_strikes_nothing => strikes_nothing;
    of_what_express_left_behind_nothing_is_known => forgets_what_express_left;
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn remembering(engine: impl Engine + Clone) -> Bench<impl Engine + Clone> {
    let mut bench = Bench::new(engine);
    let suppression = Suppression { refresh_after: WEEK, properties_max: 3 };
    now(bench.queue.suppress(bench.app, Some(suppression))).unwrap();
    bench
}

impl<E: Engine + Clone> Bench<E> {
    /// Accepts updates after what was settled.
    fn accept_later(&mut self, updates: Vec<Update>) -> Vec<Result<Accepted, QueueRefusal>> {
        now(self.queue.accept(updates, at(9))).unwrap()
    }

    fn put(&mut self, user: &str, property: &str, value: i64) -> Accepted {
        self.accept_later(vec![update(self.app, user, property, value)])[0].unwrap()
    }

    /// A user's properties are delivered.
    fn deliver_of(&mut self, user: &str, properties: &[(&str, i64)]) {
        for (property, value) in properties {
            self.put(user, property, *value);
        }
        let batch = self.claim_all();
        self.settle(&batch, Settlement::Delivered);
    }

    /// Claims what waits. Its job completes with all of it, if it does.
    fn claim_all(&mut self) -> Batch {
        let batch = self.claim().expect("something waits");
        Batch { completed_rows: batch.rows, ..batch }
    }

    /// What became of an update of `u`.
    fn sent(&mut self, property: &str, value: i64) -> Disposition {
        self.put("u", property, value).disposition
    }
}

fn is_not_sent_again(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.deliver_of("u", &[("a", 1)]);
    let unchanged = bench.put("u", "a", 1);
    assert_eq!(unchanged.disposition, Disposition::Unchanged);
    assert_eq!(bench.queue.depth(bench.app).records, 0);
    assert_eq!(bench.claim(), None);
    // It is upstream, as its receipt tells.
    assert_eq!(bench.find("u", unchanged.sequence), Found::DeliveredLongAgo);
    assert_eq!(bench.put("v", "a", 1).disposition, Disposition::Queued, "another user");
    assert_eq!(bench.sent("a", 2), Disposition::Queued);
}

fn goes_without_the_rest(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.deliver_of("u", &[("a", 1), ("b", 1)]);
    let mut both = update(bench.app, "u", "a", 1);
    both.properties.push(("b".to_owned(), Value::Integer(2)));
    assert_eq!(bench.accept_later(vec![both])[0].unwrap().disposition, Disposition::Queued);
    let batch = bench.claim_all();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"b\":2}}\n");
    // Only so many properties are remembered: of the oldest nothing is known any more.
    bench.settle(&batch, Settlement::Delivered);
    bench.deliver_of("u", &[("c", 1), ("d", 1)]);
    let of = |bench: &mut Bench<_>, name| bench.put("u", name, if name == "b" { 2 } else { 1 });
    assert_eq!(of(&mut bench, "b").disposition, Disposition::Unchanged);
    assert_eq!(of(&mut bench, "d").disposition, Disposition::Unchanged);
}

fn decides_first(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.deliver_of("u", &[("a", 1)]);
    // 2 waits, so that 1 is news.
    assert_eq!(bench.sent("a", 2), Disposition::Queued);
    assert_eq!(bench.sent("a", 1), Disposition::Coalesced);
    assert_eq!(bench.sent("a", 2), Disposition::Coalesced);
    let batch = bench.claim_all();
    // The same while 2 is in flight.
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
    bench.settle(&batch, Settlement::Delivered);
    let batch = bench.claim_all();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"a\":1}}\n");
}

fn is_sent_in_doubt(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    for doubt in 0..3 {
        // Values of its own each time, so that it is not what upstream holds already.
        let value = 10 * doubt + 1;
        bench.deliver_of("u", &[("a", value), ("b", value)]);
        assert_eq!(bench.sent("a", value), Disposition::Unchanged);
        bench.put("u", "a", value + 1);
        let batch = bench.claim_all();
        match doubt {
            // It counts as delivered, and a row may be missing.
            0 => bench.settle(&Batch { completed_rows: 0, ..batch }, Settlement::Delivered),
            1 => bench.settle(&batch, Settlement::Dead(DeadReason::JobFailed)),
            _ => {
                bench.settle(&batch, Settlement::Requeued);
                let batch = bench.claim_all();
                bench.settle(&batch, Settlement::Dead(DeadReason::JobFailed));
            }
        }
        assert_eq!(bench.sent("a", value), Disposition::Queued, "{doubt}");
        assert_eq!(bench.sent("b", value), Disposition::Unchanged, "nobody touched it");
        let batch = bench.claim_all();
        let row = format!("{{\"user_id\":\"u\",\"metadata\":{{\"a\":{value}}}}}\n");
        assert_eq!(bench.upload(&batch), row);
        bench.settle(&batch, Settlement::Delivered);
    }
}

fn outlives_a_restart(engine: impl Engine + Clone) {
    let mut bench = remembering(engine.clone());
    bench.deliver_of("u", &[("a", 1)]);
    let mut bench = remembering(engine.clone());
    assert_eq!(bench.sent("a", 1), Disposition::Unchanged);
    // While it is off, something else is delivered, of which nothing is noted.
    let mut bench = Bench::new(engine.clone());
    now(bench.queue.suppress(bench.app, None)).unwrap();
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
    bench.deliver_of("u", &[("a", 2)]);
    let mut bench = remembering(engine);
    assert_eq!(bench.sent("a", 1), Disposition::Queued, "what was remembered is not true any more");
}

fn is_sent_after_a_while(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    let mut at_time = |micros: i64, deliver: bool| {
        let one = vec![update(bench.app, "u", "a", 1)];
        let outcome = now(bench.queue.accept(one, at(micros))).unwrap()[0].unwrap().disposition;
        if deliver {
            let batch = bench.claim_all();
            let settling =
                bench.queue.settle(&batch, Settlement::Delivered, Memory::default(), at(micros));
            assert!(now(settling).unwrap().complete);
        }
        outcome
    };
    let week = 7 * 86_400_000_000;
    assert_eq!(at_time(10, true), Disposition::Queued);
    assert_eq!(at_time(10 + week, false), Disposition::Unchanged);
    assert_eq!(at_time(5, false), Disposition::Queued, "delivered in what is the future by now");
    assert_eq!(at_time(11 + week, true), Disposition::Coalesced);
    assert_eq!(at_time(12 + week, false), Disposition::Unchanged);
    // By then nothing is remembered, nor stored.
    let retention = Retention {
        now: Now { wall: at(13 + 2 * week), ..Default::default() },
        ..Retention::default()
    };
    let mut from = None;
    let mut rounds = 0;
    while rounds == 0 || from.is_some() {
        from = now(bench.queue.prune(from, retention)).unwrap();
        rounds += 1;
    }
    let mut transaction = now(bench.queue.engine().begin()).unwrap();
    assert!(now(transaction.scan(keys::all_held(None), 9)).unwrap().is_empty());
}

fn come_too_late(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    let app = bench.app;
    let mut sent = |occurred: i64, value: i64| {
        let update = Update { occurred_at: Some(at(occurred)), ..update(app, "u", "a", value) };
        bench.accept_later(vec![update])[0].unwrap().disposition
    };
    assert_eq!(sent(50, 1), Disposition::Queued);
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Delivered);
    let mut sent = |occurred: i64, value: i64| {
        let update = Update { occurred_at: Some(at(occurred)), ..update(app, "u", "a", value) };
        bench.accept_later(vec![update])[0].unwrap().disposition
    };
    assert_eq!(sent(40, 2), Disposition::Unchanged, "older than what upstream holds");
    assert_eq!(sent(90, 1), Disposition::Unchanged, "as it is upstream");
    assert_eq!(sent(80, 2), Disposition::Unchanged, "older than when it was as upstream holds it");
    assert_eq!(sent(91, 2), Disposition::Queued);
    // Without a time of its own an update is as of now, whatever the clock says.
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.sent("a", 3), Disposition::Queued);
}

fn is_forgotten(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.deliver_of("u", &[("a", 1)]);
    let subject = Subject::user("u");
    let forgotten = now(bench.queue.forget(bench.app, &subject, at(9))).unwrap();
    let traces = now(bench.reads.traces(bench.app, &subject, forgotten.up_to)).unwrap();
    assert_eq!(traces.left, 0);
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
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
        assert_eq!(now(bench.queue.replay(app, first)).unwrap(), Replay::Replayed);
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
        assert_eq!(now(bench.queue.replay(app, second)).unwrap(), Replay::NotThere);
        // A letter that came later is not older news.
        let third = dies(&mut bench, "a", base + 3);
        bench.accept_later(vec![update(app, "u", "c", 7)]);
        assert_eq!(now(bench.queue.replay(app, third)).unwrap(), Replay::Replayed);
        while bench.claim().is_some_and(|batch| {
            bench.settle(&batch, Settlement::Delivered);
            true
        }) {}
    }
}

fn strikes_nothing(engine: impl Engine + Clone) {
    let mut bench = Bench::with_limits(engine, QueueLimits { records_max: 1, ..LIMITS });
    let suppression = Suppression { refresh_after: WEEK, properties_max: 3 };
    now(bench.queue.suppress(bench.app, Some(suppression))).unwrap();
    let app = bench.app;
    let first = dies(&mut bench, "a", 1);
    let second = dies(&mut bench, "a", 2);
    now(bench.queue.replay(app, first)).unwrap();
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Delivered);
    // There is no room for the half of it that is to be sent: none of it was accepted.
    bench.put("v", "a", 1);
    let mut refused = update(app, "u", "a", 1);
    refused.properties.push(("b".to_owned(), Value::Integer(1)));
    assert!(bench.accept_later(vec![refused])[0].is_err());
    let batch = bench.claim_all();
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(now(bench.queue.replay(app, second)).unwrap(), Replay::Replayed);
}

fn forgets_what_express_left(engine: impl Engine + Clone) {
    let mut bench = remembering(engine.clone());
    bench.deliver_of("u", &[("a", 1)]);
    let express = Update { lane: Lane::Express, ..update(bench.app, "u", "a", 2) };
    bench.accept_later(vec![express]);
    assert_eq!(now(bench.queue.take_express(bench.app, 9, at(9))).unwrap().len(), 1);
    // The process dies while the request is under way. The next one puts the record back before it
    // knows that the app remembers anything.
    let mut bench = remembering(engine.clone());
    now(bench.queue.recover(bench.app)).unwrap();
    let key = keys::pending(bench.app, &Subject::user("u"));
    let mut transaction = now(bench.queue.engine().begin()).unwrap();
    transaction.put(&key, b"damaged".to_vec());
    now(transaction.commit()).unwrap();
    // What express carried may be upstream.
    assert_eq!(bench.sent("a", 1), Disposition::Queued);
    let batch = bench.claim_all();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"a\":1}}\n");
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
