//! The driver: a loop around the life cycle, without decisions of its own.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    AppLedger, LeaseWatch, Leased, LedgerError, Operation, Ports, carry_out, words::Words,
};
use crate::{
    clock,
    domain::{
        batch::{Batch, DeadReason, Settlement},
        express::ExpressEnd,
        lifecycle::{Command, Event, Lifecycle, Recovered, Settings, Step, View, Waiting},
        time::{Instant, Now, Timestamp},
        update::{ByKind, ClientId, Lane, Subject, SubjectKind},
    },
    store::{QueueView, queue::SettledRow},
    upstream::Upstream,
};

/// What a driver tells about what it did, for metrics.
pub trait Report: Send + Sync + 'static {
    /// Rows were delivered.
    fn delivered(&self, rows: &mut dyn Iterator<Item = DeliveredRow>);
    /// A batch was settled.
    fn job_ended(&self, batch: &Batch, settlement: Settlement, took: Duration);
    /// What went by express came to this end.
    fn express_ended(&self, end: ExpressEnd);
    /// The same of records that went by express, and of whom these are.
    fn delivered_by_express(
        &self,
        subjects: Vec<Subject>,
        rows: &mut dyn Iterator<Item = DeliveredRow>,
    );
}

/// What is told of a row that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveredRow {
    /// Whose own it was.
    pub client: ClientId,
    /// In which lane: the most urgent one of its updates'.
    pub lane: Lane,
    /// How long it took since the first of its updates was accepted.
    pub took: Duration,
}

/// One app's driver.
pub struct Delivery<U, R> {
    ledger: AppLedger,
    upstream: Leased<U>,
    report: R,
    name: String,
    machine: Lifecycle,
    ports: Ports,
    /// The kinds that are known to be halted.
    halted: ByKind<bool>,
    /// Another's job that is known to hold the slot.
    holder: Option<String>,
    words: Words,
}

/// Why a driver ended.
#[derive(Debug)]
pub enum DeliveryEnd {
    /// It was told to stop.
    Stopped,
    /// The store failed.
    Failed(LedgerError),
    /// The app is another gateway's to deliver.
    LeaseLost,
}

impl<U: Upstream, R: Report> Delivery<U, R> {
    /// A driver of the app called `name` that goes on from what was recovered, as long as it has the
    /// lease.
    pub fn new(
        (name, ports): (String, Ports),
        ledger: AppLedger,
        (upstream, lease): (U, LeaseWatch),
        report: R,
        settings: Settings,
        recovered: Recovered,
    ) -> Self {
        if let Some(batch) = &recovered.unsettled {
            tracing::info!(app = name, batch = %batch.id, state = ?batch.state, rows = batch.rows, "resumes a batch");
        }
        let now = clock::now();
        let machine = Lifecycle::new(settings, recovered, now);
        ports.begin(machine.view(now));
        Self {
            ledger,
            upstream: Leased { upstream, lease },
            report,
            name,
            machine,
            ports,
            halted: ByKind::default(),
            holder: None,
            words: Words::default(),
        }
    }

    /// Delivers until told to stop. A step that is under way is finished first.
    pub async fn run(mut self, stop: CancellationToken) -> DeliveryEnd {
        let Some(gauges) = self.ledger.store.app(self.ledger.app) else {
            return DeliveryEnd::Stopped;
        };
        let mut queue = gauges.queue.subscribe();
        let lease = self.upstream.lease.clone();
        let listener = self.ports.operations.clone();
        let mut operations = listener.lock().await;
        while !stop.is_cancelled() {
            if !lease.may_ask() {
                return DeliveryEnd::LeaseLost;
            }
            let view = *queue.borrow_and_update();
            self.tell(Event::Waiting(waiting(view)));
            let now = clock::now();
            let occupancy_ends = self.occupancy_ends(now);
            match self.machine.next(now) {
                Step::Do(command) => {
                    // It is seen at work before the queue can be seen empty.
                    self.ports.view.send_replace(self.machine.view(now));
                    if let Err(error) = self.carry_out(command).await {
                        return DeliveryEnd::Failed(error);
                    }
                }
                Step::Wait(until) => tokio::select! {
                    () = stop.cancelled() => {}
                    () = lease.lost() => return DeliveryEnd::LeaseLost,
                    Some(operation) = operations.recv() => {
                        // A flush is of what waits by now.
                        let view = *queue.borrow_and_update();
                        self.tell(Event::Waiting(waiting(view)));
                        self.operate(operation);
                    }
                    Ok(()) = queue.changed() => {}
                    () = clock::sleep_until(until) => {}
                    // Nothing may be due then, but the view says something else from then on.
                    () = clock::sleep_until(occupancy_ends) => {}
                },
            }
        }
        DeliveryEnd::Stopped
    }

    /// When the last job's occupancy ends, if that is still to come.
    fn occupancy_ends(&self, now: Now) -> Option<Instant> {
        Some(self.ports.view.borrow().occupied_until).filter(|until| *until > now.instant)
    }

    fn operate(&mut self, operation: Operation) {
        tracing::info!(app = self.name, ?operation, "an operator intervenes");
        self.tell(match operation {
            Operation::Pause(paused) => Event::Paused(paused),
            Operation::Flush => Event::Flush,
            Operation::KeyChanged => Event::KeyChanged,
        });
    }

    fn tell(&mut self, event: Event) {
        let now = clock::now();
        self.machine.on(event, now, rand::random());
        let view = self.machine.view(now);
        self.log_halt(&view);
        self.log_holder(&view);
        self.ports.view.send_replace(view);
    }

    /// A line when a kind halts, and one when upstream has completed a job of it again: in between
    /// it is tried now and then, and halts anew.
    fn log_halt(&mut self, view: &View) {
        for kind in SubjectKind::ALL {
            let was_halted = std::mem::replace(self.halted.of_mut(kind), *view.halted.of(kind));
            match (was_halted, *view.halted.of(kind)) {
                (false, true) => tracing::error!(
                    app = self.name,
                    %kind,
                    dead_rows = view.dead_rows,
                    "upstream refuses everything of a kind: it is halted, updates are kept"
                ),
                (true, false) => tracing::info!(
                    app = self.name,
                    %kind,
                    "upstream takes rows again: the halt is over"
                ),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// A line when another's job is found in the slot: its end is waited for.
    fn log_holder(&mut self, view: &View) {
        let holder = view.slot_holder.as_ref();
        let job_id = holder.map(|holder| holder.job_id.clone());
        if let (Some(holder), true) = (holder, job_id != self.holder) {
            tracing::warn!(
                app = self.name,
                job = holder.job_id,
                is_gateway = holder.is_gateway,
                "a job that is not known here holds the account's only slot: its end is waited for"
            );
        }
        self.holder = job_id;
    }

    async fn carry_out(&mut self, command: Command) -> Result<(), LedgerError> {
        let current = self.machine.view(clock::now()).batch;
        let settling = matches!(command, Command::Settle(..));
        let report = &self.report;
        let mut outcome = None;
        let event = carry_out(
            command,
            current.as_ref(),
            &self.ledger,
            &self.upstream,
            |settlement, chunk| {
                outcome = Some(settlement);
                if settlement == Settlement::Delivered {
                    report.delivered(&mut freshness(chunk.rows, clock::now().wall));
                }
            },
        )
        .await?;
        log(&self.name, &event, current.as_ref());
        for status in self.words.news(&event) {
            tracing::warn!(
                app = self.name,
                status,
                "a job has a status that is not known: it is taken for one that has not ended"
            );
        }
        if let (true, Some(settlement), Some(batch)) = (settling, outcome, &current) {
            self.log_settled(batch, settlement);
        }
        self.tell(event);
        Ok(())
    }

    /// One line a job, with its numbers.
    fn log_settled(&self, batch: &Batch, settlement: Settlement) {
        let since = batch.submitted_at.unwrap_or(batch.claimed_at);
        let took = clock::now().wall.since(since);
        self.report.job_ended(batch, settlement, took);
        if let Settlement::Dead(reason) = settlement {
            return self.log_death(batch, reason);
        }
        tracing::info!(
            app = self.name,
            batch = %batch.id,
            kind = %batch.kind,
            job = batch.job_id.as_deref().unwrap_or(""),
            request_id = batch.request_id.as_deref().unwrap_or(""),
            ?settlement,
            rows = batch.rows,
            updates = batch.updates,
            bytes = batch.bytes,
            submissions = batch.submissions,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "a job is settled"
        );
    }

    /// Without the subject and upstream's words, which may quote it: these are in the letter.
    fn log_death(&self, batch: &Batch, reason: DeadReason) {
        tracing::warn!(
            app = self.name,
            %reason,
            batch = %batch.id,
            job = batch.job_id.as_deref().unwrap_or(""),
            request_id = batch.request_id.as_deref().unwrap_or(""),
            "upstream does not take a row: it is a dead letter"
        );
    }
}

fn waiting(view: QueueView) -> Waiting {
    let QueueView { depth, since, urgent_updates, express_updates: _ } = view;
    Waiting { records: depth.by_kind(), since, urgent_updates }
}

/// What is told of rows that are delivered now.
pub(super) fn freshness(
    rows: Vec<SettledRow>,
    now: Timestamp,
) -> impl Iterator<Item = DeliveredRow> {
    rows.into_iter().map(move |SettledRow { client, lane, accepted_at }| DeliveredRow {
        client,
        lane,
        took: now.since(accepted_at),
    })
}

/// Failures are logged once, here, without upstream's words: they may quote a row.
fn log(app: &str, event: &Event, batch: Option<&Batch>) {
    let (asked, failure) = match event {
        Event::Submitted(Err(failure)) => ("submit", failure),
        Event::Looked(Err(failure)) => ("list jobs", failure),
        Event::Polled(Err(failure)) => ("poll", failure),
        Event::Submitted(Ok(_))
        | Event::Looked(Ok(_))
        | Event::Polled(Ok(_))
        | Event::Waiting(_)
        | Event::Claimed(_)
        | Event::Advanced
        | Event::Settled(_)
        | Event::KeyChanged
        | Event::Paused(_)
        | Event::Flush => return,
    };
    let batch = batch.map(|batch| batch.id.to_string()).unwrap_or_default();
    let request_id = failure.request_id.as_deref().unwrap_or("");
    let cause = &*failure.cause;
    tracing::warn!(app, asked, kind = ?failure.kind, cause, batch, request_id, "upstream did not do as asked");
}
