//! A store that several gateways share, as it is opened for one of them.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    domain::{
        admission::QueueRefusal,
        batch::BatchLimits,
        lease::{LeaseTerms, ReplicaId},
        time::Timestamp,
    },
    store::{
        EngineError,
        engine::{Entries, Sharing, Transaction},
        queue::Accepted,
    },
};

const ME: ReplicaId = ReplicaId(1);
const LENGTH: Duration = Duration::from_secs(10);

/// A store in memory whose way to it may fail.
#[derive(Clone)]
struct Far {
    engine: MemoryEngine,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// Nothing gets there.
    Away,
    /// Commits are done, and their answers do not come.
    Unheard,
}

struct OverThere {
    inner: <MemoryEngine as Engine>::Transaction,
    far: Far,
}

impl Far {
    fn new() -> Self {
        let engine = MemoryEngine::shared(8);
        engine.set_time(Timestamp::from_micros(100_000_000));
        Self { engine, trouble: Arc::default() }
    }

    fn is(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn has(&self, trouble: Trouble) -> bool {
        *self.trouble.lock().unwrap() == Some(trouble)
    }

    fn reach(&self) -> Result<(), EngineError> {
        match self.has(Trouble::Away) {
            true => Err(EngineError::Away("the cable is cut".into())),
            false => Ok(()),
        }
    }
}

impl Engine for Far {
    type Transaction = OverThere;

    async fn begin(&self) -> Result<OverThere, EngineError> {
        self.reach()?;
        Ok(OverThere { inner: self.engine.begin().await?, far: self.clone() })
    }

    fn sharing(&self) -> Sharing {
        self.engine.sharing()
    }

    async fn begin_locked(
        &self,
        locks: &[Vec<u8>],
        reads: &[Vec<u8>],
    ) -> Result<OverThere, EngineError> {
        self.reach()?;
        Ok(OverThere { inner: self.engine.begin_locked(locks, reads).await?, far: self.clone() })
    }

    async fn put_if_absent(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>, EngineError> {
        self.reach()?;
        self.engine.put_if_absent(key, value).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, EngineError> {
        self.reach()?;
        self.engine.time().await
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn name(&self) -> &'static str {
        "far"
    }
}

impl Transaction for OverThere {
    type Value = Arc<[u8]>;

    async fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, EngineError> {
        self.inner.get(key).await
    }

    async fn scan(
        &mut self,
        range: RangeInclusive<Vec<u8>>,
        limit: usize,
    ) -> Result<Entries<Arc<[u8]>>, EngineError> {
        self.inner.scan(range, limit).await
    }

    fn time(&self) -> Option<Timestamp> {
        self.inner.time()
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.inner.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.inner.delete(key);
    }

    async fn commit(self) -> Result<(), EngineError> {
        self.far.reach()?;
        self.inner.commit().await?;
        match self.far.has(Trouble::Unheard) {
            true => Err(EngineError::Unknown("no answer".into())),
            false => Ok(()),
        }
    }
}

fn terms() -> AppTerms {
    let full_job = Occupancy::default();
    AppTerms { name: "production".to_owned(), full_job, suppression: None }
}

async fn share(far: &Far) -> (Store, Writer, AppId) {
    let limits = QueueLimits { records_max: 1_000, ..LIMITS };
    let groups = GroupLimits { group_updates_max: 64, waiting_updates_max: 10_000 };
    let started =
        start_shared(far.clone(), (limits, groups), &[terms()], (3, LeaseTerms::of(LENGTH))).await;
    let (store, writer, apps) = started.unwrap();
    (store, writer, apps[0])
}

fn update(app: AppId, user: &str, value: i64) -> Update {
    Update {
        app,
        client: ClientId(0),
        subject: Subject::user(user),
        company_id: None,
        properties: vec![("a".to_owned(), Value::Integer(value))],
        occurred_at: None,
        lane: Lane::Interactive,
    }
}

async fn accept(store: &Store, updates: Vec<Update>) -> Option<Outcomes> {
    store.accept(updates, Permits::default()).unwrap().await.ok()
}

async fn hold(store: &Store, app: AppId) -> u64 {
    let lease = store.take_lease(app, ME).await.unwrap().unwrap();
    store.adopt(terms(), lease.token).await.unwrap().unwrap();
    lease.token
}

fn all() -> Claimable {
    BatchLimits { rows_max: 1_000, bytes_max: 1 << 20 }.into()
}

#[tokio::test]
async fn several_writers_keep_the_order_of_a_subjects_updates_and_answer_as_one() {
    let far = Far::new();
    let (ada, _ended, app) = share(&far).await;
    let (bob, _ended_too, of_bob) = share(&far).await;
    assert_eq!((app, ada.id(), ada.receipt_key()), (of_bob, bob.id(), bob.receipt_key()));
    let users: Vec<String> = (0..40).map(|user| user.to_string()).collect();
    let mut asked = Vec::new();
    for value in 0..10 {
        let group = users.iter().map(|user| update(app, user, value)).collect();
        // One after the other, without waiting for an answer.
        asked.push(ada.accept(group, Permits::default()).unwrap());
    }
    let mut last = vec![0; users.len()];
    for answer in asked {
        let outcomes = answer.await.unwrap();
        assert_eq!(outcomes.len(), users.len());
        for (outcome, last) in outcomes.into_iter().zip(&mut last) {
            let Accepted { sequence, .. } = outcome.unwrap();
            assert!(sequence > *last, "{sequence} after {last}");
            *last = sequence;
        }
    }
    assert_eq!(last.iter().collect::<BTreeSet<_>>().len(), users.len(), "none is given twice");
    // Another one sees what waits, and delivers it.
    bob.refresh(&BTreeSet::from([app])).await.unwrap();
    assert_eq!(bob.app(app).unwrap().queue.borrow().depth.records, 40);
    hold(&bob, app).await;
    let batch = bob.claim(app, all()).await.unwrap().unwrap();
    assert_eq!((batch.rows, batch.updates), (40, 400));
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_refuses_and_comes_back_by_itself() {
    let far = Far::new();
    let (store, mut ended, app) = share(&far).await;
    hold(&store, app).await;
    let group = || (0..20).map(|user| update(app, &user.to_string(), 1)).collect::<Vec<_>>();
    far.is(Some(Trouble::Away));
    let refused = accept(&store, group()).await.unwrap();
    assert_eq!(refused, vec![Err(QueueRefusal::StoreAway); 20]);
    assert_eq!(store.claim(app, all()).await, Err(Closed));
    assert_eq!(store.take_lease(app, ME).await, Err(Closed));
    // Once that is known nobody asks it.
    store.tell_away(true);
    assert_eq!(store.accept(group(), Permits::default()).err(), Some(NotTaken::Away));
    store.tell_away(false);
    // What was stored and not heard of is not called refused.
    far.is(Some(Trouble::Unheard));
    assert_eq!(accept(&store, group()).await, None);
    far.is(None);
    assert!(accept(&store, group()).await.unwrap().iter().all(Result::is_ok));
    let batch = store.claim(app, all()).await.unwrap().unwrap();
    assert_eq!((batch.rows, batch.updates), (20, 40), "what was not heard of was stored");
    assert!(ended.try_recv().is_err(), "the writers have ended");
    store.close().await;
    ended.await.unwrap().unwrap();
    assert!(store.is_closed());
}

#[tokio::test]
async fn whoever_has_lost_an_app_is_refused_and_may_come_to_have_it_again() {
    let far = Far::new();
    let (ada, _ended, app) = share(&far).await;
    let (bob, _ended_too, _) = share(&far).await;
    let token = hold(&ada, app).await;
    accept(&bob, vec![update(app, "u", 1)]).await.unwrap()[0].unwrap();
    far.engine.set_time(Timestamp::from_micros(111_000_000));
    let lease = bob.take_lease(app, ReplicaId(2)).await.unwrap().unwrap();
    assert_eq!(ada.claim(app, all()).await, Err(Closed));
    assert_eq!(ada.adopt(terms(), token).await.err(), Some(Closed));
    bob.adopt(terms(), lease.token).await.unwrap().unwrap();
    assert_eq!(bob.claim(app, all()).await.unwrap().unwrap().rows, 1);
    bob.give_up_lease(app, (ReplicaId(2), lease.token)).await.unwrap();
    assert_eq!(bob.claim(app, all()).await, Err(Closed));
    let lease = ada.take_lease(app, ME).await.unwrap().unwrap();
    let recovered = ada.adopt(terms(), lease.token).await.unwrap().unwrap();
    assert_eq!(recovered.unsettled.unwrap().rows, 1);
}

#[tokio::test]
async fn clients_have_the_same_numbers_everywhere() {
    let far = Far::new();
    let (ada, _ended, _) = share(&far).await;
    let (bob, _ended_too, _) = share(&far).await;
    let named = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), ClientTerms::default())).collect::<Vec<_>>()
    };
    let of_ada = ada.clients(named(&["billing", "web"])).await.unwrap().unwrap();
    let of_bob = bob.clients(named(&["web", "billing"])).await.unwrap().unwrap();
    assert_eq!((of_ada[0], of_ada[1]), (of_bob[1], of_bob[0]));
}
