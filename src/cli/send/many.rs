//! Many updates: lines of NDJSON over a stream, until each is taken or wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, BufReader, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{Args, Connection, Update, lane, refused, to_struct};
use crate::{
    clock,
    proto::{
        Disposition, Lane, StreamUserUpdatesRequest, UpdateError,
        ingest_service_client::IngestServiceClient, stream_user_updates_response::Result as Answer,
    },
};

/// Lines that are read ahead of the stream.
const LINES_AHEAD_MAX: usize = 1_024;
/// Updates of the stream that are not answered yet.
const UNANSWERED_MAX: usize = 4_096;
/// Refusals that are shown one by one.
const REFUSALS_SHOWN_MAX: u64 = 20;
/// Where the gateway does not say when to come back.
const RETRY_DELAY: Duration = Duration::from_secs(1);

type Line = StreamUserUpdatesRequest;

/// Sends the lines of `file`, in order for each user and company. Where the gateway has no room, it waits
/// as told and goes on from there.
pub(super) async fn send(
    mut client: IngestServiceClient<Connection>,
    file: &Path,
    args: &Args,
) -> anyhow::Result<()> {
    let (input, bytes) = open(file)?;
    let progress = progress(bytes);
    let (sender, mut lines) = mpsc::channel(LINES_AHEAD_MAX);
    let (app, lane, bar) = (args.app.clone(), args.lane, progress.clone());
    let reader = tokio::task::spawn_blocking(move || read_lines(input, &app, lane, &bar, &sender));
    let mut tally = Tally { progress, accepted: 0, coalesced: 0, refusals: 0, last: 0 };
    let mut held = Held::default();
    loop {
        let again = std::mem::take(&mut held);
        held = round(&mut client, again.lines, &mut lines, &mut tally).await?;
        if held.lines.is_empty() {
            break;
        }
        let delay = held.delay.unwrap_or(RETRY_DELAY);
        let delay = delay.min(Duration::from_secs(args.retry_delay_max));
        let first = held.lines.first().map_or(0, |line| line.tag);
        let state = format!("no room: goes on from line {first} in {} s", delay.as_secs());
        tally.progress.set_message(state);
        clock::sleep_until(Some(clock::now().instant.plus(delay))).await;
    }
    let Tally { progress, accepted, coalesced, refusals, .. } = tally;
    progress.finish_and_clear();
    reader.await??;
    writeln!(io::stdout(), "{accepted} accepted ({coalesced} coalesced), {refusals} refused")?;
    if refusals > 0 {
        bail!("{refusals} updates were refused");
    }
    Ok(())
}

/// What became of the lines so far.
struct Tally {
    progress: ProgressBar,
    accepted: u64,
    coalesced: u64,
    refusals: u64,
    /// The last line that was answered.
    last: u64,
}

/// Lines that are to be sent again, in their order.
#[derive(Default)]
struct Held {
    lines: Vec<Line>,
    subjects: BTreeSet<Subject>,
    delay: Option<Duration>,
}

impl Held {
    fn hold(&mut self, line: Line, delay: Option<Duration>) {
        self.subjects.extend(subject(&line));
        self.lines.push(line);
        self.delay = self.delay.max(delay);
    }

    /// Whether an earlier line of the same user or company is held. Then this one comes after it, even if
    /// it was accepted meanwhile: an older value must not go over a newer one.
    fn holds_subject_of(&self, line: &Line) -> bool {
        subject(line).is_some_and(|subject| self.subjects.contains(&subject))
    }
}

/// Whether it is a company, its app and its id.
type Subject = (bool, String, String);

fn subject(line: &Line) -> Option<Subject> {
    let user = line.update.as_ref().map(|it| (false, it.app.clone(), it.user_id.clone()));
    user.or(line.company.as_ref().map(|it| (true, it.app.clone(), it.company_id.clone())))
}

/// Sends over one stream, until all is sent or there is no room; what is then to be sent again.
async fn round(
    client: &mut IngestServiceClient<Connection>,
    again: Vec<Line>,
    lines: &mut mpsc::Receiver<Line>,
    tally: &mut Tally,
) -> anyhow::Result<Held> {
    let (updates, stream) = mpsc::channel(LINES_AHEAD_MAX);
    let (sent, mut unanswered) = mpsc::channel::<Line>(UNANSWERED_MAX);
    let full = CancellationToken::new();
    let feed = async {
        let mut again = again.into_iter();
        let mut exhausted = false;
        loop {
            let line = match again.next() {
                Some(line) => Some(line),
                None => tokio::select! {
                    biased;
                    () = full.cancelled() => None,
                    line = lines.recv() => {
                        exhausted = line.is_none();
                        line
                    }
                },
            };
            let Some(line) = line else { break };
            // Answers are in order, so that this one's is the next after those before it.
            if sent.send(line.clone()).await.is_err() || updates.send(line).await.is_err() {
                break;
            }
        }
        drop((sent, updates));
        anyhow::Ok(exhausted)
    };
    let answers = async {
        let answers = client.stream_user_updates(ReceiverStream::new(stream)).await;
        let mut answers = answers.map_err(refused)?.into_inner();
        let mut held = Held::default();
        loop {
            let answer = answers.message().await.map_err(refused);
            if !matches!(answer, Ok(Some(_))) {
                full.cancel();
            }
            let Some(line) = unanswered.recv().await else {
                answer?;
                break;
            };
            let line_number = line.tag;
            let answer = answer.with_context(|| unfinished(&line, &held))?;
            let answer = answer.with_context(|| unfinished(&line, &held))?;
            match answer.result.context("the gateway answered without an answer")? {
                Answer::Accepted(_) if held.holds_subject_of(&line) => held.hold(line, None),
                Answer::Accepted(update) => tally.accept(update.disposition()),
                Answer::Error(error) if has_no_room(&error) => {
                    full.cancel();
                    let delay = error.retry_delay.and_then(|delay| delay.try_into().ok());
                    held.hold(line, delay);
                }
                Answer::Error(error) => tally.refuse(line.tag, &error)?,
            }
            tally.show(line_number);
        }
        anyhow::Ok(held)
    };
    let (exhausted, held) = tokio::try_join!(feed, answers)?;
    if held.lines.is_empty() && !exhausted {
        bail!("the gateway ended the stream; nothing after line {} was sent", tally.last);
    }
    Ok(held)
}

fn unfinished(line: &Line, held: &Held) -> String {
    let first = held.lines.first().map_or(line.tag, |held| held.tag);
    format!("the stream broke; send again from line {first}")
}

fn has_no_room(error: &UpdateError) -> bool {
    [Code::ResourceExhausted, Code::Unavailable].contains(&error.code.into())
}

impl Tally {
    fn accept(&mut self, disposition: Disposition) {
        self.accepted += 1;
        self.coalesced += u64::from(disposition == Disposition::Coalesced);
    }

    fn refuse(&mut self, line: u64, error: &UpdateError) -> io::Result<()> {
        self.refusals += 1;
        if self.refusals > REFUSALS_SHOWN_MAX {
            return Ok(());
        }
        let text = format!("line {line}: {}", error.message);
        // Not `println`: where there is no terminal, it shows nothing.
        self.progress.suspend(|| writeln!(io::stderr(), "{text}"))
    }

    fn show(&mut self, line: u64) {
        self.last = self.last.max(line);
        let Self { accepted, refusals, .. } = self;
        self.progress.set_message(format!("{accepted} accepted, {refusals} refused"));
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

/// A line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    app: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    company_id: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    #[serde(default)]
    occurred_at: Option<jiff::Timestamp>,
    #[serde(default)]
    lane: Option<String>,
}

fn read_lines(
    input: Box<dyn BufRead + Send>,
    app: &str,
    lane: Option<Lane>,
    bar: &ProgressBar,
    updates: &mpsc::Sender<StreamUserUpdatesRequest>,
) -> anyhow::Result<()> {
    for (number, line) in (1..).zip(input.lines()) {
        let line = line?;
        bar.inc(line.len() as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        let update = update(&line, app, lane).with_context(|| format!("line {number}"))?;
        let (update, company) = update.split();
        let request = StreamUserUpdatesRequest { tag: number, update, company };
        if updates.blocking_send(request).is_err() {
            break;
        }
    }
    Ok(())
}

fn update(line: &str, default_app: &str, default_lane: Option<Lane>) -> anyhow::Result<Update> {
    let line: Written = serde_json::from_str(line)?;
    if line.user_id.is_none() && line.company_id.is_none() {
        bail!("has neither user_id nor company_id");
    }
    let lane = match line.lane {
        Some(name) => lane(&name).map_err(anyhow::Error::msg)?,
        None => default_lane.unwrap_or_default(),
    };
    Ok(Update {
        app: line.app.unwrap_or_else(|| default_app.to_owned()),
        user_id: line.user_id,
        company_id: line.company_id,
        metadata: Some(to_struct(line.metadata)),
        occurred_at: line.occurred_at.map(|at| crate::proto::timestamp(at.as_microsecond())),
        lane: lane.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_update() {
        let line = r#"{"user_id":"42","metadata":{"plan":"pro","seats":3},"lane":"bulk",
            "occurred_at":"2026-01-01T00:00:00Z"}"#;
        let (user, company) = update(line, "production", None).unwrap().split();
        let (update, None) = (user.unwrap(), company) else { panic!("is of a company") };
        assert_eq!((&*update.app, &*update.user_id), ("production", "42"));
        assert_eq!(update.lane(), Lane::Bulk);
        assert_eq!(update.occurred_at.unwrap().seconds, 1_767_225_600);
        assert_eq!(update.metadata.unwrap().fields.len(), 2);
    }

    #[test]
    fn a_line_without_a_user_is_of_a_company() {
        let line = r#"{"company_id":"acme","metadata":{"seats":3}}"#;
        let (None, Some(company)) = update(line, "", None).unwrap().split() else {
            panic!("is of a user")
        };
        assert_eq!(company.company_id, "acme");
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        for (line, why) in [
            (r#"{"user":"42"}"#, "unknown field"),
            (r#"{"metadata":{}}"#, "neither user_id nor company_id"),
            (r#"{"user_id":"42","lane":"fast"}"#, "express, interactive or bulk"),
        ] {
            let Err(error) = update(line, "", None) else { panic!("{line} is one") };
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
