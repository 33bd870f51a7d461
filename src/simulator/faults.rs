//! The switch for faults: which armed rules strike a request, a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault_rule::{Effect, Fault, FaultPoint, FaultRule, InvalidRule};
use super::random::Random;

/// How many rules can be armed.
const RULES_MAX: usize = 1_000;

/// A rule and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmedRule {
    /// The rule.
    #[serde(flatten)]
    pub rule: FaultRule,
    /// How many requests it let pass on account of `skip`.
    pub passed: u64,
    /// How many requests it struck.
    pub struck: u64,
}

impl ArmedRule {
    fn strikes(&mut self, random: &mut Random) -> bool {
        if self.rule.times.is_some_and(|times| self.struck >= times) {
            return false;
        }
        if self.passed < self.rule.skip {
            self.passed += 1;
            return false;
        }
        let strikes = random.chance(self.rule.probability);
        self.struck += u64::from(strikes);
        strikes
    }
}

/// What the rules do to one request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Strike {
    pub(super) delay: Duration,
    pub(super) answer: Option<Fault>,
}

/// What the rules do to one accepted job.
#[derive(Debug, Default, PartialEq)]
pub(super) struct JobFate {
    pub(super) fails_after: Option<usize>,
    pub(super) skip_last: usize,
    pub(super) forgotten: bool,
}

/// All armed rules, in the order in which they were armed.
pub(super) struct Faults {
    armed: Vec<ArmedRule>,
    random: Random,
}

impl Faults {
    pub(super) fn new(random: Random) -> Self {
        Self { armed: Vec::new(), random }
    }

    /// Arms all of them or, when one is invalid, none.
    pub(super) fn arm(&mut self, rules: Vec<FaultRule>) -> Result<(), InvalidRule> {
        if self.armed.len() + rules.len() > RULES_MAX {
            return Err(InvalidRule::TooMany { rules_max: RULES_MAX });
        }
        rules.iter().try_for_each(FaultRule::check)?;
        self.armed.extend(rules.into_iter().map(|rule| ArmedRule { rule, passed: 0, struck: 0 }));
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn armed(&self) -> Vec<ArmedRule> {
        self.armed.clone()
    }

    /// Delays add up; the first rule that decides the answer ends the search, and the rules
    /// after it are not asked. `None` is a request of no known kind.
    pub(super) fn strike(&mut self, point: Option<FaultPoint>) -> Strike {
        let mut strike = Strike::default();
        let point = point.unwrap_or(FaultPoint::Any);
        for armed in &mut self.armed {
            let of_request = matches!(armed.rule.fault.effect(), Effect::Wait | Effect::Answer);
            if !of_request || !armed.rule.on.covers(point) || !armed.strikes(&mut self.random) {
                continue;
            }
            if let Fault::Delay { ms } = armed.rule.fault {
                strike.delay += Duration::from_millis(ms);
            } else {
                strike.answer = Some(armed.rule.fault.clone());
                break;
            }
        }
        strike
    }

    /// To be asked only for a job that is accepted, so that no rule is spent on a refusal.
    pub(super) fn fate_of_accepted_job(&mut self) -> JobFate {
        let mut fate = JobFate::default();
        for armed in &mut self.armed {
            let of_job =
                matches!(armed.rule.fault.effect(), Effect::AcceptedJob | Effect::KnownJob);
            if !of_job
                || !armed.rule.on.covers(FaultPoint::Submit)
                || !armed.strikes(&mut self.random)
            {
                continue;
            }
            if let Fault::FailJob { rows } = armed.rule.fault {
                fate.fails_after = Some(fate.fails_after.map_or(rows, |least| least.min(rows)));
            }
            if let Fault::PartialJob { skip_rows } = armed.rule.fault {
                fate.skip_last = fate.skip_last.max(skip_rows);
            }
            fate.forgotten |= armed.rule.fault == Fault::ForgetJob;
        }
        fate
    }

    /// How much of the list is shown, if not all: how many jobs, and whether the oldest first.
    pub(super) fn page(&mut self) -> Option<(usize, bool)> {
        let random = &mut self.random;
        self.armed.iter_mut().find_map(|armed| {
            let Fault::Page { jobs, oldest_first } = armed.rule.fault else { return None };
            let of_lists = armed.rule.on.covers(FaultPoint::Jobs);
            (of_lists && armed.strikes(random)).then_some((jobs, oldest_first))
        })
    }

    /// Whether the job that is asked for is to be forgotten. To be asked only for one that is
    /// known.
    pub(super) fn forgets_known_job(&mut self) -> bool {
        let mut forgets = false;
        for armed in &mut self.armed {
            if armed.rule.fault.effect() == Effect::KnownJob
                && armed.rule.on.covers(FaultPoint::Job)
            {
                forgets |= armed.strikes(&mut self.random);
            }
        }
        forgets
    }
}

#[cfg(test)]
mod tests;
