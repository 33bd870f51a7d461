//! Many updates over a stream, until each is taken or refused for good.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::client::{self, Connection};
use crate::{
    clock,
    proto::{
        Disposition, StreamUserUpdatesRequest, UpdateError,
        ingest_service_client::IngestServiceClient, stream_user_updates_response::Result as Answer,
    },
};

/// Lines that are read ahead of the stream.
pub(super) const LINES_AHEAD_MAX: usize = 1_024;
/// Updates of the stream that are not answered yet.
const UNANSWERED_MAX: usize = 4_096;
/// Where the gateway does not say when to come back.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The service that takes updates.
pub(super) type Ingest = IngestServiceClient<Connection>;

/// How far an input is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Lines that are behind.
    pub(super) lines: u64,
    /// Bytes that are.
    pub(super) offset: u64,
}

/// An update, and where it stands in its input.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Its tag is the number of the line that it begins on.
    pub(super) message: StreamUserUpdatesRequest,
    /// Where it begins, in bytes.
    pub(super) start: u64,
    /// What is done with it.
    pub(super) end: Place,
}

/// Who is told what became of each line.
pub(super) trait Witness {
    /// It is durable at the gateway.
    fn accepted(&mut self, line: &Line, disposition: Disposition);
    /// It is refused for good.
    fn refused(&mut self, line: &Line, error: &UpdateError) -> anyhow::Result<()>;
    /// Every line up to here is accepted or refused.
    fn passed(&mut self, place: Place) -> anyhow::Result<()>;
    /// There is no room for the moment; it goes on from this line then.
    fn waits(&mut self, line: u64, delay: Duration);
}

/// Sends the lines, in order for each user and company. Where the gateway has no room, it waits as
/// told, but not for longer than `delay_max`, and goes on from there.
pub(super) async fn send(
    client: &mut Ingest,
    mut lines: mpsc::Receiver<Line>,
    delay_max: Duration,
    witness: &mut impl Witness,
) -> anyhow::Result<()> {
    let mut held = Held::default();
    loop {
        let again = std::mem::take(&mut held);
        held = round(client, again.lines, &mut lines, witness).await?;
        let Some(first) = held.lines.first() else { return Ok(()) };
        let delay = held.delay.unwrap_or(RETRY_DELAY).min(delay_max);
        witness.waits(first.message.tag, delay);
        clock::sleep_until(Some(clock::now().instant.plus(delay))).await;
    }
}

/// Why the gateway did not take an update.
pub(super) fn refused(status: Status) -> anyhow::Error {
    let code = status.code();
    client::refused(status).context(format!("{code:?}"))
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
    let StreamUserUpdatesRequest { update, company, .. } = &line.message;
    let user = update.as_ref().map(|it| (false, it.app.clone(), it.user_id.clone()));
    user.or(company.as_ref().map(|it| (true, it.app.clone(), it.company_id.clone())))
}

/// Sends over one stream, until all is sent or there is no room; what is then to be sent again.
async fn round(
    client: &mut Ingest,
    again: Vec<Line>,
    lines: &mut mpsc::Receiver<Line>,
    witness: &mut impl Witness,
) -> anyhow::Result<Held> {
    let (updates, stream) = mpsc::channel(LINES_AHEAD_MAX);
    let (sent, unanswered) = mpsc::channel::<Line>(UNANSWERED_MAX);
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
            let message = line.message.clone();
            // Answers are in order, so that this one's is the next after those before it.
            if sent.send(line).await.is_err() || updates.send(message).await.is_err() {
                break;
            }
        }
        drop((sent, updates));
        anyhow::Ok(exhausted)
    };
    let answers = answers(client, ReceiverStream::new(stream), unanswered, &full, witness);
    let (exhausted, (held, last)) = tokio::try_join!(feed, answers)?;
    if held.lines.is_empty() && !exhausted {
        bail!("the gateway ended the stream; nothing after line {last} was sent");
    }
    Ok(held)
}

/// Takes the answers, until the stream has ended; what is to be sent again, and the last line that
/// was answered. Cancels `full` where nothing more should be sent.
async fn answers(
    client: &mut Ingest,
    stream: ReceiverStream<StreamUserUpdatesRequest>,
    mut unanswered: mpsc::Receiver<Line>,
    full: &CancellationToken,
    witness: &mut impl Witness,
) -> anyhow::Result<(Held, u64)> {
    let answers = client.stream_user_updates(stream).await;
    let mut answers = answers.map_err(refused)?.into_inner();
    let (mut held, mut last) = (Held::default(), 0);
    loop {
        let answer = answers.message().await.map_err(refused);
        if !matches!(answer, Ok(Some(_))) {
            full.cancel();
        }
        let Some(line) = unanswered.recv().await else {
            answer?;
            return Ok((held, last));
        };
        last = line.message.tag;
        let broken = || format!("the stream broke at line {last}");
        let answer = answer.with_context(broken)?.with_context(broken)?;
        match answer.result.context("the gateway answered without an answer")? {
            Answer::Accepted(_) if held.holds_subject_of(&line) => held.hold(line.clone(), None),
            Answer::Accepted(update) => witness.accepted(&line, update.disposition()),
            Answer::Error(error) if has_no_room(&error) => {
                full.cancel();
                let delay = error.retry_delay.and_then(|delay| delay.try_into().ok());
                held.hold(line.clone(), delay);
            }
            Answer::Error(error) => witness.refused(&line, &error)?,
        }
        if held.lines.is_empty() {
            witness.passed(line.end)?;
        }
    }
}

fn has_no_room(error: &UpdateError) -> bool {
    [Code::ResourceExhausted, Code::Unavailable].contains(&error.code.into())
}
