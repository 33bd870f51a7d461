//! Operators who have users and companies forgotten.

use crate::{
    account::{company, subject_of},
    process::at_once,
    sabotage::Sabotage,
    world::{Halt, World},
};

impl World {
    /// An operator has a user or a company forgotten, whatever of it is where.
    pub(crate) fn forget(&mut self) -> Result<(), Halt> {
        let number = self.whim.below(self.scenario.subjects);
        let number = if self.whim.below(3) == 0 { company(number) } else { number };
        let subject = subject_of(number);
        self.say(|| format!("forget {subject:?}"));
        let (app, now) = (self.process.ledger.app, self.now().wall);
        if self.scenario.sabotage == Some(Sabotage::ForgetNobody) {
            self.checker.forgot(number, true);
            return Ok(());
        }
        let queue = self.process.ledger.queue.get_mut();
        let Ok(forgotten) = at_once(queue.forget(app, &subject, now)) else {
            self.checker.forgot(number, false);
            return Err(Halt::Died);
        };
        self.checker.forgot(number, true);
        let mut from = None;
        loop {
            let queue = self.process.ledger.queue.get_mut();
            let swept = at_once(queue.sweep(app, &subject, forgotten.up_to, from));
            from = swept.map_err(|_| Halt::Died)?.next;
            if from.is_none() {
                break;
            }
        }
        let traces = at_once(self.process.ledger.reads.traces(app, &subject, forgotten.up_to));
        let traces = traces.map_err(|error| Halt::Broken(format!("no scan: {error}")))?;
        self.say(|| format!("  {forgotten:?} {traces:?}"));
        match (traces.left, traces.until_settled <= forgotten.in_flight) {
            (0, true) => Ok(()),
            _ => Err(Halt::Broken(format!("{subject:?} is forgotten, and there are {traces:?}"))),
        }
    }
}
