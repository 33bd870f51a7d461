//! The way in for the updates of one request: read, permitted, and within the client's rate.

use std::time::Duration;

use super::{caller::Caller, refusal::Refusal, sent::Sent, wire::Wire};
use crate::{
    audit,
    domain::{time::Timestamp, update::Update},
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
        let client = self.caller.client();
        if let Err(Refusal::PermissionDenied(violations)) = &read {
            let field = violations.first().map_or("", |violation| &violation.field);
            audit::permission_refused(&client.name, field);
        }
        let update = read?;
        let Some(rate) = &client.rate else { return Ok(update) };
        if self.closed.is_none() {
            self.closed = rate.take().err();
        }
        match self.closed {
            None => Ok(update),
            Some(retry_after) => Err(Refusal::RateLimited { retry_after }),
        }
    }
}
