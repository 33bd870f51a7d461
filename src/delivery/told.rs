//! What the gateway that delivers an app tells the others of it, where several share a store. It
//! holds no words of upstream's, which may quote a record.

use serde::{Deserialize, Serialize};

use crate::domain::{
    batch::Batch,
    lifecycle::{Activity, View},
    time::{Instant, Now, Timestamp},
    update::ByKind,
};

/// What is told of an app's delivery. Other versions may tell more or less.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Which gateway tells it.
    pub replica: String,
    activity: Activity,
    held: Option<String>,
    batch: Option<Batch>,
    occupied_until: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    in_doubt_until: Option<Timestamp>,
    halted: ByKind<bool>,
    failures_in_a_row: u32,
    last_cause: String,
    failing_since: Option<Timestamp>,
    rescued_at: Option<Timestamp>,
    job_users: ByKind<u64>,
}

impl Told {
    /// What `replica` tells of what its driver shows.
    pub fn of(replica: &str, view: &View, now: Now) -> Self {
        let wall = |at: Instant| (at > now.instant).then(|| now.wall.plus(at.since(now.instant)));
        Self {
            replica: replica.to_owned(),
            activity: view.activity,
            held: view.held.clone(),
            batch: view.batch.clone().map(Batch::in_our_words),
            occupied_until: wall(view.occupied_until),
            retry_at: view.retry_at.and_then(wall),
            in_doubt_until: view.in_doubt_until.and_then(wall),
            halted: view.halted,
            failures_in_a_row: view.failures_in_a_row,
            last_cause: view.last_cause.clone(),
            failing_since: view.failing_since,
            rescued_at: view.rescued_at,
            job_users: view.job_users,
        }
    }

    /// As bytes that other gateways read.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was told; nothing where that cannot be read.
    pub fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Who has only just begun has told nothing yet, its name neither.
    #[must_use]
    pub fn by_somebody(mut self) -> Self {
        if self.replica.is_empty() {
            "another replica".clone_into(&mut self.replica);
        }
        self
    }

    /// As operators see it now. What is counted, its own gateway counts.
    pub fn view(&self, now: Now) -> View {
        let instant = |at: Timestamp| now.instant.plus(at.since(now.wall));
        let told = self.clone();
        View {
            activity: told.activity,
            held: told.held,
            batch: told.batch,
            occupied_until: told.occupied_until.map(instant).unwrap_or_default(),
            retry_at: told.retry_at.map(instant),
            in_doubt_until: told.in_doubt_until.map(instant),
            halted: told.halted,
            failures_in_a_row: told.failures_in_a_row,
            last_error: told.last_cause.clone(),
            last_cause: told.last_cause,
            failing_since: told.failing_since,
            rescued_at: told.rescued_at,
            job_users: told.job_users,
            ..View::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::testing::now;

    #[test]
    fn what_is_told_is_seen_elsewhere_without_upstreams_words() {
        let here = now(100, 1_000);
        let view = View {
            activity: Activity::BackingOff,
            occupied_until: here.instant.plus(Duration::from_secs(30)),
            failures_in_a_row: 2,
            last_error: "422: ssn 078".into(),
            last_cause: "422".into(),
            ..View::default()
        };
        let bytes = Told::of("a", &view, here).encode();
        assert!(!String::from_utf8(bytes.clone()).unwrap().contains("078"));
        // Ten seconds later, by another machine's clock.
        let there = now(7, 1_010);
        let told = Told::decode(&bytes);
        let seen = told.view(there);
        assert_eq!((told.replica.as_str(), seen.activity), ("a", Activity::BackingOff));
        assert_eq!(seen.occupied_until.since(there.instant), Duration::from_secs(20));
        assert_eq!((seen.failures_in_a_row, &*seen.last_error), (2, "422"));
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_nothing() {
        assert_eq!(Told::decode(b"\xff"), Told::default());
        assert_eq!(Told::decode(b"{\"replica\":\"a\",\"new\":1}").replica, "a");
    }
}
