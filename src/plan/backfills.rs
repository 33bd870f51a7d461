//! What a backfill gets of the budget, counted row by row.

use std::time::Duration;

use super::{
    report::BackfillGot,
    traffic::{Sends, Source},
};

/// One backfill or resync, while its rows are counted.
#[derive(Clone, Debug)]
pub(super) struct Backfill {
    /// The place of its source.
    source: usize,
    class: String,
    came_at: Duration,
    /// Its updates that have come to wait, and of these those that were applied.
    updates: (u64, u64),
    /// Rows that carried one of its updates.
    rows: u64,
    /// Rows since it came that carried none.
    rows_of_others: u64,
    /// How many these were when the last of its own rows was applied, and when that was.
    at_last: (u64, Duration),
}

impl Backfill {
    /// Those of these sources that are one.
    pub(super) fn of(sources: &[Source]) -> Vec<Self> {
        let backfill = |(source, it): (usize, &Source)| match it.sends {
            Sends::Backfill { at, .. } | Sends::Resync { at, .. } => Some(Self {
                source,
                class: it.class.clone(),
                came_at: at,
                updates: (0, 0),
                rows: 0,
                rows_of_others: 0,
                at_last: (0, at),
            }),
            Sends::Flow { .. } | Sends::Recorded(_) => None,
        };
        sources.iter().enumerate().filter_map(backfill).collect()
    }

    /// An update of a source has come to wait.
    pub(super) fn came(&mut self, source: usize) {
        self.updates.0 += u64::from(source == self.source);
    }

    /// Updates of these sources were applied, by a row of a job or else by express.
    pub(super) fn applied(&mut self, sources: &[usize], by_row: bool, at: Duration) {
        let own = sources.iter().filter(|source| **source == self.source).count();
        self.updates.1 += own as u64;
        match (own > 0, by_row) {
            (true, true) => {
                self.rows += 1;
                self.at_last = (self.rows_of_others, at);
            }
            (false, true) if at >= self.came_at => self.rows_of_others += 1,
            (true | false, false) | (false, true) => {}
        }
    }

    /// What it got until it was applied, or until the end; `pace` rows a second are the budget.
    pub(super) fn got(&self, pace: f64, length: Duration) -> BackfillGot {
        let (waited, applied) = self.updates;
        let done = waited > 0 && applied == waited;
        let (rows_of_others, until) =
            if done { self.at_last } else { (self.rows_of_others, length) };
        let budget_rows = until.saturating_sub(self.came_at).as_secs_f64() * pace;
        let left = budget_rows - rows_of_others as f64;
        BackfillGot {
            class: self.class.clone(),
            came_at_s: self.came_at.as_secs_f64(),
            applied_at_s: done.then_some(until.as_secs_f64()),
            rows: self.rows,
            rows_of_others,
            budget_rows,
            share_of_the_rest: if left > 0.0 { self.rows as f64 / left } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::update::Lane;

    fn backfill() -> Backfill {
        let source = |sends| Source {
            client: String::new(),
            weight: 1,
            class: "backfill".to_owned(),
            lane: Lane::Bulk,
            sends,
        };
        let at = Duration::from_secs(10);
        let sends = Sends::Backfill { at, users: 0..3 };
        let [backfill] =
            Backfill::of(&[source(Sends::Recorded(Vec::new())), source(sends)]).try_into().unwrap();
        backfill
    }

    #[test]
    fn what_others_took_meanwhile_is_not_left_for_a_backfill() {
        let mut backfill = backfill();
        let second = Duration::from_secs;
        (0..3).for_each(|_| backfill.came(1));
        backfill.came(0);
        for (sources, by_row, at) in [
            (&[0][..], true, 5),
            (&[1], true, 11),
            (&[0], true, 12),
            (&[0, 1], true, 13),
            (&[0], false, 14),
        ] {
            backfill.applied(sources, by_row, second(at));
        }
        let got = backfill.got(2.0, second(20));
        // Ten seconds for twenty rows, of which others took one.
        assert_eq!((got.rows, got.rows_of_others, got.applied_at_s), (2, 1, None));
        assert_eq!((got.budget_rows, got.share_of_the_rest), (20.0, 2.0 / 19.0));

        backfill.applied(&[1], true, second(14));
        backfill.applied(&[0], true, second(15));
        let got = backfill.got(2.0, second(20));
        assert_eq!((got.rows, got.rows_of_others, got.applied_at_s), (3, 1, Some(14.0)));
        assert_eq!((got.budget_rows, got.share_of_the_rest), (8.0, 3.0 / 7.0));
    }

    #[test]
    fn a_backfill_whose_last_update_went_by_express_is_done() {
        let mut backfill = backfill();
        (0..2).for_each(|_| backfill.came(1));
        backfill.applied(&[1], true, Duration::from_secs(11));
        backfill.applied(&[1], false, Duration::from_secs(12));
        let got = backfill.got(2.0, Duration::from_secs(20));
        assert_eq!((got.rows, got.applied_at_s), (1, Some(11.0)));
    }
}
