//! `user`: what the gateway keeps of one user or company.

mod show;

use std::io::{self, IsTerminal, Write};

use anyhow::bail;

use super::{
    client::refused,
    ended::Exit,
    operator::OperatorArgs,
    output::{self, Output, OutputArgs},
};
use crate::proto::{
    ForgetSubjectRequest, ForgetSubjectResponse, ForgottenSubject, Subject, subject::Id,
};

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
    #[command(flatten)]
    output: OutputArgs,
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
        let Self { id, company, app, yes: _, operator, output } = self;
        let mut gateway = operator.connect().await?;
        let id = if company { Id::CompanyId(id) } else { Id::UserId(id) };
        let subject = Some(Subject { id: Some(id) });
        let request = ForgetSubjectRequest { app, subject };
        let answer = gateway.forget_subject(request).await.map_err(refused)?.into_inner();
        match output.output {
            Output::Json => {
                output::print_json("ForgetSubjectResponse", std::slice::from_ref(&answer))?
            }
            Output::Table => {
                for app in &answer.apps {
                    writeln!(io::stdout(), "{}", output::printable(&told(app)))?;
                }
            }
        }
        nothing_left(&answer)
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

/// Fails where something of it may still be there.
fn nothing_left(answer: &ForgetSubjectResponse) -> anyhow::Result<()> {
    let left: u64 = answer.apps.iter().map(|app| app.scan.unwrap_or_default().left).sum();
    let mut words = Vec::new();
    if left > 0 {
        words.push(format!(
            "{left} entries still name it: run the command again once its batch is settled"
        ));
    }
    if !answer.held_apps.is_empty() {
        words.push(format!(
            "not searched, since they are held: {}; what they keep of it stays, and \
             `userpilot-gateway status` says why",
            answer.held_apps.join(", ")
        ));
    }
    if words.is_empty() { Ok(()) } else { Err(Exit::Partly.error(words.join("; "))) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::SubjectScan;

    #[test]
    fn what_is_left_or_was_not_searched_is_partly_done() {
        let check = |left, held: &[&str], parts: &[&str]| {
            let scan = Some(SubjectScan { left, ..SubjectScan::default() });
            let apps = vec![ForgottenSubject { scan, ..ForgottenSubject::default() }];
            let held_apps = held.iter().map(|app| (*app).to_owned()).collect();
            let ended = nothing_left(&ForgetSubjectResponse { apps, held_apps });
            let Err(error) = ended else { return assert!(parts.is_empty(), "{parts:?}") };
            assert_eq!(Exit::of(&error), Exit::Partly);
            for part in parts {
                assert!(!parts.is_empty() && error.to_string().contains(part), "{part}: {error}");
            }
        };
        check(0, &[], &[]);
        check(2, &[], &["2 entries still name it"]);
        check(0, &["a", "b"], &["not searched, since they are held: a, b"]);
        check(1, &["a"], &["1 entries", "held: a"]);
    }
}
