//! `dead-letters`: what Userpilot would not take: to look at, to replay, to discard, to export.

mod selection;
mod shown;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

use self::selection::{Filter, Which};
use super::{
    client::refused,
    ended::Exit,
    operator::{Admin, OperatorArgs},
    output::{self, Output, OutputArgs},
};
use crate::proto::{
    DiscardDeadLettersRequest, DiscardDeadLettersResponse, ExportDeadLettersRequest,
    GetDeadLetterRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
    ReplayDeadLettersResponse,
};

/// List, show, replay, discard or export what Userpilot would not take.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Args)]
struct GatewayArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// The app; may be left out where one is configured.
    #[arg(long, global = true, default_value = "")]
    app: String,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// List them, oldest first, without their values.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Superseded and discarded ones, too.
        #[arg(long)]
        include_closed: bool,
        /// How many.
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one, with its values.
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Send them back into the queue. Values that were delivered since are not overwritten.
    Replay {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give them up for good; their values are forgotten.
    Discard {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Write them as NDJSON, one a line, oldest first.
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Superseded and discarded ones, too.
        #[arg(long)]
        include_closed: bool,
        /// A new file, which only its owner can read; without it, standard output.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Carries the command out.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let GatewayArgs { operator, app } = args.gateway;
    let connect = async || operator.connect().await;
    match args.command {
        Command::List { filter, include_closed, limit, output } => {
            let filter = Some(filter.message());
            let page_token = String::new();
            let page_size = i32::try_from(limit).unwrap_or(i32::MAX);
            let request =
                ListDeadLettersRequest { app, filter, include_closed, page_size, page_token };
            list(connect().await?, request, output.output).await
        }
        Command::Show { id, output } => {
            let request = GetDeadLetterRequest { app, id };
            let answer = connect().await?.get_dead_letter(request).await;
            let letter = answer.map_err(refused)?.into_inner().dead_letter.unwrap_or_default();
            match output.output {
                Output::Table => writeln!(io::stdout(), "{}", shown::details(&letter))?,
                Output::Json => output::print_json("DeadLetter", &[letter])?,
            }
            Ok(())
        }
        Command::Replay { which, output } => {
            which.confirm("replay", &app)?;
            replay(connect().await?, app, which, output.output).await
        }
        Command::Discard { which, output } => {
            which.confirm("discard", &app)?;
            discard(connect().await?, app, which, output.output).await
        }
        Command::Export { filter, include_closed, file } => {
            let filter = Some(filter.message());
            let request = ExportDeadLettersRequest { app, filter, include_closed };
            export(connect().await?, request, file.as_deref()).await
        }
    }
}

async fn list(
    mut client: Admin,
    mut request: ListDeadLettersRequest,
    output: Output,
) -> anyhow::Result<()> {
    let limit = usize::try_from(request.page_size)?;
    let mut letters = Vec::new();
    let more = loop {
        request.page_size = i32::try_from((limit - letters.len()).min(1_000))?;
        let page = client.list_dead_letters(request.clone()).await.map_err(refused)?.into_inner();
        letters.extend(page.dead_letters);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || letters.len() >= limit {
            break !request.page_token.is_empty();
        }
    };
    match output {
        Output::Table if letters.is_empty() => writeln!(io::stdout(), "no dead letters")?,
        Output::Table => writeln!(io::stdout(), "{}", shown::table(&letters))?,
        Output::Json => output::print_json("DeadLetter", &letters)?,
    }
    if more {
        writeln!(io::stderr(), "there are more: see them with a larger --limit, or export them")?;
    }
    Ok(())
}

async fn replay(
    mut client: Admin,
    app: String,
    which: Which,
    output: Output,
) -> anyhow::Result<()> {
    let mut sum = ReplayDeadLettersResponse::default();
    for selection in which.selections()? {
        let request = ReplayDeadLettersRequest { app: app.clone(), selection: Some(selection) };
        let answer = client.replay_dead_letters(request).await.map_err(refused)?.into_inner();
        sum.replayed += answer.replayed;
        sum.no_room += answer.no_room;
        sum.not_there += answer.not_there;
    }
    let ReplayDeadLettersResponse { replayed, no_room, not_there } = sum;
    match output {
        Output::Json => output::print_json("ReplayDeadLettersResponse", &[sum])?,
        Output::Table => writeln!(
            io::stdout(),
            "{replayed} replayed, {no_room} without room, {not_there} not there"
        )?,
    }
    if no_room > 0 {
        return Err(Exit::Partly.error(format!(
            "for {no_room} there is no room: the queue is full, or what waits for their user \
             would become too large. Replay them once `userpilot-gateway status` shows less waiting"
        )));
    }
    which.all_there(not_there)
}

async fn discard(
    mut client: Admin,
    app: String,
    which: Which,
    output: Output,
) -> anyhow::Result<()> {
    let mut sum = DiscardDeadLettersResponse::default();
    for selection in which.selections()? {
        let request = DiscardDeadLettersRequest { app: app.clone(), selection: Some(selection) };
        let answer = client.discard_dead_letters(request).await.map_err(refused)?.into_inner();
        sum.discarded += answer.discarded;
        sum.not_there += answer.not_there;
    }
    let DiscardDeadLettersResponse { discarded, not_there } = sum;
    match output {
        Output::Json => output::print_json("DiscardDeadLettersResponse", &[sum])?,
        Output::Table => writeln!(io::stdout(), "{discarded} discarded, {not_there} not there")?,
    }
    which.all_there(not_there)
}

async fn export(
    mut client: Admin,
    request: ExportDeadLettersRequest,
    file: Option<&Path>,
) -> anyhow::Result<()> {
    let letters = client.export_dead_letters(request).await.map_err(refused)?.into_inner();
    let Some(path) = file else {
        write_lines(letters, &mut io::BufWriter::new(io::stdout().lock())).await?;
        return Ok(());
    };
    let mut out = io::BufWriter::new(output::new_private_file(path)?);
    let written = write_lines(letters, &mut out).await;
    let lines = written.with_context(|| format!("{} is not complete", path.display()))?;
    out.get_ref().sync_all()?;
    writeln!(io::stdout(), "{lines} dead letters written to {}", path.display())?;
    Ok(())
}

async fn write_lines(
    mut letters: tonic::Streaming<crate::proto::ExportDeadLettersResponse>,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let mut lines = 0;
    while let Some(answer) = letters.message().await.map_err(refused)? {
        let letter = answer.dead_letter.unwrap_or_default();
        out.write_all(&output::json_line("DeadLetter", &letter)?)?;
        lines += 1;
    }
    out.flush()?;
    Ok(lines)
}
