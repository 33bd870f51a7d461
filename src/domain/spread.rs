//! Who of several replicas delivers which apps: each looks at who is there and who has what, and
//! takes or gives up so that all have about as many. They need not agree: the store gives a lease to
//! one alone, whoever thinks that it is its turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{lease::ReplicaId, time::Timestamp, update::AppId};

/// An app that has been free for so long is anybody's, however many it has.
const FREE_MAX: Duration = Duration::from_secs(3);
/// How long a replica that has too many waits from one that it gives up to the next.
const GIVE_UP_INTERVAL: Duration = Duration::from_secs(10);

/// A replica that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub replica: ReplicaId,
    /// When it was heard of last, by the store's clock.
    pub seen_at: Timestamp,
    /// Those that it is set up to deliver.
    pub apps: BTreeSet<AppId>,
}

/// Who has an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppLease {
    /// Which app.
    pub app: AppId,
    /// Who has it, or had it last; `None` where it was given up.
    pub holder: Option<ReplicaId>,
    /// Until when; since when it is free, if it is.
    pub until: Timestamp,
    /// Whether there is nothing that would have to be taken up again: no batch that is not settled,
    /// nothing under way by express.
    pub is_idle: bool,
}

/// What a replica goes by.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Itself.
    pub me: ReplicaId,
    /// All that were seen, itself among them.
    pub replicas: &'a [Seen],
    /// All apps.
    pub apps: &'a [AppLease],
    /// When it gave one up last.
    pub gave_up_at: Option<Timestamp>,
    /// By the store's clock.
    pub now: Timestamp,
    /// Who was not seen for so long is not there any more.
    pub gone_after: Duration,
}

/// What a replica does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It tries to take the app's lease.
    Take(AppId),
    /// It gives the app's lease up, for another to take.
    GiveUp(AppId),
}

/// What a replica is to do now.
pub fn moves(look: &Look<'_>) -> Vec<Move> {
    let there = There::of(look);
    let Some(own) = there.apps_of.get(&look.me) else { return Vec::new() };
    let held = there.held_by(look.me);
    let room = there.share_of(look.me).saturating_sub(held);
    // Each begins elsewhere, so that not all try for the same one.
    let begins = usize::try_from(look.me.0).unwrap_or(0) % look.apps.len().max(1);
    let (before, from) = look.apps.split_at(begins);
    let free =
        from.iter().chain(before).filter(|it| own.contains(&it.app) && is_free(it, look.now));
    let (overdue, fresh): (Vec<&AppLease>, Vec<&AppLease>) =
        free.partition(|it| look.now.since(it.until) >= FREE_MAX);
    let fresh = fresh.into_iter().take(room.saturating_sub(overdue.len()));
    let mut moves: Vec<Move> =
        overdue.into_iter().chain(fresh).map(|it| Move::Take(it.app)).collect();
    if moves.is_empty() {
        moves.extend(there.given_up(look, held).map(Move::GiveUp));
    }
    moves
}

fn is_free(lease: &AppLease, now: Timestamp) -> bool {
    lease.holder.is_none() || lease.until <= now
}

/// The replicas that are there.
struct There<'a> {
    apps_of: BTreeMap<ReplicaId, &'a BTreeSet<AppId>>,
    held: BTreeMap<ReplicaId, usize>,
}

impl<'a> There<'a> {
    fn of(look: &Look<'a>) -> Self {
        let is_there =
            |it: &&Seen| it.replica == look.me || look.now.since(it.seen_at) < look.gone_after;
        let apps_of = look.replicas.iter().filter(is_there).map(|it| (it.replica, &it.apps));
        let mut held = BTreeMap::<ReplicaId, usize>::new();
        for lease in look.apps.iter().filter(|it| !is_free(it, look.now)) {
            if let Some(holder) = lease.holder {
                *held.entry(holder).or_default() += 1;
            }
        }
        Self { apps_of: apps_of.collect(), held }
    }

    fn held_by(&self, replica: ReplicaId) -> usize {
        self.held.get(&replica).copied().unwrap_or(0)
    }

    /// How many apps a replica is to have: its part of those that it shares with so many others.
    /// Together they are no fewer than there are.
    fn share_of(&self, replica: ReplicaId) -> usize {
        let mut by_replicas = BTreeMap::<usize, usize>::new();
        for app in self.apps_of.get(&replica).into_iter().copied().flatten() {
            let of_app = self.apps_of.values().filter(|apps| apps.contains(app)).count();
            *by_replicas.entry(of_app).or_default() += 1;
        }
        by_replicas.into_iter().map(|(replicas, apps)| apps.div_ceil(replicas)).sum()
    }

    /// The app that a replica gives up that has too many, where another one wants it.
    fn given_up(&self, look: &Look<'_>, held: usize) -> Option<AppId> {
        let is_early = look.gave_up_at.is_some_and(|at| look.now.since(at) < GIVE_UP_INTERVAL);
        if is_early || held <= self.share_of(look.me) {
            return None;
        }
        let is_wanted = |app: AppId| {
            self.apps_of.iter().any(|(replica, apps)| {
                *replica != look.me
                    && apps.contains(&app)
                    && self.held_by(*replica) < self.share_of(*replica)
            })
        };
        let is_own = |it: &&AppLease| it.holder == Some(look.me) && !is_free(it, look.now);
        look.apps.iter().filter(is_own).find(|it| it.is_idle && is_wanted(it.app)).map(|it| it.app)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    /// Replicas over a store, by the second.
    struct World {
        apps: Vec<AppLease>,
        /// Those that each is set up to deliver; `None` for one that has died.
        replicas: Vec<Option<BTreeSet<AppId>>>,
        seen_at: Vec<Timestamp>,
        gave_up_at: Vec<Option<Timestamp>>,
        now: u64,
    }

    impl World {
        fn new(apps: u16, replicas: Vec<BTreeSet<AppId>>) -> Self {
            let free = |app| AppLease {
                app: AppId(app),
                holder: None,
                until: Timestamp::default(),
                is_idle: true,
            };
            Self {
                apps: (0..apps).map(free).collect(),
                seen_at: vec![at(100); replicas.len()],
                gave_up_at: vec![None; replicas.len()],
                replicas: replicas.into_iter().map(Some).collect(),
                now: 100,
            }
        }

        /// One where all are set up to deliver all.
        fn alike(apps: u16, replicas: usize) -> Self {
            Self::new(apps, vec![(0..apps).map(AppId).collect(); replicas])
        }

        fn seen(&self) -> Vec<Seen> {
            let seen = |(place, apps): (usize, &Option<BTreeSet<AppId>>)| Seen {
                replica: ReplicaId(place as u64),
                seen_at: self.seen_at[place],
                apps: apps.clone().unwrap_or_default(),
            };
            self.replicas.iter().enumerate().map(seen).collect()
        }

        /// All look once. What one does the next one sees.
        fn second(&mut self) -> usize {
            self.now += 1;
            let mut done = 0;
            for place in 0..self.replicas.len() {
                if self.replicas[place].is_none() {
                    continue;
                }
                let me = ReplicaId(place as u64);
                self.seen_at[place] = at(self.now);
                for lease in self.apps.iter_mut().filter(|it| it.holder == Some(me)) {
                    lease.until = at(self.now).plus(LENGTH);
                }
                let look = Look {
                    me,
                    replicas: &self.seen(),
                    apps: &self.apps.clone(),
                    gave_up_at: self.gave_up_at[place],
                    now: at(self.now),
                    gone_after: LENGTH,
                };
                for step in moves(&look) {
                    done += 1;
                    self.happen(place, step);
                }
            }
            done
        }

        fn happen(&mut self, place: usize, step: Move) {
            let (me, now) = (ReplicaId(place as u64), at(self.now));
            let (Move::Take(app) | Move::GiveUp(app)) = step;
            assert!(
                self.replicas[place].as_ref().unwrap().contains(&app),
                "it is not set up for it"
            );
            let lease = self.apps.iter_mut().find(|it| it.app == app).unwrap();
            match step {
                Move::Take(_) => {
                    assert!(is_free(lease, now), "it is another's");
                    *lease = AppLease { holder: Some(me), until: now.plus(LENGTH), ..*lease };
                }
                Move::GiveUp(_) => {
                    assert!(lease.holder == Some(me) && lease.is_idle);
                    *lease = AppLease { holder: None, until: now, ..*lease };
                    self.gave_up_at[place] = Some(now);
                }
            }
        }

        fn counts(&self) -> Vec<usize> {
            let count = |place| {
                self.apps.iter().filter(|it| it.holder == Some(ReplicaId(place as u64))).count()
            };
            (0..self.replicas.len()).map(count).collect()
        }
    }

    #[test]
    fn the_first_takes_all_and_gives_those_who_come_their_share() {
        let mut world = World::alike(12, 1);
        world.second();
        assert_eq!(world.counts(), [12]);
        let all = world.replicas[0].clone();
        for _ in 0..2 {
            world.replicas.push(all.clone());
            world.seen_at.push(at(world.now));
            world.gave_up_at.push(None);
        }
        // One every ten seconds, so that no two apps stand still for the same reason.
        for _ in 0..85 {
            world.second();
        }
        assert_eq!(world.counts(), [4, 4, 4]);
        assert_eq!((0..60).map(|_| world.second()).sum::<usize>(), 0, "it rests then");
    }

    #[test]
    fn what_a_dead_one_had_is_taken_once_its_leases_end() {
        let mut world = World::alike(9, 3);
        for _ in 0..100 {
            world.second();
        }
        assert_eq!(world.counts(), [3, 3, 3]);
        world.replicas[1] = None;
        let died_at = world.now;
        while world.counts()[1] > 0 {
            world.second();
            assert!(world.now <= died_at + 14, "{:?}", world.counts());
        }
        assert!(world.now >= died_at + 10);
        assert!(world.counts()[0] >= 4 && world.counts()[2] >= 4, "{:?}", world.counts());
    }

    #[test]
    fn an_app_that_is_under_way_is_not_given_up() {
        let mut world = World::alike(4, 2);
        for lease in &mut world.apps {
            *lease = AppLease {
                holder: Some(ReplicaId(0)),
                until: at(110),
                is_idle: lease.app == AppId(3),
                ..*lease
            };
        }
        for _ in 0..60 {
            world.second();
        }
        assert_eq!(world.counts(), [3, 1]);
        assert_eq!(world.apps[3].holder, Some(ReplicaId(1)));
    }

    fn set_up(apps: u16) -> impl Strategy<Value = Vec<BTreeSet<AppId>>> {
        let some = prop::collection::btree_set((0..apps).prop_map(AppId), 0..=usize::from(apps));
        vec(some, 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whoever_had_what_all_is_delivered_and_evenly_where_all_are_alike(
            apps in 1..16_u16,
            replicas in 1..6_usize,
            holders in vec(prop::option::of(0..8_u64), 16),
        ) {
            let mut world = World::alike(apps, replicas);
            for (lease, holder) in world.apps.iter_mut().zip(holders) {
                // Some of them have died.
                lease.holder = holder.map(ReplicaId);
                lease.until = at(105);
            }
            for _ in 0..180 {
                world.second();
            }
            let share = usize::from(apps).div_ceil(replicas);
            let counts = world.counts();
            prop_assert_eq!(counts.iter().sum::<usize>(), usize::from(apps));
            prop_assert!(counts.iter().all(|count| *count <= share), "{:?}", counts);
            prop_assert_eq!((0..20).map(|_| world.second()).sum::<usize>(), 0);
        }

        #[test]
        fn whatever_each_is_set_up_for_all_is_delivered_that_may_be(
            set_up in set_up(12),
            busy in vec(any::<bool>(), 12),
        ) {
            let mut world = World::new(12, set_up.clone());
            for (lease, busy) in world.apps.iter_mut().zip(busy) {
                lease.is_idle = !busy;
            }
            for _ in 0..100 {
                world.second();
            }
            let may = |app| set_up.iter().any(|apps| apps.contains(&app));
            for lease in &world.apps {
                let holder = lease.holder.map(|ReplicaId(place)| usize::try_from(place).unwrap());
                prop_assert_eq!(holder.is_some(), may(lease.app));
                prop_assert!(holder.is_none_or(|place| set_up[place].contains(&lease.app)));
            }
        }
    }
}
