//! The account: one bulk job at a time, at its own pace; beside it so many requests a minute; and
//! away now and then.

use std::{collections::VecDeque, ops::Range, time::Duration};

use crate::domain::budget::occupancy;

const MINUTE: Duration = Duration::from_secs(60);

/// How the account works.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How many rows it applies in a minute.
    pub users_per_minute: u32,
    /// What a job takes besides its rows: half of it before them, half of it after.
    pub fixed_cost: Duration,
    /// How long a request takes until it is answered.
    pub round_trip: Duration,
    /// The same of one to the real-time endpoint, which by then has applied it.
    pub express_round_trip: Duration,
    /// How many of these it takes in any minute.
    pub express_per_minute: u32,
    /// While any of these lasts, no request arrives. A job that runs goes on.
    pub outages: Vec<Range<Duration>>,
}

impl Pace {
    /// Whether no request arrives at this time.
    pub fn is_down(&self, now: Duration) -> bool {
        self.outages.iter().any(|outage| outage.contains(&now))
    }

    /// Whether that is so at some time between these.
    pub fn is_down_between(&self, from: Duration, to: Duration) -> bool {
        self.outages.iter().any(|outage| outage.start < to && outage.end > from)
    }
}

/// The account as it stands.
#[derive(Clone, Debug)]
pub struct Account {
    pace: Pace,
    last: Option<Job>,
    jobs: u64,
    conflicts: u64,
    early: u64,
    /// When the express requests of the last minute were taken.
    express: VecDeque<Duration>,
    throttled: u64,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is a job now.
    Taken(Job),
    /// Another job runs.
    Conflict,
    /// It did not arrive.
    Down,
}

/// What became of an express request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressAnswer {
    /// It is applied by the time that this is heard.
    Applied,
    /// There were too many: come back after so long.
    Throttled(Duration),
    /// It did not arrive.
    Down,
}

/// A job that was taken. From then on all its moments are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number, from 1.
    pub number: u64,
    /// How many rows it has.
    pub rows: u64,
    /// When it was taken.
    pub taken_at: Duration,
    /// When it is over.
    pub ends_at: Duration,
    first_row_from: Duration,
    users_per_minute: u32,
}

impl Account {
    /// An account that has had no job.
    pub fn new(pace: Pace) -> Self {
        let express = VecDeque::new();
        Self { pace, last: None, jobs: 0, conflicts: 0, early: 0, express, throttled: 0 }
    }

    /// How it works.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// A job of so many rows is submitted.
    pub fn submit(&mut self, rows: u64, now: Duration) -> Answer {
        if self.pace.is_down(now) {
            return Answer::Down;
        }
        if let Some(last) = &self.last {
            if last.ends_at > now {
                self.conflicts += 1;
                return Answer::Conflict;
            }
            self.early += u64::from(last.taken_at + last.occupancy() > now);
        }
        self.jobs += 1;
        let first_row_from = now + self.pace.fixed_cost / 2;
        let users_per_minute = self.pace.users_per_minute;
        let ends_at = first_row_from + occupancy(rows, users_per_minute) + self.pace.fixed_cost / 2;
        let job = Job {
            number: self.jobs,
            rows,
            taken_at: now,
            ends_at,
            first_row_from,
            users_per_minute,
        };
        self.last = Some(job);
        Answer::Taken(job)
    }

    /// An express request of one row arrives.
    pub fn identify(&mut self, now: Duration) -> ExpressAnswer {
        if self.pace.is_down(now) {
            return ExpressAnswer::Down;
        }
        while self.express.front().is_some_and(|first| *first + MINUTE <= now) {
            self.express.pop_front();
        }
        if self.express.len() >= self.pace.express_per_minute as usize {
            self.throttled += 1;
            let first = self.express.front().copied().unwrap_or(now);
            return ExpressAnswer::Throttled(first + MINUTE - now);
        }
        self.express.push_back(now);
        ExpressAnswer::Applied
    }

    /// Express requests that were too many.
    pub fn throttled(&self) -> u64 {
        self.throttled
    }

    /// The last job that was taken.
    pub fn last(&self) -> Option<&Job> {
        self.last.as_ref()
    }

    /// Submissions that found another job running.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Submissions that were taken before the last job's occupancy had passed.
    pub fn early(&self) -> u64 {
        self.early
    }
}

impl Job {
    /// When the row at this place, from 0, is applied.
    pub fn applied_at(&self, place: u64) -> Duration {
        self.first_row_from + occupancy(place + 1, self.users_per_minute)
    }

    /// For how long it occupies the budget.
    pub fn occupancy(&self) -> Duration {
        occupancy(self.rows, self.users_per_minute)
    }
}
