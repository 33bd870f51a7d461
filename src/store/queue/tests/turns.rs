//! Whose rows go into a batch: the bulk lane has its share, and clients take turns.

use super::*;
use crate::domain::{
    batch::{ClaimLimits, Claimable},
    express::ExpressEnd,
};

over_every_engine! {
    clients_of_a_lane_take_turns_by_weight => takes_turns;
    whoever_fills_the_lane_keeps_nobody_else_waiting => keeps_nobody_waiting;
    turns_go_on_where_the_last_batch_stopped => goes_on_where_it_stopped;
    the_bulk_lane_has_its_share_while_it_waits => keeps_a_share_for_bulk;
    what_a_lane_leaves_of_a_batch_is_the_others => gives_what_is_left;
    a_batch_of_many_commits_is_as_fair_as_one => is_fair_over_many_commits;
    who_calls_everything_express_keeps_nobody_waiting => express_keeps_nobody_waiting;
    a_kinds_bulk_lane_has_its_share_beside_what_is_urgent_of_the_other => shares_between_kinds;
    what_waited_before_a_claim_began_is_claimed_whatever_came_since => passes_over_what_came_since;
    a_page_that_begins_with_what_came_since_hides_none_behind_it => hides_nothing;
    the_oldest_of_a_lane_is_so_whosever_it_is => is_oldest_of_all;
    the_oldest_of_a_client_is_so_in_whatever_page_it_stands => is_oldest_of_its_pages;
    what_waits_is_told_of_each_lane => is_told_of_each_lane;
}

const CRM: ClientId = ClientId(0);
const BILLING: ClientId = ClientId(1);
const BACKFILL: ClientId = ClientId(2);

/// A bench whose clients are known, the second with a weight.
fn bench<E: Engine + Clone>(engine: E, weight: u32) -> Bench<E> {
    let mut bench = Bench::new(engine);
    let weighs = ClientTerms { weight, ..ClientTerms::default() };
    let terms = [
        ("crm".to_owned(), ClientTerms::default()),
        ("billing".to_owned(), weighs),
        ("backfill".to_owned(), ClientTerms::default()),
    ];
    assert_eq!(now(bench.queue.clients(&terms)).unwrap(), [CRM, BILLING, BACKFILL]);
    bench
}

impl<E: Engine + Clone> Bench<E> {
    /// So many users of a client come to wait, called after it and their place.
    fn wait(&mut self, client: ClientId, lane: Lane, users: usize) {
        let named = |n: usize| format!("{}{lane}{n:05}", client.0);
        let one = |n| Update { client, lane, ..update(self.app, &named(n), "p", 1) };
        let updates = (0..users).map(one).collect();
        assert!(self.accept(updates).iter().all(Result::is_ok));
    }

    /// Claims a batch and delivers it. Returns its users, in its order.
    fn deliver(&mut self, limits: impl Into<Claimable> + Copy) -> Vec<String> {
        let batch = self.claim_late(limits);
        let upload = self.upload(&batch);
        self.settle(&batch, Settlement::Delivered);
        let user = |row: &str| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            row["user_id"].as_str().unwrap().to_owned()
        };
        upload.lines().map(user).collect()
    }

    /// Claims a batch when nothing is left to express any more.
    fn claim_late(&mut self, limits: impl Into<Claimable> + Copy) -> Box<Batch> {
        let (mut continued, late) = (None, at(3_000_000));
        loop {
            match now(self.queue.claim(self.app, limits, continued, late)).unwrap() {
                Claim::Continues(batch) => continued = Some(batch),
                Claim::Complete(batch) => return batch.expect("something waits"),
            }
        }
    }
}

/// Limits of a batch of so many rows, some of them for the bulk lane.
fn limits(rows_max: u64, for_bulk: u64) -> Claimable {
    let batch = BatchLimits { rows_max, ..BATCH };
    let for_bulk = BatchLimits { rows_max: for_bulk, bytes_max: 0 };
    let limits = ClaimLimits { for_bulk, ..batch.into() };
    Claimable { users: Some(limits), companies: Some(limits) }
}

fn count(users: &[String], prefix: &str) -> usize {
    users.iter().filter(|user| user.starts_with(prefix)).count()
}

fn takes_turns(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 2);
    bench.wait(CRM, Lane::Interactive, 5);
    bench.wait(BILLING, Lane::Interactive, 5);
    let users = bench.deliver(limits(6, 0));
    let expected = ["0interactive00000", "1interactive00000", "1interactive00001"];
    assert_eq!(users[..3], expected);
    assert_eq!((count(&users, "0"), count(&users, "1")), (2, 4));
}

fn keeps_nobody_waiting(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    bench.wait(BACKFILL, Lane::Interactive, 500);
    bench.wait(CRM, Lane::Interactive, 3);
    bench.wait(BILLING, Lane::Interactive, 2);
    let users = bench.deliver(limits(100, 0));
    // All of the others, and first of all.
    assert_eq!((count(&users[..8], "0"), count(&users[..8], "1")), (3, 2));
    assert_eq!(count(&users, "2"), 95);
    // In the order in which they came.
    let own: Vec<&String> = users.iter().filter(|user| user.starts_with('2')).collect();
    assert!(own.is_sorted());
}

fn goes_on_where_it_stopped(engine: impl Engine + Clone) {
    let mut bench = bench(engine.clone(), 1);
    bench.wait(CRM, Lane::Interactive, 4);
    bench.wait(BILLING, Lane::Interactive, 4);
    let mut order = String::new();
    for _ in 0..4 {
        order.push_str(&bench.deliver(limits(1, 0))[0][..1]);
        // The turn is on disk.
        drop(bench);
        bench = self::bench(engine.clone(), 1);
    }
    assert_eq!(order, "0101");
}

fn keeps_a_share_for_bulk(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    bench.wait(CRM, Lane::Interactive, 50);
    bench.wait(BACKFILL, Lane::Bulk, 50);
    let users = bench.deliver(limits(10, 2));
    assert_eq!((count(&users, "0inter"), count(&users, "2bulk")), (8, 2));
    assert!(users[8..].iter().all(|user| user.starts_with("2bulk")), "what is urgent goes first");
    // What is waiting no more has no share.
    let users = bench.deliver(limits(10, 9));
    assert_eq!((count(&users, "0inter"), count(&users, "2bulk")), (1, 9));
}

fn gives_what_is_left(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    bench.wait(CRM, Lane::Interactive, 14);
    bench.wait(BACKFILL, Lane::Bulk, 30);
    bench.deliver(limits(10, 2));
    let users = bench.deliver(limits(10, 2));
    assert_eq!((count(&users, "0inter"), count(&users, "2bulk")), (6, 4), "the rest is for bulk");
    bench.wait(CRM, Lane::Interactive, 40);
    bench.deliver(limits(23, 23));
    let users = bench.deliver(limits(10, 5));
    assert_eq!((count(&users, "0inter"), count(&users, "2bulk")), (9, 1), "bulk has one left");
    let users = bench.deliver(limits(10, 5));
    assert_eq!(count(&users, "0inter"), 10);
}

fn is_fair_over_many_commits(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    bench.wait(BACKFILL, Lane::Interactive, 4_000);
    bench.wait(CRM, Lane::Interactive, 1_300);
    bench.wait(BILLING, Lane::Bulk, 3_000);
    let users = bench.deliver(limits(3_500, 700));
    assert_eq!((count(&users, "0"), count(&users, "1"), count(&users, "2")), (1_300, 700, 1_500));
    let left = bench.queue.depth(bench.app);
    assert_eq!((left.records, left.bulk_records), (4_800, 2_300));
}

fn express_keeps_nobody_waiting(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    bench.wait(CRM, Lane::Express, 500);
    bench.wait(CRM, Lane::Interactive, 5);
    bench.wait(BILLING, Lane::Interactive, 3);
    bench.wait(BACKFILL, Lane::Interactive, 200);
    let users = bench.deliver(limits(100, 0));
    assert_eq!(count(&users[..9], "1"), 3, "all of the one's, and first of all");
    assert_eq!((count(&users, "0express"), count(&users, "2")), (49, 48));
    // Of its own, what it calls express goes first.
    assert_eq!(count(&users, "0interactive"), 0);
}

fn shares_between_kinds(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    let company = |app, n| Update {
        client: BACKFILL,
        lane: Lane::Bulk,
        subject: Subject::company(format!("k{n}")),
        ..update(app, "", "p", 1)
    };
    let companies = (0..8_000).map(|n| company(bench.app, n)).collect();
    assert!(bench.accept(companies).iter().all(Result::is_ok));
    bench.wait(CRM, Lane::Interactive, 12_010);
    let mut job = |limits| {
        let batch = bench.claim_late(limits);
        bench.settle(&batch, Settlement::Delivered);
        (batch.kind, batch.rows)
    };
    let (user, company) = (SubjectKind::User, SubjectKind::Company);
    // A fifth of both jobs together, whether it takes several commits or one.
    assert_eq!(job(limits(6_000, 1_200)), (user, 6_000));
    assert_eq!(job(limits(6_000, 1_200)), (company, 1_500));
    assert_eq!(job(limits(6_000, 1_200)), (user, 6_000));
    assert_eq!(job(limits(100, 20)), (company, 100));
    // What is urgent leaves the rest.
    assert_eq!(job(limits(6_000, 1_200)), (user, 10));
    assert_eq!(job(limits(1_000, 200)), (company, 1_000));
}

fn passes_over_what_came_since(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    let express = |user| Update { lane: Lane::Express, ..update(AppId(0), user, "p", 1) };
    for user in ["u", "v", "w"] {
        bench.accept(vec![express(user)]);
    }
    bench.wait(BACKFILL, Lane::Interactive, 1_500);
    let begun = now(bench.queue.claim(bench.app, limits(5_000, 0), None, at(2))).unwrap();
    let Claim::Continues(begun) = begun else { panic!("it takes several commits") };
    bench.accept(vec![express("x")]);
    assert_eq!(now(bench.queue.take_express(bench.app, 9, at(2))).unwrap().subjects.len(), 4);
    // x, which came since, stands in a page before those that were there.
    for users in [["u", "x"], ["v", "w"]] {
        let ends = users.map(|user| (Subject::user(user), ExpressEnd::Back));
        now(bench.queue.settle_express(bench.app, &ends, at(2))).unwrap();
    }
    let late = at(3_000_000);
    let batch = now(bench.queue.claim(bench.app, limits(5_000, 0), Some(begun), late)).unwrap();
    let Claim::Complete(Some(batch)) = batch else { panic!("it is complete") };
    assert_eq!((batch.rows, bench.queue.depth(bench.app).records), (1_503, 1));
}

fn hides_nothing(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    let express = |user| Update { lane: Lane::Express, ..update(AppId(0), user, "p", 1) };
    for user in ["u", "v", "w"] {
        bench.accept(vec![express(user)]);
    }
    bench.wait(BACKFILL, Lane::Interactive, 1_500);
    let begun = now(bench.queue.claim(bench.app, limits(5_000, 0), None, at(2))).unwrap();
    let Claim::Continues(begun) = begun else { panic!("it takes several commits") };
    bench.accept(vec![express("x")]);
    now(bench.queue.take_express(bench.app, 9, at(2))).unwrap();
    // u and x come to stand in the first page, v and w behind it; then u leaves it.
    for users in [["u", "x"], ["v", "w"]] {
        let ends = users.map(|user| (Subject::user(user), ExpressEnd::Back));
        now(bench.queue.settle_express(bench.app, &ends, at(2))).unwrap();
    }
    let taken = now(bench.queue.take_express(bench.app, 1, at(2))).unwrap().subjects;
    assert_eq!(taken, [Subject::user("u")]);
    let late = at(3_000_000);
    let batch = now(bench.queue.claim(bench.app, limits(5_000, 0), Some(begun), late)).unwrap();
    let Claim::Complete(Some(batch)) = batch else { panic!("it is complete") };
    assert_eq!((batch.rows, bench.queue.depth(bench.app).records), (1_502, 1));
}

fn is_oldest_of_all(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    let company = Update { subject: Subject::company("k"), ..update(bench.app, "", "p", 1) };
    let of_billing = Update { client: BILLING, ..update(bench.app, "first", "p", 1) };
    let updates = [of_billing, company, update(bench.app, "last", "p", 1)];
    for (update, micros) in updates.into_iter().zip([10, 20, 30]) {
        now(bench.queue.accept(vec![update], at(micros))).unwrap()[0].unwrap();
    }
    assert_eq!(now(bench.reads.oldest(bench.app)).unwrap(), Some(at(10)));
    // The kind goes first that has waited longer.
    assert_eq!(bench.claim().unwrap().kind, SubjectKind::User);
}

fn is_oldest_of_its_pages(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    for (user, micros) in [("u", 10), ("v", 20), ("x", 30)] {
        let update = Update { lane: Lane::Express, ..update(bench.app, user, "p", 1) };
        now(bench.queue.accept(vec![update], at(micros))).unwrap()[0].unwrap();
    }
    now(bench.queue.take_express(bench.app, 9, at(40))).unwrap();
    for users in [vec!["u", "x"], vec!["v"]] {
        let back = |user| (Subject::user(user), ExpressEnd::Back);
        let ends: Vec<_> = users.into_iter().map(back).collect();
        now(bench.queue.settle_express(bench.app, &ends, at(40))).unwrap();
    }
    let taken = now(bench.queue.take_express(bench.app, 1, at(40))).unwrap().subjects;
    assert_eq!(taken, [Subject::user("u")]);
    // x stands in the first page.
    assert_eq!(now(bench.reads.oldest(bench.app)).unwrap(), Some(at(20)));
}

fn is_told_of_each_lane(engine: impl Engine + Clone) {
    let mut bench = bench(engine, 1);
    let told = |bench: &Bench<_>| {
        let depth = bench.queue.depth(bench.app);
        let oldest = now(bench.reads.oldest_of_lanes(bench.app)).unwrap();
        let counts = Lane::ALL.map(|lane| depth.of_lane(lane));
        assert_eq!(counts.iter().sum::<u64>(), depth.records);
        (counts, oldest.map(|(_, oldest)| oldest))
    };
    let sent = [("a", Lane::Bulk, 10), ("b", Lane::Interactive, 20), ("c", Lane::Bulk, 30)];
    for (user, lane, micros) in sent {
        let update = Update { lane, ..update(bench.app, user, "p", 1) };
        now(bench.queue.accept(vec![update], at(micros))).unwrap()[0].unwrap();
    }
    assert_eq!(told(&bench), ([0, 1, 2], [None, Some(at(20)), Some(at(10))]));
    // What is more urgent takes its record along, and that has waited as long as before.
    let urgent = Update { lane: Lane::Express, ..update(bench.app, "a", "p", 2) };
    now(bench.queue.accept(vec![urgent], at(40))).unwrap()[0].unwrap();
    let before = told(&bench);
    assert_eq!(before, ([1, 1, 1], [Some(at(10)), Some(at(20)), Some(at(30))]));
    let batch = bench.claim().unwrap();
    assert_eq!(told(&bench), ([0, 0, 0], [None; 3]));
    bench.settle(&batch, Settlement::Requeued);
    assert_eq!(told(&bench), before);
}
