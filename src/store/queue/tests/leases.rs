//! Leases in the store: who delivers, where several might.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{crowd::Crowd, *};
use crate::{
    domain::{
        lease::{Lease, LeaseTerms, ReplicaId, Wishes},
        lifecycle::Recovered,
    },
    store::{AppTerms, check::check, keys::course::lease as lease_of, queue::lease::Renewal},
};

const TERMS: LeaseTerms =
    LeaseTerms { length: Duration::from_secs(10), margin: Duration::from_secs(1) };
const ADA: ReplicaId = ReplicaId(1);
const BOB: ReplicaId = ReplicaId(2);

fn second(seconds: i64) -> Timestamp {
    at(seconds * 1_000_000)
}

/// A queue of its own over the store, with some apps.
fn replica(engine: &MemoryEngine, random: u64) -> (Queue<MemoryEngine>, [AppId; 3]) {
    let mut queue = now(Queue::open(engine.clone(), LIMITS, random)).unwrap();
    let apps = ["production", "staging", "other"].map(|name| now(queue.app(name)).unwrap());
    (queue, apps)
}

fn two() -> (MemoryEngine, [Queue<MemoryEngine>; 2], [AppId; 3]) {
    let engine = MemoryEngine::shared(8);
    engine.set_time(second(100));
    let (ada, apps) = replica(&engine, 1);
    let (bob, of_bob) = replica(&engine, 2);
    assert_eq!(apps, of_bob);
    (engine, [ada, bob], apps)
}

fn take(queue: &mut Queue<MemoryEngine>, app: AppId, me: ReplicaId) -> Option<Lease> {
    now(queue.take_lease(app, me, TERMS)).unwrap()
}

fn renewal(apps: &[AppId], held: &[(AppId, u64)]) -> Renewal {
    let held = held.iter().map(|(app, token)| (*app, (*token, b"view".to_vec()))).collect();
    Renewal { apps: apps.iter().copied().collect(), held }
}

fn adopt(queue: &mut Queue<MemoryEngine>, token: u64) -> Result<Recovered, StoreError> {
    let full_job = Occupancy::default();
    let terms = AppTerms { name: "production".into(), full_job, suppression: None };
    now(queue.adopt(&terms, token, at(5))).map(|(_, recovered)| recovered)
}

fn claim(queue: &mut Queue<MemoryEngine>, app: AppId) -> Result<Option<Batch>, StoreError> {
    match now(queue.claim(app, BATCH, None, at(2)))? {
        Claim::Continues(_) => panic!("it is a small one"),
        Claim::Complete(batch) => Ok(batch.map(|batch| *batch)),
    }
}

fn is_sound(engine: &MemoryEngine) {
    let problems = now(check(engine)).unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn one_replica_has_an_app_until_its_lease_ends() {
    let (engine, [mut ada, mut bob], [app, other, _]) = two();
    let adas = take(&mut ada, app, ADA).unwrap();
    assert_eq!((adas.token, adas.until), (1, second(110)));
    assert_eq!(take(&mut bob, app, BOB), None);
    assert_eq!(take(&mut bob, other, BOB).unwrap().token, 1);
    // Prolonged in time, it goes on; whoever does not hold it prolongs nothing.
    engine.set_time(second(108));
    let renewed = now(ada.renew_leases(ADA, &renewal(&[app], &[(app, 1)]), TERMS)).unwrap();
    assert_eq!((renewed[&app].until, &renewed[&app].view[..]), (second(118), &b"view"[..]));
    let of_bob = renewal(&[app, other], &[(app, 1), (other, 1)]);
    let renewed = now(bob.renew_leases(BOB, &of_bob, TERMS)).unwrap();
    assert_eq!(renewed.into_keys().collect::<Vec<_>>(), [other]);
    engine.set_time(second(117));
    assert_eq!(take(&mut bob, app, BOB), None);
    // It ends, and is another's: who had it learns that when it would prolong it.
    engine.set_time(second(118));
    assert_eq!(take(&mut bob, app, BOB).unwrap().token, 2);
    let renewed = now(ada.renew_leases(ADA, &renewal(&[app], &[(app, 1)]), TERMS)).unwrap();
    assert!(renewed.is_empty());
    is_sound(&engine);
}

#[test]
fn what_is_given_up_is_free_at_once_and_wishes_reach_whoever_has_it() {
    let (engine, [mut ada, mut bob], [app, ..]) = two();
    take(&mut ada, app, ADA).unwrap();
    now(bob.wish_flush(app, TERMS)).unwrap();
    let renewed = now(ada.renew_leases(ADA, &renewal(&[app], &[(app, 1)]), TERMS)).unwrap();
    assert_eq!(renewed[&app].wishes, Wishes { flushes: 1 });
    // Nobody else gives it up.
    now(bob.give_up_lease(app, (BOB, 1), TERMS)).unwrap();
    assert_eq!(take(&mut bob, app, BOB), None);
    adopt(&mut ada, 1).unwrap();
    engine.set_time(second(101));
    now(ada.give_up_lease(app, (ADA, 1), TERMS)).unwrap();
    assert!(matches!(claim(&mut ada, app), Err(StoreError::LeaseLost { .. })));
    let bobs = take(&mut bob, app, BOB).unwrap();
    assert_eq!((bobs.token, bobs.wishes), (2, Wishes { flushes: 1 }));
}

#[test]
fn who_is_there_is_seen_and_who_is_not_is_forgotten() {
    let (engine, [mut ada, mut bob], [app, other, third]) = two();
    take(&mut ada, app, ADA).unwrap();
    now(ada.renew_leases(ADA, &renewal(&[app, other], &[(app, 1)]), TERMS)).unwrap();
    engine.set_time(second(103));
    now(bob.renew_leases(BOB, &renewal(&[third], &[]), TERMS)).unwrap();
    let look = now(bob.look_at_leases(&[app, other])).unwrap();
    let seen: Vec<_> = look.replicas.iter().map(|it| (it.replica, it.seen_at)).collect();
    assert_eq!(seen, [(ADA, second(100)), (BOB, second(103))]);
    assert_eq!(look.replicas[0].apps, BTreeSet::from([app, other]));
    assert_eq!((look.now, look.leases.len()), (second(103), 2));
    let (of_app, of_other) = (&look.leases[&app], &look.leases[&other]);
    assert_eq!((of_app.holder, of_other.holder), (Some(ADA), None));
    assert!(ada.app_lease(app, of_app).is_idle);
    // One that has stopped is gone at once, and one that has died some time after.
    engine.set_time(second(200));
    now(bob.renew_leases(BOB, &Renewal::default(), TERMS)).unwrap();
    assert_eq!(now(bob.look_at_leases(&[])).unwrap().replicas.len(), 2);
    engine.set_time(second(201));
    now(bob.renew_leases(BOB, &Renewal::default(), TERMS)).unwrap();
    assert_eq!(now(bob.look_at_leases(&[])).unwrap().replicas.len(), 1);
    now(bob.depart(BOB)).unwrap();
    assert_eq!(now(bob.look_at_leases(&[])).unwrap().replicas, []);
    is_sound(&engine);
}

#[test]
fn whoever_takes_an_app_over_goes_on_from_what_was_there_and_the_other_writes_nothing_more() {
    let (engine, [mut ada, mut bob], [app, ..]) = two();
    let token = take(&mut ada, app, ADA).unwrap().token;
    assert_eq!(adopt(&mut ada, token).unwrap().unsettled, None);
    let accepted = now(bob.accept(vec![update(app, "u", "a", 1)], at(1))).unwrap();
    let sequence = accepted[0].unwrap().sequence;
    let batch = claim(&mut ada, app).unwrap().unwrap();
    assert!(!ada.app_lease(app, &Lease::default()).is_idle);
    engine.set_time(second(110));
    let token = take(&mut bob, app, BOB).unwrap().token;
    // Its token is the store's from here on, before anything is adopted.
    let settling = ada.settle(&batch, Settlement::Delivered, Memory::default(), at(3));
    assert!(matches!(now(settling), Err(StoreError::LeaseLost { .. })));
    assert_eq!(adopt(&mut bob, token).unwrap().unsettled, Some(batch.clone()));
    let settling = bob.settle(&batch, Settlement::Delivered, Memory::default(), at(3));
    assert!(now(settling).unwrap().complete);
    let found = now(Reads::new(engine.clone()).find(app, &Subject::user("u"), sequence)).unwrap();
    assert!(matches!(found, Found::Delivered { .. }), "{found:?}");
    is_sound(&engine);
}

#[test]
fn a_lease_that_is_damaged_is_nobodys_until_any_lease_has_ended() {
    let (engine, [mut ada, mut bob], [app, ..]) = two();
    let token = take(&mut ada, app, ADA).unwrap().token;
    adopt(&mut ada, token).unwrap();
    engine.damage(&lease_of(app), b"\x01\0\0\0\0damaged");
    // Its holder cannot prolong it, and writes nothing.
    let renewed = now(ada.renew_leases(ADA, &renewal(&[app], &[(app, token)]), TERMS)).unwrap();
    assert!(renewed.is_empty());
    assert!(matches!(claim(&mut ada, app), Err(StoreError::LeaseLost { .. })));
    // Whoever looks finds it free, and tries to take it.
    let seen = now(bob.look_at_leases(&[app])).unwrap();
    assert!(!seen.leases[&app].is_held(seen.now));
    assert_eq!(take(&mut bob, app, BOB), None);
    engine.set_time(second(109));
    assert_eq!(take(&mut bob, app, BOB), None);
    engine.set_time(second(110));
    assert!(take(&mut bob, app, BOB).unwrap().token > token);
    is_sound(&engine);
}

#[test]
fn a_store_without_a_clock_gives_no_leases() {
    let engine = MemoryEngine::shared(8);
    let (mut queue, [app, ..]) = replica(&engine, 1);
    let error = now(queue.take_lease(app, ADA, TERMS)).unwrap_err();
    assert!(error.to_string().contains("no clock"), "{error}");
}

#[tokio::test]
async fn of_several_that_take_at_once_one_has_it() {
    for seed in 0..30 {
        let engine = Crowd::unsteady(4, seed);
        engine.set_time(second(100));
        let mut taking = JoinSet::new();
        for number in 1..=4 {
            let engine = engine.clone();
            taking.spawn(async move {
                let mut queue = Queue::open(engine, LIMITS, number).await.unwrap();
                let app = queue.app("production").await.unwrap();
                queue.take_lease(app, ReplicaId(number), TERMS).await.unwrap()
            });
        }
        let taken: Vec<Lease> = taking.join_all().await.into_iter().flatten().collect();
        assert_eq!(taken.iter().map(|lease| lease.token).collect::<Vec<_>>(), [1]);
    }
}
