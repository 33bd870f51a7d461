//! The express lane's driver: a loop around its state machine, with several requests under way.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    AppLedger, DeliveryEnd, LeaseWatch, Leased, LedgerError, Operation, Ports, Report,
    driver::freshness,
};
use crate::{
    clock,
    domain::{
        express::{Express, ExpressEnd, ExpressEvent, ExpressSettings, ExpressStep},
        row::RowValues,
        update::Subject,
        verdict::Identified,
    },
    store::{QueueView, queue::TakenExpress},
    upstream::Upstream,
};

/// What became of one request. The store may have failed meanwhile.
type Answer = (Subject, Result<Option<Identified>, LedgerError>);

/// The driver of one app's express lane.
pub struct ExpressDelivery<U, R> {
    ledger: AppLedger,
    upstream: Leased<U>,
    report: R,
    name: String,
    values: RowValues,
    machine: Express,
    ports: Ports,
    requests: JoinSet<Answer>,
}

impl<U: Upstream + Clone + 'static, R: Report> ExpressDelivery<U, R> {
    /// A driver for the app called `name`, as long as it has the lease.
    pub fn new(
        (name, ports): (String, Ports),
        ledger: AppLedger,
        (upstream, lease, report): (U, LeaseWatch, R),
        (settings, values): (ExpressSettings, RowValues),
        paused: bool,
    ) -> Self {
        let machine = Express::new(settings, paused, clock::now());
        let (upstream, requests) = (Leased { upstream, lease }, JoinSet::new());
        Self { ledger, upstream, report, name, values, machine, ports, requests }
    }

    /// Delivers until told to stop. Requests that are under way are waited for.
    pub async fn run(mut self, stop: CancellationToken) -> DeliveryEnd {
        let end = self.deliver(stop).await;
        end.unwrap_or_else(DeliveryEnd::Failed)
    }

    async fn deliver(&mut self, stop: CancellationToken) -> Result<DeliveryEnd, LedgerError> {
        let store = self.ledger.store.clone();
        let Some(gauges) = store.app(self.ledger.app) else { return Ok(DeliveryEnd::Stopped) };
        let Some(listener) = self.ports.express.clone() else { return Ok(DeliveryEnd::Stopped) };
        let mut operations = listener.lock().await;
        let mut queue = gauges.queue.subscribe();
        let lease = self.upstream.lease.clone();
        loop {
            if !lease.may_ask() {
                return Ok(DeliveryEnd::LeaseLost);
            }
            let view = *queue.borrow_and_update();
            self.tell(waiting(view));
            if stop.is_cancelled() {
                // What has not been sent goes back.
                self.tell(ExpressEvent::Paused(true));
                if self.machine.is_idle() {
                    return Ok(DeliveryEnd::Stopped);
                }
            }
            match self.machine.next(clock::now()) {
                ExpressStep::Take(max) => {
                    let taken = store.take_express(self.ledger.app, max).await?;
                    let TakenExpress { subjects, cut_short } = taken;
                    self.tell(ExpressEvent::Taken { subjects, cut_short });
                }
                ExpressStep::Send(subject) => self.send(subject),
                ExpressStep::Settle(ends) => self.settle(ends).await?,
                ExpressStep::Wait(until) => tokio::select! {
                    () = stop.cancelled(), if !stop.is_cancelled() => {}
                    () = lease.lost() => return Ok(DeliveryEnd::LeaseLost),
                    Some(operation) = operations.recv() => self.operate(operation),
                    Some(answer) = self.requests.join_next() => self.hear(answer)?,
                    Ok(()) = queue.changed() => {}
                    () = clock::sleep_until(until) => {}
                },
            }
        }
    }

    fn tell(&mut self, event: ExpressEvent) {
        self.machine.on(event, clock::now(), rand::random());
    }

    fn operate(&mut self, operation: Operation) {
        self.tell(match operation {
            Operation::Pause(paused) => ExpressEvent::Paused(paused),
            Operation::Flush => ExpressEvent::Flush,
            Operation::KeyChanged => ExpressEvent::KeyChanged,
        });
    }

    fn send(&mut self, subject: Subject) {
        self.tell(ExpressEvent::Begun(subject.clone()));
        let (ledger, upstream, values) = (self.ledger.clone(), self.upstream.clone(), self.values);
        self.requests.spawn(async move {
            let body = ledger.store.express_body(ledger.app, subject.clone(), values).await;
            let answer = match body {
                Ok(Some(body)) => Ok(Some(upstream.identify(subject.kind, body).await)),
                Ok(None) => Ok(None),
                Err(error) => Err(error.into()),
            };
            (subject, answer)
        });
    }

    fn hear(&mut self, answer: Result<Answer, tokio::task::JoinError>) -> Result<(), LedgerError> {
        // A panic is one of ours: the process ends, and the next one puts back what was in flight.
        let (subject, answer) = answer.map_err(|_| crate::store::Closed)?;
        let answer = answer?;
        if let Some(Err(failure)) = &answer {
            // Without the subject and upstream's words, which may quote it.
            let (kind, cause) = (failure.kind, &*failure.cause);
            let request_id = failure.request_id.as_deref().unwrap_or("");
            tracing::warn!(
                app = self.name,
                asked = "identify",
                ?kind,
                cause,
                request_id,
                "upstream did not do as asked"
            );
        }
        self.tell(ExpressEvent::Answered(subject, answer));
        Ok(())
    }

    async fn settle(&mut self, ends: Vec<(Subject, ExpressEnd)>) -> Result<(), LedgerError> {
        let mut subjects = Vec::new();
        for (subject, end) in &ends {
            self.report.express_ended(*end);
            subjects.extend((*end == ExpressEnd::Delivered).then(|| subject.clone()));
        }
        let delivered = self.ledger.store.settle_express(self.ledger.app, ends).await?;
        self.report.delivered_by_express(subjects, &mut freshness(delivered, clock::now().wall));
        self.tell(ExpressEvent::Settled);
        Ok(())
    }
}

fn waiting(view: QueueView) -> ExpressEvent {
    let (records, updates) = (view.depth.express_records, view.express_updates);
    ExpressEvent::Waiting { records, updates }
}
