//! A store that several gateways share: how its writers are started, and what is asked about leases.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

use super::{
    AppTerms, CONTROL_OPS_MAX, Closed, Gauges, GroupLimits, Op, Reads, Store, StoreError, Writer,
    ways::Ways,
};
use crate::{
    domain::{
        admission::QueueLimits,
        lease::{Lease, LeaseTerms, ReplicaId},
        lifecycle::Recovered,
        spread::AppLease,
        time::Timestamp,
        update::AppId,
    },
    store::{
        committer::{Committer, LeaseOp, Role},
        engine::{Engine, EngineError, Sharing},
        keys::course::RECEIPT_KEY,
        queue::{
            Queue,
            lease::{Leases, Renewal},
        },
        receipt_key::{KEY_BYTES, ReceiptKey},
    },
};

/// Before the key of receipts: what stands there is of this version.
const VERSION: u8 = 1;

/// Opens a store that several gateways share, and starts so many writers that accept, one for leases
/// and one for everything else. No app is delivered before it is adopted.
pub async fn start_shared<E: Engine + Clone>(
    engine: E,
    limits: (QueueLimits, GroupLimits),
    apps: &[AppTerms],
    (writers, lease): (usize, LeaseTerms),
) -> Result<(Store, Writer, Vec<AppId>), StoreError> {
    let (limits, groups) = limits;
    let Sharing::Shared { stripes } = engine.sharing() else {
        let reason = "the engine is this process's alone".to_owned();
        return Err(EngineError::Failed(reason).into());
    };
    let open = async || open(&engine, limits, apps).await;
    let (control, numbers) = open().await?;
    let (leases, _) = open().await?;
    let mut queues = vec![(Role::Controls, control), (Role::Leases(lease), leases)];
    for _ in 0..writers.max(1) {
        queues.push((Role::Accepts, open().await?.0));
    }
    let id = queues[0].1.store();
    let receipt_key = receipt_key(&engine).await?;
    let gauges: Arc<BTreeMap<AppId, Gauges>> =
        Arc::new(numbers.iter().map(|app| (*app, Gauges::default())).collect());
    let store_gauges = Arc::default();
    let mut senders = Vec::new();
    let (ended, writer) = oneshot::channel();
    let ends = Arc::new(Ends(Mutex::new((queues.len(), Some(ended)))));
    for (role, queue) in queues {
        let (sender, ops) = mpsc::channel(groups.waiting_updates_max + CONTROL_OPS_MAX);
        senders.push(sender);
        let committer = Committer {
            role,
            queue,
            looked_at: None,
            ops,
            group_updates_max: groups.group_updates_max,
            apps: Arc::clone(&gauges),
            store: Arc::clone(&store_gauges),
        };
        if role == Role::Leases(lease) {
            committer.publish_all();
        }
        run(committer, &ends)?;
    }
    let accept = senders.split_off(2).into();
    let [control, leases] = <[_; 2]>::try_from(senders).map_err(|_| no_writers())?;
    let store = Store {
        ways: Ways { accept, control, leases: Some(leases), stripes },
        reads: Arc::new(Reads::new(engine)),
        apps: gauges,
        gauges: store_gauges,
        seen_jobs: Arc::default(),
        away: Arc::new(watch::Sender::new(false)),
        receipt_key: Some(receipt_key),
        id,
    };
    Ok((store, writer, numbers))
}

/// A queue that knows the apps. What is damaged of one, its holder makes anew.
async fn open<E: Engine + Clone>(
    engine: &E,
    limits: QueueLimits,
    apps: &[AppTerms],
) -> Result<(Queue<E>, Vec<AppId>), StoreError> {
    let mut queue = Queue::open(engine.clone(), limits, rand::random()).await?;
    let mut numbers = Vec::new();
    for terms in apps {
        let app = match queue.app(&terms.name).await {
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(app = terms.name, %error, "waits for whoever delivers the app");
                queue.named(&terms.name).await?
            }
            app => app?,
        };
        queue.judge_by(app, terms.suppression);
        numbers.push(app);
    }
    Ok((queue, numbers))
}

/// The key that receipts are signed with, which all share: drawn by whoever comes first.
async fn receipt_key<E: Engine>(engine: &E) -> Result<ReceiptKey, StoreError> {
    let drawn: ReceiptKey = rand::random();
    let stored = engine.put_if_absent(RECEIPT_KEY, [&[VERSION], &drawn[..]].concat()).await?;
    match stored.split_first() {
        Some((&VERSION, key)) if key.len() == KEY_BYTES => Ok(key.try_into().unwrap_or(drawn)),
        Some(_) | None => {
            Err(EngineError::Failed("the key of receipts does not read back".to_owned()).into())
        }
    }
}

fn no_writers() -> StoreError {
    EngineError::Failed("the writers cannot be started".to_owned()).into()
}

/// Runs a writer in a thread of its own.
fn run<E: Engine + Clone>(committer: Committer<E>, ends: &Arc<Ends>) -> Result<(), StoreError> {
    let ending = Ending { ends: ends.clone(), end: Err(panicked()) };
    let runtime = runtime::Handle::current();
    thread::Builder::new()
        .name("committer".into())
        .spawn(move || {
            let mut ending = ending;
            ending.end = runtime.block_on(committer.run());
        })
        .map_err(|error| EngineError::Failed(error.to_string()))?;
    Ok(())
}

fn panicked() -> StoreError {
    EngineError::Failed("a writer panicked".to_owned()).into()
}

/// Tells how the writers end: once all have, or the first has failed.
struct Ends(Mutex<(usize, Option<oneshot::Sender<End>>)>);

type End = Result<(), StoreError>;

/// One of them, which ends when this is dropped.
struct Ending {
    ends: Arc<Ends>,
    end: End,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, Ok(()));
        let mut ends = self.ends.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.0 = ends.0.saturating_sub(1);
        if (end.is_err() || ends.0 == 0)
            && let Some(ended) = ends.1.take()
        {
            ended.send(end).ok();
        }
    }
}

impl Store {
    /// Whether several gateways share it.
    pub fn is_shared(&self) -> bool {
        self.ways.leases.is_some()
    }

    /// Whether its database does not answer, by what was said last.
    pub fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// For who watches that.
    pub fn away(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// Says whether the database answers. While it does not, nothing is accepted.
    pub fn tell_away(&self, away: bool) {
        self.away.send_if_modified(|standing| std::mem::replace(standing, away) != away);
    }

    /// The store's own time, where it has a clock.
    pub async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|reads| reads.time()).await
    }

    /// The key that receipts are signed with, where all gateways share one.
    pub fn receipt_key(&self) -> Option<ReceiptKey> {
        self.receipt_key
    }

    /// Takes an app's lease, if it is free.
    pub async fn take_lease(&self, app: AppId, me: ReplicaId) -> Result<Option<Lease>, Closed> {
        self.ask_leases(|reply| LeaseOp::Take { app, me, reply }).await
    }

    /// Prolongs the leases that a replica holds. Those that are its own still are returned.
    pub async fn renew_leases(
        &self,
        me: ReplicaId,
        renewal: Renewal,
    ) -> Result<BTreeMap<AppId, Lease>, Closed> {
        self.ask_leases(|reply| LeaseOp::Renew { me, renewal, reply }).await
    }

    /// Gives an app's lease up, once nothing is sent under it any more.
    pub async fn give_up_lease(&self, app: AppId, held: (ReplicaId, u64)) -> Result<(), Closed> {
        self.ask(|reply| Op::Lease(LeaseOp::LetGo { app, reply })).await?;
        self.ask_leases(|reply| LeaseOp::GiveUp { app, held, reply }).await
    }

    /// A replica takes no part any more.
    pub async fn depart(&self, me: ReplicaId) -> Result<(), Closed> {
        self.ask_leases(|reply| LeaseOp::Depart { me, reply }).await
    }

    /// Asks whoever delivers an app to send what waits at once.
    pub async fn wish_flush(&self, app: AppId) -> Result<(), Closed> {
        self.ask_leases(|reply| LeaseOp::WishFlush { app, reply }).await
    }

    /// Who is there, and who has these apps.
    pub async fn look_at_leases(
        &self,
        apps: Vec<AppId>,
    ) -> Result<(Leases, Vec<AppLease>), Closed> {
        self.ask_leases(|reply| LeaseOp::Look { apps, reply }).await
    }

    /// Reads anew what waits for these apps, for who watches it. Says whether they are paused.
    pub async fn refresh(&self, apps: &BTreeSet<AppId>) -> Result<BTreeMap<AppId, bool>, Closed> {
        let apps = apps.iter().copied().collect();
        self.ask_leases(|reply| LeaseOp::Refresh { apps, reply }).await
    }

    /// Goes on with an app under a lease: what its driver goes on from, or what is damaged of it
    /// beyond repair.
    pub async fn adopt(
        &self,
        terms: AppTerms,
        token: u64,
    ) -> Result<Result<Recovered, String>, Closed> {
        let terms = Box::new(terms);
        self.ask(|reply| Op::Lease(LeaseOp::Adopt { terms, token, reply })).await
    }

    async fn ask_leases<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<T>) -> LeaseOp,
    ) -> Result<T, Closed> {
        let leases = self.ways.leases.as_ref().ok_or(Closed)?;
        super::ask(leases, |reply| Op::Lease(op(reply))).await
    }
}
