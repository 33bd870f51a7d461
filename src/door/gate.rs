//! The way in for the updates of one request: read, permitted, and within the client's rate.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    caller::{Caller, Client},
    refusal::Refusal,
    sent::Sent,
    wire::Wire,
};
use crate::{
    audit, clock,
    domain::{time::Timestamp, update::Update},
    intake::NotAccepted,
};

/// Where the updates of one request pass, in their order.
pub struct Gate<'a> {
    wire: &'a Wire,
    caller: &'a Caller,
    now: Timestamp,
    /// Set by the first that came too fast: those behind it must not overtake it.
    closed: Option<Duration>,
}

impl<'a> Gate<'a> {
    /// For updates that `caller` sent `now`.
    pub fn new(wire: &'a Wire, caller: &'a Caller, now: Timestamp) -> Self {
        Self { wire, caller, now, closed: None }
    }

    /// Reads an update. `path` is where it stands in the request.
    pub fn read(
        &mut self,
        update: Option<impl Into<Sent>>,
        path: impl Fn() -> String,
    ) -> Result<Update, Refusal> {
        self.pass(self.wire.update(update, self.caller, self.now, path))
    }

    /// Lets an update pass that was read, or not.
    pub fn pass(&mut self, read: Result<Update, Refusal>) -> Result<Update, Refusal> {
        let update = audited(self.caller.client(), read)?;
        self.take().map(|()| update)
    }

    /// Lets the updates of one body pass together, or none of them. They count as one: a rate of
    /// one a second lets in a user and its company.
    pub fn pass_as_one(
        &mut self,
        read: impl IntoIterator<Item = Result<Update, Refusal>>,
    ) -> Result<Vec<Update>, Refusal> {
        let client = self.caller.client();
        let updates = read.into_iter().map(|read| audited(client, read));
        let updates = updates.collect::<Result<_, _>>()?;
        self.take().map(|()| updates)
    }

    fn take(&mut self) -> Result<(), Refusal> {
        let Some(rate) = &self.caller.client().rate else { return Ok(()) };
        if self.closed.is_none() {
            self.closed = rate.take().err();
        }
        match self.closed {
            None => Ok(()),
            Some(retry_after) => Err(Refusal::RateLimited { retry_after }),
        }
    }
}

/// What was asked for beyond what the client may do goes on record.
fn audited<T>(client: &Client, asked: Result<T, Refusal>) -> Result<T, Refusal> {
    if let Err(Refusal::PermissionDenied(violations)) = &asked {
        let field = violations.first().map_or("", |violation| &violation.field);
        audit::permission_refused(&client.name, field);
    }
    asked
}

/// The same; and a refusal is counted, where nobody else counts it.
pub fn on_record<T>(client: &Client, asked: Result<T, Refusal>) -> Result<T, Refusal> {
    if let Err(refusal) = &asked {
        client.tally.refuse(refusal.reason());
    }
    audited(client, asked)
}

/// Takes one of the client's rate.
pub fn take(client: &Client) -> Result<(), Refusal> {
    let taken = client.rate.as_ref().map_or(Ok(()), |rate| rate.take());
    taken.map_err(|retry_after| Refusal::RateLimited { retry_after })
}

/// Waits until the client's rate has room for so many updates, unless the gateway stops.
pub async fn in_turn(
    client: &Client,
    updates: usize,
    stop: &CancellationToken,
) -> Result<(), Refusal> {
    let Some(rate) = &client.rate else { return Ok(()) };
    for _ in 0..updates {
        while let Err(early) = rate.take() {
            let room = clock::sleep_until(Some(clock::now().instant.plus(early)));
            tokio::select! {
                () = room => {}
                () = stop.cancelled() => return Err(NotAccepted::Stopping.into()),
            }
        }
    }
    Ok(())
}
