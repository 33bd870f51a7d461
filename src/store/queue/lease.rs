//! Leases in the store: who delivers which app, where several might. What is decided about them,
//! `domain::lease` decides; here it is read, and made durable, under the lease's own lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Engine, EngineError, Queue, StoreError, Stored, Transaction, decode};
use crate::{
    domain::{
        lease::{self, Lease, LeaseTerms, ReplicaId},
        spread::{AppLease, Seen},
        time::Timestamp,
        update::AppId,
    },
    store::{
        keys::course::{lease as lease_of, replica, replica_of, replicas},
        records::Present,
    },
};

/// A replica of which nothing was heard for so many lengths of a lease is forgotten.
const FORGOTTEN_AFTER: u32 = 10;
/// More replicas than anybody has.
const REPLICAS_MAX: usize = 10_000;

/// What a replica renews, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// The apps that it is set up to deliver.
    pub apps: BTreeSet<AppId>,
    /// Those whose leases it holds: their tokens, and what it tells the others of them.
    pub held: BTreeMap<AppId, (u64, Vec<u8>)>,
}

/// Who is there, and who has what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// The store's time.
    pub now: Timestamp,
    /// The replicas, dead ones too.
    pub replicas: Vec<Seen>,
    /// The leases of the apps that were asked for.
    pub leases: BTreeMap<AppId, Lease>,
}

impl<E: Engine> Queue<E> {
    /// Takes an app's lease, if it is free. Who delivers then adopts the app, under its token.
    pub async fn take_lease(
        &mut self,
        app: AppId,
        me: ReplicaId,
        terms: LeaseTerms,
    ) -> Result<Option<Lease>, StoreError> {
        let taken = |lease: &Lease, now| lease::take(lease, me, now, terms);
        self.change_lease(app, terms, taken).await
    }

    /// Prolongs the leases that a replica holds, and says that it is there. Those that are its own
    /// still are returned: the others, others have.
    pub async fn renew_leases(
        &mut self,
        me: ReplicaId,
        renewal: &Renewal,
        terms: LeaseTerms,
    ) -> Result<BTreeMap<AppId, Lease>, StoreError> {
        let locks: Vec<Vec<u8>> = renewal.held.keys().map(|app| lease_of(*app)).collect();
        let mut transaction = self.engine.begin_locked(&locks, &locks).await?;
        let now = time_of(&transaction)?;
        let mut renewed = BTreeMap::new();
        for (app, (token, view)) in &renewal.held {
            let Some(lease) = read_lease(&mut transaction, *app).await? else { continue };
            let Some(lease) = lease::renew(&lease, (me, *token), now, terms) else { continue };
            let lease = Lease { view: view.clone(), ..lease };
            transaction.put(&lease_of(*app), lease.encode());
            renewed.insert(*app, lease);
        }
        let apps = renewal.apps.iter().copied().collect();
        transaction.put(&replica(me), Present { seen_at: now, apps }.encode());
        for seen in read_replicas(&mut transaction).await? {
            if now.since(seen.seen_at) > terms.length * FORGOTTEN_AFTER {
                transaction.delete(&replica(seen.replica));
            }
        }
        transaction.commit().await?;
        Ok(renewed)
    }

    /// Gives an app's lease up, for another to take. Nothing is sent under it any more.
    pub async fn give_up_lease(
        &mut self,
        app: AppId,
        (me, token): (ReplicaId, u64),
        terms: LeaseTerms,
    ) -> Result<(), StoreError> {
        self.let_go(app);
        let given_up = |lease: &Lease, now| lease::give_up(lease, (me, token), now);
        self.change_lease(app, terms, given_up).await.map(drop)
    }

    /// A replica stops: it takes no part any more.
    pub async fn depart(&mut self, me: ReplicaId) -> Result<(), StoreError> {
        let mut transaction = self.engine.begin().await?;
        transaction.delete(&replica(me));
        Ok(transaction.commit().await?)
    }

    /// Asks whoever delivers an app to send what waits at once.
    pub async fn wish_flush(&mut self, app: AppId, terms: LeaseTerms) -> Result<(), StoreError> {
        let wished = |lease: &Lease, _| {
            let mut lease = lease.clone();
            lease.wishes.flushes += 1;
            Some(lease)
        };
        self.change_lease(app, terms, wished).await.map(drop)
    }

    /// Looks who is there, and who has these apps, without a lock. A lease that is damaged is nobody's:
    /// whoever tries to take it makes it anew.
    pub async fn look_at_leases(&self, apps: &[AppId]) -> Result<Leases, StoreError> {
        let now = self.engine.time().await?.ok_or_else(no_clock)?;
        let mut transaction = self.engine.begin().await?;
        let keys: Vec<Vec<u8>> = apps.iter().map(|app| lease_of(*app)).collect();
        transaction.prefetch(&keys).await?;
        let mut leases = BTreeMap::new();
        for app in apps {
            let lease = read_lease(&mut transaction, *app).await?;
            leases.insert(*app, lease.unwrap_or_default());
        }
        let replicas = read_replicas(&mut transaction).await?;
        Ok(Leases { now, replicas, leases })
    }

    /// What of an app's lease counts for who is to have it. Whether it is idle is known of the apps
    /// that this queue delivers.
    pub fn app_lease(&self, app: AppId, lease: &Lease) -> AppLease {
        let is_idle = self.state(app).has_nothing_in_flight();
        AppLease { app, holder: lease.holder, until: lease.until, is_idle }
    }

    async fn change_lease(
        &mut self,
        app: AppId,
        terms: LeaseTerms,
        change: impl Fn(&Lease, Timestamp) -> Option<Lease> + Send,
    ) -> Result<Option<Lease>, StoreError> {
        let key = lease_of(app);
        let keys = [key.clone()];
        let mut transaction = self.engine.begin_locked(&keys, &keys).await?;
        let now = time_of(&transaction)?;
        let lease = match read_lease(&mut transaction, app).await? {
            Some(lease) => lease,
            None => {
                tracing::error!(
                    "an app's lease is damaged, and made anew: nobody takes it before any lease ends"
                );
                let lease = anew(now, terms);
                transaction.put(&key, lease.encode());
                lease
            }
        };
        let changed = change(&lease, now);
        if let Some(changed) = &changed {
            transaction.put(&key, changed.encode());
        }
        transaction.commit().await?;
        Ok(changed)
    }
}

/// How many replicas were there lately, for who must be alone.
pub async fn replicas_there<E: Engine>(engine: &E, lately: Duration) -> Result<usize, StoreError> {
    let now = engine.time().await?.ok_or_else(no_clock)?;
    let seen = read_replicas(&mut engine.begin().await?).await?;
    Ok(seen.iter().filter(|seen| now.since(seen.seen_at) < lately).count())
}

/// In the place of a lease that does not read back. Its holder cannot prolong it, and sends nothing
/// once it ends: until then it is as if nobody had it and none could take it. Its token is past all
/// that were ever given, since those are counted.
fn anew(now: Timestamp, terms: LeaseTerms) -> Lease {
    Lease {
        token: u64::try_from(now.as_micros()).unwrap_or(0),
        holder: Some(ReplicaId::default()),
        until: now.plus(terms.length),
        ..Lease::default()
    }
}

async fn read_lease(
    transaction: &mut impl Transaction,
    app: AppId,
) -> Result<Option<Lease>, StoreError> {
    let bytes = transaction.get(&lease_of(app)).await?;
    Ok(bytes.map(|bytes| decode(bytes.as_ref())).transpose()?.flatten())
}

async fn read_replicas(transaction: &mut impl Transaction) -> Result<Vec<Seen>, StoreError> {
    let mut seen = Vec::new();
    for (key, bytes) in transaction.scan(replicas(), REPLICAS_MAX).await? {
        let present: Option<Present> = decode(bytes.as_ref())?;
        if let (Some(replica), Some(Present { seen_at, apps })) = (replica_of(&key), present) {
            seen.push(Seen { replica, seen_at, apps: apps.into_iter().collect() });
        }
    }
    Ok(seen)
}

/// The store's time after the lease was locked.
fn time_of(transaction: &impl Transaction) -> Result<Timestamp, StoreError> {
    Ok(transaction.time().ok_or_else(no_clock)?)
}

fn no_clock() -> EngineError {
    EngineError::Failed("it has no clock for leases".to_owned())
}
