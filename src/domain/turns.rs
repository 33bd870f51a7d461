//! Turns: whose record goes next among the clients of a lane.
//!
//! Clients share a lane by deficit round robin over rows (Shreedhar and Varghese, 1995): each has
//! its turn, takes as many rows as it weighs, and then it is the next one's. A row costs what
//! every row costs, so no deficit is left but by the end of a batch; it is kept for the next. Who
//! fills the lane slows itself down and nobody else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::update::ClientId;

/// How many rows a client takes in a turn.
pub type Weight = u32;

/// Where the last batch stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Whose turn it is.
    pub client: ClientId,
    /// The rows that are left of it; none where it has not begun.
    pub left: Weight,
}

/// The clients of a lane, as they take turns.
#[derive(Clone, Debug)]
pub struct Turns {
    weights: BTreeMap<ClientId, Weight>,
    turn: Turn,
}

impl Turns {
    /// Turns of the clients of whom something waits, from where they stopped.
    pub fn new(waiting: impl IntoIterator<Item = (ClientId, Weight)>, stopped: Turn) -> Self {
        let mut turns = Self { weights: waiting.into_iter().collect(), turn: stopped };
        if !turns.weights.contains_key(&stopped.client) {
            turns.pass();
        } else if stopped.left == 0 {
            turns.begin(stopped.client);
        }
        turns
    }

    /// Whose turn it is; `None` once nobody has anything left.
    pub fn whose(&self) -> Option<ClientId> {
        Some(self.turn.client).filter(|client| self.weights.contains_key(client))
    }

    /// Who has the turn took a row.
    pub fn take(&mut self) {
        self.turn.left = self.turn.left.saturating_sub(1);
        if self.turn.left == 0 {
            self.pass();
        }
    }

    /// Who has the turn has nothing left.
    pub fn leave(&mut self) {
        self.weights.remove(&self.turn.client);
        self.pass();
    }

    /// Where the turns stand, for the next batch.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// Goes on to whoever comes next, round and round.
    pub fn pass(&mut self) {
        let behind = self.weights.keys().find(|client| **client > self.turn.client);
        match behind.or_else(|| self.weights.keys().next()).copied() {
            Some(next) => self.begin(next),
            // Nobody waits: whoever comes after this one goes first next time.
            None => self.turn.left = 0,
        }
    }

    fn begin(&mut self, client: ClientId) {
        let left = self.weights.get(&client).copied().unwrap_or(1).max(1);
        self.turn = Turn { client, left };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights() -> impl Strategy<Value = BTreeMap<ClientId, Weight>> {
        let client = (0..8_u16).prop_map(ClientId);
        prop::collection::btree_map(client, 1..6_u32, 1..6)
    }

    /// Rows taken of clients that always have more, over batches of these sizes.
    fn taken(
        weights: &BTreeMap<ClientId, Weight>,
        batches: &[usize],
    ) -> (BTreeMap<ClientId, u32>, Turn) {
        let (mut taken, mut turn) = (BTreeMap::new(), Turn::default());
        for rows in batches {
            let mut turns = Turns::new(weights.clone(), turn);
            for _ in 0..*rows {
                *taken.entry(turns.whose().expect("all wait")).or_default() += 1;
                turns.take();
            }
            turn = turns.turn();
        }
        (taken, turn)
    }

    proptest! {
        /// The law of fairness, however the rows are cut into batches: of two clients that wait
        /// all the time neither is ahead by more than one turn.
        #[test]
        fn whoever_waits_gets_rows_by_weight(
            weights in weights(),
            batches in prop::collection::vec(0..40_usize, 1..20),
        ) {
            let (taken, _) = taken(&weights, &batches);
            let of = |client: &ClientId| taken.get(client).copied().unwrap_or(0);
            for (a, weight_a) in &weights {
                for (b, weight_b) in &weights {
                    let turns_a = f64::from(of(a)) / f64::from(*weight_a);
                    let turns_b = f64::from(of(b)) / f64::from(*weight_b);
                    prop_assert!((turns_a - turns_b).abs() <= 1.0, "{a:?} {turns_a}, {b:?} {turns_b}");
                }
            }
        }

        /// Whoever has something is served, whoever leaves and joins meanwhile.
        #[test]
        fn nobody_is_passed_over_for_longer_than_a_round(
            weights in weights(),
            leaves in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut turns = Turns::new(weights.clone(), Turn { client: ClientId(3), left: 0 });
            let mut waiting = weights.clone();
            for index in leaves {
                if turns.whose().is_none() {
                    break;
                }
                for _ in 0..index.index(10) {
                    turns.take();
                }
                waiting.remove(&turns.whose().expect("somebody waits"));
                turns.leave();
            }
            let round: u32 = waiting.values().sum();
            let served: std::collections::BTreeSet<_> = (0..2 * round).filter_map(|_| {
                let whose = turns.whose();
                turns.take();
                whose
            }).collect();
            prop_assert!(waiting.keys().eq(served.iter()));
        }
    }

    #[test]
    fn a_client_that_fills_the_lane_waits_for_its_turn_like_any_other() {
        let weights = BTreeMap::from([(ClientId(1), 1), (ClientId(2), 3), (ClientId(5), 1)]);
        let mut turns = Turns::new(weights, Turn { client: ClientId(2), left: 2 });
        let order: Vec<u16> = (0..8)
            .filter_map(|_| {
                let whose = turns.whose().map(|client| client.0);
                turns.take();
                whose
            })
            .collect();
        assert_eq!(order, [2, 2, 5, 1, 2, 2, 2, 5]);
    }

    #[test]
    fn a_batch_of_one_row_goes_to_each_in_turn() {
        let weights = BTreeMap::from([(ClientId(1), 1), (ClientId(2), 1)]);
        assert_eq!(taken(&weights, &[1, 1, 1]).1, Turn { client: ClientId(2), left: 1 });
        let nobody = Turns::new([], Turn { client: ClientId(7), left: 4 });
        assert_eq!((nobody.whose(), nobody.turn().left), (None, 0));
    }
}
