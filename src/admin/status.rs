//! The state of everything, gathered from those who know.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    ShownConfig,
    draining::drain_eta,
    history::{History, Observed, Percentiles},
};
use crate::{
    clock,
    delivery::{Operator, Place},
    domain::{
        admission::QueueLimits,
        batch::{Batch, BatchState},
        lifecycle::{Activity, SlotHolder, View},
        space::Space,
        time::{Now, Timestamp},
        update::{AppId, ByKind, Lane, SubjectKind},
    },
    proto::AppState,
    store::{
        QueueView, Store,
        queue::{OldestOfLanes, QueueDepth},
    },
};

/// One app, as operators see it.
#[derive(Clone)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its number in the store.
    pub id: AppId,
    /// Its budget.
    pub users_per_minute: u32,
    /// Its driver.
    pub operator: Operator,
}

/// Those who know.
#[derive(Clone)]
pub struct Observatory {
    /// When the process started.
    pub started_at: Timestamp,
    /// Why the gateway takes no updates, where it does not.
    pub not_ready: watch::Receiver<Option<&'static str>>,
    /// Why the configuration as its files are now is not in force, where it is not.
    pub config_problem: watch::Receiver<Option<String>>,
    /// The file system of the store.
    pub space: watch::Receiver<Space>,
    /// The configuration in force.
    pub config: watch::Receiver<ShownConfig>,
    /// As much of each app may wait.
    pub limits: QueueLimits,
    /// How the apps have done.
    pub history: History,
    /// The store.
    pub store: Store,
    /// The apps, in the order of the configuration.
    pub apps: Arc<[App]>,
}

/// The state of one app.
#[derive(Clone, Debug)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// What waits.
    pub queue: QueueView,
    /// What its driver is doing.
    pub view: View,
    /// Where that is.
    pub place: Place,
    /// Its budget.
    pub users_per_minute: u32,
    /// How long the last job still occupies the budget.
    pub occupancy_remaining: Duration,
    /// Until when it waits after a failure.
    pub retry_in: Option<Duration>,
    /// For how long rows that are refused are left as they are at most, because an earlier submission of
    /// them was never heard of.
    pub in_doubt: Option<Duration>,
    /// How long the pending records take at its budget.
    pub drain_eta: Duration,
    /// Updates accepted, coalesced and refused since the start.
    pub updates: (u64, u64, u64),
    /// Of the accepted ones, those that upstream needed nothing of.
    pub suppressed: u64,
    /// The share of the budget that was used in the last hour.
    pub utilisation: f64,
    /// How fresh the rows of the last hour were.
    pub freshness: Option<Percentiles>,
}

impl Observatory {
    /// The state of each app. Reads no disk.
    pub fn apps(&self) -> Vec<AppStatus> {
        self.apps.iter().map(|app| self.app(app)).collect()
    }

    fn app(&self, app: &App) -> AppStatus {
        let now = clock::now();
        let mut view = app.operator.view();
        let gauges = self.store.app(app.id);
        let queue = gauges.map(|gauges| *gauges.queue.borrow()).unwrap_or_default();
        // Its driver hears of the first record a moment after it was accepted.
        if view.activity == Activity::Idle && queue.depth.records > 0 {
            view.activity = Activity::Lingering;
        }
        let occupancy_remaining = view.occupied_until.since(now.instant);
        AppStatus {
            name: app.name.clone(),
            users_per_minute: app.users_per_minute,
            occupancy_remaining,
            retry_in: view.retry_at.map(|at| at.since(now.instant)).filter(|left| !left.is_zero()),
            in_doubt: view.in_doubt_until.map(|at| at.since(now.instant)),
            drain_eta: drain_eta(queue.depth.records, occupancy_remaining, app.users_per_minute),
            updates: gauges.map_or((0, 0, 0), |gauges| {
                let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
                (count(&gauges.accepted), count(&gauges.coalesced), count(&gauges.refused))
            }),
            suppressed: gauges.map_or(0, |gauges| gauges.suppressed.load(Relaxed)),
            utilisation: self.utilisation(app, now),
            freshness: self.history.freshness(app.id, now.instant),
            queue,
            view,
            place: app.operator.place(),
        }
    }

    fn utilisation(&self, app: &App, now: Now) -> f64 {
        let rows = self.history.job_rows_per_second(app.id, now.instant).unwrap_or(0.0);
        (rows * 60.0 / f64::from(app.users_per_minute.max(1))).min(1.0)
    }

    /// The numbers that the app's history is made of. Reads the disk.
    pub async fn observed(&self, app: &App) -> Observed {
        let AppStatus { queue, view, updates, suppressed, .. } = self.app(app);
        let pending_records = queue.depth.records;
        let oldest = match pending_records {
            0 => None,
            _ => self.oldest_pending(app.id).await,
        };
        Observed {
            accepted: updates.0,
            coalesced: updates.1,
            suppressed,
            refused: updates.2,
            job_rows: view.delivered_rows,
            pending_records,
            oldest_pending: oldest.map_or(Duration::ZERO, |at| clock::now().wall.since(at)),
        }
    }

    /// When the first update of the record that waits longest was accepted. Reads the disk.
    pub async fn oldest_pending(&self, app: AppId) -> Option<Timestamp> {
        self.oldest_of_lanes(app).await.into_iter().filter_map(|(_, oldest)| oldest).min()
    }

    /// The same of each lane.
    pub async fn oldest_of_lanes(&self, app: AppId) -> OldestOfLanes {
        let nothing = Lane::ALL.map(|lane| (lane, None));
        self.store.oldest_of_lanes(app).await.unwrap_or(nothing)
    }
}

impl AppStatus {
    /// The same for who may not see upstream's words, which may quote a record: what goes wrong is
    /// told in the gateway's own.
    #[must_use]
    pub fn in_our_words(mut self) -> Self {
        self.view.last_error.clone_from(&self.view.last_cause);
        self.view.batch = self.view.batch.map(Batch::in_our_words);
        self
    }

    /// What the app is doing, as the contract calls it.
    pub fn state(&self) -> AppState {
        match self.view.activity {
            Activity::Idle => AppState::Idle,
            Activity::Lingering => AppState::Lingering,
            Activity::Submitting => AppState::Submitting,
            Activity::LookingForJob => AppState::LookingForJob,
            Activity::Running => AppState::Running,
            Activity::Occupied => AppState::Occupied,
            Activity::BackingOff => AppState::BackingOff,
            Activity::SlotTaken => AppState::SlotTaken,
            Activity::KeyRejected => AppState::KeyRejected,
            Activity::Isolating => AppState::Isolating,
            Activity::Halted => AppState::Halted,
            Activity::Paused => AppState::Paused,
        }
    }

    /// Which of several gateways delivers the app, by its own name; empty where this one has the store
    /// alone.
    pub fn delivered_by(&self) -> &str {
        match &self.place {
            Place::Here | Place::Nowhere => "",
            Place::Elsewhere(told) => &told.replica,
        }
    }

    /// What the app is doing, in a sentence or two.
    pub fn summary(&self) -> String {
        let doing = match &self.place {
            Place::Nowhere => {
                return "No replica delivers the app: one takes it over in a moment.".to_owned();
            }
            Place::Here => self.activity(),
            Place::Elsewhere(told) => format!("{}: {}", told.replica, self.activity()),
        };
        let alone = |kind: SubjectKind| {
            self.view.activity != Activity::Halted && *self.view.halted.of(kind)
        };
        let halted = SubjectKind::ALL.into_iter().filter(|kind| alone(*kind));
        let also = halted.map(|kind| format!(" Userpilot refuses all {}.", plural(kind)));
        doing + &also.collect::<String>()
    }

    fn activity(&self) -> String {
        let view = &self.view;
        let retry = || match self.retry_in {
            Some(left) => format!("; tries again in {}", seconds(left)),
            None => String::new(),
        };
        match view.activity {
            Activity::Idle => "Nothing waits.".into(),
            Activity::Lingering => self.lingering(),
            Activity::Submitting => format!("Submitting a job of {}.", batch_rows(view)),
            Activity::LookingForJob => "A submission was not answered; looking for its job.".into(),
            Activity::Running => match &view.batch {
                Some(batch) => {
                    let rows = count(batch.kind, batch.rows);
                    format!("A job of {rows} runs; {} done.", batch.completed_rows)
                }
                None => "A job runs.".into(),
            },
            Activity::Occupied => format!(
                "The last job has ended; the budget is free again in {}.",
                seconds(self.occupancy_remaining)
            ),
            Activity::BackingOff => self.backing_off(&retry()),
            Activity::SlotTaken => {
                let whose = match &view.slot_holder {
                    Some(SlotHolder { job_id, filename, is_gateway }) => {
                        let of = if *is_gateway { ", of another gateway" } else { "" };
                        format!(" (job {job_id}, file {filename:?}{of})")
                    }
                    None => String::new(),
                };
                format!("Somebody else's job{whose} holds the account's only slot{}.", retry())
            }
            Activity::KeyRejected => {
                format!("Userpilot refuses the API key ({}){}.", view.last_error, retry())
            }
            Activity::Isolating => {
                format!("Userpilot refused a batch ({}); looking for the rows.", view.last_error)
            }
            Activity::Halted => match &view.held {
                Some(held) => format!("Held, and its updates are refused: {held}."),
                None => format!("Userpilot refuses everything ({}){}.", view.last_error, retry()),
            },
            Activity::Paused => match view.rescued_at {
                Some(at) => format!(
                    "Paused since {}: its state in the store was damaged and has been made \
                     anew; resume it when all is well.",
                    crate::proto::timestamp(at.as_micros())
                ),
                None => "Paused by an operator.".into(),
            },
        }
    }
}

impl AppStatus {
    /// `retry`: what is said of the next attempt.
    fn backing_off(&self, retry: &str) -> String {
        let view = &self.view;
        let (failures, error) = (view.failures_in_a_row, &view.last_error);
        match self.in_doubt {
            _ if runs(view) => format!(
                "A job of {} runs, as far as is known: {failures} questions about it came to nothing \
                 ({error}){retry}.",
                batch_rows(view),
            ),
            Some(left) => format!(
                "Userpilot refuses {} ({error}), of which an earlier submission was never heard of: \
                 until that is out of doubt, in {} at most, what came since waits with them{retry}.",
                batch_rows(view),
                seconds(left),
            ),
            None => format!("{failures} failed attempts in a row ({error}){retry}."),
        }
    }

    fn lingering(&self) -> String {
        let waiting = waiting(&self.queue.depth);
        match self.fills_a_job() {
            true => format!("{waiting} wait, as many as a job takes; it begins in a moment."),
            false => format!("{waiting} wait for others to join them."),
        }
    }

    /// Whether as many wait of a kind as its next job may hold.
    fn fills_a_job(&self) -> bool {
        let (waiting, most) = (self.queue.depth.by_kind(), self.view.job_users);
        SubjectKind::ALL.into_iter().any(|kind| {
            let most = *most.of(kind);
            most > 0 && *waiting.of(kind) >= most
        })
    }
}

fn runs(view: &View) -> bool {
    view.batch.as_ref().is_some_and(|batch| batch.state == BatchState::Running)
}

fn batch_rows(view: &View) -> String {
    let rows = |batch: &Batch| count(batch.kind, batch.rows);
    view.batch.as_ref().map_or_else(|| "users".into(), rows)
}

/// "3 users", "1 company", or both.
fn waiting(depth: &QueueDepth) -> String {
    let ByKind { users, companies } = depth.by_kind();
    let (users, companies) = match (users, companies) {
        (users, 0) => return count(SubjectKind::User, users),
        (0, companies) => return count(SubjectKind::Company, companies),
        (users, companies) => (users, companies),
    };
    format!("{} and {}", count(SubjectKind::User, users), count(SubjectKind::Company, companies))
}

fn count(kind: SubjectKind, count: u64) -> String {
    if count == 1 { format!("1 {kind}") } else { format!("{count} {}", plural(kind)) }
}

fn plural(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::User => "users",
        SubjectKind::Company => "companies",
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
