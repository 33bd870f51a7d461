//! Several queues over one store.

mod postgres;
mod random;

use tokio::task::JoinSet;

use super::{crowd::Crowd, *};
use crate::{
    domain::{express::ExpressEnd, lease::Lease, lifecycle::Recovered},
    store::{AppTerms, check::check, keys::course::lease},
};

/// Raises the token of the app's lease. Nothing where there is no such thing.
pub(super) async fn raise_token<E: Engine>(engine: &E, app: AppId) -> u64 {
    let key = lease(app);
    let mut transaction = engine.begin_locked(std::slice::from_ref(&key), &[]).await.unwrap();
    let bytes = transaction.get(&key).await.unwrap().unwrap();
    let before = Lease::decode(bytes.as_ref()).unwrap();
    let token = before.token + 1;
    transaction.put(&key, Lease { token, ..before }.encode());
    transaction.commit().await.unwrap();
    token
}

/// The queue delivers the app, where others might.
pub(super) async fn take_over<E: Engine>(engine: &E, queue: &mut Queue<E>, app: AppId) {
    if engine.sharing() != Sharing::Alone {
        let token = raise_token(engine, app).await;
        queue.hold_lease(app, token);
    }
}

/// A queue of its own over the store.
async fn replica<E: Engine + Clone>(engine: &E, random: u64) -> (Queue<E>, AppId) {
    let mut queue = Queue::open(engine.clone(), LIMITS, random).await.unwrap();
    let app = queue.app("production").await.unwrap();
    (queue, app)
}

/// It delivers the app, and goes on from what was there.
async fn adopt<E: Engine>(engine: &E, queue: &mut Queue<E>, app: AppId) -> Recovered {
    let token = raise_token(engine, app).await;
    let full_job = Occupancy::default();
    let terms = AppTerms { name: "production".into(), full_job, suppression: None };
    queue.adopt(&terms, token, at(5)).await.unwrap().1
}

async fn is_sound<E: Engine>(engine: &E) {
    let problems = check(engine).await.unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

async fn upload<E: Engine + Clone>(engine: &E, batch: &Batch) -> String {
    String::from_utf8(Reads::new(engine.clone()).upload(batch).await.unwrap()).unwrap()
}

async fn claim<E: Engine>(queue: &mut Queue<E>, app: AppId) -> Result<Option<Batch>, StoreError> {
    let mut continued = None;
    loop {
        match Box::pin(queue.claim(app, BATCH, continued, at(2))).await? {
            Claim::Continues(batch) => continued = Some(batch),
            Claim::Complete(batch) => return Ok(batch.map(|batch| *batch)),
        }
    }
}

fn is_lost<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { .. }) && error.is_passing(), "{error}");
}

#[tokio::test]
async fn two_queues_accept_a_subject_by_turns_and_the_last_value_is_the_last_that_was_accepted() {
    let engine = Crowd::new(8);
    let (mut first, app) = replica(&engine, 1).await;
    let (mut second, of_second) = replica(&engine, 2).await;
    assert_eq!((app, first.store()), (of_second, second.store()));
    let mut last = 0;
    for value in 1..=10 {
        let queue = if value % 2 == 0 { &mut first } else { &mut second };
        let group = vec![update(app, "u", "a", value), update(app, &value.to_string(), "a", 1)];
        let accepted = queue.accept(group, at(value)).await.unwrap();
        let sequence = accepted[0].unwrap().sequence;
        assert!(sequence > last, "{sequence} after {last}");
        last = sequence;
    }
    first.refresh(&[app]).await.unwrap();
    assert_eq!((first.depth(app).records, first.urgent_updates(app)), (11, 20));
    is_sound(&engine).await;
    take_over(&engine, &mut first, app).await;
    let batch = claim(&mut first, app).await.unwrap().unwrap();
    assert_eq!((batch.rows, batch.updates), (11, 20));
    let upload = upload(&engine, &batch).await;
    assert!(upload.contains("{\"user_id\":\"u\",\"metadata\":{\"a\":10}}"), "{upload}");
    is_sound(&engine).await;
    let found = Reads::new(engine).find(app, &Subject::user("u"), last).await.unwrap();
    assert!(matches!(found, Found::InFlight(_)), "{found:?}");
}

/// One claims and settles what two others accept, all at once.
async fn deliver_while_others_accept<E: Engine + Clone>(engines: [E; 3], groups: i64) {
    let [engine, others @ ..] = engines;
    let (mut holder, app) = replica(&engine, 1).await;
    take_over(&engine, &mut holder, app).await;
    let mut accepting = JoinSet::new();
    for (random, other) in (2..).zip(others) {
        let (mut other, _) = replica(&other, random).await;
        accepting.spawn(async move {
            for group in 0..groups {
                // Both of the same users, each a property of its own.
                let property = random.to_string();
                let users = (0..7).map(|user| update(app, &format!("{user}"), &property, group));
                let outcomes = other.accept(users.collect(), at(group)).await.unwrap();
                assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
            }
        });
    }
    let (mut updates, mut last, mut done) = (0, BTreeMap::new(), false);
    while !done {
        while let Some(task) = accepting.try_join_next() {
            task.unwrap();
        }
        done = accepting.is_empty();
        tokio::task::yield_now().await;
        let Some(batch) = claim(&mut holder, app).await.unwrap() else { continue };
        done = false;
        updates += batch.updates;
        for line in upload(&engine, &batch).await.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            for (property, value) in row["metadata"].as_object().unwrap() {
                let of = (row["user_id"].to_string(), property.clone());
                let before = last.insert(of, value.as_i64());
                assert!(before < Some(value.as_i64()), "an older value after a newer one");
            }
        }
        let settled = holder.settle(&batch, Settlement::Delivered, Memory::default(), at(3));
        assert!(settled.await.unwrap().complete);
    }
    let all = u64::try_from(2 * 7 * groups).unwrap();
    assert_eq!((updates, last.len(), holder.depth(app).records), (all, 14, 0));
    assert!(last.values().all(|value| *value == Some(groups - 1)));
    is_sound(&engine).await;
}

#[tokio::test]
async fn one_claims_while_others_accept_and_nothing_is_lost_or_taken_twice() {
    for seed in 0..20 {
        let engine = Crowd::unsteady(8, seed);
        deliver_while_others_accept([engine.clone(), engine.clone(), engine], 20).await;
    }
}

#[tokio::test]
async fn a_store_stays_what_it_was_made_as() {
    let shared = MemoryEngine::shared(8);
    Queue::open(shared.clone(), LIMITS, 1).await.unwrap();
    let alone = MemoryEngine::default();
    Queue::open(alone.clone(), LIMITS, 1).await.unwrap();
    for (engine, words) in [
        (shared.opened_as(Sharing::Alone), ["shared by several, with 8", "one gateway's own"]),
        (shared.opened_as(Sharing::Shared { stripes: 4 }), ["with 8 stripes", "with 4 stripes"]),
        (alone.opened_as(Sharing::Shared { stripes: 8 }), ["is one gateway's own", "with 8"]),
    ] {
        let before = engine.keys();
        let error = Queue::open(engine.clone(), LIMITS, 1).await.unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(engine.keys(), before);
    }
    Queue::open(shared, LIMITS, 2).await.unwrap();
    Queue::open(alone, LIMITS, 2).await.unwrap();
}

#[tokio::test]
async fn who_has_lost_the_lease_writes_nothing_more() {
    let engine = Crowd::new(8);
    let (mut stale, app) = replica(&engine, 1).await;
    is_lost(claim(&mut stale, app).await);
    let recovered = adopt(&engine, &mut stale, app).await;
    assert_eq!(recovered.unsettled, None);
    for (user, lane) in [("u", Lane::Interactive), ("v", Lane::Express)] {
        let update = Update { lane, ..update(app, user, "a", 1) };
        stale.accept(vec![update], at(1)).await.unwrap()[0].unwrap();
    }
    let taken = stale.take_express(app, 9, at(2)).await.unwrap().subjects;
    assert_eq!(taken, [Subject::user("v")]);
    let batch = claim(&mut stale, app).await.unwrap().unwrap();
    let (mut holder, _) = replica(&engine, 2).await;
    let recovered = adopt(&engine, &mut holder, app).await;
    assert_eq!(recovered.unsettled.as_ref(), Some(&batch));
    // What was under way by express is back.
    assert_eq!((holder.depth(app).express_records, holder.depth(app).express_in_flight), (1, 0));
    let memory = Memory::default();
    is_lost(claim(&mut stale, app).await);
    is_lost(stale.advance(&Batch { state: BatchState::Submitting, ..batch.clone() }, memory).await);
    is_lost(stale.settle(&batch, Settlement::Delivered, memory, at(3)).await);
    is_lost(stale.take_express(app, 9, at(3)).await);
    let end = [(Subject::user("v"), ExpressEnd::Delivered)];
    is_lost(stale.settle_express(app, &end, at(3)).await);
    is_lost(stale.suppress(app, None).await);
    is_lost(stale.recover(app, at(3)).await);
    stale.prune(PruneCursor::default(), Retention::default()).await.unwrap();
    // All may accept, and what operators ask for is done by any.
    stale.accept(vec![update(app, "u", "a", 2)], at(4)).await.unwrap()[0].unwrap();
    stale.pause(app, true).await.unwrap();
    assert!(holder.settle(&batch, Settlement::Requeued, memory, at(5)).await.unwrap().complete);
    assert!(holder.recover(app, at(5)).await.unwrap().paused);
    let batch = claim(&mut holder, app).await.unwrap().unwrap();
    assert!(upload(&engine, &batch).await.contains("\"a\":2"));
    is_sound(&engine).await;
}

#[tokio::test]
async fn names_get_numbers_of_their_own_whoever_asks_first() {
    for seed in 0..20 {
        let engine = Crowd::unsteady(4, seed);
        let mut asking = JoinSet::new();
        for (random, names) in [(1, ["a", "b", "c"]), (2, ["c", "b", "a"])] {
            let engine = engine.clone();
            asking.spawn(async move {
                let mut queue = Queue::open(engine, LIMITS, random).await.unwrap();
                let mut numbers = BTreeMap::new();
                for name in names {
                    numbers.insert(name, queue.app(name).await.unwrap());
                    queue.client(name).await.unwrap();
                }
                (queue.store(), numbers)
            });
        }
        let [first, second] = asking.join_all().await.try_into().unwrap();
        assert_eq!(first, second);
        let numbers: BTreeSet<_> = first.1.values().copied().collect();
        assert_eq!(numbers, BTreeSet::from([AppId(0), AppId(1), AppId(2)]));
        is_sound(&engine).await;
    }
}

#[tokio::test]
async fn a_job_knows_what_others_forgot_while_its_rows_were_on_their_way() {
    use crate::store::{JobRow, queue::jobs::Fate, records::jobs::Job};
    let engine = Crowd::new(8);
    let (mut first, app) = replica(&engine, 1).await;
    let (mut second, _) = replica(&engine, 2).await;
    let place = first.reserve_job(app, (ClientId(0), 9), 9).unwrap();
    let accepted = first.accept(vec![update(app, "u", "a", 1)], at(1)).await.unwrap();
    let row = JobRow::new(0, &Subject::user("u"), accepted[0].unwrap().sequence);
    second.forget(app, &Subject::user("u"), at(2)).await.unwrap();
    let id = first.add_job((place, ClientId(0)), Job::default(), vec![row], at(3)).await.unwrap();
    let look = Reads::new(engine.clone()).look_at_job(id).await.unwrap().unwrap();
    assert!(matches!(&look.fates[..], [(_, 0, Fate::Dead(_))]), "{:?}", look.fates);
    // Its number is everybody's.
    second.look_for_jobs(app).await.unwrap();
    assert_eq!(second.unfinished_jobs(), [id]);
    let place = second.reserve_job(app, (ClientId(0), 9), 9).unwrap();
    let later = second.add_job((place, ClientId(0)), Job::default(), vec![], at(3)).await.unwrap();
    assert!(later.number > id.number);
    is_sound(&engine).await;
}

#[tokio::test]
async fn pages_are_made_anew_while_others_accept() {
    for seed in 0..20 {
        let engine = Crowd::unsteady(8, seed);
        let (mut holder, app) = replica(&engine, 1).await;
        let (mut other, _) = replica(&engine, 2).await;
        take_over(&engine, &mut holder, app).await;
        let users = (0..50).map(|user| update(app, &format!("old-{user}"), "a", 1));
        holder.accept(users.collect(), at(1)).await.unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            for user in 0..50 {
                other.accept(vec![update(app, &user.to_string(), "a", 1)], at(1)).await.unwrap();
            }
        });
        holder.rebuild_pages(app).await.unwrap();
        accepting.join_all().await;
        is_sound(&engine).await;
        assert_eq!(claim(&mut holder, app).await.unwrap().unwrap().rows, 100);
    }
}
