//! The proof: what Userpilot holds in the end, against what the services sent.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use prost_types::value::Kind;
use serde_json::Value;

use super::services::Sent;
use crate::{admin::status::AppStatus, cli::output::printable, simulator::RunningSimulator};

/// What was counted and compared.
pub(super) struct Proof {
    accepted: usize,
    coalesced: u64,
    delivered_rows: u64,
    jobs: usize,
    profiles: usize,
    profiles_equal: usize,
    profiles_expected: usize,
    conflicts: u64,
    violations: u64,
}

type Profile = (Option<String>, BTreeMap<String, Value>);

impl Proof {
    pub(super) fn new(sent: Vec<Sent>, app: &AppStatus, simulator: &RunningSimulator) -> Self {
        let snapshot = simulator.snapshot();
        let accepted = sent.len();
        let expected = apply_in_order(sent);
        let found: BTreeMap<String, Profile> = simulator
            .profiles()
            .into_iter()
            .map(|(user, profile)| {
                (user, (profile.company_id, profile.metadata.into_iter().collect()))
            })
            .collect();
        let equal = expected.iter().filter(|(user, profile)| found.get(*user) == Some(profile));
        Self {
            accepted,
            coalesced: app.updates.1,
            delivered_rows: app.view.delivered_rows,
            jobs: snapshot.jobs.len(),
            profiles: found.len(),
            profiles_equal: equal.count(),
            profiles_expected: expected.len(),
            conflicts: snapshot.conflicts,
            violations: snapshot.violations_total,
        }
    }

    /// Whether nothing was lost, doubled, reordered or against the rules.
    pub(super) fn holds(&self) -> bool {
        self.something_happened()
            && self.profiles_equal == self.profiles_expected
            && self.profiles == self.profiles_expected
            && self.conflicts == 0
            && self.violations == 0
    }

    /// Of nothing everything is true.
    fn something_happened(&self) -> bool {
        self.accepted > 0 && self.jobs > 0
    }

    pub(super) fn print(&self, directory: &Path) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let tick = |holds: bool| if holds { "ok  " } else { "FAIL" };
        writeln!(out, "\nThe proof")?;
        writeln!(
            out,
            "  {}  {} updates accepted, each on disk before it was answered",
            tick(self.accepted > 0),
            self.accepted
        )?;
        writeln!(out, "  ok    {} of them coalesced with one that was waiting", self.coalesced)?;
        writeln!(
            out,
            "  {}  {} rows delivered by {} jobs; sent one by one it had been {} rows",
            tick(self.jobs > 0),
            self.delivered_rows,
            self.jobs,
            self.accepted
        )?;
        writeln!(
            out,
            "  {}  {} of {} profiles equal all updates applied in order",
            tick(
                self.profiles_equal == self.profiles_expected
                    && self.profiles == self.profiles_expected
            ),
            self.profiles_equal,
            self.profiles_expected
        )?;
        writeln!(
            out,
            "  {}  {} conflicts (a job submitted while another ran)",
            tick(self.conflicts == 0),
            self.conflicts
        )?;
        writeln!(
            out,
            "  {}  {} violations of Userpilot's rules (budget, overlap, a user twice in a job, size)",
            tick(self.violations == 0),
            self.violations
        )?;
        let directory = printable(&directory.display().to_string());
        writeln!(out, "\nConfiguration, store and log are in {directory}.")
    }
}

/// What applying every update in order gives.
fn apply_in_order(sent: Vec<Sent>) -> BTreeMap<String, Profile> {
    let mut profiles: BTreeMap<String, Profile> = BTreeMap::new();
    for Sent { update, .. } in sent {
        let profile = profiles.entry(update.user_id).or_default();
        profile.0 = update.company_id.or_else(|| profile.0.take());
        for (name, value) in update.metadata.unwrap_or_default().fields {
            profile.1.insert(name, json(value.kind));
        }
    }
    profiles
}

fn json(kind: Option<Kind>) -> Value {
    match kind {
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 => (value as i64).into(),
        Some(Kind::NumberValue(value)) => value.into(),
        Some(Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_of_nothing_does_not_hold() {
        let proof = |accepted, jobs| Proof {
            accepted,
            coalesced: 0,
            delivered_rows: 0,
            jobs,
            profiles: 0,
            profiles_equal: 0,
            profiles_expected: 0,
            conflicts: 0,
            violations: 0,
        };
        assert!(proof(1, 1).holds());
        for (accepted, jobs) in [(0, 0), (0, 1), (1, 0)] {
            assert!(!proof(accepted, jobs).holds());
        }
    }
}
