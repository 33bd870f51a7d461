//! The share: which kind of subject the next job is of.
//!
//! Users and companies share the app's one job slot and its budget, and a job holds one kind
//! alone. Where both wait, they take turns: whom the last job passed over goes next, so that
//! neither ever waits for more than one job of the other. Where nobody was passed over, the more
//! urgent lane goes first, and in one lane whoever has waited longer. A bulk lane that goes next
//! although something more urgent of the other kind waits has of both jobs together what it has of
//! one: its share, and what the urgent ones leave.

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

/// However small its share, a job is worth going for.
const LEAST_PART: u64 = 20;

/// Whether a job of `taken` is one of its bulk lane while something more urgent of the other kind
/// waits.
pub fn is_out_of_turn(heads: ByKind<Option<Head>>, taken: SubjectKind) -> bool {
    let lane = |kind| heads.of(kind).as_ref().map(|head| head.lane);
    lane(taken) == Some(Lane::Bulk) && lane(taken.other()).is_some_and(|lane| lane < Lane::Bulk)
}

/// How many rows such a job may have, after one of the other kind with `last_rows`, where a job has
/// at most `rows_max`, and `for_bulk` of these are the bulk lane's.
pub fn rows_out_of_turn(last_rows: u64, rows_max: u64, for_bulk: u64) -> u64 {
    let urgent = rows_max.saturating_sub(for_bulk).max(1);
    let share = last_rows.saturating_mul(for_bulk).div_ceil(urgent);
    let left = rows_max.saturating_sub(last_rows);
    share.max(left).max(rows_max.div_ceil(LEAST_PART)).min(rows_max)
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

    proptest! {
        /// Of two jobs in a row the bulk lane has its share, and what is left of one job; and not
        /// more, where there is enough of what is urgent.
        #[test]
        fn a_bulk_lane_has_of_two_jobs_what_it_has_of_one(
            rows_max in 1..20_000_u64, share in 0.0..0.9, last in 0.0..=1.0,
        ) {
            let rows = |part: f64| super::super::sizing::at_least(rows_max as f64 * part);
            let (for_bulk, last_rows) = (rows(share).min(rows_max - 1), rows(last).min(rows_max));
            let bulk = rows_out_of_turn(last_rows, rows_max, for_bulk);
            prop_assert!((1..=rows_max).contains(&bulk));
            prop_assert!(last_rows + bulk >= rows_max, "what is urgent leaves the rest");
            let of_both = (last_rows + bulk) as f64 * (for_bulk as f64 / rows_max as f64);
            prop_assert!(bulk as f64 >= of_both.floor() - 1.0 || bulk == rows_max);
            let least = rows_max.div_ceil(20).max(rows_max - last_rows);
            prop_assert!(bulk <= least || bulk as f64 <= of_both + 2.0, "{bulk} of {of_both}");
        }
    }

    #[test]
    fn a_bulk_lane_that_goes_before_what_is_urgent_has_its_share() {
        assert_eq!(rows_out_of_turn(4_000, 4_000, 800), 1_000);
        assert_eq!(rows_out_of_turn(3_900, 4_000, 800), 975);
        assert_eq!(rows_out_of_turn(10, 4_000, 800), 3_990, "the urgent ones are few");
        assert_eq!(rows_out_of_turn(4_000, 4_000, 0), 200, "however small its share");
        let heads = |users, companies| ByKind { users, companies };
        let (urgent, bulk) = (head(Lane::Interactive, 9), head(Lane::Bulk, 1));
        let (user, company) = (SubjectKind::User, SubjectKind::Company);
        assert!(is_out_of_turn(heads(urgent, bulk), company));
        assert!(!is_out_of_turn(heads(urgent, bulk), user));
        assert!(!is_out_of_turn(heads(bulk, bulk), user));
        assert!(!is_out_of_turn(heads(None, bulk), company));
        assert!(!is_out_of_turn(heads(head(Lane::Express, 2), urgent), company));
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
