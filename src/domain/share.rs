//! The share: which kind of subject the next job is of.
//!
//! Users and companies share the app's one job slot and its budget, and a job holds one kind
//! alone. Where both wait, they take turns: whom the last job passed over goes next, so that
//! neither ever waits for more than one job of the other. Where nobody was passed over, the more
//! urgent lane goes first, and in one lane whoever has waited longer.

use super::update::{ByKind, Lane, Sequence, SubjectKind};

/// The first of what waits of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// Its lane.
    pub lane: Lane,
    /// Its first sequence: the lower, the longer it has waited.
    pub first_sequence: Sequence,
}

/// The kind whose turn it is, if any waits.
pub fn turn(heads: ByKind<Option<Head>>, passed_over: Option<SubjectKind>) -> Option<SubjectKind> {
    match (heads.users, heads.companies) {
        (None, None) => None,
        (Some(_), None) => Some(SubjectKind::User),
        (None, Some(_)) => Some(SubjectKind::Company),
        (Some(users), Some(companies)) => Some(passed_over.unwrap_or(match companies < users {
            true => SubjectKind::Company,
            false => SubjectKind::User,
        })),
    }
}

/// Whom a job of `taken` passes over.
pub fn passed_over(heads: ByKind<Option<Head>>, taken: SubjectKind) -> Option<SubjectKind> {
    Some(taken.other()).filter(|other| heads.of(*other).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::testing;

    fn head(lane: Lane, first_sequence: Sequence) -> Option<Head> {
        Some(Head { lane, first_sequence })
    }

    fn heads() -> impl Strategy<Value = ByKind<Option<Head>>> {
        let head = || {
            let head = (testing::lane(), 0..20_u64);
            let head = head.prop_map(|(lane, first_sequence)| Head { lane, first_sequence });
            prop::option::weighted(0.8, head)
        };
        (head(), head()).prop_map(|(users, companies)| ByKind { users, companies })
    }

    proptest! {
        /// Whatever waits meanwhile, however urgent, and for however long.
        #[test]
        fn no_kind_that_waits_is_passed_over_twice(jobs in prop::collection::vec(heads(), 1..40)) {
            let mut last = None;
            let mut in_a_row = ByKind { users: 0, companies: 0 };
            for heads in jobs {
                let taken = turn(heads, last);
                for kind in SubjectKind::ALL {
                    let waits = heads.of(kind).is_some();
                    let passed = waits && taken != Some(kind);
                    *in_a_row.of_mut(kind) = if passed { *in_a_row.of(kind) + 1 } else { 0 };
                    prop_assert!(*in_a_row.of(kind) <= 1, "{kind} is starved");
                }
                // A kind of which nothing waits is never waited for.
                prop_assert_eq!(taken.is_none(), heads == ByKind::default());
                prop_assert!(taken.is_none_or(|kind| heads.of(kind).is_some()));
                last = taken.and_then(|kind| passed_over(heads, kind));
            }
        }
    }

    #[test]
    fn the_more_urgent_goes_first_and_then_who_has_waited_longer() {
        let check = |users, companies, expected| {
            assert_eq!(turn(ByKind { users, companies }, None), Some(expected));
        };
        let (user, company) = (SubjectKind::User, SubjectKind::Company);
        check(head(Lane::Interactive, 9), head(Lane::Bulk, 1), user);
        check(head(Lane::Bulk, 1), head(Lane::Interactive, 9), company);
        check(head(Lane::Bulk, 2), head(Lane::Bulk, 3), user);
        check(head(Lane::Interactive, 3), head(Lane::Interactive, 2), company);
    }

    #[test]
    fn whoever_was_passed_over_goes_before_the_more_urgent() {
        let heads = ByKind { users: head(Lane::Interactive, 1), companies: head(Lane::Bulk, 9) };
        assert_eq!(passed_over(heads, SubjectKind::User), Some(SubjectKind::Company));
        assert_eq!(turn(heads, Some(SubjectKind::Company)), Some(SubjectKind::Company));
        let alone = ByKind { companies: None, ..heads };
        assert_eq!(passed_over(alone, SubjectKind::User), None);
        assert_eq!(turn(alone, Some(SubjectKind::Company)), Some(SubjectKind::User));
    }
}
