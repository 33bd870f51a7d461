//! `store check`: verifies a store.

use std::io::{self, Write};

use anyhow::bail;
use comfy_table::{Table, presets::NOTHING};

use super::{Missing, Opened, Place, Work};
use crate::store::{
    check::{Findings, check},
    engine::{Engine, SealedEngine},
};

/// Verify a store: every entry reads back, and they fit together.
///
/// Opening a store repairs what a crash left, as a start of the gateway would; the check itself
/// changes nothing. Ends with 1 where something is wrong.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    args.place.work(Missing::Refuse, Check).await
}

struct Check;

impl Work for Check {
    async fn on<E: Engine + Clone>(
        self,
        engine: SealedEngine<E>,
        store: &Opened,
    ) -> anyhow::Result<()> {
        let findings = check(&engine).await?;
        writeln!(io::stdout(), "{}", page(&findings))?;
        let wrong: u64 = findings.problems.iter().map(|problem| problem.entries).sum();
        if wrong > 0 {
            bail!(
                "it has {wrong} problems. The gateway sets damaged records \
                 aside and serves the rest; where it does not start, save what can be read with \
                 `store export`, move the directory away and take it back with `store import`"
            );
        }
        let path = store.config.path.display();
        writeln!(io::stdout(), "the {} store in {path} is whole", engine.name())?;
        Ok(())
    }
}

fn page(findings: &Findings) -> String {
    let mut kinds = Table::new();
    kinds.load_style(NOTHING);
    kinds.set_header(["key", "kind", "entries", "bytes"]);
    for tally in &findings.kinds {
        let byte = std::ascii::escape_default(tally.byte).to_string();
        let kind = tally.kind.to_owned();
        kinds.add_row([byte, kind, tally.entries.to_string(), tally.bytes.to_string()]);
    }
    let problems = findings.problems.iter().map(|problem| {
        let app = problem.app.as_ref().map(|app| format!(" of app {app}")).unwrap_or_default();
        format!("\nproblem: {} × {}{app}: {}", problem.entries, problem.kind, problem.what)
    });
    problems.fold(kinds.to_string(), |page, problem| page + &problem)
}
