//! How a gateway ends: invited, in an order; or because a part of it did.

use std::{future::Future, time::Duration};

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;

use super::{Ended, Gateway, INGEST};
use crate::{
    clock,
    delivery::DeliveryEnd,
    store::{StoreError, Writer},
};

/// For a writer that fails to say why, once a part that leans on it has ended.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);
/// For the writer's last commit, past the grace.
const WRITER_TIMEOUT: Duration = Duration::from_secs(5);
/// For the HTTP door's last answers.
const HTTP_TIMEOUT: Duration = Duration::from_secs(1);

impl Gateway {
    /// Runs until `shutdown` completes, then stops within the grace. Any task that ends by
    /// itself stops the gateway with an error: better restarted than half alive.
    pub async fn run(mut self, shutdown: impl Future) -> anyhow::Result<()> {
        let uninvited = tokio::select! {
            _ = shutdown => None,
            Some(ended) = self.tasks.join_next() => Some(explain(ended)),
            Some(ended) = self.http.join_next() => Some(explain(ended)),
            ended = &mut self.writer => Some(explain_writer(ended.ok())),
        };
        if let Some(error) = uninvited {
            self.not_ready.send_replace(Some("the gateway has failed and is ending"));
            return Err(reason(error, &mut self.writer).await);
        }
        self.stop().await
    }

    /// Doors close and finish what they took, drivers finish their step, the writer ends; the
    /// HTTP door says so until the end.
    async fn stop(mut self) -> anyhow::Result<()> {
        let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(grace_ms, "stopping");
        self.not_ready.send_replace(Some("the gateway is stopping"));
        self.health.set_service_status(INGEST, ServingStatus::NotServing).await;
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.stop_doors.cancel();
        let grace_over = clock::sleep_until(Some(clock::now().instant.plus(self.grace)));
        let polite = stop_politely(&mut self.tasks, &self.stop_drivers);
        until_stopped(polite, &mut self.writer, grace_over).await?;
        self.tasks.shutdown().await;
        let store = self.observatory.store.clone();
        let writer = async {
            store.close().await;
            (&mut self.writer).await
        };
        match tokio::time::timeout(WRITER_TIMEOUT, writer).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => return Err(explain_writer(ended.ok())),
            // It waits for an answer, and nothing that was acknowledged waits for it.
            Err(_) if self.observatory.store.is_away() => {
                tracing::warn!("the store's database does not answer: its writers are left");
            }
            Err(_) => return Err(anyhow!("the store's writer does not end")),
        }
        self.stop_http.cancel();
        // A client that does not read its answer is not waited for.
        tokio::time::timeout(HTTP_TIMEOUT, self.http.join_next()).await.ok();
        tracing::info!("stopped");
        Ok(())
    }
}

/// Waits for what is under way, but no longer than the grace, nor than the store is ours: a request
/// to Userpilot must not outlive a lease that another gateway may hold by then.
async fn until_stopped(
    polite: impl Future<Output = anyhow::Result<()>>,
    writer: &mut Writer,
    grace_over: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = polite => match ended {
            Ok(()) => Ok(()),
            Err(error) => Err(reason(error, writer).await),
        },
        ended = &mut *writer => Err(explain_writer(ended.ok())),
        // Whatever is under way is durable as far as it got.
        () = grace_over => {
            tracing::warn!("the grace is over");
            Ok(())
        }
    }
}

/// The doors first, with what they took; then the drivers, at the end of a step.
async fn stop_politely(
    tasks: &mut JoinSet<Ended>,
    stop_drivers: &CancellationToken,
) -> anyhow::Result<()> {
    let mut doors = 2;
    while doors > 0 {
        match tasks.join_next().await {
            Some(Ok(Ended::Listener(_))) => doors -= 1,
            Some(ended @ (Ok(Ended::Driver { .. } | Ended::Housekeeper) | Err(_))) => {
                return Err(explain(ended));
            }
            None => break,
        }
    }
    stop_drivers.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Where the store fails, those who lean on it end too, and may be seen to first. The writer
/// knows why.
async fn reason(error: anyhow::Error, writer: &mut Writer) -> anyhow::Error {
    if writer.is_terminated() {
        return error;
    }
    match tokio::time::timeout(REASON_TIMEOUT, writer).await {
        Ok(ended @ (Ok(Err(_)) | Err(_))) => explain_writer(ended.ok()),
        Ok(Ok(Ok(()))) | Err(_) => error,
    }
}

fn explain(ended: Result<Ended, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ended::Listener(name)) => anyhow!("the {name} listener ended"),
        Ok(Ended::Driver { app, end: DeliveryEnd::Stopped }) => {
            anyhow!("the driver of {app} ended")
        }
        Ok(Ended::Driver { app, end: DeliveryEnd::LeaseLost }) => {
            anyhow!("the driver of {app} has no lease")
        }
        Ok(Ended::Driver { app, end: DeliveryEnd::Failed(error) }) => {
            anyhow!(error).context(format!("the driver of {app} failed"))
        }
        Ok(Ended::Housekeeper) => anyhow!("housekeeping ended"),
        Err(error) => anyhow!(error).context("a task panicked"),
    }
}

fn explain_writer(ended: Option<Result<(), StoreError>>) -> anyhow::Error {
    match ended {
        Some(Err(error)) => anyhow!(error).context(
            "the store failed: see that its disk, or its database, has room and is well, and start \
             again; all that was acknowledged is served then",
        ),
        Some(Ok(())) => anyhow!("the store's writer ended"),
        None => anyhow!("the store's writer panicked"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        domain::{
            admission::QueueLimits,
            batch::{BatchLimits, Cut, Settlement},
            budget::Occupancy,
            memory::Memory,
            update::{ClientId, Lane, Subject, Update},
        },
        store::{
            self, AppTerms, EngineError, GroupLimits, RecoveredApps, Store, engine::MemoryEngine,
            queue::Queue,
        },
    };

    const LIMITS: QueueLimits = QueueLimits {
        records_max: 10,
        bytes_max: 1 << 20,
        record_bytes_max: 1 << 16,
        record_properties_max: 10,
    };

    /// A store of the app "staging".
    async fn open(engine: &MemoryEngine) -> (Store, Writer, RecoveredApps) {
        let queue = Queue::open(engine.clone(), LIMITS, 7).await.unwrap();
        let full_job = Occupancy::begin(10, 600, clock::now());
        let terms = AppTerms { name: "staging".to_owned(), full_job, suppression: None };
        let groups = GroupLimits { group_updates_max: 10, waiting_updates_max: 10 };
        store::start(queue, &[terms], groups).await.unwrap()
    }

    #[tokio::test]
    async fn a_batch_that_is_damaged_while_it_is_served_ends_the_store_and_the_next_start_saves_it()
    {
        const BATCH: u8 = b'b';
        let engine = MemoryEngine::default();
        let (store, writer, apps) = open(&engine).await;
        let (app, _) = apps[0];
        let update = |user: &str| Update {
            app,
            client: ClientId(0),
            subject: Subject::user(user),
            company_id: None,
            properties: Vec::new(),
            occurred_at: None,
            lane: Lane::Interactive,
        };
        let updates = ["u", "v"].map(update).to_vec();
        let accepted = store.accept(updates, Default::default()).unwrap().await.unwrap();
        assert!(accepted.iter().all(Result::is_ok));
        let limits = BatchLimits { rows_max: 10, bytes_max: 1 << 20 };
        let batch = store.claim(app, limits.into()).await.unwrap().unwrap();
        let split = Settlement::Split(Cut::Halves);
        let part = store.settle(batch, split, Memory::default()).await.unwrap().next.unwrap();
        // The half that is under way is known; the other one is read once this one is settled.
        for key in engine.keys().iter().filter(|key| key.first() == Some(&BATCH)) {
            engine.damage(key, b"nonsense");
        }
        store.settle(part, Settlement::Delivered, Memory::default()).await.unwrap_err();
        let error = format!("{:#}", explain_writer(writer.await.ok()));
        for part in ["the store failed", "start again", "batch 2 of app \"staging\"", "checksum"] {
            assert!(error.contains(part), "{part}: {error}");
        }

        let (store, _writer, apps) = open(&engine).await;
        let (app, recovered) = &apps[0];
        assert!(recovered.unsettled.is_none() && !recovered.paused);
        let waiting = store.app(*app).unwrap().queue.borrow().depth.records;
        assert_eq!(waiting, 1, "the row of the batch that is lost goes back");
    }

    #[tokio::test]
    async fn where_the_store_has_failed_that_is_the_reason() {
        let closed = || anyhow!("the driver of production failed");
        let (ended, mut writer) = oneshot::channel();
        let failed = async {
            tokio::task::yield_now().await;
            ended.send(Err(StoreError::Engine(EngineError::Failed("no space".into())))).unwrap();
        };
        let (error, ()) = tokio::join!(reason(closed(), &mut writer), failed);
        assert!(format!("{error:#}").contains("no space"), "{error:#}");
        // Known already.
        assert!(format!("{:#}", reason(closed(), &mut writer).await).contains("driver"));
    }

    #[tokio::test]
    async fn a_store_that_another_has_taken_ends_the_stop_at_once() {
        let (ended, mut writer) = oneshot::channel();
        let under_way = std::future::pending::<anyhow::Result<()>>;
        let lost = EngineError::Failed("the lease is lost".into());
        ended.send(Err(StoreError::Engine(lost))).unwrap();
        let stop = until_stopped(under_way(), &mut writer, std::future::pending());
        let error = stop.await.unwrap_err();
        assert!(format!("{error:#}").contains("the lease is lost"), "{error:#}");

        // One that is still ours: as long as the grace.
        let (_ended, mut writer) = oneshot::channel();
        until_stopped(under_way(), &mut writer, std::future::ready(())).await.unwrap();
    }
}
