//! Many updates: lines of NDJSON over a stream.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::Args;
use crate::{
    cli::{
        ended::Exit,
        output,
        stream::{self, Ingest, LINES_AHEAD_MAX, Line, Place, Witness},
        updates::{Defaults, Ndjson},
    },
    proto::{Disposition, UpdateError},
};

/// Refusals that are shown one by one.
const REFUSALS_SHOWN_MAX: u64 = 20;

/// Sends the lines of `file`.
pub(super) async fn send(mut client: Ingest, file: &Path, args: &Args) -> anyhow::Result<()> {
    let (input, bytes) = open(file)?;
    let defaults = Defaults { app: args.app.clone(), lane: args.lane.unwrap_or_default() };
    let lines = Ndjson::new(input, Place::default(), defaults);
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    let reader = tokio::task::spawn_blocking(move || read(lines, &sender));
    let mut tally = Tally {
        progress: progress(bytes),
        accepted: 0,
        coalesced: 0,
        refusals: 0,
        passed: Place::default(),
    };
    let delay_max = Duration::from_secs(args.retry_delay_max);
    let sent = stream::send(&mut client, receiver, delay_max, &mut tally).await;
    tally.progress.finish_and_clear();
    sent.map_err(|error| match tally.passed.lines {
        0 => error,
        lines => error.context(format!("send again from line {}", lines + 1)),
    })?;
    reader.await??;
    let Tally { accepted, coalesced, refusals, .. } = tally;
    writeln!(io::stdout(), "{accepted} accepted ({coalesced} coalesced), {refusals} refused")?;
    if refusals > 0 {
        let updates = if refusals == 1 { "update was" } else { "updates were" };
        return Err(Exit::Partly.error(format!("{refusals} {updates} refused")));
    }
    Ok(())
}

/// What became of the lines so far.
struct Tally {
    progress: ProgressBar,
    accepted: u64,
    coalesced: u64,
    refusals: u64,
    passed: Place,
}

impl Witness for Tally {
    fn accepted(&mut self, _: &Line, disposition: Disposition) {
        self.accepted += 1;
        self.coalesced += u64::from(disposition == Disposition::Coalesced);
    }

    fn refused(&mut self, line: &Line, error: &UpdateError) -> anyhow::Result<()> {
        self.refusals += 1;
        if self.refusals <= REFUSALS_SHOWN_MAX {
            let why = output::printable(&error.message);
            let text = format!("line {}: {why}", line.message.tag);
            // Not `println`: where there is no terminal, it shows nothing.
            self.progress.suspend(|| writeln!(io::stderr(), "{text}"))?;
        }
        Ok(())
    }

    fn passed(&mut self, place: Place) -> anyhow::Result<()> {
        self.passed = place;
        let Self { accepted, refusals, .. } = self;
        self.progress.set_position(place.offset);
        self.progress.set_message(format!("{accepted} accepted, {refusals} refused"));
        Ok(())
    }

    fn waits(&mut self, line: u64, delay: Duration) {
        let state = format!("no room: goes on from line {line} in {} s", delay.as_secs());
        self.progress.set_message(state);
    }
}

fn open(file: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.with_context(|| format!("cannot read {}", file.display()))?;
    let bytes = opened.metadata()?.len();
    Ok((Box::new(BufReader::new(opened)), Some(bytes)))
}

fn progress(bytes: Option<u64>) -> ProgressBar {
    let template = match bytes {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}  {msg}",
        None => "{spinner} {bytes} {bytes_per_sec}  {msg}",
    };
    let style = ProgressStyle::with_template(template);
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Stops at the first line that is no update.
fn read(
    mut lines: Ndjson<Box<dyn BufRead + Send>>,
    updates: &mpsc::Sender<Line>,
) -> anyhow::Result<()> {
    while let Some(row) = lines.next()? {
        let number = row.number;
        let update = row.update.with_context(|| format!("line {number}"))?;
        let line = Line { message: update.message(number), start: row.start, end: row.end };
        if updates.blocking_send(line).is_err() {
            break;
        }
    }
    Ok(())
}
