//! The table: what was aimed at, what was measured, and whether it was met.

use crate::shared;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub what: String,
    pub target: String,
    pub measured: String,
    /// `None` where nothing is aimed at.
    pub met: Option<bool>,
}

impl Row {
    /// A figure that stands beside others.
    pub fn beside(what: impl Into<String>, measured: impl Into<String>) -> Self {
        let (what, measured) = (what.into(), measured.into());
        Self { what, target: String::new(), measured, met: None }
    }

    /// A figure that should be at least `target`.
    pub fn at_least(what: &str, value: f64, target: f64, goal: f64, more: &str) -> Self {
        let wanted = if goal > target {
            format!("≥ {target}, goal {goal}")
        } else {
            format!("≥ {target}")
        };
        let measured = format!("**{value:.2}** {more}");
        Self { what: what.into(), target: wanted, measured, met: Some(value >= target) }
    }

    /// Figures that should each be at most their target.
    pub fn at_most(what: &str, figures: &[(&str, f64, f64)], unit: &str) -> Self {
        let join = |text: Vec<String>| text.join(", ");
        let wanted = figures.iter().map(|(name, _, target)| format!("{name} ≤ {target} {unit}"));
        let measured =
            figures.iter().map(|(name, value, _)| format!("{name} **{value:.2}** {unit}"));
        Self {
            what: what.into(),
            target: join(wanted.collect()),
            measured: join(measured.collect()),
            met: Some(figures.iter().all(|(_, value, target)| value <= target)),
        }
    }
}

/// The machine and the table, as Markdown.
pub fn markdown(machine: &[(&'static str, String)], command: &str, rows: &[Row]) -> String {
    let mut text = shared::facts(command, machine);
    text += "\n| what | target | measured | |\n|---|---|---|---|\n";
    for Row { what, target, measured, met } in rows {
        let met = match met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "",
        };
        text += &format!("| {what} | {target} | {measured} | {met} |\n");
    }
    text
}

/// Puts the table in the place of the last one.
pub fn write(table: &str) -> anyhow::Result<()> {
    shared::write("docs/performance.md", table)
}
