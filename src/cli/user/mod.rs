//! `user`: what the gateway keeps of one user or company.

mod show;

use std::io::{self, IsTerminal, Write};

use anyhow::bail;

use super::{client::refused, ended::Exit, operator::OperatorArgs};
use crate::proto::{ForgetSubjectRequest, ForgottenSubject, Subject, subject::Id};

/// Show or forget what the gateway keeps of a user or a company.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Show(show::Show),
    /// Erase all that the gateway keeps of a user or a company, and prove it by reading the whole
    /// store. The profile at Userpilot stays.
    Forget(Forget),
}

#[derive(Clone, Debug, clap::Args)]
struct Forget {
    /// The id of the user, or of the company with --company.
    id: String,
    /// The id is a company's.
    #[arg(long)]
    company: bool,
    /// The app; without it, all.
    #[arg(long, default_value = "")]
    app: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Carries the command out.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Show(show) => show.run().await,
        Command::Forget(forget) => forget.run().await,
    }
}

impl Forget {
    async fn run(self) -> anyhow::Result<()> {
        self.confirm()?;
        let Self { id, company, app, yes: _, operator } = self;
        let mut gateway = operator.connect().await?;
        let id = if company { Id::CompanyId(id) } else { Id::UserId(id) };
        let subject = Some(Subject { id: Some(id) });
        let request = ForgetSubjectRequest { app, subject };
        let answer = gateway.forget_subject(request).await.map_err(refused)?.into_inner();
        let mut left = 0;
        for app in &answer.apps {
            writeln!(io::stdout(), "{}", told(app))?;
            left += app.scan.unwrap_or_default().left;
        }
        if left > 0 {
            bail!("{left} entries still name it: run the command again once its batch is settled");
        }
        Ok(())
    }

    /// Asks, where there is somebody to ask.
    fn confirm(&self) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        let what = if self.company { "company" } else { "user" };
        let place =
            if self.app.is_empty() { "all apps".into() } else { format!("app {}", self.app) };
        if !io::stdin().is_terminal() {
            return Err(Exit::Usage.error(format!(
                "this erases what {place} keep of the {what}, for good: give --yes"
            )));
        }
        write!(
            io::stderr(),
            "Erase all that the gateway keeps of the {what} {:?} in {place}, for good? [y/N] ",
            self.id
        )?;
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "yes" => Ok(()),
            _ => bail!("nothing was erased"),
        }
    }
}

fn told(of: &ForgottenSubject) -> String {
    let scan = of.scan.unwrap_or_default();
    let mut text = format!(
        "{}: erased {} pending, {} in flight, {} dead letters, {} deliveries, {} damaged entries, \
         {} mentions; {} entries read, {} name it",
        of.app,
        of.pending,
        of.in_flight,
        of.dead_letters,
        of.deliveries,
        of.quarantined,
        of.mentions,
        scan.entries,
        scan.left,
    );
    if scan.until_settled > 0 {
        text += "; its id is in a batch that is on its way, and goes when that is settled";
    }
    if scan.newer > 0 {
        text += "; updates of it were accepted since, and are kept";
    }
    text
}
