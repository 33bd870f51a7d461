//! What each user's profile holds: upstream, or as the accepted updates leave it.

/// The value of each user, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles(Vec<Option<i64>>);

impl Profiles {
    /// A user has this value now, whatever it was before.
    pub(super) fn set(&mut self, user: u32, value: i64) {
        let place = user as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some(value);
    }

    /// The users who have another value there, or none.
    pub(super) fn not_as_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let differs = |user: &u32| self.of(*user) != other.of(*user);
        (0..u32::try_from(self.0.len()).unwrap_or(u32::MAX)).filter(differs)
    }

    fn of(&self, user: u32) -> Option<i64> {
        self.0.get(user as usize).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_the_last_value_is_told() {
        let (mut accepted, mut held) = (Profiles::default(), Profiles::default());
        for (user, value) in [(1, 7), (4, 8), (1, 9)] {
            accepted.set(user, value);
        }
        let wrong = |held: &Profiles| accepted.not_as_in(held).collect::<Vec<_>>();
        held.set(1, 7);
        assert_eq!(wrong(&held), [1, 4], "one is behind, one is not there");
        held.set(1, 9);
        held.set(4, 8);
        assert!(wrong(&held).is_empty());
        held.set(1, 7);
        assert_eq!(wrong(&held), [1], "an older value came last");
    }
}
