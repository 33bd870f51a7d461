//! How the apps have done of late, and how fresh what was delivered is: kept in memory, and sampled
//! by a housekeeper.

mod freshness;
mod series;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use self::{freshness::LastHour, series::Series};
pub use self::{
    freshness::Percentiles,
    series::{Columns, Observed, Resolution, SAMPLE_INTERVAL},
};
use crate::domain::{
    time::{Instant, Now},
    update::{AppId, ClientId},
};

/// What is told of an app's rows is right to within 1 %.
const APP_DIGITS: u8 = 2;
/// What is told of a client's, to within 10 %: there may be a thousand of them.
const CLIENT_DIGITS: u8 = 1;

/// The histories of all apps and clients. Clones are of the same.
#[derive(Clone, Debug)]
pub struct History(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    kept: Mutex<Kept>,
    /// How often the apps were sampled.
    samples: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    apps: BTreeMap<AppId, AppHistory>,
    clients: BTreeMap<ClientId, ClientHistory>,
}

#[derive(Debug, Default)]
struct AppHistory {
    series: Series,
    freshness: LastHour<APP_DIGITS>,
}

#[derive(Debug, Default)]
struct ClientHistory {
    delivered_rows: u64,
    freshness: LastHour<CLIENT_DIGITS>,
}

/// What was delivered of a client's own rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeliveredOfClient {
    /// How many, since the start.
    pub rows: u64,
    /// How fresh those of the last hour were.
    pub freshness: Option<Percentiles>,
}

impl Default for History {
    fn default() -> Self {
        Self(Arc::new(Parts { kept: Mutex::default(), samples: watch::Sender::new(0) }))
    }
}

impl History {
    /// What an app's driver tells.
    pub fn recorder(&self, app: AppId) -> AppRecorder {
        AppRecorder { history: self.clone(), app }
    }

    /// Ends an interval of each of these apps.
    pub fn sample(&self, apps: impl IntoIterator<Item = (AppId, Observed)>, now: Now) {
        let mut kept = self.kept();
        for (app, observed) in apps {
            kept.apps.entry(app).or_default().series.sample(observed, now);
        }
        drop(kept);
        self.0.samples.send_modify(|samples| *samples += 1);
    }

    /// How often the apps were sampled.
    pub fn samples(&self) -> watch::Receiver<u64> {
        self.0.samples.subscribe()
    }

    /// How an app has done: the newest intervals, up to so many.
    pub fn columns(&self, app: AppId, resolution: Resolution, newest: usize) -> Columns {
        let kept = self.kept();
        let series = kept.apps.get(&app).map(|app| app.series.columns(resolution, newest));
        series.unwrap_or_default()
    }

    /// How many rows the app's jobs delivered a second in the last hour, or since the first sample.
    pub fn job_rows_per_second(&self, app: AppId, now: Instant) -> Option<f64> {
        self.kept().apps.get(&app)?.series.job_rows_per_second(now)
    }

    /// How fresh the app's rows of the last hour were.
    pub fn freshness(&self, app: AppId, now: Instant) -> Option<Percentiles> {
        self.kept().apps.get_mut(&app)?.freshness.percentiles(now)
    }

    /// What was delivered of a client's own.
    pub fn delivered(&self, client: ClientId, now: Instant) -> DeliveredOfClient {
        let mut kept = self.kept();
        let Some(history) = kept.clients.get_mut(&client) else { return Default::default() };
        let freshness = history.freshness.percentiles(now);
        DeliveredOfClient { rows: history.delivered_rows, freshness }
    }

    fn record(&self, app: AppId, rows: &mut dyn Iterator<Item = (ClientId, Duration)>, now: Now) {
        let mut kept = self.kept();
        let Kept { apps, clients } = &mut *kept;
        let app = apps.entry(app).or_default();
        for (client, fresh) in rows {
            app.series.deliver(fresh);
            app.freshness.record(fresh, now.instant);
            let client = clients.entry(client).or_default();
            client.delivered_rows += 1;
            client.freshness.record(fresh, now.instant);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one app's driver tells of its rows.
#[derive(Clone, Debug)]
pub struct AppRecorder {
    history: History,
    app: AppId,
}

impl AppRecorder {
    /// Rows were delivered now: whose own each was, and how fresh.
    pub fn delivered(&self, rows: &mut dyn Iterator<Item = (ClientId, Duration)>) {
        self.history.record(self.app, rows, crate::clock::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::now;

    #[test]
    fn rows_count_for_their_app_and_for_their_client() {
        let history = History::default();
        let (app, other) = (AppId(1), AppId(2));
        let rows = |client, millis: &[u64]| -> Vec<_> {
            millis.iter().map(|ms| (ClientId(client), Duration::from_millis(*ms))).collect()
        };
        history.record(app, &mut rows(3, &[100, 100, 250]).into_iter(), now(1, 1));
        history.record(app, &mut rows(4, &[200]).into_iter(), now(1, 1));
        let at = now(2, 2).instant;
        let of_app = history.freshness(app, at).unwrap();
        assert_eq!((of_app.p50.as_millis(), of_app.p99.as_millis()), (100, 250));
        assert_eq!(history.freshness(other, at), None);
        assert_eq!(history.delivered(ClientId(3), at).rows, 3);
        assert_eq!(history.delivered(ClientId(4), at).rows, 1);
        assert_eq!(history.delivered(ClientId(5), at), DeliveredOfClient::default());
        // What was counted stays; what is fresh is of the last hour.
        let later = now(2 * 3_600, 2).instant;
        let of_client = history.delivered(ClientId(3), later);
        assert_eq!((of_client.rows, of_client.freshness), (3, None));
    }

    #[test]
    fn whoever_waits_for_samples_hears_of_each() {
        let history = History::default();
        let samples = history.samples();
        assert!(!samples.has_changed().unwrap());
        history.sample([(AppId(1), Observed::default())], now(5, 5));
        assert!(samples.has_changed().unwrap());
    }
}
