//! How long every single update has waited. The queue keeps the first of a record's updates; what
//! each of them waited for, coalesced or not, is known here.

use std::time::Duration;

use super::traffic::Arrival;

/// The updates that wait, by user, in the order of their acceptance.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    nodes: Vec<Node>,
    /// The first of the nodes that can be used again.
    free: Link,
    /// The first and the last of every user.
    users: Vec<(Link, Link)>,
    waiting: u64,
}

/// The place of a node.
type Link = Option<u32>;

#[derive(Clone, Copy, Debug)]
struct Node {
    accepted_at: Duration,
    value: i64,
    source: u32,
    next: Link,
}

impl Ages {
    /// An update was accepted.
    pub fn arrive(&mut self, update: &Arrival) {
        let Arrival { at: accepted_at, source, user, value } = *update;
        let source = u32::try_from(source).unwrap_or(u32::MAX);
        let node = Node { accepted_at, value, source, next: None };
        let place = match self.free {
            Some(place) => {
                self.free = self.nodes[place as usize].next;
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("memory ends before")
            }
        };
        if self.users.len() <= user as usize {
            self.users.resize(user as usize + 1, (None, None));
        }
        let (first, last) = &mut self.users[user as usize];
        match *last {
            Some(last) => self.nodes[last as usize].next = Some(place),
            None => *first = Some(place),
        }
        *last = Some(place);
        self.waiting += 1;
    }

    /// Upstream has come to hold a value of a user: what waits of the user up to the update that
    /// set it goes, and the source and the time of each are told. What was accepted later waits on,
    /// and where no update that waits set it, all do.
    pub fn take(&mut self, user: u32, value: i64, each: impl FnMut(usize, Duration)) {
        let of_user = self.of(user);
        let Some(last) = of_user.filter(|(_, node)| node.value == value).map(|(at, _)| at).last()
        else {
            return;
        };
        self.take_up_to(user, last, each);
    }

    /// All that waits goes.
    pub fn take_all(&mut self, mut each: impl FnMut(usize, Duration)) {
        for user in 0..self.users.len() {
            let user = u32::try_from(user).unwrap_or(u32::MAX);
            if let (_, Some(last)) = self.users[user as usize] {
                self.take_up_to(user, last, &mut each);
            }
        }
    }

    /// How many updates wait of a user.
    pub fn waiting_of(&self, user: u32) -> u64 {
        self.of(user).count() as u64
    }

    fn take_up_to(&mut self, user: u32, last: u32, mut each: impl FnMut(usize, Duration)) {
        let mut link = self.users[user as usize].0;
        while let Some(place) = link {
            let node = &mut self.nodes[place as usize];
            each(node.source as usize, node.accepted_at);
            link = std::mem::replace(&mut node.next, self.free);
            self.free = Some(place);
            self.waiting -= 1;
            if place == last {
                break;
            }
        }
        let (first, end) = &mut self.users[user as usize];
        *first = link;
        if link.is_none() {
            *end = None;
        }
    }

    /// What waits of a user, in order, each with its place.
    fn of(&self, user: u32) -> impl Iterator<Item = (u32, &Node)> {
        let first = self.users.get(user as usize).and_then(|(first, _)| *first);
        std::iter::successors(first, |place| self.nodes[*place as usize].next)
            .map(|place| (place, &self.nodes[place as usize]))
    }

    /// How many updates wait.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(updates: &[(u32, usize, u64, i64)]) -> Ages {
        let mut ages = Ages::default();
        for (user, source, second, value) in updates {
            let (at, source) = (Duration::from_secs(*second), *source);
            ages.arrive(&Arrival { at, source, user: *user, value: *value });
        }
        ages
    }

    fn taken(ages: &mut Ages, user: u32, value: i64) -> Vec<(usize, u64)> {
        let mut taken = Vec::new();
        ages.take(user, value, |source, accepted_at| taken.push((source, accepted_at.as_secs())));
        taken
    }

    #[test]
    fn every_update_of_a_user_keeps_its_own_time() {
        let mut ages = ages(&[(3, 0, 1, 10), (5, 1, 2, 11), (3, 1, 4, 12)]);
        assert_eq!(taken(&mut ages, 3, 12), [(0, 1), (1, 4)]);
        assert_eq!((taken(&mut ages, 3, 12), taken(&mut ages, 99, 12)), (vec![], vec![]));
        ages.arrive(&Arrival { at: Duration::from_secs(9), source: 2, user: 3, value: 13 });
        assert_eq!((ages.waiting(), ages.nodes.len()), (2, 3), "places are used again");
        let mut all = Vec::new();
        ages.take_all(|source, _| all.push(source));
        assert_eq!((all, ages.waiting()), (vec![2, 1], 0));
    }

    #[test]
    fn what_came_after_the_value_that_upstream_holds_waits_on() {
        let mut ages = ages(&[(3, 0, 1, 10), (3, 1, 2, 11), (3, 2, 3, 12)]);
        assert_eq!(taken(&mut ages, 3, 99), [], "nobody has set that");
        assert_eq!(taken(&mut ages, 3, 11), [(0, 1), (1, 2)]);
        assert_eq!((ages.waiting(), ages.waiting_of(3)), (1, 1));
        assert_eq!(taken(&mut ages, 3, 12), [(2, 3)]);
        assert_eq!((ages.waiting(), ages.waiting_of(3)), (0, 0));
    }
}
