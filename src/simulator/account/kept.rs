//! The account as the events that made it: what is kept of it, and how it comes back.

use super::{Account, Event};

impl Account {
    /// Brings about what was kept, and keeps what comes from now on. Whether the client heard of
    /// a job is certain only where it asked for it.
    pub(in crate::simulator) fn restore(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Submitted => self.submissions += 1,
                Event::Conflicted => self.conflicts += 1,
                Event::Started(job) => {
                    self.advance(job.accepted);
                    // The next id must be another.
                    self.ids.job_id();
                    let id = job.id.clone();
                    self.begin(job);
                    self.mark_unheard(&id);
                }
                Event::Asked { job_id } => drop(self.tell_of(&job_id)),
                Event::Unheard { job_id } => self.mark_unheard(&job_id),
                Event::Forgotten { job_id } => self.forget(&job_id),
                Event::Identified { at, rows } => self.identify(at, rows),
                Event::Tracked => self.track(),
                Event::Violated { rule, at, detail } => self.violate(rule, at, detail),
            }
        }
        self.events = Some(Vec::new());
    }

    /// What has changed since this was last asked.
    pub(in crate::simulator) fn take_events(&mut self) -> Vec<Event> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::simulator::config::SimulatorConfig;
    use crate::simulator::faults::JobFate;
    use crate::simulator::jobs::Submission;
    use crate::simulator::profiles::{Row, Subjects};
    use crate::simulator::refusal::Refusal;
    use crate::simulator::snapshot::Snapshot;

    fn submission(subjects: &[&str], value: u64) -> Submission {
        let row = |subject: &&str| Row {
            subject: (*subject).to_owned(),
            company_id: Some("acme".to_owned()),
            metadata: [("value".to_owned(), json!(value))].into(),
        };
        Submission {
            subjects: Subjects::Users,
            rows: subjects.iter().map(row).collect(),
            file: None,
        }
    }

    /// A life with a bit of everything; says when it ends.
    fn live(account: &mut Account) -> Duration {
        let at = |ms| Duration::from_secs(1_000) + Duration::from_millis(ms);
        let mut submit = |ms, submission, fate: &JobFate| {
            let submission = account.admit(at(ms), Ok(submission))?;
            Ok::<_, Refusal>(account.start(at(ms), submission, fate).id.clone())
        };
        let first = submit(0, submission(&["ada", "bob", "ada"], 1), &JobFate::default());
        assert_eq!(
            submit(10, submission(&["cyd"], 2), &JobFate::default()),
            Err(Refusal::SlotTaken)
        );
        let fails = JobFate { fails_after: Some(1), ..JobFate::default() };
        submit(2_101, submission(&["bob", "cyd"], 3), &fails).unwrap();
        let partial = JobFate { skip_last: 1, ..JobFate::default() };
        let last = submit(9_000, submission(&["cyd", "dan"], 4), &partial).unwrap();
        account.tell_of(&first.unwrap()).unwrap();
        account.mark_unheard(&last);
        account.identify(
            at(9_100),
            submission(&["cyd"], 5).rows.into_iter().map(|row| (Subjects::Users, row)).collect(),
        );
        account.track();
        account.start_foreign(at(20_000), 7, Some("theirs".to_owned())).unwrap();
        account.forget(&last);
        at(20_500)
    }

    #[test]
    fn the_same_events_make_the_same_account() {
        let config = SimulatorConfig::default();
        let mut account = Account::new(&config);
        account.restore(Vec::new());
        let now = live(&mut account);
        let mut events = account.take_events();
        assert!(account.take_events().is_empty());
        // As the journal reads them.
        let text = serde_json::to_string(&events).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Event>>(&text).unwrap(), events);

        for cut in [events.len(), events.len() / 2, 0] {
            // With any number of deaths in between.
            let late = events.split_off(cut);
            let mut again = Account::new(&config);
            again.restore(events.clone());
            events.extend(late.clone());
            again.restore(late);
            again.advance(now);
            account.advance(now);
            assert_eq!(Snapshot::of(&again, now), Snapshot::of(&account, now));
            assert_eq!(again.profiles.users, account.profiles.users);
            assert_eq!(again.occupied_until, account.occupied_until);
            let ids = |account: &mut Account| account.ids.job_id();
            let next = ids(&mut again);
            assert!(account.jobs.iter().all(|job| job.id != next), "an id comes twice");
        }
    }

    #[test]
    fn a_job_that_was_never_asked_for_may_be_unheard_of_after_a_restart() {
        let mut account = Account::new(&SimulatorConfig::default());
        account.restore(Vec::new());
        let now = Duration::from_secs(1_000);
        let submission = account.admit(now, Ok(submission(&["ada"], 1))).unwrap();
        let id = account.start(now, submission, &JobFate::default()).id.clone();
        let events = account.take_events();
        let unheard = |events: Vec<Event>| {
            let mut again = Account::new(&SimulatorConfig::default());
            again.restore(events);
            again.jobs[0].unheard
        };
        assert!(unheard(events.clone()));
        account.tell_of(&id).unwrap();
        account.tell_of(&id).unwrap();
        let asked = account.take_events();
        assert_eq!(asked, [Event::Asked { job_id: id }], "told once");
        assert!(!unheard([events, asked].concat()));
    }
}
