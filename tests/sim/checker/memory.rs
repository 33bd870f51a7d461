//! What the gateway says that upstream holds already, and what comes of that.

use std::time::Duration;

use super::{Checker, Heard, Occurred, Sent, Verdict};
use crate::account::{Row, Write};

impl Checker {
    /// The values of a row were said to be delivered, or were about to be.
    pub(crate) fn settled(&mut self, row: &Row, now: Duration) {
        for (property, _) in &row.writes {
            self.settled_at.insert((row.user, *property), now);
        }
    }

    /// A client was told that upstream holds an update's values: not for longer than that counts.
    pub(crate) fn unchanged(&self, sent: &Sent, now: Duration) -> Verdict {
        // What came too late did so however long ago.
        let timed = self.timed.contains(&sent.user) || sent.occurred != Occurred::WhenAccepted;
        let Some(refresh_after) = self.refresh_after.filter(|_| !timed) else { return Ok(()) };
        for property in &sent.properties {
            let at = self.settled_at.get(&(sent.user, *property));
            if at.is_none_or(|at| now.saturating_sub(*at) > refresh_after) {
                let user = sent.user;
                return Err(format!("u{user}.p{property} was delivered at {at:?}: too long ago"));
            }
        }
        Ok(())
    }

    /// Where updates say when they occurred, the last of these is what stays, if the gateway
    /// remembers all that it delivered, and nothing of the user died.
    pub(super) fn check_timed(&self, (user, property): Write, value: Option<u64>) -> Verdict {
        let of_user = || (0..).zip(&self.sent).filter(move |(_, sent)| sent.user == user);
        let died = |number: u64| self.died.contains(&number) || self.dead.contains(&number);
        if !self.remembers_well || of_user().any(|(number, _)| died(number)) {
            return Ok(());
        }
        let stamp = |(number, sent): &(u64, &Sent)| (sent.occurred, *number);
        let of_property = || of_user().filter(|(_, sent)| sent.properties.contains(&property));
        let owed = of_property().filter(|(number, sent)| self.is_owed(*number, sent));
        let Some(last) = owed.max_by_key(stamp) else { return Ok(()) };
        let is_right = of_property()
            .filter(|other| stamp(other) >= stamp(&last))
            .filter(|(number, sent)| *number == last.0 || sent.heard == Heard::Nothing)
            .any(|(_, sent)| Some(sent.value) == value);
        match is_right {
            true => Ok(()),
            false => Err(format!("u{user}.p{property} is {value:?}, and {} occurred last", last.0)),
        }
    }
}
