//! How often somebody may try to log in.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::HashMapStateStore,
};

use crate::door::rate::ProcessClock;

/// How many times at once.
const BURST: NonZeroU32 = NonZeroU32::new(20).expect("is not zero");
/// From then on once in this time.
const PERIOD: Duration = Duration::from_secs(3);
/// Of addresses that have not tried for long nothing is kept, as soon as there are so many; for more
/// than these there is no room.
const ADDRESSES_MAX: usize = 10_000;

/// Tries, by where they come from.
#[derive(Debug)]
pub(super) struct Logins<C: Clock = ProcessClock> {
    tries: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>,
}

impl Default for Logins {
    fn default() -> Self {
        Self::new(ProcessClock)
    }
}

impl<C: Clock> Logins<C> {
    fn new(clock: C) -> Self {
        let quota = Quota::with_period(PERIOD).unwrap_or(Quota::per_second(BURST));
        Self { tries: RateLimiter::hashmap_with_clock(quota.allow_burst(BURST), clock) }
    }

    /// Whether one from there may try now.
    pub(super) fn may_try(&self, from: IpAddr) -> bool {
        if self.tries.len() >= ADDRESSES_MAX {
            self.tries.retain_recent();
            self.tries.shrink_to_fit();
        }
        let from = match self.tries.len() < ADDRESSES_MAX {
            true => network(from),
            // All for whom there is no room count as one.
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        self.tries.check_key(&from).is_ok()
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn who_tries_too_often_waits_and_others_do_not() {
        let clock = FakeRelativeClock::default();
        let logins = Logins::new(clock.clone());
        let [one, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap());
        assert!((0..20).all(|_| logins.may_try(one)));
        assert!(!logins.may_try(one) && logins.may_try(other));
        clock.advance(PERIOD);
        assert!(logins.may_try(one) && !logins.may_try(one));
    }

    #[test]
    fn addresses_for_which_there_is_no_room_count_as_one() {
        let logins = Logins::new(FakeRelativeClock::default());
        let try_from = |number| logins.may_try(Ipv4Addr::from_bits(number).into());
        assert!((1..=10_000).all(try_from));
        assert!((20_000..20_020).all(try_from) && !try_from(30_000));
        assert!(logins.tries.len() <= ADDRESSES_MAX + 1);
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let check = |address: &str, expected: &str| {
            assert_eq!(network(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        };
        check("2001:db8::1:2:3:4", "2001:db8::");
        check("::ffff:10.0.0.1", "10.0.0.1");
        check("10.0.0.1", "10.0.0.1");
    }
}
