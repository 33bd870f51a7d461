//! The express lane of an app under one lease.

use std::future::Future;

use futures_util::{
    StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use userpilot_gateway::{
    domain::{
        express::{Express, ExpressEvent, ExpressStep},
        row::RowValues,
        time::Instant,
        update::Subject,
        verdict::Identified,
    },
    store::{StoreError, queue::TakenExpress},
    upstream::Upstream,
};

use super::{gate::Gate, replica::Process, session::REFRESH};

/// A request that is under way: whose, and its answer, unless there was nothing to send.
type Request<'a> = BoxFuture<'a, Result<(Subject, Option<Identified>), StoreError>>;

/// The lane's driver.
pub(crate) struct Lane<'a> {
    process: &'a Process,
    gate: &'a Gate,
    app: usize,
    machine: Express,
    requests: FuturesUnordered<Request<'a>>,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(process: &'a Process, gate: &'a Gate, paused: bool) -> Self {
        let settings = process.world.scenario.base.express;
        let machine = Express::new(settings, paused, process.now());
        Self { process, gate, app: gate.app(), machine, requests: FuturesUnordered::new() }
    }

    /// Goes on until something fails, or the driver beside it ends.
    pub(crate) async fn run(mut self) -> StoreError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), StoreError> {
        let is_idle = self.machine.is_idle();
        self.process.note(self.app, |it| it.is_express_idle = is_idle);
        self.tell_what_waits().await;
        let now = self.process.now();
        let step = self.machine.next(now);
        if !matches!(step, ExpressStep::Wait(_)) {
            self.process.say(|| format!("app {}: by express: {step:?}", self.app));
            self.process.world.point(self.process.owner, 15).await;
        }
        match step {
            ExpressStep::Take(max) => self.take(max).await?,
            ExpressStep::Send(subject) => self.send(subject),
            ExpressStep::Settle(ends) => {
                let app = self.process.world.apps[self.app];
                let mut queue = self.process.control.lock().await;
                queue.settle_express(app, &ends, now.wall).await?;
                drop(queue);
                self.tell(ExpressEvent::Settled);
            }
            ExpressStep::Wait(until) => {
                let at = now.instant.plus(REFRESH);
                self.wait(until.map_or(at, |until| until.min(at))).await?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: ExpressEvent) {
        let random = self.process.world.below(u64::MAX);
        self.machine.on(event, self.process.now(), random);
    }

    async fn tell_what_waits(&mut self) {
        let app = self.process.world.apps[self.app];
        let queue = self.process.control.lock().await;
        let (records, updates) = (queue.depth(app).express_records, queue.express_updates(app));
        drop(queue);
        self.tell(ExpressEvent::Waiting { records, updates });
    }

    async fn take(&mut self, max: u64) -> Result<(), StoreError> {
        let app = self.process.world.apps[self.app];
        let wall = self.process.now().wall;
        let taken = self.process.control.lock().await.take_express(app, max, wall).await?;
        let TakenExpress { subjects, cut_short } = taken;
        self.tell(ExpressEvent::Taken { subjects, cut_short });
        Ok(())
    }

    fn send(&mut self, subject: Subject) {
        self.tell(ExpressEvent::Begun(subject.clone()));
        let (process, gate, app) = (self.process, self.gate, self.process.world.apps[self.app]);
        self.requests.push(Box::pin(async move {
            let body = process.reads.express_body(app, &subject, RowValues::Primitive).await?;
            let Some(body) = body else { return Ok((subject, None)) };
            let answer = gate.identify(subject.kind, body).await;
            Ok((subject, Some(answer)))
        }));
    }

    /// Until something is answered, or then.
    async fn wait(&mut self, until: Instant) -> Result<(), StoreError> {
        let process = self.process;
        let asleep = std::pin::pin!(process.sleep_until(until));
        if self.requests.is_empty() {
            asleep.await;
            return Ok(());
        }
        match select(self.requests.next(), asleep).await {
            Either::Left((Some(answered), _)) => {
                let (subject, answer) = answered?;
                if !self.gate.is_held_back() {
                    self.tell(ExpressEvent::Answered(subject, answer));
                }
                Ok(())
            }
            Either::Left((None, _)) | Either::Right(_) => Ok(()),
        }
    }
}

/// The outcome of the first that ends; the other one ends with it.
pub(crate) async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (one, other) = (std::pin::pin!(one), std::pin::pin!(other));
    match select(one, other).await {
        Either::Left((outcome, _)) | Either::Right((outcome, _)) => outcome,
    }
}
