//! `pause`, `resume`: what an operator can do about delivery. `flush` has a file of its own.

use std::io::{self, Write};

use super::{
    client::refused,
    ended::Exit,
    operator::OperatorArgs,
    output::{self, Output, OutputArgs},
};
use crate::proto::{PauseRequest, ResumeRequest};

/// Of which app.
#[derive(Clone, Debug, clap::Args)]
pub struct LeverArgs {
    #[command(flatten)]
    pub(super) operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The app; without it, all.
    #[arg(long, default_value = "")]
    pub(super) app: String,
}

/// Stops submitting, and says so.
pub async fn pause(args: LeverArgs) -> anyhow::Result<()> {
    let request = PauseRequest { app: args.app.clone() };
    let answer = args.operator.connect().await?.pause(request).await.map_err(refused)?;
    let answer = answer.into_inner();
    let so = "updates are still taken, and wait until `resume`";
    args.say("PauseResponse", &answer, "paused", so)?;
    held("paused", &answer.held_apps)
}

/// Ends a pause, and says so.
pub async fn resume(args: LeverArgs) -> anyhow::Result<()> {
    let request = ResumeRequest { app: args.app.clone() };
    let answer = args.operator.connect().await?.resume(request).await.map_err(refused)?;
    let answer = answer.into_inner();
    args.say("ResumeResponse", &answer, "resumed", "what waits is submitted as the budget allows")?;
    held("resumed", &answer.held_apps)
}

impl LeverArgs {
    /// `name` is that of the answer in the contract.
    pub(super) fn say<T: prost::Message>(
        &self,
        name: &str,
        answer: &T,
        what: &str,
        so: &str,
    ) -> anyhow::Result<()> {
        let apps = if self.app.is_empty() { "all apps" } else { &self.app };
        match self.output.output {
            Output::Table => writeln!(io::stdout(), "{apps}: {what}; {so}")?,
            Output::Json => io::stdout().write_all(&output::json_line(name, answer)?)?,
        }
        Ok(())
    }
}

/// Fails where there are apps with which it was not done.
pub(super) fn held(what: &str, apps: &[String]) -> anyhow::Result<()> {
    if apps.is_empty() {
        return Ok(());
    }
    let apps = apps.join(", ");
    Err(Exit::Partly.error(format!(
        "not {what}, since they are held: {apps}; `userpilot-gateway status` says why"
    )))
}
