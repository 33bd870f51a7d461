//! What there is to see: the last status, and what follows from those before it.

use std::collections::VecDeque;

use crate::{
    cli::flush,
    domain::time::Instant,
    proto::{AppStatus, AppTotals, GatewayStatus},
};

/// As many as a wide terminal has columns.
const BACKLOG_SAMPLES_MAX: usize = 512;
/// Rates are of the time since this many looks ago: one alone jumps too much.
const LOOKS_MAX: usize = 5;

/// What is shown.
#[derive(Default)]
pub(super) struct Picture {
    pub(super) status: GatewayStatus,
    pub(super) apps: Vec<App>,
    selected: usize,
    question: Option<Question>,
    /// Since when and why there is nothing new, if there is not.
    pub(super) lost: Option<String>,
    /// What came of the last key.
    pub(super) message: String,
}

/// Whether something is to be done with an app, whatever is selected by the time of the answer.
struct Question {
    lever: Lever,
    app: String,
    /// A flush says that its rows are to blame.
    is_halted: bool,
}

/// An app, and how it was before.
#[derive(Default)]
pub(super) struct App {
    pub(super) status: AppStatus,
    pub(super) rates: Rates,
    /// Pending records, oldest first.
    pub(super) backlog: VecDeque<u64>,
    looks: VecDeque<(Instant, AppTotals)>,
}

/// How many a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) accepted: f64,
    pub(super) coalesced: f64,
    pub(super) refused: f64,
    pub(super) delivered: f64,
}

/// What can be done with an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lever {
    Pause,
    Resume,
    Flush,
}

impl Lever {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Flush => "flush",
        }
    }

    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Flush => "flushed",
        }
    }
}

impl Picture {
    /// Takes a new status.
    pub(super) fn update(&mut self, now: Instant, mut status: GatewayStatus) {
        let apps = std::mem::take(&mut status.apps);
        let mut before = std::mem::take(&mut self.apps);
        for status in apps {
            let known = before.iter().position(|app| app.status.app == status.app);
            let mut app = known.map(|place| before.swap_remove(place)).unwrap_or_default();
            app.update(now, status);
            self.apps.push(app);
        }
        self.status = status;
        self.lost = None;
        self.selected = self.selected.min(self.apps.len().saturating_sub(1));
    }

    /// The gateway went away; what was seen last stays.
    pub(super) fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// Which app is selected, from 0.
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// Selects another.
    pub(super) fn go(&mut self, steps: isize) {
        let count = isize::try_from(self.apps.len()).unwrap_or(1).max(1);
        let next = self.selected.cast_signed() + steps;
        self.selected = next.rem_euclid(count).cast_unsigned();
        self.message.clear();
    }

    /// Asks whether to pause the app, or to resume it where it is paused.
    pub(super) fn ask_to_pause(&mut self) {
        self.ask(|status| if status.paused { Lever::Resume } else { Lever::Pause });
    }

    /// Asks whether to flush the app.
    pub(super) fn ask_to_flush(&mut self) {
        self.ask(|_| Lever::Flush);
    }

    fn ask(&mut self, lever: impl Fn(&AppStatus) -> Lever) {
        self.question = self.apps.get(self.selected).map(|app| Question {
            lever: lever(&app.status),
            app: app.status.app.clone(),
            is_halted: flush::is_halted(&app.status),
        });
    }

    /// Whether a question stands.
    pub(super) fn asks(&self) -> bool {
        self.question.is_some()
    }

    /// What it is about. It stands no longer.
    pub(super) fn asked(&mut self) -> Option<(Lever, String)> {
        self.question.take().map(|question| (question.lever, question.app))
    }

    /// The question in words.
    pub(super) fn question(&self) -> Option<String> {
        let Question { lever, app, is_halted } = self.question.as_ref()?;
        Some(match (lever, is_halted) {
            (Lever::Flush, true) => format!(
                "flush {app}? It is halted: up to ten more rows may become dead letters [y/N]"
            ),
            (Lever::Flush, false) | (Lever::Pause | Lever::Resume, _) => {
                format!("{} {app}? [y/N]", lever.name())
            }
        })
    }

    /// What came of a key.
    pub(super) fn told(&mut self, message: String) {
        self.question = None;
        self.message = message;
    }
}

impl App {
    fn update(&mut self, now: Instant, status: AppStatus) {
        let totals = status.totals.unwrap_or_default();
        // Totals begin anew with the process.
        if self
            .looks
            .back()
            .is_some_and(|(_, last)| totals.accepted_updates < last.accepted_updates)
        {
            self.looks.clear();
        }
        self.looks.push_back((now, totals));
        if self.looks.len() > LOOKS_MAX {
            self.looks.pop_front();
        }
        if let (Some((from, before)), true) = (self.looks.front(), self.looks.len() > 1) {
            self.rates = rates(before, &totals, now.since(*from).as_secs_f64());
        }
        self.backlog.push_back(status.pending_records);
        if self.backlog.len() > BACKLOG_SAMPLES_MAX {
            self.backlog.pop_front();
        }
        self.status = status;
    }
}

fn rates(before: &AppTotals, after: &AppTotals, seconds: f64) -> Rates {
    if seconds <= 0.0 {
        return Rates::default();
    }
    #[expect(clippy::cast_precision_loss, reason = "what came in seconds is small")]
    let rate = |of: fn(&AppTotals) -> u64| of(after).saturating_sub(of(before)) as f64 / seconds;
    Rates {
        accepted: rate(|totals| totals.accepted_updates),
        coalesced: rate(|totals| totals.coalesced_updates),
        refused: rate(|totals| totals.refused_updates),
        delivered: rate(|totals| totals.delivered_rows),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::AppState;

    fn status(app: &str, accepted: u64, pending: u64) -> AppStatus {
        let totals = AppTotals {
            accepted_updates: accepted,
            delivered_rows: accepted / 2,
            ..AppTotals::default()
        };
        AppStatus {
            app: app.into(),
            totals: Some(totals),
            pending_records: pending,
            ..AppStatus::default()
        }
    }

    fn after(picture: &mut Picture, seconds: u64, apps: Vec<AppStatus>) {
        let now = Instant::default().plus(Duration::from_secs(seconds));
        picture.update(now, GatewayStatus { apps, ..GatewayStatus::default() });
    }

    #[test]
    fn rates_are_what_came_since_the_looks_before() {
        let mut picture = Picture::default();
        after(&mut picture, 1, vec![status("a", 100, 5)]);
        assert_eq!(picture.apps[0].rates, Rates::default());
        after(&mut picture, 3, vec![status("a", 140, 7)]);
        let Rates { accepted, delivered, .. } = picture.apps[0].rates;
        assert_eq!((accepted, delivered), (20.0, 10.0));
        assert_eq!(picture.apps[0].backlog, [5, 7]);
        // The gateway was restarted.
        after(&mut picture, 4, vec![status("a", 10, 0)]);
        after(&mut picture, 5, vec![status("a", 16, 0)]);
        assert_eq!(picture.apps[0].rates.accepted, 6.0);
    }

    #[test]
    fn apps_are_gone_through_in_a_circle_and_asked_about_by_what_they_are() {
        let mut picture = Picture::default();
        picture.go(1);
        picture.ask_to_pause();
        assert_eq!(picture.question(), None);
        let paused = AppStatus { paused: true, ..status("b", 0, 0) };
        after(&mut picture, 1, vec![status("a", 0, 0), paused]);
        picture.go(-1);
        picture.ask_to_pause();
        assert_eq!(picture.question().as_deref(), Some("resume b? [y/N]"));
        assert_eq!(picture.asked(), Some((Lever::Resume, "b".into())));
        assert!(!picture.asks());
        picture.go(1);
        picture.ask_to_pause();
        assert_eq!(picture.question().as_deref(), Some("pause a? [y/N]"));
        picture.told("nothing was done".into());
        assert!(!picture.asks());
        // The apps of another configuration.
        picture.go(1);
        picture.ask_to_flush();
        after(&mut picture, 2, vec![status("c", 0, 0)]);
        // The answer is about the app that was named.
        assert_eq!(picture.asked(), Some((Lever::Flush, "b".into())));
        picture.ask_to_pause();
        assert_eq!(picture.question().as_deref(), Some("pause c? [y/N]"));
    }

    #[test]
    fn the_flush_of_a_halted_app_warns_of_dead_letters() {
        let mut picture = Picture::default();
        let halted = AppStatus { state: AppState::Halted.into(), ..status("b", 0, 0) };
        after(&mut picture, 1, vec![status("a", 0, 0), halted]);
        picture.ask_to_flush();
        assert_eq!(picture.question().as_deref(), Some("flush a? [y/N]"));
        picture.go(1);
        picture.ask_to_flush();
        let question = picture.question().unwrap();
        assert!(question.contains("dead letters") && question.ends_with("[y/N]"), "{question}");
    }

    #[test]
    fn what_was_seen_last_stays_until_the_gateway_is_back() {
        let mut picture = Picture::default();
        after(&mut picture, 1, vec![status("a", 100, 5)]);
        picture.lose("no answer since 12:00:00 UTC".into());
        assert_eq!((picture.apps.len(), picture.lost.is_some()), (1, true));
        after(&mut picture, 9, vec![status("a", 0, 5)]);
        assert_eq!(picture.lost, None);
    }
}
