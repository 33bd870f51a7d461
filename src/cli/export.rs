//! `export`: what waits, as NDJSON, of a gateway that runs.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;

use super::{client::refused, operator::OperatorArgs, output};
use crate::proto::{ExportPendingRequest, ExportPendingResponse};

/// Write what waits as NDJSON, a record a line, ordered by users and companies.
///
/// To look at, or for a program: no command takes these lines back. The gateway goes on meanwhile,
/// and what moves on may be left out. For a backup, or to move what waits to another store, stop it
/// and use `store export`, whose lines `store import` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: OperatorArgs,
    /// The app; may be left out where one is configured.
    #[arg(long, default_value = "")]
    app: String,
    /// A new file, which only its owner can read; without it, standard output.
    #[arg(long, value_name = "FILE", alias = "to")]
    file: Option<PathBuf>,
}

/// Writes them.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { operator, app, file } = args;
    let mut gateway = operator.connect().await?;
    let answers = gateway.export_pending(ExportPendingRequest { app }).await.map_err(refused)?;
    let Some(path) = file else {
        let mut out = io::BufWriter::new(io::stdout().lock());
        write_lines(answers.into_inner(), &mut out).await?;
        return Ok(());
    };
    let mut out = io::BufWriter::new(output::new_private_file(&path)?);
    let written = write_lines(answers.into_inner(), &mut out).await;
    let lines = written.with_context(|| format!("{} is not complete", path.display()))?;
    out.get_ref().sync_all()?;
    let records = if lines == 1 { "record" } else { "records" };
    writeln!(io::stdout(), "{lines} {records} written to {}", path.display())?;
    Ok(())
}

async fn write_lines(
    mut records: tonic::Streaming<ExportPendingResponse>,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let mut lines = 0;
    while let Some(record) = records.message().await.map_err(refused)? {
        out.write_all(&output::json_line("ExportPendingResponse", &record)?)?;
        lines += 1;
    }
    out.flush()?;
    Ok(lines)
}
