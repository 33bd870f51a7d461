//! A record may go in the turns of another client, too, whose update has joined it.

use super::{damage::flip_a_bit, rescue::is_whole, *};
use crate::domain::express::ExpressEnd;

over_every_engine! {
    an_update_takes_its_record_along_in_its_own_clients_turn => goes_in_anothers_turn;
    what_comes_back_from_anothers_turn_keeps_its_places_and_its_neighbours => keeps_neighbours;
    what_joins_an_express_record_has_its_own_clients_turn_there_and_after_it => joins_express;
    what_becomes_express_takes_its_guests_along => becomes_express;
    a_client_has_one_place_in_a_record_and_none_past_its_limit => is_bounded;
    a_bulk_update_that_joins_takes_nothing_along => bulk_waits;
    a_place_that_its_record_has_left_leads_to_no_later_one => stale_is_passed_over;
}

const CRM: ClientId = ClientId(0);
const BILLING: ClientId = ClientId(1);
const BACKFILL: ClientId = ClientId(2);

/// A bench where a client has so many users waiting, called by three digits.
fn bench<E: Engine + Clone>(engine: E, users: usize) -> Bench<E> {
    let mut bench = Bench::new(engine);
    let named = ["crm", "billing", "backfill"].map(|name| (name.to_owned(), Default::default()));
    assert_eq!(now(bench.queue.clients(&named)).unwrap(), [CRM, BILLING, BACKFILL]);
    let users: Vec<String> = (0..users).map(|user| format!("{user:03}")).collect();
    let of = |user: &String| of(BACKFILL, bench.app, user, 1);
    bench.accept(users.iter().map(of).collect());
    bench
}

fn of(client: ClientId, app: AppId, user: &str, value: i64) -> Update {
    Update { client, ..update(app, user, "p", value) }
}

impl<E: Engine + Clone> Bench<E> {
    fn join(&mut self, client: ClientId, user: &str, value: i64) {
        let joined = self.accept(vec![of(client, self.app, user, value)])[0].unwrap();
        assert_eq!(joined.disposition, Disposition::Coalesced);
    }

    fn claim_rows(&mut self, rows_max: u64) -> (Batch, Vec<String>) {
        let batch = self.claim_with(BatchLimits { rows_max, ..BATCH }).unwrap();
        let upload = self.upload(&batch);
        let user = |row: &str| row.split('"').nth(3).unwrap().to_owned();
        (batch, upload.lines().map(user).collect())
    }

    /// The entries of all pages.
    fn entries(&self) -> usize {
        let pages = async {
            let mut transaction = self.queue.engine.begin().await.unwrap();
            transaction.scan(keys::all_pages(self.app), usize::MAX).await.unwrap()
        };
        let entries = |bytes: &[u8]| Vec::<crate::store::records::PageEntry>::decode(bytes);
        now(pages).iter().map(|(_, bytes)| entries(bytes.as_ref()).unwrap().len()).sum()
    }
}

fn goes_in_anothers_turn(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 200);
    let first_accepted_at = at(1);
    bench.join(CRM, "150", 2);
    let (batch, users) = bench.claim_rows(3);
    assert_eq!(users, ["150", "000", "001"]);
    assert!(bench.upload(&batch).contains(r#"{"user_id":"150","metadata":{"p":2}}"#));
    let settled = now(bench.queue.settle(&batch, Settlement::Delivered, Memory::default(), at(3)));
    let accepted_at: Vec<_> = settled.unwrap().rows.iter().map(|row| row.accepted_at).collect();
    assert_eq!(accepted_at, [first_accepted_at; 3], "it waited since its first");
    // The others go once each, and it does not go again.
    let (_, users) = bench.claim_rows(1_000);
    assert_eq!(users.len(), 197);
    assert!(users.is_sorted() && !users.contains(&"150".to_owned()));
    assert_eq!(bench.queue.depth(bench.app), QueueDepth::default());
}

fn keeps_neighbours(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 5);
    // The first of its page, and one in the middle.
    bench.join(CRM, "000", 2);
    bench.join(BILLING, "003", 2);
    for _ in 0..3 {
        let (batch, mut users) = bench.claim_rows(2);
        users.sort_unstable();
        assert_eq!(users, ["000", "003"], "they go in the turns of both");
        bench.settle(&batch, Settlement::Requeued);
    }
    let (batch, mut users) = bench.claim_rows(5);
    users.sort_unstable();
    assert_eq!(users, ["000", "001", "002", "003", "004"]);
    bench.settle(&batch, Settlement::Requeued);
    // In parts, so that pages stay that others have left.
    let mut all = Vec::new();
    for _ in 0..3 {
        let (batch, users) = bench.claim_rows(2);
        all.extend(users);
        bench.settle(&batch, Settlement::Delivered);
    }
    all.sort_unstable();
    assert_eq!(all, ["000", "001", "002", "003", "004"]);
    assert_eq!((bench.entries(), bench.queue.depth(bench.app)), (0, QueueDepth::default()));
}

/// One client has so much waiting for express that a claim of few rows does not come past it.
fn with_express<E: Engine + Clone>(engine: E) -> Bench<E> {
    let mut bench = bench(engine, 0);
    let one = |n: usize| of(BACKFILL, bench.app, &format!("{n:03}"), 1);
    let express = |n| Update { lane: Lane::Express, ..one(n) };
    bench.accept((0..200).map(express).collect());
    bench
}

fn joins_express(engine: impl Engine + Clone) {
    let mut bench = with_express(engine);
    bench.join(CRM, "150", 2);
    // By express it goes in the turn of whoever joined it, too.
    let subjects = |users: [&str; 3]| users.map(Subject::user).to_vec();
    let mut taken = now(bench.queue.take_express(bench.app, 3, at(2))).unwrap().subjects;
    taken.sort_unstable();
    assert_eq!(taken, subjects(["000", "001", "150"]));
    // Refused there, it waits for a batch, and not behind the other's backlog.
    let ends: Vec<_> = taken.into_iter().map(|it| (it, ExpressEnd::Refused)).collect();
    now(bench.queue.settle_express(bench.app, &ends, at(2))).unwrap();
    let late = at(3_000_000);
    let limits = BatchLimits { rows_max: 2, ..BATCH };
    let claim = now(bench.queue.claim(bench.app, limits, None, late)).unwrap();
    let Claim::Complete(Some(batch)) = claim else { panic!("two rows are one chunk") };
    assert!(bench.upload(&batch).contains(r#"{"user_id":"150","metadata":{"p":2}}"#));
}

fn becomes_express(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 200);
    bench.join(CRM, "150", 2);
    // All of them become express, those that others have joined, too.
    let one = |n: usize| of(BACKFILL, bench.app, &format!("{n:03}"), 3);
    let express = |n| Update { lane: Lane::Express, ..one(n) };
    bench.accept((0..200).map(express).collect());
    let taken = now(bench.queue.take_express(bench.app, 3, at(2))).unwrap().subjects;
    assert!(taken.contains(&Subject::user("150")), "{taken:?}");
}

fn is_bounded(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 3);
    for value in 0..20 {
        bench.join(CRM, "001", value);
        bench.join(BILLING, "001", value);
        bench.join(BACKFILL, "001", value);
    }
    assert_eq!(bench.entries(), 3 + 2);
    let terms = ClientTerms { records_max: Some(1), ..ClientTerms::default() };
    let named = ["crm", "billing"].map(|name| (name.to_owned(), terms));
    now(bench.queue.clients(&named)).unwrap();
    bench.join(CRM, "002", 1);
    assert_eq!(bench.entries(), 3 + 2, "it has as many as it may");
    for client in 3..40 {
        bench.join(ClientId(client), "000", 1);
    }
    assert_eq!(bench.entries(), 3 + 2 + 8);
}

fn bulk_waits(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 3);
    let update = Update { lane: Lane::Bulk, ..of(CRM, bench.app, "002", 2) };
    bench.accept(vec![update]);
    assert_eq!(bench.entries(), 3);
    assert_eq!(bench.claim_rows(1).1, ["000"]);
}

fn stale_is_passed_over(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 2);
    bench.join(CRM, "000", 2);
    // It goes in its own client's turn: the first is billing's, the second the backfill's.
    bench.accept(vec![of(BILLING, bench.app, "b", 1)]);
    let transaction = now(bench.queue.begin(Scope::App(bench.app), &[])).unwrap();
    let mut state = bench.queue.state(bench.app);
    state.turns.users[Lane::Interactive as usize] =
        crate::domain::turns::Turn { client: BILLING, left: 1 };
    let after = After { state: Some(state), ..After::default() };
    now(bench.queue.conclude(transaction, bench.app, after)).unwrap();
    let (batch, users) = bench.claim_rows(2);
    assert_eq!(users, ["b", "000"]);
    bench.settle(&batch, Settlement::Delivered);
    // One more of that user, behind another of the same client.
    bench.accept(vec![of(BACKFILL, bench.app, "000", 3)]);
    let (batch, users) = bench.claim_rows(1);
    assert_eq!(users, ["001"], "the old place of crm leads nowhere");
    bench.settle(&batch, Settlement::Delivered);
    assert_eq!(bench.claim_rows(1).1, ["000"]);
    assert_eq!(bench.entries(), 0);
}

#[test]
fn a_store_with_such_places_is_whole() {
    let engine = MemoryEngine::default();
    let mut bench = bench(engine.clone(), 200);
    for user in ["000", "070", "199"] {
        bench.join(CRM, user, 2);
        bench.join(BILLING, user, 3);
    }
    is_whole(&engine);
    let (batch, _) = bench.claim_rows(90);
    is_whole(&engine);
    bench.settle(&batch, Settlement::Requeued);
    is_whole(&engine);
    assert_eq!(bench.claim_rows(1_000).1.len(), 200);
    is_whole(&engine);
}

#[test]
fn pages_that_are_made_anew_have_a_place_for_every_guest() {
    let engine = MemoryEngine::default();
    let mut bench = bench(engine.clone(), 200);
    bench.join(CRM, "150", 2);
    let page = engine.keys().into_iter().find(|key| key.starts_with(b"q")).unwrap();
    flip_a_bit(&engine, &page);
    now(bench.queue.rebuild_pages(bench.app)).unwrap();
    assert_eq!(bench.entries(), 201);
    assert_eq!(bench.claim_rows(2).1, ["150", "000"]);
    is_whole(&engine);
}
