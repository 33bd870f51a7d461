//! Leases: which replica delivers an app, and until when, where several may.
//!
//! A lease stands in the store and goes by the store's clock. Whoever takes it raises its token, and
//! whatever is written for its delivery is written under that token: an earlier holder's comes too
//! late. What is sent upstream cannot be fenced so: a holder sends nothing past the end of its lease
//! by a clock of its own that never jumps, counted from before the lease was asked for, and less a
//! margin for the rates of clocks. So no two ever think that they may.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::{Instant, Timestamp};

/// A process that takes part. Drawn at its start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ReplicaId(pub u64);

/// How long leases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// From each renewal on.
    pub length: Duration,
    /// So much before its end its holder does not trust it any more.
    pub margin: Duration,
}

impl LeaseTerms {
    /// Those of leases of this length. Clocks that never jump run faster or slower by far less than
    /// the tenth that is left.
    pub fn of(length: Duration) -> Self {
        Self { length, margin: length / 10 }
    }

    /// How often a holder prolongs its leases: some attempts may fail.
    pub fn renewal(self) -> Duration {
        self.length / 4
    }
}

/// Who delivers an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Rises with every holder.
    pub token: u64,
    /// `None` while nobody delivers it.
    pub holder: Option<ReplicaId>,
    /// By the store's own clock. Where it has no holder: since when that is so.
    pub until: Timestamp,
    /// What operators have asked of the holder, whoever that is.
    pub wishes: Wishes,
    /// What the holder tells the others of its delivery.
    pub view: Vec<u8>,
}

/// What operators ask of a holder. They only rise, so that each is heard once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// How often what waits was to be sent at once.
    pub flushes: u64,
}

impl Lease {
    /// Whether it is somebody's at a time.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.holder.is_some() && now < self.until
    }

    fn is_of(&self, me: ReplicaId, token: u64) -> bool {
        self.holder == Some(me) && self.token == token
    }
}

/// The lease as `me` has it, once it is free. Who has it itself may take it anew, since it does not
/// know that it has it any more.
pub fn take(lease: &Lease, me: ReplicaId, now: Timestamp, terms: LeaseTerms) -> Option<Lease> {
    if lease.is_held(now) && lease.holder != Some(me) {
        return None;
    }
    Some(Lease {
        token: lease.token + 1,
        holder: Some(me),
        // Where the store's clock has gone back, nothing ends earlier than was promised.
        until: lease.until.max(now.plus(terms.length)),
        wishes: lease.wishes,
        view: Vec::new(),
    })
}

/// The lease prolonged, as long as nobody else has taken it: also past its end, since nobody was in
/// between.
pub fn renew(
    lease: &Lease,
    (me, token): (ReplicaId, u64),
    now: Timestamp,
    terms: LeaseTerms,
) -> Option<Lease> {
    let until = lease.until.max(now.plus(terms.length));
    lease.is_of(me, token).then(|| Lease { until, ..lease.clone() })
}

/// The lease without a holder. Whoever gives it up has sent its last request.
pub fn give_up(lease: &Lease, (me, token): (ReplicaId, u64), now: Timestamp) -> Option<Lease> {
    lease.is_of(me, token).then(|| Lease {
        holder: None,
        until: now,
        view: Vec::new(),
        ..lease.clone()
    })
}

/// What a holder knows of its lease. Its clock goes on while the process is stopped and while the
/// machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Under which it writes.
    pub token: u64,
    /// Until when it may ask anything of upstream.
    pub valid_until: Instant,
}

impl Held {
    /// What was asked for at `asked_at`, and was given.
    pub fn new(token: u64, asked_at: Instant, terms: LeaseTerms) -> Self {
        let valid_until = asked_at.plus(terms.length.saturating_sub(terms.margin));
        Self { token, valid_until }
    }

    /// Whether a request may be sent upstream.
    pub fn may_ask(&self, now: Instant) -> bool {
        now < self.valid_until
    }

    /// It was prolonged. What was asked for earlier and is heard later takes nothing back, and what
    /// is of another token says nothing of this one.
    pub fn prolong(&mut self, renewed: Self) {
        if renewed.token == self.token {
            self.valid_until = self.valid_until.max(renewed.valid_until);
        }
    }
}

/// Asking the store for its time may take so long: by no more do two clocks differ that are set by it.
pub const SAMPLE_MAX: Duration = Duration::from_millis(250);

/// The store's time, for a clock to be set by when it is heard; `None` where the way took too long.
/// The clock is behind then by what the way back has taken.
pub fn sample(time: Timestamp, asked_at: Instant, heard_at: Instant) -> Option<Timestamp> {
    (heard_at.since(asked_at) <= SAMPLE_MAX).then_some(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: LeaseTerms =
        LeaseTerms { length: Duration::from_secs(10), margin: Duration::from_secs(1) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_and_prolonged_by_its_holder_alone() {
        let (ada, bob) = (ReplicaId(1), ReplicaId(2));
        let free = Lease { wishes: Wishes { flushes: 3 }, ..Lease::default() };
        let adas = take(&free, ada, at(100), TERMS).unwrap();
        assert_eq!((adas.token, adas.holder, adas.until), (1, Some(ada), at(110)));
        assert_eq!(adas.wishes, free.wishes);
        assert!(adas.is_held(at(109)) && !adas.is_held(at(110)));
        assert_eq!(take(&adas, bob, at(109), TERMS), None);
        assert_eq!(renew(&adas, (bob, 1), at(109), TERMS), None);
        assert_eq!(renew(&adas, (ada, 0), at(109), TERMS), None);
        assert_eq!(give_up(&adas, (bob, 1), at(109)), None);
        // It is prolonged past its end, too, while nobody has taken it.
        let renewed = renew(&adas, (ada, 1), at(130), TERMS).unwrap();
        assert_eq!((renewed.token, renewed.until), (1, at(140)));
        let bobs = take(&adas, bob, at(110), TERMS).unwrap();
        assert_eq!((bobs.token, bobs.holder), (2, Some(bob)));
        assert_eq!(renew(&bobs, (ada, 1), at(111), TERMS), None);
        // Who has it and does not know may take it again, and is another holder then.
        assert_eq!(take(&bobs, bob, at(111), TERMS).unwrap().token, 3);
        // What was given up is free at once, and its token stays used.
        let given_up = give_up(&bobs, (bob, 2), at(112)).unwrap();
        assert_eq!((given_up.holder, given_up.until), (None, at(112)));
        assert_eq!(take(&given_up, ada, at(112), TERMS).unwrap().token, 3);
        assert_eq!(renew(&given_up, (bob, 2), at(112), TERMS), None);
    }

    #[test]
    fn what_is_heard_late_takes_nothing_back() {
        let second = |seconds| Instant::from_origin(Duration::from_secs(seconds));
        let mut held = Held::new(3, second(100), TERMS);
        held.prolong(Held::new(3, second(102), TERMS));
        held.prolong(Held::new(3, second(101), TERMS));
        held.prolong(Held::new(2, second(105), TERMS));
        assert!(held.may_ask(second(110)) && !held.may_ask(second(111)));
        assert_eq!(TERMS.renewal(), Duration::from_millis(2_500));
    }

    #[test]
    fn a_clock_is_set_by_an_answer_that_came_soon() {
        let milli = |millis| Instant::from_origin(Duration::from_millis(millis));
        assert_eq!(sample(at(7), milli(1_000), milli(1_250)), Some(at(7)));
        assert_eq!(sample(at(7), milli(1_000), milli(1_251)), None);
    }

    #[test]
    fn a_clock_of_the_store_that_goes_back_shortens_no_lease() {
        let (ada, bob) = (ReplicaId(1), ReplicaId(2));
        let adas = take(&Lease::default(), ada, at(100), TERMS).unwrap();
        let renewed = renew(&adas, (ada, 1), at(50), TERMS).unwrap();
        assert_eq!(renewed.until, at(110));
        assert_eq!(take(&renewed, bob, at(109), TERMS), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Time passes, and whoever is stopped then sleeps through it.
        Pass(u64),
        /// A replica asks for the lease, or for more of it; the store decides so much later, and
        /// the replica hears of it so much later again, if at all.
        Ask {
            replica: usize,
            way_ms: u64,
            back_ms: u64,
            is_heard: bool,
        },
        GiveUp {
            replica: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let replica = 0..3_usize;
        let ask = (replica.clone(), 0..4_000_u64, 0..4_000_u64, prop::bool::weighted(0.8));
        prop_oneof![
            3 => (0..6_000_u64).prop_map(Step::Pass),
            6 => ask.prop_map(|(replica, way_ms, back_ms, is_heard)| {
                Step::Ask { replica, way_ms, back_ms, is_heard }
            }),
            1 => replica.prop_map(|replica| Step::GiveUp { replica }),
        ]
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Decide(usize, Instant, bool, u64),
        Hear(usize, Held),
    }

    /// The store, and replicas whose clocks run at rates of their own.
    struct World {
        lease: Lease,
        micros: u64,
        held: [Option<Held>; 3],
        rates: [u64; 3],
        events: Vec<(u64, Event)>,
        tokens: Vec<u64>,
    }

    impl World {
        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(self.micros.cast_signed())
        }

        fn instant(&self, replica: usize) -> Instant {
            Instant::from_origin(Duration::from_micros(
                self.micros * self.rates[replica] / 1_000_000,
            ))
        }

        fn ask(&mut self, replica: usize, way_ms: u64, back_ms: u64, is_heard: bool) {
            let asked = Event::Decide(replica, self.instant(replica), is_heard, back_ms);
            self.events.push((self.micros + way_ms * 1_000, asked));
        }

        fn pass(&mut self, ms: u64) {
            let end = self.micros + ms * 1_000;
            loop {
                self.events.sort_by_key(|(at, _)| *at);
                if self.events.first().is_none_or(|(at, _)| *at > end) {
                    break;
                }
                let (at, event) = self.events.remove(0);
                self.micros = at;
                self.happen(event);
                self.verify();
            }
            self.micros = end;
            self.verify();
        }

        fn happen(&mut self, event: Event) {
            match event {
                Event::Decide(replica, asked_at, is_heard, back_ms) => {
                    let me = ReplicaId(replica as u64);
                    let own = self.held[replica].map(|held| held.token);
                    let renewed =
                        own.and_then(|token| renew(&self.lease, (me, token), self.wall(), TERMS));
                    let decided = renewed.or_else(|| take(&self.lease, me, self.wall(), TERMS));
                    let Some(decided) = decided else { return };
                    if decided.token != self.lease.token {
                        self.tokens.push(decided.token);
                    }
                    self.lease = decided;
                    if is_heard {
                        let held = Held::new(self.lease.token, asked_at, TERMS);
                        let heard = Event::Hear(replica, held);
                        self.events.push((self.micros + back_ms * 1_000, heard));
                    }
                }
                Event::Hear(replica, held) => {
                    let newer = self.held[replica].is_none_or(|it| it.token <= held.token);
                    let later = |it: Held| it.token == held.token;
                    let before = self.held[replica].filter(|it| later(*it));
                    if newer {
                        let until = before.map_or(held.valid_until, |it| it.valid_until);
                        let valid_until = until.max(held.valid_until);
                        self.held[replica] = Some(Held { valid_until, ..held });
                    }
                }
            }
        }

        /// It says to itself that it may ask no more, first. What it has asked for before may yet be
        /// decided: who gives up has nothing under way.
        fn give_up(&mut self, replica: usize) {
            let of = |event: &Event| match event {
                Event::Decide(of, ..) | Event::Hear(of, _) => *of == replica,
            };
            if self.events.iter().any(|(_, event)| of(event)) {
                return;
            }
            let Some(held) = self.held[replica].take() else { return };
            let me = (ReplicaId(replica as u64), held.token);
            if let Some(given_up) = give_up(&self.lease, me, self.wall()) {
                self.lease = given_up;
            }
        }

        fn verify(&self) {
            let may = |replica: &usize| {
                self.held[*replica].is_some_and(|held| held.may_ask(self.instant(*replica)))
            };
            let may: Vec<usize> = (0..3).filter(may).collect();
            assert!(may.len() <= 1, "{may:?} may ask at {}", self.micros);
            if let [one] = may[..] {
                assert_eq!(self.lease.holder, Some(ReplicaId(one as u64)));
            }
        }
    }

    proptest! {
        #[test]
        fn no_two_ever_think_that_they_may_ask_and_tokens_rise(
            rates in prop::array::uniform3(980_000..1_020_000_u64),
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut world = World {
                lease: Lease::default(),
                micros: 0,
                held: [None; 3],
                rates,
                events: Vec::new(),
                tokens: Vec::new(),
            };
            for step in steps {
                match step {
                    Step::Pass(ms) => world.pass(ms),
                    Step::Ask { replica, way_ms, back_ms, is_heard } => {
                        world.ask(replica, way_ms, back_ms, is_heard);
                    }
                    Step::GiveUp { replica } => world.give_up(replica),
                }
                world.verify();
            }
            world.pass(60_000);
            prop_assert!(world.tokens.is_sorted_by(|a, b| a < b), "{:?}", world.tokens);
            // Whatever has happened, somebody comes to have it.
            world.ask(0, 0, 0, true);
            world.pass(0);
            prop_assert!(world.held[0].is_some_and(|held| held.may_ask(world.instant(0))));
        }
    }
}
