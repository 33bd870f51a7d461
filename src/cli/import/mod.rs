//! `import`: a file of updates, from where an earlier run stopped.

mod columns;
mod csv;
mod journal;
mod refusals;

use std::{
    fs::File,
    io::{self, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use self::{
    columns::{Kind, Wanted},
    csv::Csv,
    journal::{Journal, Tally},
    refusals::Refusals,
};
use super::{
    client::{self, AccessArgs, GRPC_DEFAULT},
    ended::Exit,
    stream::{self, Ingest, LINES_AHEAD_MAX, Line, Place, Witness},
    updates::{Defaults, Ndjson, Row, lane},
};
use crate::proto::{Disposition, Lane, UpdateError};

/// Import a file of updates: NDJSON as `send` takes it, or CSV with a header.
///
/// The columns of CSV are user_id, company_id (which may be left out) and properties; with
/// --companies, company_id and properties. Two more are no properties, unless --types names them:
/// occurred_at, a time such as 2026-01-31T12:00:00Z, and lane. An empty cell is left out. true, false
/// and plain numbers such as -3.5 are taken as such; all else is a string, so are 0815 and whole
/// numbers that a double does not hold.
///
/// How far it has come is noted beside the file, in FILE.userpilot-gateway-import: a run that was
/// stopped goes on there when the same command is run again. What is refused is written to
/// FILE.refused.ndjson, with its line and the reason, and the exit code is 3.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file.
    file: PathBuf,
    /// Where the gateway takes updates.
    #[arg(long, value_name = "URL", default_value = GRPC_DEFAULT)]
    address: String,
    #[command(flatten)]
    access: AccessArgs,
    /// The app; may be left out where one is configured.
    #[arg(long, default_value = "")]
    app: String,
    /// The lane of updates that name none: express, interactive or bulk.
    #[arg(long, value_name = "LANE", default_value = "bulk", value_parser = lane)]
    lane: Lane,
    /// What the file is; without it, CSV where its name ends with .csv, else NDJSON.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The rows of CSV are companies.
    #[arg(long)]
    companies: bool,
    /// What columns of CSV are, such as zip=string,seats=number: string, number, boolean or auto.
    #[arg(long, value_name = "NAME=TYPE", value_delimiter = ',', value_parser = columns::named_kind)]
    types: Vec<(String, Kind)>,
    /// A cell of CSV with this text is null.
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Do not go on where an earlier run stopped.
    #[arg(long)]
    from_start: bool,
    /// Where the gateway has no room, come back after so many seconds at the latest.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    retry_delay_max: u64,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// An update a line, in JSON.
    Ndjson,
    /// Comma-separated values, with a header.
    Csv,
}

/// Imports the file, until `shutdown` completes.
pub async fn run(args: Args, shutdown: impl Future) -> anyhow::Result<()> {
    let begin = if args.from_start { Journal::anew } else { Journal::begin };
    let journal = begin(&args.file, &args.app)?;
    let from = journal.place();
    let rows = Rows::open(&args, from)?;
    let mut client = Ingest::new(client::connect(&args.address, &args.access).await?);
    let refusals = Refusals::begin(&args.file, from)?;
    if from != Place::default() {
        writeln!(io::stderr(), "goes on from line {}", from.lines + 1)?;
    }
    let refusals = Arc::new(Mutex::new(refusals));
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    let to = Arc::clone(&refusals);
    let reader = tokio::task::spawn_blocking(move || read(rows, &sender, &to));
    let progress = progress(journal.size(), from.offset);
    let mut import = Import { tally: journal.tally(), journal, refusals, progress };
    let delay_max = Duration::from_secs(args.retry_delay_max);
    let sent = tokio::select! {
        sent = stream::send(&mut client, receiver, delay_max, &mut import) => sent,
        _ = shutdown => Err(Exit::Failed.error("it was told to stop")),
    };
    import.progress.finish_and_clear();
    let done = match sent {
        Ok(()) => reader.await?,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        if import.journal.place() == Place::default() {
            return Err(error);
        }
        import.journal.save()?;
        let line = import.journal.place().lines + 1;
        return Err(error.context(format!("run it again, and it goes on from line {line}")));
    }
    import.end()
}

/// What is known of an import that is under way.
struct Import {
    tally: Tally,
    journal: Journal,
    refusals: Arc<Mutex<Refusals>>,
    progress: ProgressBar,
}

impl Import {
    fn refusals_count(&self) -> u64 {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).count()
    }

    fn end(self) -> anyhow::Result<()> {
        let refused = self.refusals_count();
        let Tally { accepted, coalesced } = self.tally;
        self.journal.remove()?;
        writeln!(io::stdout(), "{accepted} accepted ({coalesced} coalesced), {refused} refused")?;
        if refused > 0 {
            let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let path = refusals.path().display();
            let lines = if refused == 1 { "line was" } else { "lines were" };
            return Err(Exit::Partly.error(format!("{refused} {lines} refused: see {path}")));
        }
        Ok(())
    }
}

impl Witness for Import {
    fn accepted(&mut self, _: &Line, disposition: Disposition) {
        self.tally.accepted += 1;
        self.tally.coalesced += u64::from(disposition == Disposition::Coalesced);
    }

    fn refused(&mut self, line: &Line, error: &UpdateError) -> anyhow::Result<()> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.add(line.message.tag, line.start..line.end.offset, &error.message)
    }

    fn passed(&mut self, place: Place) -> anyhow::Result<()> {
        self.progress.set_position(place.offset);
        let refused = self.refusals_count();
        self.progress.set_message(format!("{} accepted, {refused} refused", self.tally.accepted));
        self.journal.pass(place, self.tally)
    }

    fn waits(&mut self, line: u64, delay: Duration) {
        // It may take long, and nothing is noted meanwhile.
        self.journal.save().ok();
        let state = format!("no room: goes on from line {line} in {} s", delay.as_secs());
        self.progress.set_message(state);
    }
}

/// The rows of a file.
enum Rows {
    Ndjson(Ndjson<BufReader<File>>),
    Csv(Box<Csv>),
}

impl Rows {
    fn open(args: &Args, from: Place) -> anyhow::Result<Self> {
        let is_csv = args.file.extension().is_some_and(|it| it.eq_ignore_ascii_case("csv"));
        let format = args.format.unwrap_or(if is_csv { Format::Csv } else { Format::Ndjson });
        let defaults = Defaults { app: args.app.clone(), lane: args.lane };
        let mut input = open(&args.file)?;
        let of_csv = args.companies || !args.types.is_empty() || args.null.is_some();
        match format {
            Format::Ndjson if of_csv => Err(Exit::Usage.error(
                "--companies, --types and --null are for CSV: a line of NDJSON says itself what it \
                 is; with --format csv, the file is CSV",
            )),
            Format::Ndjson => {
                input.seek(SeekFrom::Start(from.offset))?;
                Ok(Self::Ndjson(Ndjson::new(BufReader::new(input), from, defaults)))
            }
            Format::Csv => {
                let Args { companies, types, null, .. } = args;
                let (types, null) = (types.iter().cloned().collect(), null.clone());
                let wanted = Wanted { companies: *companies, types, null };
                Ok(Self::Csv(Box::new(Csv::begin(input, wanted, from, defaults)?)))
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<Row>> {
        match self {
            Self::Ndjson(rows) => rows.next(),
            Self::Csv(rows) => rows.next(),
        }
    }
}

/// Reads the rows; those that are none are refused here.
fn read(
    mut rows: Rows,
    lines: &mpsc::Sender<Line>,
    refusals: &Mutex<Refusals>,
) -> anyhow::Result<()> {
    while let Some(Row { number, start, end, update }) = rows.next()? {
        match update {
            Ok(update) => {
                let line = Line { message: update.message(number), start, end };
                if lines.blocking_send(line).is_err() {
                    break;
                }
            }
            Err(error) => {
                let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
                refusals.add(number, start..end.offset, &format!("{error:#}"))?;
            }
        }
    }
    Ok(())
}

fn open(file: &Path) -> anyhow::Result<File> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    if opened.metadata()?.is_file() {
        return Ok(opened);
    }
    let path = file.display();
    Err(Exit::Usage.error(format!("{path} is not a file; `send --file -` takes standard input")))
}

/// A file's name with more behind it.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The bytes of a part of a file, as far as it goes. The file stays where it is.
fn part(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, start + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn progress(size: u64, from: u64) -> ProgressBar {
    let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}  {msg}";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(size).with_position(from);
    bar.reset_eta();
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
