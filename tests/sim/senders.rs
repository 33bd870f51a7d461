//! Senders with one purpose each.

use userpilot_gateway::domain::update::{ClientId, Lane, Update, Value};

use crate::{
    account::{company, subject_of},
    checker::{Heard, Occurred, Sent},
    process::at_once,
    world::{Halt, World},
};

impl World {
    /// One update of each of so many users, in one commit.
    pub(crate) fn send_one_of_each(&mut self, users: u64) -> Result<(), Halt> {
        let one = |user| {
            let value = Value::Integer(i64::try_from(user).unwrap_or(i64::MAX));
            let occurred = Occurred::WhenAccepted;
            let update = Update {
                app: self.process.ledger.app,
                client: ClientId(0),
                subject: subject_of(user),
                company_id: None,
                properties: vec![("p0".to_owned(), value)],
                occurred_at: None,
                lane: Lane::Interactive,
            };
            let (properties, heard) = (vec![0], Heard::Nothing);
            (Sent { user, value: user, properties, occurred, heard, group: 0 }, update)
        };
        let (sent, updates): (Vec<Sent>, Vec<Update>) = (0..users).map(one).unzip();
        let wall = self.now().wall;
        let outcomes = at_once(self.process.ledger.queue.get_mut().accept(updates, wall));
        self.hear(sent, &outcomes)
    }

    /// Somebody sends what upstream takes, of users and of companies, as somebody always does:
    /// where it has refused a few rows and taken none, the gateway waits for that.
    pub(crate) fn send_something_good(&mut self) -> Result<(), Halt> {
        let first = self.checker.sent.len() as u64;
        let (sent, updates): (Vec<Sent>, Vec<Update>) =
            (first..first + 4).map(|number| self.make_of_nobody(number)).unzip();
        let wall = self.now().wall;
        let outcomes = at_once(self.process.ledger.queue.get_mut().accept(updates, wall));
        self.hear(sent, &outcomes)
    }

    /// An update of a user or a company of which there is no other. Of four in a row, two are of
    /// each, and one of these two is good.
    fn make_of_nobody(&mut self, number: u64) -> (Sent, Update) {
        let user = self.scenario.subjects + number;
        self.make_of(
            if (number / 2).is_multiple_of(2) { user } else { company(user) },
            number,
            number,
        )
    }
}
