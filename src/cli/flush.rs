//! `flush`: has what waits submitted at once.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;

use super::{client::refused, ended::Exit, levers, output::printable};
use crate::proto::{AppState, AppStatus, FlushNowRequest, GetStatusRequest};

/// Submit what waits as soon as the budget allows, without lingering or waiting for the end of a
/// backoff. Where an app is halted, it asks before: up to ten more rows may become dead letters.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    lever: levers::LeverArgs,
    /// Do not ask, also where an app is halted.
    #[arg(long)]
    yes: bool,
}

/// Flushes, and says so, and where nothing will come of it for now.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { lever, yes } = args;
    let mut gateway = lever.operator.connect().await?;
    let status = gateway.get_status(GetStatusRequest {}).await.map_err(refused)?.into_inner();
    let mut apps = status.status.unwrap_or_default().apps;
    apps.retain(|app| lever.app.is_empty() || lever.app == app.app);
    let halted = names(&apps, is_halted);
    if !halted.is_empty() && !yes {
        confirm(&halted)?;
    }
    let request = FlushNowRequest { app: lever.app.clone() };
    let answer = gateway.flush_now(request).await.map_err(refused)?.into_inner();
    let paused = names(&apps, |app| app.paused);
    let but = match paused.is_empty() {
        true => String::new(),
        false => format!("; nothing is submitted of what is paused, until `resume`: {paused}"),
    };
    let so = format!("what waits is submitted as soon as the budget allows{but}");
    lever.say("FlushNowResponse", &answer, "flushed", &so)?;
    levers::held("flushed", &answer.held_apps)
}

/// With one that is held, nothing is done.
pub(super) fn is_halted(app: &AppStatus) -> bool {
    let is_halted = app.state() == AppState::Halted || !app.halted_kinds.is_empty();
    is_halted && app.held_reason.is_empty()
}

fn names(apps: &[AppStatus], of: impl Fn(&AppStatus) -> bool) -> String {
    let names: Vec<&str> = apps.iter().filter(|app| of(app)).map(|app| &*app.app).collect();
    printable(&names.join(", "))
}

/// Asks, where there is somebody to ask.
fn confirm(halted: &str) -> anyhow::Result<()> {
    let what = format!(
        "Userpilot refuses everything of {halted}. A flush says that the rows are to blame: up to \
         ten more may become dead letters"
    );
    if !io::stdin().is_terminal() {
        return Err(Exit::Usage.error(format!("{what}, and nobody can be asked here: add --yes")));
    }
    write!(io::stderr(), "{what}. Flush? [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::SubjectKind;

    #[test]
    fn an_app_is_halted_in_whole_or_for_a_kind_and_not_where_it_is_held() {
        let idle = AppStatus { app: "a".into(), ..AppStatus::default() };
        let halted = AppStatus { state: AppState::Halted.into(), app: "b".into(), ..idle.clone() };
        let kind = SubjectKind::Company.into();
        let partly = AppStatus { halted_kinds: vec![kind], app: "c".into(), ..idle.clone() };
        let held = AppStatus { held_reason: "damaged".into(), ..halted.clone() };
        assert_eq!(names(&[idle, halted, partly, held], is_halted), "b, c");
    }
}
