//! Forgetting a subject.

use super::*;
use crate::{
    domain::batch::{Cut, DeadReason},
    store::{mention, queue::Forgotten},
};

over_every_engine! {
    all_that_is_kept_of_a_subject_is_erased => erases;
    what_is_in_flight_goes_without_a_trace_however_its_batch_ends => goes_without_a_trace;
    stale_pages_and_upstreams_words_are_swept => sweeps;
    of_a_split_batch_the_row_stays_erased => stays_erased;
}

const DEAD: Settlement = Settlement::Dead(DeadReason::BadRow);

impl<E: Engine + Clone> Bench<E> {
    /// Forgets a user, and returns what was erased, how many mentions, and what is left.
    pub(super) fn forget(&mut self, user: &str) -> (Forgotten, u64, mention::Traces) {
        let subject = Subject::user(user);
        let forgotten = now(self.queue.forget(self.app, &subject, at(9))).unwrap();
        let (mut mentions, mut from) = (0, None);
        loop {
            let swept = now(self.queue.sweep(self.app, &subject, forgotten.up_to, from)).unwrap();
            mentions += swept.erased;
            from = swept.next;
            if from.is_none() {
                break;
            }
        }
        let traces = now(self.reads.traces(self.app, &subject, forgotten.up_to)).unwrap();
        assert!(traces.entries > 0);
        (forgotten, mentions, traces)
    }

    /// Whether any key or value holds the text.
    pub(super) fn holds(&self, text: &str) -> bool {
        let all = vec![0]..=vec![0xfe; 2_048];
        let mut transaction = now(self.queue.engine().begin()).unwrap();
        let entries = now(transaction.scan(all, usize::MAX)).unwrap();
        let within = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        entries.iter().any(|(key, value)| within(key) || within(value.as_ref()))
    }
}

fn erases(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let delivered = bench.set("forget-me", "a", 1).sequence;
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    let dead = bench.set("forget-me", "b", 1).sequence;
    let batch = bench.claim().unwrap();
    bench.settle(&batch, DEAD);
    let pending = bench.set("forget-me", "c", 1).sequence;
    let other = bench.set("forget-me-not", "c", 1).sequence;
    assert!(bench.holds("forget-me"));

    let (forgotten, mentions, traces) = bench.forget("forget-me");
    let expected = Forgotten {
        up_to: other,
        pending: 1,
        in_flight: 0,
        dead_letters: 1,
        deliveries: 1,
        quarantined: 0,
    };
    assert_eq!((forgotten, mentions, traces.left), (expected, 1, 0));
    assert_eq!((traces.until_settled, traces.newer), (0, 0));
    for sequence in [delivered, dead, pending] {
        assert_eq!(bench.find("forget-me", sequence), Found::Forgotten);
    }
    let depth = bench.queue.depth(bench.app);
    assert_eq!((depth.records, depth.dead_letters), (1, 0));
    assert!(matches!(bench.find("forget-me-not", other), Found::Pending { place: 0, .. }));

    // What comes later is delivered as any other, and known again.
    let later = bench.set("forget-me", "d", 2).sequence;
    assert!(matches!(bench.find("forget-me", later), Found::Pending { .. }));
    assert_eq!(bench.find("forget-me", pending), Found::Forgotten);
    let batch = bench.claim().unwrap();
    let upload = bench.upload(&batch);
    assert!(upload.contains("{\"user_id\":\"forget-me\",\"metadata\":{\"d\":2}}"), "{upload}");
    bench.settle(&batch, Settlement::Delivered);
    assert!(matches!(bench.find("forget-me", later), Found::Delivered { .. }));
    bench.forget("forget-me");
    bench.forget("forget-me-not");
    assert!(!bench.holds("forget-me"));
}

fn goes_without_a_trace(engine: impl Engine + Clone) {
    let split = Settlement::Split(Cut::Halves);
    for (settlement, user) in
        [(Settlement::Delivered, "u1"), (Settlement::Requeued, "u2"), (DEAD, "u3"), (split, "u4")]
    {
        let mut bench = Bench::new(engine.clone());
        let sequence = bench.set(user, "secret", 4_711).sequence;
        let batch = bench.claim().unwrap();
        let (forgotten, _, traces) = bench.forget(user);
        assert_eq!((forgotten.in_flight, traces.left, traces.until_settled), (1, 0, 1));
        assert_eq!(bench.find(user, sequence), Found::Forgotten);
        // Should it have to be sent again, it says nothing.
        assert_eq!(bench.upload(&batch), format!("{{\"user_id\":\"{user}\"}}\n"));
        assert!(!bench.holds("secret"));
        let later = bench.set(user, "plan", 1).sequence;

        bench.settle(&batch, settlement);
        if settlement == split {
            let part = now(bench.queue.recover(bench.app, at(3))).unwrap().unsettled.unwrap();
            bench.settle(&part, Settlement::Requeued);
        }
        assert_eq!(bench.find(user, sequence), Found::Forgotten);
        assert_eq!(bench.queue.depth(bench.app).dead_letters, 0);
        let batch = bench.claim().unwrap();
        let expected = format!("{{\"user_id\":\"{user}\",\"metadata\":{{\"plan\":1}}}}\n");
        assert_eq!(bench.upload(&batch), expected, "{settlement:?}");
        bench.settle(&batch, Settlement::Delivered);
        assert!(matches!(bench.find(user, later), Found::Delivered { .. }));
        assert_eq!(bench.forget(user).2.left, 0);
    }
}

fn sweeps(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    // Of three in one page the middle one is forgotten; another page holds it alone.
    let bulk = |app, user: &str| Update { lane: Lane::Bulk, ..update(app, user, "a", 1) };
    let app = bench.app;
    bench.accept(["first", "middle", "last"].map(|user| bulk(app, user)).into());
    bench.set("middle", "a", 2);
    let (forgotten, mentions, traces) = bench.forget("middle");
    assert_eq!((forgotten.pending, mentions, traces.left), (1, 2, 0));
    assert!(!bench.holds("middle"));
    let batch = bench.claim().unwrap();
    assert_eq!(bench.upload(&batch).lines().count(), 2);
    // Upstream names it in its words.
    bench.settle(&Batch { last_error: "no user middle".into(), ..batch }, Settlement::Requeued);
    assert!(bench.holds("middle"));
    assert_eq!(bench.forget("middle").1, 1);
    assert!(!bench.holds("middle"));
    // The status before its words is no user.
    let batch = bench.claim().unwrap();
    bench.settle(&Batch { last_error: "422: no".into(), ..batch }, Settlement::Requeued);
    let (_, mentions, traces) = bench.forget("422");
    assert_eq!((mentions, traces.left), (0, 0));
    // The first of a page is forgotten: the page gets another key.
    let (_, mentions, traces) = bench.forget("first");
    assert!(mentions >= 1 && traces.left == 0);
    let batch = bench.claim().unwrap();
    assert!(bench.upload(&batch).starts_with("{\"user_id\":\"last\""));
}

fn stays_erased(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    for user in ["u1", "u2", "u3"] {
        bench.set(user, "secret", 1);
    }
    let batch = bench.claim().unwrap();
    bench.forget("u2");
    bench.settle(&batch, Settlement::Split(Cut::Probe(1)));
    let mut rows = Vec::new();
    while let Some(part) = now(bench.queue.recover(bench.app, at(3))).unwrap().unsettled {
        rows.push(bench.upload(&part));
        bench.settle(&part, Settlement::Delivered);
    }
    let secret = |user| format!("{{\"user_id\":\"{user}\",\"metadata\":{{\"secret\":1}}}}\n");
    assert_eq!(rows, ["{\"user_id\":\"u2\"}\n".to_owned(), secret("u1"), secret("u3")]);
    assert_eq!(bench.forget("u2").2.left, 0);
}
