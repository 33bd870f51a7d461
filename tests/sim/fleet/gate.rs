//! The way upstream, which is open while the lease is held.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use userpilot_gateway::{
    domain::{
        batch::Batch,
        update::SubjectKind,
        verdict::{FailureKind, Identified, Jobs, Poll, Submission},
    },
    upstream::Upstream,
};

use super::{
    facts::look_at_sender, replica::Process, sabotage::Sabotage, scenario::Trouble, world::World,
};
use crate::{
    process::at_once,
    upstream::{Network, failure},
};

/// Whether the process may send a request now, by its own clock.
pub(crate) fn may_ask(process: &Process, app: usize) -> bool {
    let skips = skips_may_ask(process);
    let now = process.now().instant;
    process.holding(app).is_some_and(|holding| skips || holding.held.may_ask(now))
}

fn skips_may_ask(process: &Process) -> bool {
    process.world.scenario.sabotage == Some(Sabotage::SkipsMayAsk)
}

/// The way upstream, which is open while the lease is held.
pub(crate) struct Gate {
    process: Arc<Process>,
    app: usize,
    token: u64,
    is_held_back: AtomicBool,
}

impl Gate {
    pub(crate) fn new(process: Arc<Process>, app: usize, token: u64) -> Self {
        Self { process, app, token, is_held_back: AtomicBool::new(false) }
    }

    pub(crate) fn app(&self) -> usize {
        self.app
    }

    /// Whether something was not sent, or not waited for, since the lease was over.
    pub(crate) fn is_held_back(&self) -> bool {
        self.is_held_back.load(Relaxed)
    }

    /// Sends a request, unless the lease is over, and waits for its answer until it is.
    async fn request<T: Send + 'static>(
        &self,
        asks: &'static str,
        carry: impl FnOnce(&Network) -> T + Send + 'static,
    ) -> Option<T> {
        let (process, app) = (&self.process, self.app);
        let world = &process.world;
        if !may_ask(process, app) {
            self.is_held_back.store(true, Relaxed);
            return None;
        }
        if world.strikes(Trouble::StopBeforeSending, 3) {
            let length = world.millis(8_000, 90_000);
            world.stop(process.owner.place, length);
            world.give_way().await;
        } else {
            look_at_sender(world, (app, process.me, self.token), asks);
        }
        let (tell, mut told) = oneshot::channel();
        // Once it has left, it arrives, whatever becomes of who sent it.
        let arrives = world.time() + world.millis(0, 60);
        world.at(arrives, move |world| {
            world.networks[app].inside().advance(world.time());
            let answer = carry(&world.networks[app]);
            world.watch(app);
            let takes = if world.percent(5) { 30_000 } else { 400 };
            let back = world.time() + world.millis(0, takes);
            world.at(back, move |_: &World| drop(tell.send(answer)));
        });
        if skips_may_ask(process) {
            return told.await.ok();
        }
        while may_ask(process, app) {
            let until = process.holding(app).map(|holding| holding.held.valid_until);
            let over = std::pin::pin!(process.sleep_until(until.unwrap_or_default()));
            match select(told, over).await {
                Either::Left((answer, _)) => return answer.ok(),
                Either::Right((_, rest)) => told = rest,
            }
        }
        self.is_held_back.store(true, Relaxed);
        None
    }
}

impl Upstream for Gate {
    async fn submit(&self, batch: &Batch, upload: Vec<u8>) -> Submission {
        let batch = batch.clone();
        let carry = move |network: &Network| at_once(network.submit(&batch, upload));
        let answer = self.request("a submission", carry).await;
        answer.unwrap_or_else(|| Err(failure(FailureKind::Unknown)))
    }

    async fn job(&self, job_id: &str) -> Poll {
        let job_id = job_id.to_owned();
        let answer = self.request("a poll", move |network| at_once(network.job(&job_id))).await;
        answer.unwrap_or_else(|| Err(failure(FailureKind::Unknown)))
    }

    async fn jobs(&self) -> Jobs {
        let answer = self.request("a list", |network| at_once(network.jobs())).await;
        answer.unwrap_or_else(|| Err(failure(FailureKind::Unknown)))
    }

    async fn identify(&self, kind: SubjectKind, body: Vec<u8>) -> Identified {
        let carry = move |network: &Network| network.inside().identify(kind, &body);
        let answer = self.request("a profile", carry).await;
        answer.unwrap_or_else(|| Err(failure(FailureKind::Unknown)))
    }
}
