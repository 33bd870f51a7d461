//! The audit log: who tried what, as events of a target of its own. No credential, no user's id
//! and no property value stands in any.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{clock, domain::time::Instant};

/// The target of all audit events, which `telemetry` writes as JSON lines.
pub const TARGET: &str = "audit";

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Updates by gRPC.
    Grpc,
    /// Updates by HTTP.
    Http,
    /// Operators.
    Admin,
}

impl Door {
    /// What it is called in the log and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Admin => "admin",
        }
    }
}

/// Refusals that are written in a second at the most, of each kind: whoever guesses tokens should
/// not fill the disk.
const REFUSALS_PER_SECOND_MAX: u32 = 10;

/// A request had no credential, or a wrong one.
pub fn authentication_failed(door: Door, peer: Option<SocketAddr>) {
    static BOUND: Bound = Bound::new();
    if let Some(not_written) = BOUND.pass(clock::now().instant) {
        let (door, peer) = (door.name(), peer.map(tracing::field::display));
        tracing::warn!(
            target: TARGET, event = "authentication_failed", door, peer, not_written,
            "a request has no valid credential"
        );
    }
}

/// Somebody is not trusted, or does not trust the gateway.
pub fn handshake_failed(peer: SocketAddr, error: &std::io::Error) {
    static BOUND: Bound = Bound::new();
    if let Some(not_written) = BOUND.pass(clock::now().instant) {
        tracing::warn!(
            target: TARGET, event = "tls_handshake_failed", %peer, %error, not_written,
            "a TLS handshake failed"
        );
    }
}

/// A client asked for what it may not do: `field` of its request says what.
pub fn permission_refused(client: &str, field: &str) {
    static BOUND: Bound = Bound::new();
    if let Some(not_written) = BOUND.pass(clock::now().instant) {
        tracing::warn!(
            target: TARGET, event = "permission_refused", client, field, not_written,
            "a client asks for what it may not do"
        );
    }
}

/// An operator asked for what its role does not allow.
pub fn admin_refused(admin: &str, action: &str) {
    static BOUND: Bound = Bound::new();
    if let Some(not_written) = BOUND.pass(clock::now().instant) {
        tracing::warn!(
            target: TARGET, event = "admin_refused", admin, action, not_written,
            "an operator asks for what it may not do"
        );
    }
}

/// An operator does something with an app, or takes values out; an empty name stands for all apps.
pub fn admin_action(admin: &str, peer: Option<SocketAddr>, action: &str, app: &str) {
    let peer = peer.map(tracing::field::display);
    tracing::info!(
        target: TARGET, event = "admin_action", admin, peer, action, app,
        "an operator acts"
    );
}

/// An operator has logged in to the console.
pub fn console_entered(admin: &str, peer: Option<SocketAddr>) {
    let peer = peer.map(tracing::field::display);
    tracing::info!(target: TARGET, event = "console_entered", admin, peer, "an operator logs in");
}

/// An operator has logged out of the console.
pub fn console_left(admin: &str, peer: Option<SocketAddr>) {
    let peer = peer.map(tracing::field::display);
    tracing::info!(target: TARGET, event = "console_left", admin, peer, "an operator logs out");
}

/// An app's API key is another one.
pub fn api_key_changed(app: &str) {
    tracing::info!(target: TARGET, event = "api_key_changed", app, "there is another API key");
}

/// An issuer publishes other keys than before, or its first were fetched. `key_ids` are their names.
pub fn issuer_keys_changed(issuer: &str, key_ids: &str) {
    tracing::info!(
        target: TARGET, event = "issuer_keys_changed", issuer, key_ids,
        "an issuer has other keys"
    );
}

/// The configuration was read again and is in force: which keys have `changed`, and which of those
/// that are others than at the start wait for a restart.
pub fn config_reloaded(changed: &str, needs_restart: &str) {
    tracing::info!(
        target: TARGET, event = "config_reloaded", changed, needs_restart,
        "another configuration is in force"
    );
}

/// The configuration was read again and is not in force.
pub fn config_refused(error: &str) {
    tracing::warn!(
        target: TARGET, event = "config_refused", error, "the configuration stays as it was"
    );
}

/// Lets so many pass in a second, and counts the others.
struct Bound(Mutex<Passed>);

struct Passed {
    since: Option<Instant>,
    passed: u32,
    held: u64,
}

impl Bound {
    const fn new() -> Self {
        Self(Mutex::new(Passed { since: None, passed: 0, held: 0 }))
    }

    /// How many were held back before this one, if it passes.
    fn pass(&self, now: Instant) -> Option<u64> {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.since.is_none_or(|since| now.since(since) >= Duration::from_secs(1)) {
            passed.since = Some(now);
            passed.passed = 0;
        }
        if passed.passed >= REFUSALS_PER_SECOND_MAX {
            passed.held += 1;
            return None;
        }
        passed.passed += 1;
        Some(std::mem::take(&mut passed.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_told_with_the_next_that_passes() {
        let bound = Bound::new();
        let at = |ms| Instant::from_origin(Duration::from_millis(ms));
        assert!((0..10).all(|ms| bound.pass(at(ms)) == Some(0)));
        assert_eq!((bound.pass(at(10)), bound.pass(at(999))), (None, None));
        assert_eq!((bound.pass(at(1_000)), bound.pass(at(1_001))), (Some(2), Some(0)));
    }
}
