//! What the writers are asked about leases, where several gateways share a store.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::oneshot;

use super::{Committer, Role};
use crate::{
    clock,
    domain::{
        lease::{Lease, LeaseTerms, ReplicaId},
        lifecycle::Recovered,
        spread::AppLease,
        update::AppId,
    },
    store::{
        engine::Engine,
        handle::AppTerms,
        queue::{
            StoreError,
            lease::{Leases, Renewal},
        },
    },
};

/// What the writers are asked about leases.
pub(in crate::store) enum LeaseOp {
    Take {
        app: AppId,
        me: ReplicaId,
        reply: oneshot::Sender<Option<Lease>>,
    },
    Renew {
        me: ReplicaId,
        renewal: Renewal,
        reply: oneshot::Sender<BTreeMap<AppId, Lease>>,
    },
    GiveUp {
        app: AppId,
        held: (ReplicaId, u64),
        reply: oneshot::Sender<()>,
    },
    Depart {
        me: ReplicaId,
        reply: oneshot::Sender<()>,
    },
    WishFlush {
        app: AppId,
        reply: oneshot::Sender<()>,
    },
    /// Who is there, and who has which app.
    Look {
        apps: Vec<AppId>,
        reply: oneshot::Sender<(Leases, Vec<AppLease>)>,
    },
    /// What waits is read anew, for who watches it. Whether each app is paused.
    Refresh {
        apps: Vec<AppId>,
        reply: oneshot::Sender<BTreeMap<AppId, bool>>,
    },
    /// For the writer that delivery asks: it acts under this lease from now on.
    Adopt {
        terms: Box<AppTerms>,
        token: u64,
        reply: oneshot::Sender<Result<Recovered, String>>,
    },
    /// And for it: no more.
    LetGo {
        app: AppId,
        reply: oneshot::Sender<()>,
    },
}

impl Role {
    /// How long leases last that it gives. The others give none.
    fn lease_terms(self) -> LeaseTerms {
        match self {
            Self::Leases(terms) => terms,
            Self::Alone | Self::Accepts | Self::Controls => LeaseTerms::of(Duration::MAX),
        }
    }
}

impl<E: Engine> Committer<E> {
    pub(super) async fn lease(&mut self, op: LeaseOp) -> Result<(), StoreError> {
        let (queue, terms) = (&mut self.queue, self.role.lease_terms());
        match op {
            LeaseOp::Take { app, me, reply } => {
                reply.send(queue.take_lease(app, me, terms).await?).ok();
            }
            LeaseOp::Renew { me, renewal, reply } => {
                reply.send(queue.renew_leases(me, &renewal, terms).await?).ok();
            }
            LeaseOp::GiveUp { app, held, reply } => {
                queue.give_up_lease(app, held, terms).await?;
                reply.send(()).ok();
            }
            LeaseOp::Depart { me, reply } => {
                queue.depart(me).await?;
                reply.send(()).ok();
            }
            LeaseOp::WishFlush { app, reply } => {
                queue.wish_flush(app, terms).await?;
                reply.send(()).ok();
            }
            LeaseOp::Look { apps, reply } => {
                let leases = queue.look_at_leases(&apps).await?;
                let of = |(app, lease): (&AppId, &Lease)| queue.app_lease(*app, lease);
                let who_has = leases.leases.iter().map(of).collect();
                reply.send((leases, who_has)).ok();
            }
            LeaseOp::Refresh { apps, reply } => {
                queue.refresh(&apps).await?;
                let paused = apps.iter().map(|app| (*app, queue.is_paused(*app))).collect();
                apps.iter().for_each(|app| self.publish(*app));
                reply.send(paused).ok();
            }
            LeaseOp::Adopt { terms, token, reply } => self.adopt(*terms, token, reply).await?,
            LeaseOp::LetGo { app, reply } => {
                queue.let_go(app);
                reply.send(()).ok();
            }
        }
        Ok(())
    }

    async fn adopt(
        &mut self,
        terms: AppTerms,
        token: u64,
        reply: oneshot::Sender<Result<Recovered, String>>,
    ) -> Result<(), StoreError> {
        let adopting = self.queue.adopt(&terms, token, clock::now().wall);
        match Box::pin(adopting).await {
            Ok((app, recovered)) => {
                self.publish(app);
                reply.send(Ok(recovered)).ok();
                Ok(())
            }
            Err(error @ StoreError::Damaged { .. }) => {
                reply.send(Err(error.to_string())).ok();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
