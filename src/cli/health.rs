//! What is told of an app before what it is doing, and how long what waits takes.

use super::output::printable;
use crate::proto::{AppStatus, GatewayStatus};

/// As the alert UserpilotGatewayQueueNearlyFull and the console have it.
const NEARLY_FULL_PERCENT: u64 = 80;

/// What is wrong for an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No update is taken.
    Refuses(String),
    /// Soon none will be of those who do not wait yet.
    NearlyFull(String),
}

impl Trouble {
    /// Whether its updates are taken, and will be.
    pub(super) fn of(app: &AppStatus, gateway: &GatewayStatus) -> Option<Self> {
        if !gateway.ready {
            let reason = printable(&gateway.not_ready_reason);
            return Some(Self::Refuses(format!("Updates are refused: {reason}.")));
        }
        let store = gateway.store.as_ref()?;
        let full = |what: &str, waiting: u64, most: u64| {
            let near =
                u128::from(waiting) * 100 > u128::from(most) * u128::from(NEARLY_FULL_PERCENT);
            (most > 0 && near)
                .then(|| format!("The queue is nearly full: {waiting} of {most} {what}."))
        };
        full("records", app.pending_records, store.pending_records_max)
            .or_else(|| full("bytes", app.pending_bytes, store.pending_bytes_max))
            .map(Self::NearlyFull)
    }

    /// In a sentence.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Refuses(words) | Self::NearlyFull(words) => words,
        }
    }
}

/// What an app is doing, and before it what is wrong for it.
pub(super) fn sentence(app: &AppStatus, gateway: &GatewayStatus) -> String {
    let summary = printable(&app.summary);
    match Trouble::of(app, gateway) {
        Some(trouble) => format!("{} {summary}", trouble.words()),
        None => summary,
    }
}

/// How long what waits takes, and whether that is from now on. `None` where nothing waits.
pub(super) fn drained(
    app: &AppStatus,
    show: impl Fn(&prost_types::Duration) -> String,
) -> Option<(&'static str, String)> {
    let eta = app.drain_eta.as_ref().filter(|_| app.pending_records > 0)?;
    Some(match app.draining {
        true => ("drained in", show(eta)),
        false => ("draining takes", format!("{}, once it goes on", show(eta))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::StoreStatus;

    fn gateway(ready: bool) -> GatewayStatus {
        let store = StoreStatus {
            pending_records_max: 100,
            pending_bytes_max: 1_000,
            ..StoreStatus::default()
        };
        let not_ready_reason = if ready { String::new() } else { "the disk is nearly full".into() };
        GatewayStatus { ready, not_ready_reason, store: Some(store), ..GatewayStatus::default() }
    }

    #[test]
    fn whether_updates_are_taken_is_told_first() {
        let check = |pending_records, pending_bytes, ready, expected: &str| {
            let summary = "Nothing waits.".into();
            let app = AppStatus { summary, pending_records, pending_bytes, ..AppStatus::default() };
            assert_eq!(sentence(&app, &gateway(ready)), expected);
        };
        check(80, 800, true, "Nothing waits.");
        check(81, 0, true, "The queue is nearly full: 81 of 100 records. Nothing waits.");
        check(0, 801, true, "The queue is nearly full: 801 of 1000 bytes. Nothing waits.");
        check(81, 0, false, "Updates are refused: the disk is nearly full. Nothing waits.");
    }

    #[test]
    fn nothing_is_promised_of_what_does_not_drain() {
        let eta = prost_types::Duration { seconds: 5, nanos: 0 };
        let app = AppStatus { pending_records: 7, drain_eta: Some(eta), ..AppStatus::default() };
        let drained = |app: AppStatus| drained(&app, |eta| format!("{} s", eta.seconds));
        let goes = AppStatus { draining: true, ..app.clone() };
        assert_eq!(drained(goes), Some(("drained in", "5 s".into())));
        let stays = ("draining takes", "5 s, once it goes on".into());
        assert_eq!(drained(app.clone()), Some(stays));
        assert_eq!(drained(AppStatus { pending_records: 0, ..app }), None);
    }
}
