//! `pause`, `resume`, `flush`: what an operator can do about delivery.

use std::io::{self, Write};

use super::{client::refused, operator::OperatorArgs};
use crate::proto::{FlushNowRequest, PauseRequest, ResumeRequest};

/// Of which app.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: OperatorArgs,
    /// The app; without it, all.
    #[arg(long, default_value = "")]
    app: String,
}

/// Stops submitting, and says so.
pub async fn pause(args: Args) -> anyhow::Result<()> {
    let app = args.app.clone();
    args.operator.connect().await?.pause(PauseRequest { app }).await.map_err(refused)?;
    args.say("paused", "updates are still taken, and wait until `resume`")
}

/// Ends a pause, and says so.
pub async fn resume(args: Args) -> anyhow::Result<()> {
    let app = args.app.clone();
    args.operator.connect().await?.resume(ResumeRequest { app }).await.map_err(refused)?;
    args.say("resumed", "what waits is submitted as the budget allows")
}

/// Has what waits submitted at once, and says so.
pub async fn flush(args: Args) -> anyhow::Result<()> {
    let app = args.app.clone();
    args.operator.connect().await?.flush_now(FlushNowRequest { app }).await.map_err(refused)?;
    args.say("flushed", "what waits is submitted as soon as the budget allows")
}

impl Args {
    fn say(&self, what: &str, so: &str) -> anyhow::Result<()> {
        let apps = if self.app.is_empty() { "all apps" } else { &self.app };
        writeln!(io::stdout(), "{apps}: {what}; {so}")?;
        Ok(())
    }
}
