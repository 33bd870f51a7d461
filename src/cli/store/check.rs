//! `store check`: verifies a store.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::json;

use super::{Missing, Opened, Place, Work};
use crate::{
    cli::output::{self, Output, OutputArgs, printable},
    store::{
        check::{Findings, check},
        engine::{Engine, SealedEngine},
    },
};

/// Verify a store: every entry reads back, and they fit together.
///
/// Opening a store repairs what a crash left, as a start of the gateway would; the check itself
/// changes nothing. Ends with 1 where something is wrong.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    args.place.work(Missing::Refuse, Check(args.output.output)).await
}

struct Check(Output);

impl Work for Check {
    async fn on<E: Engine + Clone>(
        self,
        engine: SealedEngine<E>,
        store: &Opened,
    ) -> anyhow::Result<()> {
        let findings = check(&engine).await?;
        match self.0 {
            Output::Table => writeln!(io::stdout(), "{}", page(&findings))?,
            Output::Json => output::print_document(&document(&findings))?,
        }
        let wrong: u64 = findings.problems.iter().map(|problem| problem.entries).sum();
        if wrong > 0 {
            bail!(
                "it has {wrong} problems. The gateway sets damaged records \
                 aside and serves the rest; where it does not start, save what can be read with \
                 `store export`, move the directory away and take it back with `store import`"
            );
        }
        if self.0 == Output::Table {
            writeln!(io::stdout(), "the {} store in {} is whole", engine.name(), store.place)?;
        }
        Ok(())
    }
}

/// Whole where no problems are in it.
fn document(findings: &Findings) -> serde_json::Value {
    let kinds = findings.kinds.iter().map(|tally| {
        let key = std::ascii::escape_default(tally.byte).to_string();
        let (kind, entries, bytes) = (tally.kind, tally.entries, tally.bytes);
        json!({ "key": key, "kind": kind, "entries": entries, "bytes": bytes })
    });
    let problems = findings.problems.iter().map(|problem| {
        let (kind, app, entries) = (problem.kind, &problem.app, problem.entries);
        json!({ "kind": kind, "app": app, "entries": entries, "what": problem.what })
    });
    json!({ "kinds": kinds.collect::<Vec<_>>(), "problems": problems.collect::<Vec<_>>() })
}

fn page(findings: &Findings) -> String {
    let mut kinds = output::table();
    kinds.set_header(["key", "kind", "entries", "bytes"]);
    for tally in &findings.kinds {
        let byte = std::ascii::escape_default(tally.byte).to_string();
        let kind = tally.kind.to_owned();
        kinds.add_row([byte, kind, tally.entries.to_string(), tally.bytes.to_string()]);
    }
    let problems = findings.problems.iter().map(|problem| {
        let app = problem.app.as_ref().map(|app| format!(" of app {app}")).unwrap_or_default();
        let what = printable(&problem.what);
        format!("\nproblem: {} × {}{app}: {what}", problem.entries, problem.kind)
    });
    problems.fold(kinds.to_string(), |page, problem| page + &problem)
}
