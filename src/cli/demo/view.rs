//! The live view: for who has never heard of any of this.

use std::{
    io::{self, Stdout, Write},
    path::Path,
    time::Duration,
};

use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Gauge, Paragraph, Row, Table},
};

use super::services::Counts;
use crate::{
    admin::status::AppStatus, cli::output::printable, domain::lifecycle::Activity,
    simulator::Snapshot,
};

/// What there is to see at one moment.
pub(super) struct Picture {
    pub(super) elapsed: Duration,
    /// Until the services stop; `None` once they have.
    pub(super) left: Option<Duration>,
    pub(super) speed: u32,
    pub(super) down: bool,
    pub(super) services: Vec<Counts>,
    pub(super) app: AppStatus,
    pub(super) freshness: Option<Duration>,
    pub(super) userpilot: Snapshot,
}

/// Where it is shown.
pub(super) enum View {
    /// A terminal: drawn in place.
    Terminal(Box<Terminal<CrosstermBackend<Stdout>>>),
    /// Anything else: a line a second.
    Lines { last: Option<u64> },
}

const HEIGHT: u16 = 17;

impl View {
    pub(super) fn new(terminal: bool, directory: &Path) -> io::Result<Self> {
        writeln!(
            io::stdout(),
            "A simulated Userpilot, a gateway, and five services that send. Log: {}\n",
            printable(&directory.join("gateway.log").display().to_string())
        )?;
        if !terminal {
            return Ok(Self::Lines { last: None });
        }
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        let backend = CrosstermBackend::new(io::stdout());
        // One that does not tell where its cursor is cannot be drawn in.
        Ok(match Terminal::with_options(backend, options) {
            Ok(terminal) => Self::Terminal(Box::new(terminal)),
            Err(_) => Self::Lines { last: None },
        })
    }

    pub(super) fn draw(&mut self, picture: &Picture) -> anyhow::Result<()> {
        match self {
            Self::Terminal(terminal) => {
                terminal.draw(|frame| picture.draw(frame))?;
            }
            Self::Lines { last } => {
                let second = picture.elapsed.as_secs();
                if last.replace(second) != Some(second) {
                    writeln!(io::stdout(), "{}", picture.line())?;
                }
            }
        }
        Ok(())
    }

    /// Leaves the last picture standing.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => {
                terminal.show_cursor()?;
                writeln!(io::stdout())
            }
            Self::Lines { .. } => Ok(()),
        }
    }
}

impl Picture {
    fn line(&self) -> String {
        let depth = self.app.queue.depth;
        format!(
            "{:>3} s  accepted {:>6}  coalesced {:>6}  waiting {:>5}  delivered {:>6}  jobs {:>3}  freshness {:>6}  {}",
            self.elapsed.as_secs(),
            self.app.updates.0,
            self.app.updates.1,
            depth.records,
            self.app.view.delivered_rows,
            self.app.view.completed_jobs,
            self.freshness(),
            if self.down { "Userpilot is down" } else { "" }
        )
    }

    fn freshness(&self) -> String {
        self.freshness.map_or_else(|| "-".into(), |fresh| format!("{:.1} s", fresh.as_secs_f64()))
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [title, middle, job, sentence] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(9),
            Constraint::Length(3),
            Constraint::Length(2),
        ])
        .areas(frame.area());
        let [services, gateway, userpilot] = Layout::horizontal([
            Constraint::Percentage(34),
            Constraint::Percentage(36),
            Constraint::Percentage(30),
        ])
        .areas(middle);
        frame.render_widget(self.title(), title);
        self.draw_services(frame, services);
        self.draw_gateway(frame, gateway);
        self.draw_userpilot(frame, userpilot);
        self.draw_job(frame, job);
        frame.render_widget(Paragraph::new(self.sentence()), sentence);
    }

    fn title(&self) -> Paragraph<'static> {
        let time = match self.left {
            Some(left) => format!("  {} s left (Ctrl-C ends it early)", left.as_secs()),
            None => "  the services have stopped; delivering what waits".into(),
        };
        Paragraph::new(Line::from(vec![
            Span::styled("userpilot-gateway demo", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(time),
        ]))
    }

    fn draw_services(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.services.iter().map(|service| {
            Row::new([
                Line::from(service.name),
                Line::from(service.sent.to_string()).right_aligned(),
                Line::from(service.accepted.to_string()).right_aligned(),
            ])
        });
        let widths = [Constraint::Fill(2), Constraint::Fill(1), Constraint::Fill(1)];
        let header =
            Row::new(["", "sent", "durable"].map(|title| Line::from(title).right_aligned())).dim();
        let block = Block::bordered().title(" Your services ");
        frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
    }

    fn draw_gateway(&self, frame: &mut Frame<'_>, area: Rect) {
        let (accepted, coalesced, _) = self.app.updates;
        let share = (coalesced * 100).checked_div(accepted).unwrap_or(0);
        let rows = [
            ("updates accepted", accepted.to_string()),
            ("of these coalesced", format!("{coalesced} ({share} %)")),
            ("users waiting", self.app.queue.depth.records.to_string()),
            ("something waits for", self.waiting_for()),
            ("freshness", self.freshness()),
        ];
        frame.render_widget(numbers(" The gateway ", &rows, Color::Green), area);
    }

    fn waiting_for(&self) -> String {
        match self.app.queue.since {
            Some(since) => {
                format!("{:.1} s", crate::clock::now().instant.since(since).as_secs_f64())
            }
            None => "-".into(),
        }
    }

    fn draw_userpilot(&self, frame: &mut Frame<'_>, area: Rect) {
        let snapshot = &self.userpilot;
        let state = if self.down { "DOWN" } else { "up" };
        let rows = [
            ("it is", state.to_owned()),
            ("profiles", snapshot.profiles.to_string()),
            ("jobs so far", snapshot.jobs.len().to_string()),
            ("conflicts", snapshot.conflicts.to_string()),
            ("rules broken", snapshot.violations_total.to_string()),
        ];
        let color = if self.down { Color::Red } else { Color::Green };
        let title = format!(" Userpilot ({}x speed) ", self.speed);
        frame.render_widget(numbers(&title, &rows, color), area);
    }

    fn draw_job(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered().title(" The running job: one at a time ");
        // Where upstream's own count is known, that; the gateway asks only now and then.
        let running = self.userpilot.running.as_ref();
        let running = running.and_then(|id| self.userpilot.jobs.iter().find(|job| job.id == *id));
        let (done, rows) = running.map_or((0, 0), |job| (job.completed, job.rows));
        let percent = (done * 100).checked_div(rows).unwrap_or(0).min(100);
        let last = self.userpilot.jobs.iter().max_by_key(|job| job.submitted_at_ms);
        let label = match (rows, last) {
            (0, Some(last)) => format!("none now; the last had {} users", last.rows),
            (0, None) => "none yet".into(),
            _ => format!("{done} of {rows} users"),
        };
        let gauge = Gauge::default().block(block).gauge_style(Color::Cyan).label(label);
        frame.render_widget(gauge.percent(u16::try_from(percent).unwrap_or(100)), area);
    }

    fn sentence(&self) -> Line<'static> {
        if self.down {
            let text = "Userpilot is down. Nothing is lost: updates stay durable here, and \
                        coalesce while they wait.";
            return Line::styled(text, Color::Yellow);
        }
        let trouble =
            matches!(self.app.view.activity, Activity::BackingOff | Activity::LookingForJob);
        let style = if trouble { Style::new().fg(Color::Yellow) } else { Style::new().dim() };
        Line::styled(printable(&self.app.summary()), style)
    }
}

fn numbers<'a>(title: &'a str, rows: &[(&'static str, String)], color: Color) -> Table<'a> {
    let rows = rows.iter().map(|(name, value)| {
        Row::new([Line::from(*name).dim(), Line::from(value.clone()).fg(color).right_aligned()])
    });
    let widths = [Constraint::Fill(3), Constraint::Fill(2)];
    Table::new(rows, widths).block(Block::bordered().title(title))
}
