//! Where an app is delivered from while this gateway has its lease: one session after the other, each
//! begun anew from what is stored.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    delivery::{DeliveryEnd, LeaseWatch, Place},
    domain::{
        backoff::{Backoff, BackoffLimits},
        budget::Occupancy,
        lease::Held,
        lifecycle::Recovered,
    },
    gateway::{Crew, Ended},
    store::{AppTerms, Store},
};

/// After a session that failed. The database may be away, or overloaded.
const RETRY: BackoffLimits =
    BackoffLimits { initial: Duration::from_millis(100), max: Duration::from_secs(5) };

/// An app's seat.
pub(in crate::gateway) struct Seat {
    pub(in crate::gateway) store: Store,
    pub(in crate::gateway) crew: Crew,
    pub(in crate::gateway) terms: AppTerms,
    /// How many rows its largest job has.
    pub(in crate::gateway) rows_max: u64,
    pub(in crate::gateway) held: watch::Receiver<Option<Held>>,
    pub(in crate::gateway) leave: watch::Receiver<bool>,
    pub(in crate::gateway) seated: watch::Sender<bool>,
}

impl Seat {
    /// Delivers whenever this gateway has the lease, until told to stop.
    pub(in crate::gateway) async fn sit(mut self, stop: CancellationToken) -> Ended {
        let mut backoff = Backoff::default();
        loop {
            let ports = self.crew.ports.clone();
            let token = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                token = self.lease() => token,
                never = ports.idle() => match never {},
            };
            self.seated.send_replace(true);
            let end = Box::pin(self.session(token, &stop)).await;
            self.seated.send_replace(false);
            match end {
                DeliveryEnd::Stopped => backoff = Backoff::default(),
                DeliveryEnd::LeaseLost => {
                    let app = &*self.terms.name;
                    tracing::warn!(app, "the lease has ended: what was asked is given up");
                }
                DeliveryEnd::Failed(error) => {
                    let app = &*self.terms.name;
                    tracing::warn!(app, %error, "delivery is begun anew");
                    let pause = clock::instant().plus(backoff.fail(&RETRY, rand::random()));
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = clock::sleep_until(Some(pause)) => {}
                    }
                }
            }
        }
        Ended::Driver { app: self.terms.name, end: DeliveryEnd::Stopped }
    }

    /// The token of the lease, once there is one that is to be used.
    async fn lease(&mut self) -> u64 {
        loop {
            let (held, leaves) = (*self.held.borrow_and_update(), *self.leave.borrow_and_update());
            if let Some(held) = held.filter(|held| !leaves && held.may_ask(clock::instant())) {
                return held.token;
            }
            tokio::select! {
                Ok(()) = self.held.changed() => {}
                Ok(()) = self.leave.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    async fn session(&mut self, token: u64, stop: &CancellationToken) -> DeliveryEnd {
        let app = &self.crew.app;
        let full_job = Occupancy::begin(self.rows_max, app.users_per_minute, clock::now());
        let terms = AppTerms { full_job, ..self.terms.clone() };
        let adopted = match self.store.adopt(terms, token).await {
            Ok(adopted) => adopted,
            Err(closed) => return DeliveryEnd::Failed(closed.into()),
        };
        let recovered = match adopted {
            Ok(recovered) => careful(recovered),
            Err(damage) => {
                tracing::error!(app = app.name, damage, "the app cannot be delivered: it is held");
                self.crew.ports.hold(damage);
                return self.wait(token, stop).await;
            }
        };
        self.crew.ports.place(Place::Here);
        let stop = stop.child_token();
        let _stops = stop.clone().drop_guard();
        let session =
            self.crew.session(recovered, LeaseWatch::new(token, self.held.clone()), &stop);
        tokio::pin!(session);
        let mut leave = self.leave.clone();
        tokio::select! {
            end = &mut session => return end,
            Ok(_) = leave.wait_for(|leaves| *leaves) => stop.cancel(),
        }
        session.await
    }

    /// With nothing to do, for as long as it has the lease.
    async fn wait(&self, token: u64, stop: &CancellationToken) -> DeliveryEnd {
        let (mut leave, lease) = (self.leave.clone(), LeaseWatch::new(token, self.held.clone()));
        tokio::select! {
            () = stop.cancelled() => DeliveryEnd::Stopped,
            Ok(_) = leave.wait_for(|leaves| *leaves) => DeliveryEnd::Stopped,
            () = lease.lost() => DeliveryEnd::LeaseLost,
        }
    }
}

/// The last job may have been another gateway's, whose clock told when it was submitted.
fn careful(mut recovered: Recovered) -> Recovered {
    recovered.memory.occupancy = recovered.memory.occupancy.handed_over();
    recovered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{memory::Memory, time::Now};

    #[test]
    fn an_occupancy_that_another_gateway_has_begun_lasts_a_second_longer() {
        let began = Now::default();
        let occupancy = Occupancy::begin(60, 60, began);
        let memory = Memory { occupancy, ..Memory::default() };
        let careful = careful(Recovered { memory, ..Recovered::default() });
        let longer = careful.memory.occupancy.end(began).since(occupancy.end(began));
        assert_eq!(longer, Duration::from_secs(1));
    }
}
