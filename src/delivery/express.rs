//! The express lane's driver: a loop around its state machine, with several requests under way.

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{AppLedger, DeliveryEnd, LedgerError, Operation, Report, driver::freshness};
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

/// Operations are rare, and the driver never waits for upstream.
const OPERATIONS_MAX: usize = 16;

/// What became of one request. The store may have failed meanwhile.
type Answer = (Subject, Result<Option<Identified>, LedgerError>);

/// The driver of one app's express lane.
pub struct ExpressDelivery<U, R> {
    ledger: AppLedger,
    upstream: U,
    report: R,
    name: String,
    values: RowValues,
    machine: Express,
    operations: mpsc::Receiver<Operation>,
    requests: JoinSet<Answer>,
}

impl<U: Upstream + Clone + 'static, R: Report> ExpressDelivery<U, R> {
    /// A driver for the app called `name`, and how it is asked something.
    pub fn new(
        name: String,
        ledger: AppLedger,
        (upstream, report): (U, R),
        (settings, values): (ExpressSettings, RowValues),
        paused: bool,
    ) -> (Self, mpsc::Sender<Operation>) {
        let machine = Express::new(settings, paused, clock::now());
        let (operator, operations) = mpsc::channel(OPERATIONS_MAX);
        let requests = JoinSet::new();
        let delivery =
            Self { ledger, upstream, report, name, values, machine, operations, requests };
        (delivery, operator)
    }

    /// Delivers until told to stop. Requests that are under way are waited for.
    pub async fn run(mut self, stop: CancellationToken) -> DeliveryEnd {
        match self.deliver(stop).await {
            Ok(()) => DeliveryEnd::Stopped,
            Err(error) => DeliveryEnd::Failed(error),
        }
    }

    async fn deliver(&mut self, stop: CancellationToken) -> Result<(), LedgerError> {
        let store = self.ledger.store.clone();
        let Some(gauges) = store.app(self.ledger.app) else { return Ok(()) };
        let mut queue = gauges.queue.subscribe();
        loop {
            let view = *queue.borrow_and_update();
            self.tell(waiting(view));
            if stop.is_cancelled() {
                // What has not been sent goes back.
                self.tell(ExpressEvent::Paused(true));
                if self.machine.is_idle() {
                    return Ok(());
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
                    Some(operation) = self.operations.recv() => self.operate(operation),
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
