//! Who sends what, and when.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Duration, vec};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp, Zipf};

use crate::domain::{turns::Weight, update::Lane};

/// Somebody who sends.
#[derive(Clone, Debug)]
pub struct Source {
    /// The client that it is: clients take turns.
    pub client: String,
    /// How many rows that takes in its turn.
    pub weight: Weight,
    /// Under which name its freshness is told: many sources may share one.
    pub class: String,
    /// How urgent its updates are.
    pub lane: Lane,
    /// What it sends.
    pub sends: Sends,
}

/// What a source sends.
#[derive(Clone, Debug)]
pub enum Sends {
    /// Updates one by one, at random times.
    Flow {
        /// How many come in a second, on average.
        updates_per_second: f64,
        /// About whom.
        users: Users,
        /// From when until when.
        during: Range<Duration>,
    },
    /// An update of each of these users, all at once.
    Backfill {
        /// When.
        at: Duration,
        /// The numbers of the users.
        users: Range<u32>,
    },
    /// The same, of which only a share says anything new.
    Resync {
        /// When.
        at: Duration,
        /// The numbers of the users.
        users: Range<u32>,
        /// The share.
        changed: f64,
    },
    /// What was recorded: when, and about whom, in the order of time.
    Recorded(Vec<(Duration, u32)>),
}

/// Whom a flow is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    /// The numbers of the users.
    pub numbers: Range<u32>,
    /// Who of them is updated more often than others.
    pub choice: Choice,
}

/// Who is updated more often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// Nobody.
    Uniform,
    /// The lower its number, by Zipf's law with this exponent.
    Zipf(f64),
    /// A share of the users gets a share of the updates.
    Hot {
        /// The share of the users.
        users: f64,
        /// What these get.
        updates: f64,
    },
}

/// An update that comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When.
    pub at: Duration,
    /// From which source, by its place in the list.
    pub source: usize,
    /// About which user.
    pub user: u32,
    /// The value that it sets. 0 is what the user has had from the beginning.
    pub value: i64,
}

/// All that comes, in the order of time.
pub struct Arrivals {
    streams: Vec<Stream>,
    /// The next of each stream: when, from which, about whom, and whether it says anything new.
    ahead: BinaryHeap<Reverse<(Duration, usize, u32, bool)>>,
    values: i64,
}

enum Stream {
    Flow { gaps: Option<Exp<f64>>, pick: Pick, at: f64, until: f64, random: StdRng },
    All { at: Duration, users: Range<u32>, changed: f64, random: StdRng },
    Recorded(vec::IntoIter<(Duration, u32)>),
}

struct Pick {
    users: Range<u32>,
    choice: Choice,
    zipf: Option<Zipf<f64>>,
}

impl Arrivals {
    /// What these sources send. The seed decides every chance.
    pub fn new(sources: &[Source], seed: u64) -> Self {
        let stream = |(index, source): (usize, &Source)| {
            // A stream of its own for each, so that one source does not shift the others.
            let salt = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Stream::new(&source.sends, StdRng::seed_from_u64(seed ^ salt))
        };
        let streams = sources.iter().enumerate().map(stream).collect();
        let mut arrivals = Self { streams, ahead: BinaryHeap::new(), values: 0 };
        for index in 0..arrivals.streams.len() {
            arrivals.look_ahead(index);
        }
        arrivals
    }

    /// When the next update of one of these sources comes, if one does.
    pub fn next_of(&self, sources: impl Fn(usize) -> bool) -> Option<Duration> {
        let ahead = self.ahead.iter().filter(|Reverse((_, source, ..))| sources(*source));
        ahead.map(|Reverse((at, ..))| *at).min()
    }

    /// When the next update comes, if one does.
    pub fn next_at(&self) -> Option<Duration> {
        self.ahead.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next update, if one comes until then.
    pub fn next_until(&mut self, until: Duration) -> Option<Arrival> {
        self.next_at().filter(|at| *at <= until)?;
        let Reverse((at, source, user, changed)) = self.ahead.pop()?;
        self.look_ahead(source);
        self.values += i64::from(changed);
        Some(Arrival { at, source, user, value: if changed { self.values } else { 0 } })
    }

    fn look_ahead(&mut self, source: usize) {
        if let Some((at, user, changed)) = self.streams[source].next() {
            self.ahead.push(Reverse((at, source, user, changed)));
        }
    }
}

impl Stream {
    fn new(sends: &Sends, random: StdRng) -> Self {
        match sends.clone() {
            Sends::Flow { updates_per_second, users, during } => Self::Flow {
                gaps: Exp::new(updates_per_second).ok().filter(|_| updates_per_second > 0.0),
                pick: Pick::new(users),
                at: during.start.as_secs_f64(),
                until: during.end.as_secs_f64(),
                random,
            },
            Sends::Backfill { at, users } => Self::All { at, users, changed: 1.0, random },
            Sends::Resync { at, users, changed } => Self::All { at, users, changed, random },
            Sends::Recorded(updates) => Self::Recorded(updates.into_iter()),
        }
    }

    fn next(&mut self) -> Option<(Duration, u32, bool)> {
        match self {
            Self::Flow { gaps, pick, at, until, random } => {
                *at += gaps.as_ref()?.sample(random);
                (*at < *until).then(|| (Duration::from_secs_f64(*at), pick.one(random), true))
            }
            Self::All { at, users, changed, random } => {
                let user = users.next()?;
                Some((*at, user, random.random::<f64>() < *changed))
            }
            Self::Recorded(updates) => updates.next().map(|(at, user)| (at, user, true)),
        }
    }
}

impl Pick {
    fn new(users: Users) -> Self {
        let Users { numbers, choice } = users;
        let zipf = match choice {
            Choice::Zipf(exponent) => Zipf::new(numbers.len() as f64, exponent).ok(),
            Choice::Uniform | Choice::Hot { .. } => None,
        };
        Self { users: numbers, choice, zipf }
    }

    fn one(&self, random: &mut StdRng) -> u32 {
        let Range { start, end } = self.users.clone();
        if end <= start + 1 {
            return start;
        }
        match (self.choice, &self.zipf) {
            (Choice::Zipf(_), Some(zipf)) => start + whole(zipf.sample(random) - 1.0, end - start),
            (Choice::Hot { users, updates }, _) => {
                let hot = whole(f64::from(end - start) * users, end - start).max(1);
                match random.random::<f64>() < updates {
                    true => start + random.random_range(0..hot),
                    false => random.random_range((start + hot).min(end - 1)..end),
                }
            }
            (Choice::Uniform | Choice::Zipf(_), _) => random.random_range(start..end),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among so many, and what is outside saturates"
)]
fn whole(number: f64, below: u32) -> u32 {
    (number as u32).min(below - 1)
}

/// 64 random bits a call, for the backoff of whoever is simulated.
pub fn bits(random: &mut StdRng) -> u64 {
    random.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(sends: Sends) -> Source {
        let name = || "crm".to_owned();
        Source { client: name(), weight: 1, class: name(), lane: Lane::Interactive, sends }
    }

    fn all(sources: &[Source], seed: u64) -> Vec<Arrival> {
        let mut arrivals = Arrivals::new(sources, seed);
        std::iter::from_fn(|| arrivals.next_until(Duration::MAX)).collect()
    }

    fn flow(choice: Choice) -> Source {
        source(Sends::Flow {
            updates_per_second: 50.0,
            users: Users { numbers: 100..1_100, choice },
            during: Duration::from_secs(10)..Duration::from_secs(410),
        })
    }

    /// The share of the updates that is of the ten first users.
    fn share_of_ten(choice: Choice) -> f64 {
        let all = all(&[flow(choice)], 7);
        assert!(all.is_sorted_by_key(|arrival| arrival.at));
        assert!(all.iter().all(|arrival| (100..1_100).contains(&arrival.user)));
        assert!(all.iter().all(|arrival| (10..410).contains(&arrival.at.as_secs())));
        assert!((19_400..20_600).contains(&all.len()), "{}", all.len());
        all.iter().filter(|arrival| arrival.user < 110).count() as f64 / all.len() as f64
    }

    #[test]
    fn a_flow_has_its_rate_its_time_and_its_users() {
        assert!((share_of_ten(Choice::Uniform) - 0.01).abs() < 0.005);
        let hot = Choice::Hot { users: 0.01, updates: 0.9 };
        assert!((share_of_ten(hot) - 0.9).abs() < 0.01);
        // The harmonic number of ten over that of a thousand.
        assert!((share_of_ten(Choice::Zipf(1.0)) - 2.929 / 7.485).abs() < 0.02);
    }

    #[test]
    fn of_a_resync_only_a_share_says_anything_new() {
        let at = Duration::from_secs(60);
        let all = all(&[source(Sends::Resync { at, users: 0..10_000, changed: 0.02 })], 7);
        let news = all.iter().filter(|arrival| arrival.value != 0).count();
        assert_eq!((all.len(), all[9_999].user, all[9_999].at), (10_000, 9_999, at));
        assert!((150..250).contains(&news), "{news}");
    }

    #[test]
    fn one_more_source_does_not_shift_the_others() {
        let of_first = |sources: &[Source]| -> Vec<(Duration, u32)> {
            let all = all(sources, 7).into_iter();
            all.filter(|arrival| arrival.source == 0).map(|it| (it.at, it.user)).collect()
        };
        let (a, b) = (flow(Choice::Uniform), flow(Choice::Zipf(1.1)));
        assert_eq!(of_first(std::slice::from_ref(&a)), of_first(&[a.clone(), b]));
        assert_ne!(all(std::slice::from_ref(&a), 7), all(&[a], 8));
    }
}
