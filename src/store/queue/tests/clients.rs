//! How many records of its own a client may have waiting.

use super::*;
use crate::domain::express::ExpressEnd;

over_every_engine! {
    a_client_has_no_more_waiting_than_it_may => keeps_to_its_own;
    what_waits_of_a_client_is_counted_again_at_a_start => counts_again;
    what_has_left_its_place_counts_against_no_client_once_nothing_waits => counts_what_waits;
}

fn of(client: ClientId, app: AppId, user: &str) -> Update {
    Update { client, ..update(app, user, "p", 1) }
}

fn clients(bench: &mut Bench<impl Engine + Clone>, max: Option<u64>) -> [ClientId; 2] {
    let terms = ClientTerms { records_max: max, ..ClientTerms::default() };
    let named = [("crm".to_owned(), terms), ("billing".to_owned(), ClientTerms::default())];
    now(bench.queue.clients(&named)).unwrap().try_into().unwrap()
}

const FULL: Result<Accepted, QueueRefusal> = Err(QueueRefusal::TooManyOfClient);

fn keeps_to_its_own(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let app = bench.app;
    let [crm, billing] = clients(&mut bench, Some(2));
    assert_ne!(crm, billing);
    let group = ["a", "b", "c", "a"].map(|user| of(crm, app, user)).to_vec();
    let outcomes = bench.accept(group);
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[2], FULL);
    assert_eq!(bench.accept(vec![of(crm, app, "c")]), [FULL]);
    // Another's record is another's, whoever adds to it.
    assert!(bench.accept(vec![of(billing, app, "c"), of(crm, app, "c")]).iter().all(Result::is_ok));

    let batch = bench.claim().unwrap();
    assert_eq!(batch.rows, 3);
    assert!(bench.accept(vec![of(crm, app, "d")])[0].is_ok());
    // What comes back waits again.
    bench.settle(&batch, Settlement::Requeued);
    assert_eq!(bench.accept(vec![of(crm, app, "e")]), [FULL]);
    let batch = bench.claim().unwrap();
    bench.settle(&batch, Settlement::Delivered);
    let group = ["e", "f", "g"].map(|user| of(crm, app, user)).to_vec();
    assert_eq!(bench.accept(group).iter().filter(|it| it.is_ok()).count(), 2);
}

fn counts_again(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine.clone());
    let app = bench.app;
    let [crm, _] = clients(&mut bench, None);
    assert!(
        bench
            .accept((0..100).map(|n| of(crm, app, &n.to_string())).collect())
            .iter()
            .all(Result::is_ok)
    );
    for (max, expected) in [(100, false), (101, true)] {
        drop(bench);
        bench = Bench::new(engine.clone());
        assert_eq!(clients(&mut bench, Some(max))[0], crm);
        assert_eq!(bench.accept(vec![of(crm, app, "new")])[0].is_ok(), expected, "{max}");
    }
}

fn counts_what_waits(engine: impl Engine + Clone) {
    let mut bench = Bench::new(engine);
    let app = bench.app;
    let [crm, _] = clients(&mut bench, Some(1));
    let in_lane = |lane| Update { lane, ..of(crm, app, "u") };
    // It leaves a place behind in the bulk lane, by which no job comes once it has gone by express.
    for lane in [Lane::Bulk, Lane::Express] {
        bench.accept(vec![in_lane(lane)]);
    }
    assert_eq!(bench.accept(vec![of(crm, app, "v")]), [FULL]);
    let taken = now(bench.queue.take_express(app, 9, at(2))).unwrap().subjects;
    let ends: Vec<_> = taken.into_iter().map(|it| (it, ExpressEnd::Delivered)).collect();
    now(bench.queue.settle_express(app, &ends, at(3))).unwrap();
    assert_eq!(bench.queue.waiting_by_client().collect::<Vec<_>>(), [(crm, 1)]);
    assert!(bench.accept(vec![of(crm, app, "v")])[0].is_ok());
    assert_eq!(bench.accept(vec![of(crm, app, "w")]), [FULL]);
}
