//! Users and companies: two queues, of which a batch holds one.

use super::*;
use crate::domain::batch::{Claimable, Cut};

fn company(app: AppId, company: &str, value: i64) -> Update {
    Update { subject: Subject::company(company), ..update(app, "", "seats", value) }
}

impl<E: Engine + Clone> Bench<E> {
    fn set_company(&mut self, id: &str, value: i64) -> Accepted {
        self.accept(vec![company(self.app, id, value)])[0].unwrap()
    }

    fn waiting(&self) -> ByKind<u64> {
        self.queue.depth(self.app).by_kind()
    }

    fn claim_of(&mut self, claimable: Claimable) -> Option<Batch> {
        match now(self.queue.claim(self.app, claimable, None, at(2))).unwrap() {
            Claim::Complete(batch) => batch.map(|batch| *batch),
            Claim::Continues(_) => panic!("there are few"),
        }
    }
}

over_every_engine! {
    a_batch_holds_one_kind_and_they_take_turns => takes_turns;
    what_becomes_of_a_batch_keeps_its_kind => keeps_its_kind;
    a_kind_that_may_not_be_claimed_holds_nobody_up => claims_the_other;
}

fn takes_turns(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine.clone());
    let few = BatchLimits { rows_max: 2, ..BATCH };
    for nth in 0..4 {
        bench.set(&format!("u{nth}"), "a", nth);
        // One id, and two subjects.
        bench.set_company(&format!("u{nth}"), nth);
    }
    assert_eq!(bench.waiting(), ByKind { users: 4, companies: 4 });
    let mut uploads = Vec::new();
    for expected in [SubjectKind::User, SubjectKind::Company, SubjectKind::User] {
        let batch = bench.claim_with(few).unwrap();
        assert_eq!((batch.kind, batch.rows), (expected, 2));
        uploads.push(bench.upload(&batch));
        bench.settle(&batch, Settlement::Delivered);
        // Whose turn it is outlives a restart.
        bench = Bench::new(engine.clone());
    }
    assert_eq!(
        uploads[0],
        "{\"user_id\":\"u0\",\"metadata\":{\"a\":0}}\n\
         {\"user_id\":\"u1\",\"metadata\":{\"a\":1}}\n"
    );
    assert_eq!(
        uploads[1],
        "{\"company_id\":\"u0\",\"metadata\":{\"seats\":0}}\n\
         {\"company_id\":\"u1\",\"metadata\":{\"seats\":1}}\n"
    );
    // Nobody waits for an empty queue.
    assert_eq!(
        bench.claim().map(|batch| (batch.kind, batch.rows)),
        Some((SubjectKind::Company, 2))
    );
    assert_eq!(bench.waiting(), ByKind::default());
}

fn keeps_its_kind(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let first = bench.set_company("a", 1).sequence;
    bench.set_company("b", 1);
    let batch = bench.claim().unwrap();
    bench.set_company("a", 2);
    let of_user = bench.set("a", "plan", 3).sequence;
    bench.settle(&batch, Settlement::Requeued);
    assert_eq!(bench.waiting(), ByKind { users: 1, companies: 2 });
    // It has waited longer.
    let batch = bench.claim().unwrap();
    assert_eq!((batch.kind, batch.rows), (SubjectKind::Company, 2));
    assert!(bench.upload(&batch).contains("{\"company_id\":\"a\",\"metadata\":{\"seats\":2}}"));
    let split = Settlement::Split(Cut::Halves);
    let split = now(bench.queue.settle(&batch, split, Memory::default(), at(3))).unwrap();
    let part = split.next.unwrap();
    assert_eq!((part.kind, part.rows), (SubjectKind::Company, 1));
    let found = now(bench.reads.find(bench.app, &Subject::company("a"), first)).unwrap();
    assert!(matches!(found, Found::InFlight(batch) if batch.id == part.id));
    assert!(matches!(bench.find("a", of_user), Found::Pending { place: 0, .. }));
}

fn claims_the_other(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    bench.set_company("a", 1);
    let users = Claimable { companies: None, ..BATCH.into() };
    assert_eq!(bench.claim_of(users), None);
    bench.set("a", "plan", 1);
    let batch = bench.claim_of(users).unwrap();
    assert_eq!((batch.kind, batch.rows), (SubjectKind::User, 1));
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.claim().map(|batch| batch.kind), Some(SubjectKind::Company));
}

#[test]
fn pages_of_one_kind_that_are_lost_are_made_anew_while_the_other_goes_on() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set_company("a", 1).sequence;
    let interactive = (SubjectKind::Company, Lane::Interactive);
    let mut transaction = now(engine.begin()).unwrap();
    transaction.delete(&keys::page(bench.app, interactive, ClientId(0), first));
    now(transaction.commit()).unwrap();
    let users = bench.set("a", "plan", 1).sequence;
    assert_eq!(users, 2);
    let batch = bench.claim().unwrap();
    assert_eq!(batch.kind, SubjectKind::User);
    bench.settle(&batch, Settlement::Delivered);
    // Nothing leads to the company; that is noticed when it is its turn.
    assert_eq!(bench.claim(), None);
    assert_eq!(bench.claim().map(|batch| batch.kind), Some(SubjectKind::Company));
}

#[test]
fn a_page_that_leads_to_the_other_kind_is_made_anew() {
    let engine = MemoryEngine::default();
    let mut bench = Bench::new(engine.clone());
    let first = bench.set_company("a", 1).sequence;
    let page = |kind| keys::page(AppId(0), (kind, Lane::Interactive), ClientId(0), first);
    let mut transaction = now(engine.begin()).unwrap();
    let bytes = now(transaction.get(&page(SubjectKind::Company))).unwrap().unwrap().to_vec();
    transaction.delete(&page(SubjectKind::Company));
    transaction.put(&page(SubjectKind::User), bytes);
    now(transaction.commit()).unwrap();
    bench.set("u", "plan", 1);
    let batch = bench.claim().unwrap();
    assert_eq!((batch.kind, batch.rows), (SubjectKind::User, 1));
    bench.settle(&batch, Settlement::Delivered);
    let batch = bench.claim().unwrap();
    assert_eq!((batch.kind, batch.rows), (SubjectKind::Company, 1));
}
