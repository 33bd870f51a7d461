//! What operators ask of a subject, of all that waits, and of clients.

use super::*;
use crate::domain::{batch::Happening, express::ExpressEnd};

over_every_engine! {
    a_subject_is_seen_wherever_its_records_are => sees_all;
    what_a_batch_is_split_into_says_of_what_it_is_a_part => parts_know_their_parent;
    pending_records_are_read_page_by_page => reads_pages;
    the_oldest_record_of_each_clients_own_is_found => finds_the_oldest;
}

impl<E: Engine + Clone> Bench<E> {
    fn subject(&self, user: &str) -> SubjectRecords {
        now(self.reads.subject(self.app, &Subject::user(user))).unwrap()
    }
}

fn sees_all(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    assert_eq!(bench.subject("u"), SubjectRecords::default());
    let first = bench.set("u", "a", 1).sequence;
    bench.set("v", "a", 1);
    let last = bench.set("u", "b", 2).sequence;
    let seen = bench.subject("u");
    let pending = seen.pending.as_ref().unwrap();
    assert_eq!((pending.first_sequence, pending.last_sequence), (first, last));
    assert_eq!((seen.in_flight, seen.deliveries.len()), (None, 0));

    let batch = bench.claim().unwrap();
    let newer = bench.set("u", "a", 3).sequence;
    let seen = bench.subject("u");
    assert_eq!(seen.pending.unwrap().first_sequence, newer);
    let in_flight = seen.in_flight.unwrap();
    assert_eq!((in_flight.record.last_sequence, in_flight.batch.unwrap().id), (last, batch.id));

    bench.settle(&batch, Settlement::Delivered);
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    let seen = bench.subject("u");
    assert_eq!((seen.pending, seen.in_flight), (None, None));
    let sequences: Vec<_> = seen.deliveries.iter().map(|it| it.sequences).collect();
    assert_eq!(sequences, [(newer, newer), (first, last)], "newest first");
    assert_eq!(seen.deliveries[0].batch.as_ref().unwrap().id, batch.id);

    let update = Update { lane: Lane::Express, ..update(bench.app, "u", "a", 4) };
    let by_express = bench.accept(vec![update])[0].unwrap().sequence;
    now(bench.queue.take_express(bench.app, 9, at(4))).unwrap();
    let in_flight = bench.subject("u").in_flight.unwrap();
    assert_eq!((in_flight.batch, in_flight.record.last_sequence), (None, by_express));
    let ends = [(Subject::user("u"), ExpressEnd::Delivered)];
    let settled = now(bench.queue.settle_express(bench.app, &ends, at(5))).unwrap();
    assert_eq!(
        settled,
        [SettledRow { client: ClientId(0), lane: Lane::Express, accepted_at: at(1) }]
    );
    let seen = bench.subject("u");
    assert!(seen.deliveries[0].by_express && seen.deliveries[0].batch.is_none());
    assert!(!seen.is_remembered);
}

fn parts_know_their_parent(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    for user in ["a", "b", "c"] {
        bench.set(user, "p", 1);
    }
    let batch = bench.claim().unwrap();
    let words = |batch: &Batch| batch.events.iter().map(|event| event.what).collect::<Vec<_>>();
    assert_eq!((batch.parent, words(&batch)), (None, vec![Happening::Claimed]));
    let cut = Settlement::Split(crate::domain::batch::Cut::Halves);
    bench.settle(&batch, cut);
    let batches = now(bench.reads.batches(bench.app, u64::MAX, 9)).unwrap();
    let parts = batches.iter().filter(|part| part.parent == Some(batch.id));
    let parts: Vec<_> = parts.map(|part| (part.rows, words(part))).collect();
    assert_eq!(parts.len(), 2);
    assert!(parts.iter().all(|(_, words)| *words == [Happening::Claimed]));
}

fn reads_pages(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let users: Vec<String> = (0..7).map(|nth| format!("user-{nth}")).collect();
    for user in &users {
        bench.set(user, "p", 1);
    }
    let (mut read, mut from) = (Vec::new(), None);
    loop {
        let page = now(bench.reads.pending(bench.app, from, 3)).unwrap();
        assert!(page.records.len() <= 3);
        read.extend(page.records.into_iter().map(|(subject, _)| subject.id));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(read, users);
}

fn finds_the_oldest(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let names =
        [("crm".to_owned(), ClientTerms::default()), ("erp".to_owned(), ClientTerms::default())];
    let [crm, erp]: [ClientId; 2] = now(bench.queue.clients(&names)).unwrap().try_into().unwrap();
    let mut accept = |client, user: &str, lane, micros| {
        let update = Update { client, lane, ..update(bench.app, user, "p", 1) };
        now(bench.queue.accept(vec![update], at(micros))).unwrap()[0].unwrap();
    };
    accept(erp, "x", Lane::Bulk, 10);
    accept(crm, "a", Lane::Bulk, 20);
    accept(crm, "b", Lane::Interactive, 30);
    // It comes to a more urgent lane, and leaves an entry behind.
    accept(crm, "a", Lane::Interactive, 40);
    let oldest = now(bench.reads.oldest_by_client(bench.app)).unwrap();
    assert_eq!(oldest, BTreeMap::from([(crm, at(20)), (erp, at(10))]));
    let waiting: Vec<_> = bench.queue.waiting_by_client().collect();
    assert!(waiting.contains(&(erp, 1)), "{waiting:?}");
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(now(bench.reads.oldest_by_client(bench.app)).unwrap(), BTreeMap::new());
    assert!(bench.queue.waiting_by_client().all(|(_, count)| count == 0));
    let names = now(bench.reads.client_names()).unwrap();
    assert_eq!((&*names[&crm], &*names[&erp]), ("crm", "erp"));
}
