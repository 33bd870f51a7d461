//! How long every single update has waited. The queue keeps the first of a record's updates; what
//! each of them waited for, coalesced or not, is known here.

use std::time::Duration;

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
    source: u32,
    next: Link,
}

impl Ages {
    /// An update of a user was accepted from a source.
    pub fn arrive(&mut self, user: u32, source: usize, accepted_at: Duration) {
        let source = u32::try_from(source).unwrap_or(u32::MAX);
        let node = Node { accepted_at, source, next: None };
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

    /// What waits of a user goes: the source and the time of each update.
    pub fn take(&mut self, user: u32, mut each: impl FnMut(usize, Duration)) {
        let Some(of_user) = self.users.get_mut(user as usize) else { return };
        let (mut link, _) = std::mem::take(of_user);
        while let Some(place) = link {
            let node = &mut self.nodes[place as usize];
            each(node.source as usize, node.accepted_at);
            link = std::mem::replace(&mut node.next, self.free);
            self.free = Some(place);
            self.waiting -= 1;
        }
    }

    /// All that waits goes.
    pub fn take_all(&mut self, mut each: impl FnMut(usize, Duration)) {
        for user in 0..self.users.len() {
            self.take(u32::try_from(user).unwrap_or(u32::MAX), &mut each);
        }
    }

    /// How many updates wait.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_update_of_a_user_keeps_its_own_time() {
        let mut ages = Ages::default();
        let at = Duration::from_secs;
        for (user, source, second) in [(3, 0, 1), (5, 1, 2), (3, 1, 4)] {
            ages.arrive(user, source, at(second));
        }
        let taken = |ages: &mut Ages, user| {
            let mut taken = Vec::new();
            ages.take(user, |source, accepted_at| taken.push((source, accepted_at.as_secs())));
            taken
        };
        assert_eq!(taken(&mut ages, 3), [(0, 1), (1, 4)]);
        assert_eq!((taken(&mut ages, 3), taken(&mut ages, 99)), (vec![], vec![]));
        ages.arrive(3, 2, at(9));
        assert_eq!((ages.waiting(), ages.nodes.len()), (2, 3), "places are used again");
        let mut all = Vec::new();
        ages.take_all(|source, _| all.push(source));
        assert_eq!((all, ages.waiting()), (vec![2, 1], 0));
    }
}
