//! How old is old enough to be dropped, whatever is done to the wall clock.
//!
//! What is kept for days is dated by the wall clock, which alone goes on while the machine is
//! off. Where it goes ahead of the machine's uptime by more than a tenth of the time for which
//! things are kept, nothing is too old until that time has passed once more, by the uptime.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::{Now, Timestamp, Uptime};

/// What is known of the clocks since the first look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ageing {
    /// The clocks at the last look.
    seen: Option<(Timestamp, Option<Uptime>)>,
    /// By how much the wall clock has gone ahead of what is known to have passed: it was set, or
    /// the machine was off.
    unlived: Duration,
    /// For how long nothing is too old yet.
    held: Duration,
}

/// The wall clock may be wrong by this part of the time for which things are kept.
const UNLIVED_PART: u32 = 10;

impl Ageing {
    /// Looks at the clocks. `kept` is for how long things are kept.
    #[must_use]
    pub fn look(self, now: Now, kept: Duration) -> Self {
        let seen = Some((now.wall, now.uptime));
        let Some((wall, uptime)) = self.seen else { return Self { seen, ..self } };
        let by_wall = now.wall.since(wall);
        let lived = match (uptime, now.uptime) {
            (Some(then), Some(now)) => now.since(then).unwrap_or_default(),
            (Some(_), None) | (None, Some(_)) => Duration::ZERO,
            // A machine that does not say for how long it runs leaves nothing else to believe.
            (None, None) => by_wall,
        };
        let unlived = self.unlived.saturating_add(by_wall.saturating_sub(lived));
        if unlived > kept / UNLIVED_PART {
            return Self { seen, unlived: Duration::ZERO, held: kept };
        }
        Self { seen, unlived, held: self.held.saturating_sub(lived) }
    }

    /// What is from before this is too old, at the time of the last look.
    pub fn too_old_before(self, kept: Duration) -> Timestamp {
        match self.seen {
            Some((wall, _)) if self.held.is_zero() => wall.minus(kept),
            Some(_) | None => Timestamp::from_micros(i64::MIN),
        }
    }

    /// Whether so much has passed since `stored` was that it is to be stored anew.
    pub fn is_news_to(self, stored: Self) -> bool {
        const OFTEN: Duration = Duration::from_secs(3_600);
        let wall = |ageing: Self| ageing.seen.map(|(wall, _)| wall);
        match (wall(stored), wall(self)) {
            (Some(then), Some(now)) => {
                self.held > stored.held || now.since(then).max(then.since(now)) >= OFTEN
            }
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const KEPT: Duration = Duration::from_secs(30 * 86_400);

    /// The clocks of a machine, and the time that really passes.
    #[derive(Clone, Copy, Default)]
    struct Machine {
        passed: Duration,
        boot: u64,
        up: Duration,
        ahead_micros: i64,
    }

    impl Machine {
        fn now(self) -> Now {
            let wall = Timestamp::default().plus(self.passed).as_micros() + self.ahead_micros;
            let uptime = Some(Uptime { boot: self.boot, length: self.up });
            Now { wall: Timestamp::from_micros(wall), uptime, ..Now::default() }
        }

        fn live(&mut self, duration: Duration) {
            self.passed += duration;
            self.up += duration;
        }

        fn set_ahead(&mut self, duration: Duration) {
            self.ahead_micros += i64::try_from(duration.as_micros()).unwrap();
        }
    }

    fn is_too_old(ageing: Ageing, died_at: Timestamp) -> bool {
        died_at < ageing.too_old_before(KEPT)
    }

    #[test]
    fn what_was_kept_for_long_enough_is_too_old() {
        let mut machine = Machine::default();
        let died_at = machine.now().wall;
        let mut ageing = Ageing::default().look(machine.now(), KEPT);
        for day in 0..=40 {
            assert_eq!(is_too_old(ageing, died_at), day > 30, "day {day}");
            machine.live(DAY);
            ageing = ageing.look(machine.now(), KEPT);
        }
    }

    #[test]
    fn a_clock_that_jumps_ahead_makes_nothing_too_old() {
        for rebooted in [false, true] {
            let mut machine = Machine::default();
            let died_at = machine.now().wall;
            let mut ageing = Ageing::default().look(machine.now(), KEPT);
            machine.set_ahead(400 * DAY);
            machine.boot += u64::from(rebooted);
            for day in 0..=40 {
                ageing = ageing.look(machine.now(), KEPT);
                assert_eq!(is_too_old(ageing, died_at), day >= 30, "day {day}");
                machine.live(DAY);
            }
        }
    }

    #[test]
    fn a_restart_of_the_process_alone_is_time_that_passes() {
        let mut machine = Machine::default();
        let died_at = machine.now().wall;
        let ageing = Ageing::default().look(machine.now(), KEPT);
        machine.live(31 * DAY);
        assert!(is_too_old(ageing.look(machine.now(), KEPT), died_at));
    }

    #[derive(Clone, Copy, Debug)]
    enum Turn {
        Live(Duration),
        Set(i64),
        Off(Duration),
    }

    #[test]
    fn it_is_stored_anew_each_hour_and_where_more_is_held() {
        let mut machine = Machine::default();
        let stored = Ageing::default().look(machine.now(), KEPT);
        assert!(stored.is_news_to(Ageing::default()));
        assert!(!stored.is_news_to(stored) && !Ageing::default().is_news_to(stored));
        machine.live(Duration::from_secs(3_599));
        assert!(!stored.look(machine.now(), KEPT).is_news_to(stored));
        machine.live(Duration::from_secs(1));
        let later = stored.look(machine.now(), KEPT);
        assert!(later.is_news_to(stored) && stored.is_news_to(later));
    }

    fn turn() -> impl Strategy<Value = Turn> {
        let hours = |most: u64| (0..most).prop_map(|hours| Duration::from_secs(hours * 3_600));
        prop_oneof![
            4 => hours(100).prop_map(Turn::Live),
            1 => (-2_000..2_000_i64).prop_map(Turn::Set),
            1 => hours(200).prop_map(Turn::Off),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_too_old_before_nine_tenths_of_its_time(
            turns in proptest::collection::vec(turn(), 1..60),
        ) {
            let mut machine = Machine::default();
            let mut ageing = Ageing::default().look(machine.now(), KEPT);
            let mut deaths = Vec::new();
            for turn in turns {
                deaths.push((machine.now().wall, machine.passed));
                match turn {
                    Turn::Live(duration) => machine.live(duration),
                    Turn::Set(hours) => machine.ahead_micros += hours * 3_600_000_000,
                    Turn::Off(duration) => {
                        machine.passed += duration;
                        machine.boot += 1;
                        machine.up = Duration::ZERO;
                    }
                }
                ageing = ageing.look(machine.now(), KEPT);
                for (died_at, passed) in &deaths {
                    let age = machine.passed - *passed;
                    if is_too_old(ageing, *died_at) {
                        prop_assert!(age >= KEPT * 9 / 10, "{age:?}");
                    }
                }
            }
        }
    }
}
