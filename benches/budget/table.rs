//! The table.

use userpilot_gateway::plan::Report;

use super::scenarios::{Outcome, Scenario};

/// One line.
pub(super) struct Row {
    what: String,
    target: String,
    /// Of the gateway, the naive one, and plain batching.
    measured: [String; 3],
    /// `None` where nothing is aimed at.
    met: Option<bool>,
}

impl Row {
    /// What follows is of this scenario.
    pub(super) fn heading(scenario: &Scenario) -> Self {
        let what = format!("**{}. {}**", scenario.number, scenario.name);
        Self { what, target: String::new(), measured: [const { String::new() }; 3], met: None }
    }

    /// A figure of the gateway's alone.
    pub(super) fn beside(what: &str, measured: String) -> Self {
        let measured = [measured, String::new(), String::new()];
        Self { what: what.to_owned(), target: String::new(), measured, met: None }
    }

    /// A figure of all three.
    pub(super) fn of(what: &str, outcome: &Outcome, figure: impl Fn(&Report) -> String) -> Self {
        let gateway = figure(&outcome.gateway);
        let measured = match &outcome.baselines {
            Some([naive, batching]) => [gateway, figure(naive), figure(batching)],
            None => [gateway, String::new(), String::new()],
        };
        Self { what: what.to_owned(), target: String::new(), measured, met: None }
    }

    /// Which the gateway's should be.
    pub(super) fn with(mut self, target: &str, met: bool) -> Self {
        target.clone_into(&mut self.target);
        self.met = Some(met);
        self.measured[0] = format!("**{}**", self.measured[0]);
        self
    }

    /// Whether it is not as it should be.
    pub(super) fn is_missed(&self) -> bool {
        self.met == Some(false)
    }
}

/// The table, as Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = "| | target | the gateway | naive | plain batching | |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for Row { what, target, measured: [gateway, naive, batching], met } in rows {
        let met = match met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "",
        };
        text += &format!("| {what} | {target} | {gateway} | {naive} | {batching} | {met} |\n");
    }
    text
}
