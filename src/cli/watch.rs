//! The gateway's state each second, over its restarts.

use std::{error::Error as _, time::Duration};

use tonic::{Status, Streaming};

use super::{client::refused, ended::Exit, operator::Admin};
use crate::{
    clock,
    domain::time::{Instant, Timestamp},
    proto::{GatewayStatus, WatchStatusRequest, WatchStatusResponse},
};

/// A status comes each second. Who says nothing for so long is lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Before it is asked for again the first time; twice as long each time after that.
const RETRY_DELAY: Duration = Duration::from_millis(250);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// Listens to a gateway, and asks again where it went away.
pub(super) struct Watch {
    gateway: Admin,
    state: State,
    /// Since the last status.
    failures: u32,
    heard: Timestamp,
}

enum State {
    Hears(Box<Streaming<WatchStatusResponse>>),
    Asks { next: Instant },
}

/// What there is to show.
pub(super) enum Seen {
    /// The state as it is.
    Status(Box<GatewayStatus>),
    /// The gateway went away: since when and why, in words. Told once.
    Lost(String),
}

impl Watch {
    /// Asks for the first time. Who is not there now is not waited for.
    pub(super) async fn begin(mut gateway: Admin) -> anyhow::Result<Self> {
        let statuses = ask(&mut gateway).await.map_err(refused)?;
        let (state, heard) = (State::Hears(Box::new(statuses)), clock::now().wall);
        Ok(Self { gateway, state, failures: 0, heard })
    }

    /// What is seen next. Fails where the gateway refuses who asks. May be dropped and called again.
    pub(super) async fn next(&mut self) -> anyhow::Result<Seen> {
        loop {
            let why = match &mut self.state {
                State::Hears(statuses) => match within_silence(statuses.message()).await {
                    Ok(Some(answer)) => {
                        (self.failures, self.heard) = (0, clock::now().wall);
                        return Ok(Seen::Status(Box::new(answer.status.unwrap_or_default())));
                    }
                    Ok(None) => "it has stopped".to_owned(),
                    Err(status) => gone(status)?,
                },
                State::Asks { next } => {
                    clock::sleep_until(Some(*next)).await;
                    match within_silence(ask(&mut self.gateway)).await {
                        Ok(statuses) => {
                            self.state = State::Hears(Box::new(statuses));
                            continue;
                        }
                        Err(status) => gone(status)?,
                    }
                }
            };
            let is_new = matches!(self.state, State::Hears(_)) && self.failures == 0;
            let delay = RETRY_DELAY.saturating_mul(1 << self.failures.min(16)).min(RETRY_DELAY_MAX);
            self.state = State::Asks { next: clock::now().instant.plus(delay) };
            self.failures += 1;
            if is_new {
                let since = jiff::Timestamp::from_microsecond(self.heard.as_micros())?;
                let since = since.strftime("%H:%M:%S UTC");
                let words = format!("no answer since {since} ({why}); it is asked again and again");
                return Ok(Seen::Lost(words));
            }
        }
    }
}

async fn ask(gateway: &mut Admin) -> Result<Streaming<WatchStatusResponse>, Status> {
    let request = WatchStatusRequest { interval: None };
    Ok(gateway.watch_status(request).await?.into_inner())
}

async fn within_silence<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let silent = |_| Status::unavailable("it says nothing");
    tokio::time::timeout(SILENCE_MAX, answer).await.map_err(silent)?
}

/// Why nobody answers, in words. Fails where somebody does, and refuses.
fn gone(status: Status) -> anyhow::Result<String> {
    // What the gateway itself says has no other error behind it.
    let is_connection = status.source().is_some();
    let error = refused(status);
    match Exit::of(&error) {
        Exit::Unreachable if is_connection => Ok("it is not reachable".to_owned()),
        Exit::Unreachable => Ok(format!("{error:#}")),
        Exit::Failed | Exit::Usage | Exit::Partly | Exit::Refused => Err(error),
    }
}
