//! How it is drawn.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table, TableState, Wrap},
};

use super::picture::{App, Picture};
use crate::{
    cli::{
        client,
        health::{self, Trouble},
        output::{self, printable},
    },
    proto::{AppState, GatewayStatus},
};

const KEYS: &str = "q quit · tab next app · p pause or resume · f flush";

pub(super) fn draw(picture: &Picture, frame: &mut Frame<'_>) {
    let apps = u16::try_from(picture.apps.len()).unwrap_or(u16::MAX).saturating_add(1);
    let [title, list, details, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(apps.saturating_add(2)),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(headline(picture), title);
    draw_apps(picture, frame, list);
    if let Some(app) = picture.apps.get(picture.selected()) {
        draw_app(app, &picture.status, frame, details);
    }
    let last = match picture.question() {
        Some(question) => Line::styled(question, Style::new().fg(Color::Yellow).bold()),
        None if picture.message.is_empty() => Line::from(KEYS).dim(),
        None => Line::from(vec![Span::raw(&picture.message), Span::raw("   "), KEYS.dim()]),
    };
    frame.render_widget(last, keys);
}

fn headline(picture: &Picture) -> Paragraph<'_> {
    let status = &picture.status;
    let ready = match status.ready {
        true => Span::styled("ready", Color::Green),
        false => Span::styled(printable(&status.not_ready_reason), Color::Red),
    };
    let store = status.store.as_ref().map_or(String::new(), |store| {
        format!(" · {} store of {}", store.engine, indicatif::HumanBytes(store.disk_bytes))
    });
    let name = format!("userpilot-gateway {}", status.version);
    let name = Span::styled(name, Style::new().add_modifier(Modifier::BOLD));
    let first = Line::from(vec![name, Span::raw(" · "), ready, Span::raw(store)]);
    let problem = match (&picture.lost, status.config_problem.is_empty()) {
        (Some(lost), _) => Line::styled(lost.as_str(), Color::Red),
        (None, true) => Line::default(),
        (None, false) => {
            let problem = printable(&status.config_problem);
            Line::styled(format!("the new configuration is refused: {problem}"), Color::Yellow)
        }
    };
    Paragraph::new(vec![first, problem])
}

fn draw_apps(picture: &Picture, frame: &mut Frame<'_>, area: Rect) {
    let header = ["app", "state", "waiting", "oldest", "accepted/s", "delivered/s", "p50", "dead"];
    let rows = picture.apps.iter().map(|app| {
        let status = &app.status;
        Row::new([
            Line::from(status.app.as_str()),
            Line::styled(state(app), color(app)),
            Line::from(status.pending_records.to_string()).right_aligned(),
            Line::from(output::short(status.oldest_pending_age.as_ref())).right_aligned(),
            Line::from(format!("{:.1}", app.rates.accepted)).right_aligned(),
            Line::from(format!("{:.1}", app.rates.delivered)).right_aligned(),
            Line::from(output::short(status.freshness_p50.as_ref())).right_aligned(),
            Line::from(status.dead_letters.to_string()).right_aligned(),
        ])
    });
    let widths = [3, 3, 2, 2, 2, 2, 2, 1].map(Constraint::Fill);
    let table = Table::new(rows, widths)
        .header(Row::new(header).dim())
        .block(Block::bordered())
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut selected = TableState::new().with_selected(Some(picture.selected()));
    frame.render_stateful_widget(table, area, &mut selected);
}

fn draw_app(app: &App, gateway: &GatewayStatus, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title(format!(" {} ", app.status.app));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [sentence, job, numbers, backlog] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(7),
        Constraint::Min(0),
    ])
    .areas(inside);
    let color = match Trouble::of(&app.status, gateway) {
        Some(Trouble::Refuses(_)) => Color::Red,
        Some(Trouble::NearlyFull(_)) => Color::Yellow,
        None => color(app),
    };
    let text = Paragraph::new(Line::styled(health::sentence(&app.status, gateway), color));
    frame.render_widget(text.wrap(Wrap { trim: true }), sentence);
    draw_job(app, frame, job);
    draw_numbers(app, frame, numbers);
    draw_backlog(app, frame, backlog);
}

fn draw_job(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(job) = &app.status.current_job else {
        frame.render_widget(Line::from("no job runs").dim(), area);
        return;
    };
    let percent = (job.completed_rows * 100).checked_div(job.rows).unwrap_or(0).min(100);
    let kind = client::kind_name(job.kind());
    let label = format!("job: {} of {} {kind}", job.completed_rows, job.rows);
    let gauge = Gauge::default().gauge_style(Color::Cyan).label(label);
    frame.render_widget(gauge.percent(u16::try_from(percent).unwrap_or(100)), area);
}

fn draw_numbers(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let (status, rates) = (&app.status, &app.rates);
    let freshness = match (&status.freshness_p50, &status.freshness_p99) {
        (Some(p50), Some(p99)) => {
            format!("{}, 99 in 100 {}", output::short(Some(p50)), output::short(Some(p99)))
        }
        _ => "nothing delivered lately".into(),
    };
    let budget =
        format!("{} rows/min, {:.0} % used", status.users_per_minute, status.utilisation * 100.0);
    let accepted = format!("{:.1}/s, coalesced {:.1}/s", rates.accepted, rates.coalesced);
    let waiting =
        format!("{} records, {} in flight", status.pending_records, status.in_flight_records);
    let (drained, takes) = health::drained(status, |eta| output::short(Some(eta)))
        .unwrap_or(("drained in", "nothing waits".into()));
    let rows = [
        ("accepted", accepted),
        ("refused", format!("{:.1}/s", rates.refused)),
        ("delivered", format!("{:.1}/s", rates.delivered)),
        ("waiting", waiting),
        (drained, takes),
        ("freshness", freshness),
        ("budget", budget),
    ];
    let rows = rows.map(|(name, value)| Row::new([Line::from(name).dim(), Line::from(value)]));
    frame.render_widget(Table::new(rows, [Constraint::Length(14), Constraint::Fill(1)]), area);
}

/// The newest at the right edge.
fn draw_backlog(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let most = app.backlog.iter().max().copied().unwrap_or(0);
    let block = Block::new().title(Line::from(format!("backlog, at most {most}")).dim());
    let columns = usize::from(area.width);
    let older = app.backlog.len().saturating_sub(columns);
    let bars: Vec<u64> = app.backlog.iter().skip(older).copied().collect();
    frame.render_widget(Sparkline::default().block(block).data(bars).style(Color::Cyan), area);
}

fn state(app: &App) -> String {
    output::word(app.status.state().as_str_name(), "APP_STATE_")
}

fn color(app: &App) -> Color {
    match app.status.state() {
        AppState::Unspecified | AppState::Idle => Color::Reset,
        AppState::Lingering | AppState::Submitting | AppState::Running | AppState::Occupied => {
            Color::Green
        }
        AppState::BackingOff
        | AppState::SlotTaken
        | AppState::Paused
        | AppState::LookingForJob
        | AppState::Isolating => Color::Yellow,
        AppState::KeyRejected | AppState::Halted => Color::Red,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        domain::time::Instant,
        proto::{AppStatus, Job},
    };

    fn drawn(width: u16, height: u16, picture: &Picture) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(picture, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn what_is_known_of_an_app_is_seen_and_no_size_is_too_small() {
        let app = AppStatus {
            app: "production".into(),
            state: AppState::Running.into(),
            summary: "a job runs".into(),
            pending_records: 1_234,
            drain_eta: Some(prost_types::Duration { seconds: 41, nanos: 0 }),
            current_job: Some(Job { rows: 200, completed_rows: 50, ..Job::default() }),
            ..AppStatus::default()
        };
        let mut picture = Picture::default();
        let status = GatewayStatus { apps: vec![app], ready: true, ..GatewayStatus::default() };
        picture.update(Instant::default(), status);
        let seen = drawn(100, 30, &picture);
        for part in ["production", "running", "a job runs", "1234", "50 of 200", "q quit", "ready"]
        {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        let refusing = GatewayStatus {
            apps: vec![picture.apps[0].status.clone()],
            not_ready_reason: "the disk is nearly full".into(),
            ..GatewayStatus::default()
        };
        picture.update(Instant::default(), refusing);
        let seen = drawn(100, 30, &picture);
        assert!(
            seen.contains("Updates are refused: the disk is nearly full. a job runs"),
            "{seen}"
        );
        assert!(seen.contains("draining takes"), "{seen}");
        picture.ask_to_pause();
        assert!(drawn(100, 30, &picture).contains("pause production? [y/N]"));
        picture.lose("no answer since 12:00:00 UTC".into());
        let seen = drawn(100, 30, &picture);
        assert!(seen.contains("no answer since 12:00:00 UTC") && seen.contains("1234"), "{seen}");
        for (width, height) in [(1, 1), (20, 5), (300, 100)] {
            drawn(width, height, &picture);
        }
        drawn(80, 24, &Picture::default());
    }
}
