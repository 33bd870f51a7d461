//! What upstream holds is not sent again.

mod letters;
mod order;

use std::time::Duration;

use super::*;
use crate::domain::{batch::DeadReason, delivered::Suppression, express::ExpressEnd};

over_every_engine! {
    what_upstream_holds_is_not_sent_again => is_not_sent_again;
    what_changed_goes_without_the_rest => goes_without_the_rest;
    what_waits_or_is_in_flight_decides_first => decides_first;
    what_may_be_upstream_or_not_is_sent => is_sent_in_doubt;
    what_is_remembered_outlives_a_restart_and_ends_with_the_setting => outlives_a_restart;
    a_value_is_sent_again_after_a_while => is_sent_after_a_while;
    a_forgotten_user_is_not_remembered => is_forgotten;
    what_is_repeated_in_flight_waits_no_more_once_it_is_delivered => is_struck_when_delivered;
    what_is_repeated_while_it_goes_by_express_is_not_sent_again => is_struck_after_express;
    what_is_unchanged_is_no_arrival => is_no_arrival;
    what_is_unchanged_again_and_again_stays_so => stays_unchanged;
    pruning_what_is_remembered_keeps_nothing_else_from_it => prunes_all_at_once;
    what_an_app_remembers_that_is_not_configured_is_kept_for_a_week => is_kept_a_week;
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn remembering<E: Engine + Clone>(engine: E) -> Bench<E> {
    remembering_of(engine, 0)
}

fn remembering_of<E: Engine + Clone>(engine: E, account: u32) -> Bench<E> {
    let mut bench = Bench::new(engine);
    let suppression = Suppression { refresh_after: WEEK, properties_max: 3, account };
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

    /// What became of an update of `u` that occurred then.
    fn occurred(&mut self, micros: i64, value: i64) -> Accepted {
        let update = update(self.app, "u", "a", value);
        let update = Update { occurred_at: Some(at(micros)), ..update };
        self.accept_later(vec![update])[0].unwrap()
    }

    /// What waits is delivered.
    fn deliver_all(&mut self) {
        let batch = self.claim_all();
        self.settle(&batch, Settlement::Delivered);
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

fn stays_unchanged(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.deliver_of("u", &[("a", 1)]);
    let mut unchanged = Vec::new();
    let repeat = |bench: &mut Bench<_>, unchanged: &mut Vec<u64>| {
        for value in 0..40 {
            bench.put("u", "b", value);
            let same = bench.put("u", "a", 1);
            // It joins what waits, once that is in many pieces.
            unchanged.extend((same.disposition == Disposition::Unchanged).then_some(same.sequence));
        }
    };
    repeat(&mut bench, &mut unchanged);
    let batch = bench.claim_all();
    repeat(&mut bench, &mut unchanged);
    bench.settle(&batch, Settlement::Requeued);
    assert!(unchanged.len() > 10 && unchanged.len() < 20, "{}", unchanged.len());
    let are_delivered = |bench: &Bench<_>| {
        unchanged.iter().all(|it| bench.find("u", *it) == Found::DeliveredLongAgo)
    };
    assert!(are_delivered(&bench));
    let batch = bench.claim_all();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"b\":39}}\n");
    bench.settle(&batch, Settlement::Dead(DeadReason::BadRow));
    assert!(are_delivered(&bench));
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
    now(bench.queue.prune(PruneCursor::default(), retention)).unwrap();
    let mut transaction = now(bench.queue.engine().begin()).unwrap();
    assert!(now(transaction.scan(keys::all_held(None), 9)).unwrap().is_empty());
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

fn is_struck_when_delivered(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.put("u", "a", 1);
    let batch = bench.claim_all();
    // Until it is delivered, it might not be.
    let again = bench.put("u", "a", 1);
    assert_eq!(again.disposition, Disposition::Queued);
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
    let found = bench.find("u", again.sequence);
    assert!(matches!(found, Found::Delivered { batch: Some(_), .. }), "{found:?}");
    assert_eq!(bench.claim(), None);
    // What is news goes, without the rest.
    bench.put("u", "a", 2);
    let batch = bench.claim_all();
    bench.put("u", "a", 2);
    bench.put("u", "b", 1);
    bench.settle(&batch, Settlement::Delivered);
    let batch = bench.claim_all();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"u\",\"metadata\":{\"b\":1}}\n");
    bench.settle(&batch, Settlement::Delivered);
    // In doubt all of it goes.
    bench.put("u", "a", 3);
    let batch = bench.claim_all();
    bench.put("u", "a", 3);
    bench.settle(&Batch { completed_rows: 0, ..batch }, Settlement::Delivered);
    assert_eq!(bench.queue.depth(bench.app).records, 1);
}

fn is_struck_after_express(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    let express = || Update { lane: Lane::Express, ..update(AppId(0), "u", "a", 1) };
    bench.accept_later(vec![express()]);
    let taken = now(bench.queue.take_express(bench.app, 9, at(2))).unwrap().subjects;
    assert_eq!(taken.len(), 1);
    let again = bench.accept_later(vec![express()])[0].unwrap();
    let ends = [(Subject::user("u"), ExpressEnd::Delivered)];
    now(bench.queue.settle_express(bench.app, &ends, at(9))).unwrap();
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
    let found = bench.find("u", again.sequence);
    assert!(matches!(found, Found::Delivered { by_express: true, .. }), "{found:?}");
}

fn is_no_arrival(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    bench.deliver_of("u", &[("a", 1)]);
    let before = bench.queue.urgent_updates(bench.app);
    let express = Update { lane: Lane::Express, ..update(bench.app, "u", "a", 1) };
    bench.accept_later(vec![update(bench.app, "u", "a", 1), express]);
    assert_eq!(bench.queue.urgent_updates(bench.app), before);
    assert_eq!(bench.queue.express_updates(bench.app), 0);
    bench.sent("a", 2);
    assert_eq!(bench.queue.urgent_updates(bench.app), before + 1);
}

fn prunes_all_at_once(engine: impl Engine + Clone) {
    let mut bench = remembering(engine);
    let users = (0..2_500).map(|n| update(bench.app, &format!("u{n}"), "a", 1)).collect();
    bench.accept_later(users);
    bench.deliver_all();
    let mut from = PruneCursor::default();
    for round in 0..6 {
        bench.deliver_of(&format!("v{round}"), &[("a", 1)]);
        let retention = Retention { batches_max: 0, ..Retention::default() };
        from = now(bench.queue.prune(from, retention)).unwrap();
        assert_eq!(now(bench.reads.batches(bench.app, u64::MAX, 9)).unwrap(), [], "{round}");
        assert_eq!(from.held.is_some(), round % 3 < 2, "{round}");
    }
}

fn is_kept_a_week(engine: impl Engine + Clone) {
    if engine.sharing() != Sharing::Alone {
        // There an app is pruned by who delivers it, and nobody does.
        return;
    }
    let mut bench = remembering(engine.clone());
    bench.deliver_of("u", &[("a", 1)]);
    drop(bench);
    // The configuration has no such app now.
    let mut queue = now(Queue::open(engine, LIMITS, 7)).unwrap();
    for (days, left) in [(6, 1), (8, 0)] {
        let wall = at(days * 86_400_000_000);
        let retention = Retention { now: Now { wall, ..Now::default() }, ..Retention::default() };
        now(queue.prune(PruneCursor::default(), retention)).unwrap();
        let mut transaction = now(queue.engine().begin()).unwrap();
        let held = now(transaction.scan(keys::all_held(None), 9)).unwrap();
        assert_eq!(held.len(), left, "after {days} days");
    }
}
