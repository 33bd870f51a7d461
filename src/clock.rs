//! The only reader of time.

use std::{
    sync::OnceLock,
    time::{Duration, Instant as StdInstant, SystemTime},
};

use crate::domain::time::{Instant, Now, Timestamp};

/// Now, on both clocks.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now {
        instant: Instant::from_origin(StdInstant::now().duration_since(origin())),
        wall: Timestamp::default().plus(wall),
    }
}

/// The moment from which [`Instant`]s count: the first time that anybody asked.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
fn origin() -> StdInstant {
    static ORIGIN: OnceLock<StdInstant> = OnceLock::new();
    *ORIGIN.get_or_init(StdInstant::now)
}

/// Sleeps until `until`; for ever where it is `None`.
pub async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => {
            let at = tokio::time::Instant::from_std(origin() + until.since(Instant::default()));
            tokio::time::sleep_until(at).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeping_until_a_moment_ends_after_it() {
        let until = now().instant.plus(Duration::from_millis(20));
        sleep_until(Some(until)).await;
        assert!(now().instant >= until);
    }
}
