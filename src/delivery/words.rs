//! Words of upstream's for the state of a job that its documents do not name: each is logged once.

use std::collections::BTreeSet;

use crate::domain::{
    lifecycle::Event,
    verdict::{JobReport, is_known_status},
};

/// More are not told: whoever invents so many says nothing by them.
const WORDS_MAX: usize = 20;

/// The words that were met.
#[derive(Debug, Default)]
pub(super) struct Words(BTreeSet<String>);

impl Words {
    /// Those in `event` that are new.
    pub(super) fn news(&mut self, event: &Event) -> Vec<String> {
        let jobs: &[JobReport] = match event {
            Event::Looked(Ok(jobs)) => jobs,
            Event::Polled(Ok(job)) => std::slice::from_ref(job),
            Event::Looked(Err(_))
            | Event::Polled(Err(_))
            | Event::Submitted(_)
            | Event::Waiting(_)
            | Event::Claimed(_)
            | Event::Advanced
            | Event::Settled(_)
            | Event::KeyChanged
            | Event::Paused(_)
            | Event::Flush => &[],
        };
        let words = jobs.iter().map(|job| &job.status);
        let unknown = words.filter(|word| !word.is_empty() && !is_known_status(word));
        let mut news = Vec::new();
        for word in unknown {
            if self.0.len() < WORDS_MAX && self.0.insert(word.clone()) {
                news.push(word.clone());
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::JobPhase;

    fn job(status: &str) -> JobReport {
        JobReport {
            job_id: "j".into(),
            filename: None,
            phase: JobPhase::Unfinished,
            status: status.into(),
            total_rows: None,
            completed_rows: None,
        }
    }

    #[test]
    fn a_status_that_nobody_knows_is_told_once() {
        let mut words = Words::default();
        let listed = ["queued", "cancelled", "", "pending_refresh", "cancelled"].map(job);
        assert_eq!(words.news(&Event::Looked(Ok(listed.to_vec()))), ["cancelled"]);
        assert_eq!(words.news(&Event::Looked(Ok(listed.to_vec()))), [""; 0]);
        assert_eq!(words.news(&Event::Polled(Ok(job("paused")))), ["paused"]);
        let told = (0..99).map(|n| words.news(&Event::Polled(Ok(job(&format!("{n}"))))).len());
        assert_eq!(told.sum::<usize>(), WORDS_MAX - 2);
    }
}
