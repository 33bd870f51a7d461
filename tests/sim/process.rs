//! One process of the gateway: from its start on what is on disk to its death.

use std::{
    sync::{Mutex as StdMutex, atomic::AtomicI64},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::Mutex;
use userpilot_gateway::{
    domain::{
        budget::Occupancy,
        delivered::Suppression,
        express::Express,
        lifecycle::{Event, Lifecycle, Waiting},
        time::{Instant, Now},
    },
    store::{
        StoreError,
        engine::MemoryEngine,
        queue::{PruneCursor, Queue, QueueDepth, Reads},
    },
};

use crate::{
    express::{Lane, goes_by_express, hide_rows},
    ledger::SimLedger,
    sabotage::Sabotage,
    scenario::{Fault, Scenario},
};

/// A process.
pub(crate) struct Process {
    pub(crate) ledger: SimLedger,
    pub(crate) machine: Lifecycle,
    /// What operators have asked of the driver, and it has not heard yet.
    pub(crate) operations: Vec<Event>,
    /// The driver of the express lane, where there is one.
    pub(crate) express: Option<Lane>,
    /// When it started, in virtual time: its instants count from here.
    pub(crate) started_at: Duration,
    /// Where pruning goes on.
    pub(crate) pruned_to: PruneCursor,
    /// Whether it came up paused for damage.
    pub(crate) rescued: bool,
    /// Since when something waits.
    since: Option<Instant>,
}

/// When the wall clock says it is at the beginning.
pub(crate) const EPOCH_MICROS: i64 = 1_800_000_000_000_000;
pub(crate) const STORE: u64 = 7;

impl Process {
    /// Opens the store and goes on from what is there.
    pub(crate) fn start(
        engine: MemoryEngine,
        scenario: &Scenario,
        (at, now): (Duration, Now),
        suppression: Option<Suppression>,
    ) -> Result<Self, StoreError> {
        if scenario.sabotage == Some(Sabotage::ForgetExpress) {
            hide_rows(&engine, goes_by_express)?;
        }
        let start = async {
            let mut queue = Queue::open(engine.clone(), scenario.queue, STORE).await?;
            let limits = scenario.settings.batch;
            let full_job =
                Occupancy::begin(limits.rows_max, scenario.settings.users_per_minute, now);
            let app = queue.serve("production", full_job, now.wall).await?;
            let keeps = scenario.sabotage == Some(Sabotage::KeepsMemory) && suppression.is_none();
            let suppression = match scenario.sabotage {
                Some(Sabotage::NeverRefreshes) => suppression.map(never_refreshes),
                _ => suppression,
            };
            if !keeps {
                queue.suppress(app, suppression).await?;
            }
            let recovered = queue.recover(app, now.wall).await?;
            for client in ["crm", "billing", "backfill"] {
                queue.client(client).await?;
            }
            Ok::<_, StoreError>((queue, app, recovered))
        };
        let (queue, app, recovered) = at_once(start)?;
        let recovered = match scenario.sabotage {
            Some(sabotage) => sabotage.distort_recovered(recovered),
            None => recovered,
        };
        let rescued = recovered.rescue.is_some_and(|rescue| rescue.paused);
        let now = Now { instant: instant(at, at), ..now };
        let mut settings = scenario.settings;
        if scenario.sabotage == Some(Sabotage::RushBudget) {
            settings.users_per_minute *= 4;
        }
        let mut express = scenario.express;
        if scenario.sabotage == Some(Sabotage::RushExpress) {
            express.per_minute *= 4;
        }
        let express = Express::new(express, recovered.paused, now);
        let express = scenario.has(Fault::Express).then(|| Lane::new(express));
        Ok(Self {
            express,
            machine: Lifecycle::new(settings, recovered, now),
            ledger: SimLedger {
                queue: Mutex::new(queue),
                reads: Reads::new(engine),
                app,
                wall: AtomicI64::new(now.wall.as_micros()),
                sabotage: scenario.sabotage,
                between: StdMutex::default(),
            },
            operations: Vec::new(),
            pruned_to: PruneCursor::default(),
            rescued,
            started_at: at,
            since: None,
        })
    }

    /// What waits.
    pub(crate) fn depth(&self) -> QueueDepth {
        let queue = self.ledger.queue.try_lock().expect("one thread");
        queue.depth(self.ledger.app)
    }

    /// What waits, as the driver hears of it.
    pub(crate) fn waiting(&mut self, now: Instant) -> Waiting {
        let depth = self.depth();
        self.since = (depth.records > 0).then(|| self.since.unwrap_or(now));
        let queue = self.ledger.queue.try_lock().expect("one thread");
        let urgent_updates = queue.urgent_updates(self.ledger.app);
        Waiting { records: depth.by_kind(), since: self.since, urgent_updates }
    }
}

fn never_refreshes(suppression: Suppression) -> Suppression {
    Suppression { refresh_after: Duration::MAX, ..suppression }
}

/// The instant of `at`, on the clock of a process that started at `started_at`: a little
/// after its origin, since some time goes by before anybody looks.
pub(crate) fn instant(at: Duration, started_at: Duration) -> Instant {
    Instant::from_origin(at.saturating_sub(started_at) + Duration::from_millis(3))
}

/// The outcome of a future that has no reason to wait.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing here waits")
}
