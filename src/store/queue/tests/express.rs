//! What goes by express: it is taken alone, in order, and never lost.

use super::{
    damage::flip_a_bit,
    rescue::{serve, torn},
    *,
};
use crate::domain::{express::ExpressEnd, row::RowValues, update::Lane};

over_every_engine! {
    a_record_goes_by_express_with_all_that_waits_of_its_subject => takes_all_along;
    one_whose_subject_is_in_flight_waits_and_holds_batches_back => waits_for_flights;
    what_is_refused_waits_for_a_batch_and_keeps_its_neighbours => goes_back_refused;
    what_comes_back_refused_costs_no_neighbour_its_place => keeps_places;
    a_bulk_claim_takes_what_has_waited_for_express_too_long => falls_back;
    what_a_process_left_in_flight_the_next_one_puts_back => recovers;
    what_is_forgotten_in_flight_is_not_sent => forgets_in_flight;
    whose_subjects_are_all_in_flight_keeps_nobody_else_from_express => passes_turns;
}

impl<E: Engine + Clone> Bench<E> {
    fn wish(&mut self, user: &str, property: &str, value: i64, lane: Lane) -> u64 {
        let update = Update { lane, ..update(self.app, user, property, value) };
        self.accept(vec![update])[0].unwrap().sequence
    }

    fn take(&mut self) -> Vec<Subject> {
        now(self.queue.take_express(self.app, 10, at(2))).unwrap().subjects
    }

    fn body(&self, user: &str) -> Option<String> {
        let subject = Subject::user(user);
        let body = self.reads.express_body(self.app, &subject, RowValues::Primitive);
        now(body).unwrap().map(|body| String::from_utf8(body).unwrap())
    }

    fn end(&mut self, user: &str, end: ExpressEnd) -> usize {
        let ends = [(Subject::user(user), end)];
        now(self.queue.settle_express(self.app, &ends, at(3))).unwrap().len()
    }
}

fn takes_all_along(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.wish("u", "a", 1, Lane::Bulk);
    bench.wish("v", "a", 2, Lane::Interactive);
    let last = bench.wish("u", "b", 3, Lane::Express);
    assert_eq!(bench.take(), [Subject::user("u")]);
    let body = r#"{"user_id":"u","metadata":{"a":1,"b":3}}"#;
    assert_eq!(bench.body("u").as_deref(), Some(body));
    assert_eq!(bench.find("u", last), Found::InExpress);
    let depth = bench.queue.depth(bench.app);
    assert_eq!((depth.records, depth.express_records, depth.express_in_flight), (1, 0, 1));
    assert_eq!(bench.end("u", ExpressEnd::Delivered), 1);
    let Found::Delivered { batch: None, by_express: true, .. } = bench.find("u", last) else {
        panic!("not delivered by express")
    };
    assert_eq!(bench.queue.depth(bench.app).express_in_flight, 0);
    let batch = bench.claim().unwrap();
    assert_eq!(bench.upload(&batch), "{\"user_id\":\"v\",\"metadata\":{\"a\":2}}\n");
}

fn waits_for_flights(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.wish("u", "a", 1, Lane::Interactive);
    let batch = bench.claim().unwrap();
    bench.wish("u", "a", 2, Lane::Express);
    assert_eq!(bench.take(), []);
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.take(), [Subject::user("u")]);
    bench.wish("u", "a", 3, Lane::Interactive);
    assert_eq!(bench.claim(), None);
    assert_eq!(bench.end("u", ExpressEnd::Back), 0);
    // It goes back under what has come since.
    assert_eq!(bench.take(), [Subject::user("u")]);
    assert_eq!(bench.body("u").as_deref(), Some(r#"{"user_id":"u","metadata":{"a":3}}"#));
}

fn goes_back_refused(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    // One commit, one page: its first entry is left behind by the record that it leads to.
    let group = ["u", "v", "w"].map(|user| update(bench.app, user, "a", 1));
    bench.accept(group.to_vec());
    bench.wish("u", "a", 2, Lane::Express);
    assert_eq!(bench.take(), [Subject::user("u")]);
    assert_eq!(bench.end("u", ExpressEnd::Refused), 0);
    assert_eq!(bench.take(), []);
    let depth = bench.queue.depth(bench.app);
    assert_eq!((depth.records, depth.express_records), (3, 0));
    let batch = bench.claim().unwrap();
    assert_eq!(batch.rows, 3);
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
}

fn keeps_places(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let group = ["u", "v", "w"].map(|user| update(bench.app, user, "a", 1));
    bench.accept(group.to_vec());
    // The page of the three still has an entry of "v", and "v" and "x" come to stand in another.
    bench.wish("v", "a", 2, Lane::Express);
    bench.wish("x", "a", 2, Lane::Express);
    let both = ["v", "x"].map(Subject::user);
    assert_eq!(bench.take(), both);
    let ends = both.map(|subject| (subject, ExpressEnd::Refused));
    now(bench.queue.settle_express(bench.app, &ends, at(3))).unwrap();
    // Once "u" is gone, both pages begin with "v".
    for expected in [["u"].as_slice(), &["v", "w", "x"]] {
        let limits = BatchLimits { rows_max: if expected.len() == 1 { 1 } else { 10 }, ..BATCH };
        let Claim::Complete(Some(batch)) =
            now(bench.queue.claim(bench.app, limits, None, at(4))).unwrap()
        else {
            panic!("{expected:?} wait")
        };
        let upload = bench.upload(&batch);
        let ids: Vec<_> = expected.iter().map(|id| upload.contains(&format!("{id:?}"))).collect();
        assert_eq!((batch.rows, ids), (expected.len() as u64, vec![true; expected.len()]));
        bench.settle(&batch, Settlement::Delivered);
    }
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
}

fn falls_back(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.wish("u", "a", 1, Lane::Interactive);
    bench.wish("v", "a", 2, Lane::Express);
    let claim = |bench: &mut Bench<_>, micros| {
        let limits = BatchLimits { rows_max: 1, ..BATCH };
        match now(bench.queue.claim(bench.app, limits, None, at(micros))).unwrap() {
            Claim::Continues(_) => panic!("one row is one chunk"),
            Claim::Complete(batch) => batch.map(|batch| *batch),
        }
    };
    let early = claim(&mut bench, 2_000_000).unwrap();
    assert!(bench.upload(&early).contains("\"u\""), "the express record is left to express");
    bench.settle(&early, Settlement::Delivered);
    assert_eq!(claim(&mut bench, 2_000_000), None);
    bench.wish("w", "a", 3, Lane::Interactive);
    let late = claim(&mut bench, 2_000_001).unwrap();
    assert!(bench.upload(&late).contains("\"v\""), "it goes before the interactive one");
}

fn recovers(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine.clone());
    let first = bench.wish("u", "a", 1, Lane::Express);
    assert_eq!(bench.take().len(), 1);
    let second = bench.wish("u", "b", 2, Lane::Bulk);
    let mut bench = Bench::new(engine);
    now(bench.queue.recover(bench.app, at(2))).unwrap();
    let depth = bench.queue.depth(bench.app);
    assert_eq!((depth.records, depth.express_records, depth.express_in_flight), (1, 1, 0));
    let found = bench.find("u", first);
    assert!(matches!(found, Found::Pending { last_sequence, .. } if last_sequence == second));
    assert_eq!(bench.take().len(), 1);
    assert_eq!(bench.body("u").as_deref(), Some(r#"{"user_id":"u","metadata":{"a":1,"b":2}}"#));
}

fn forgets_in_flight(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.wish("u", "a", 1, Lane::Express);
    bench.take();
    let forgotten = now(bench.queue.forget(bench.app, &Subject::user("u"), at(2))).unwrap();
    assert_eq!(forgotten.in_flight, 1);
    assert_eq!(bench.body("u"), None);
    assert_eq!(bench.end("u", ExpressEnd::Back), 0);
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
}

fn passes_turns(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let of_all = |lane| {
        let one = |n| Update { lane, ..update(AppId(0), &format!("u{n}"), "a", 1) };
        (0..1_100).map(one).collect::<Vec<_>>()
    };
    bench.accept(of_all(Lane::Interactive));
    let batch = bench.claim().unwrap();
    bench.accept(of_all(Lane::Express));
    let express = Update { lane: Lane::Express, ..update(bench.app, "v", "a", 1) };
    bench.accept(vec![Update { client: ClientId(1), ..express }]);
    let taken = now(bench.queue.take_express(bench.app, 10, at(2))).unwrap();
    assert_eq!((taken.subjects, taken.cut_short), (vec![Subject::user("v")], true));
    bench.settle(&batch, Settlement::Delivered);
    let taken = now(bench.queue.take_express(bench.app, 10, at(2))).unwrap();
    assert_eq!((taken.subjects.len(), taken.cut_short), (10, false));
    assert_eq!(bench.queue.depth(bench.app).express_records, 1_090);
}

#[test]
fn nothing_is_taken_while_the_job_of_a_lost_batch_may_run() {
    let engine = MemoryEngine::default();
    let (bench, batch) = torn(&engine, BatchState::Running);
    flip_a_bit(&engine, &keys::batch(bench.app, batch.id.number));
    let (mut bench, recovered) = serve(&engine);
    assert!(recovered.rescue.unwrap().job_unknown);
    // Its rows are back, and one of them is wished for now: the job may still write the old value.
    bench.wish("u", "a", 9, Lane::Express);
    assert_eq!(bench.take(), []);
    // That upstream has taken another job says that it does not run any more.
    let batch = bench.claim().unwrap();
    for (state, taken) in [(BatchState::Submitting, vec![]), (BatchState::Running, vec!["u"])] {
        let batch = Batch { state, ..batch.clone() };
        now(bench.queue.advance(&batch, recovered.memory)).unwrap();
        let taken: Vec<_> = taken.into_iter().map(Subject::user).collect();
        assert_eq!(bench.take(), taken, "{state:?}");
    }
}
