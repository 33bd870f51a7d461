//! Sessions: who has logged in, for as long as that holds. They are in memory alone, and end with
//! the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio_util::sync::CancellationToken;

use crate::{domain::time::Instant, door::token::Hash};

/// How long sessions live, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a request.
    pub idle: Duration,
    /// With requests.
    pub total: Duration,
    /// At once.
    pub count: usize,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// What the operator has shown; `None` where nothing was asked for.
    pub(super) credential: Option<Hash>,
    /// What each request that may change something must show.
    pub(super) csrf: String,
    /// Is cancelled when it ends by being ended.
    pub(super) ended: CancellationToken,
    began: Instant,
    asked: Instant,
}

/// All sessions, by the hashes of their names: who reads the memory of this cannot take one up.
#[derive(Debug)]
pub(super) struct Sessions {
    limits: SessionLimits,
    kept: Mutex<BTreeMap<Hash, Session>>,
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self { limits, kept: Mutex::default() }
    }

    /// Begins a session. Returns its name, which its browser alone is to know.
    pub(super) fn begin(&self, credential: Option<Hash>, now: Instant) -> (String, Session) {
        let (name, csrf) = (secret(), secret());
        let ended = CancellationToken::new();
        let session = Session { credential, csrf, ended, began: now, asked: now };
        let mut kept = self.kept();
        if kept.len() >= self.limits.count {
            kept.retain(|_, session| self.limits.let_live(session, now));
        }
        while kept.len() >= self.limits.count {
            let idlest = kept.iter().min_by_key(|(_, session)| session.asked);
            let Some(idlest) = idlest.map(|(hash, _)| *hash) else { break };
            if let Some(session) = kept.remove(&idlest) {
                session.ended.cancel();
            }
        }
        kept.insert(Hash::of(&name), session.clone());
        (name, session)
    }

    /// The session of this name, of which a page asks for something by itself: nobody uses it.
    pub(super) fn look(&self, name: &str, now: Instant) -> Option<Session> {
        self.find(Hash::of(name), now)
    }

    /// The session of this name, which asks for something.
    pub(super) fn ask(&self, name: &str, now: Instant) -> Option<Session> {
        let session = self.find(Hash::of(name), now)?;
        if let Some(kept) = self.kept().get_mut(&Hash::of(name)) {
            kept.asked = now;
        }
        Some(session)
    }

    /// Whether the session of this name goes on, without anything being asked for.
    pub(super) fn is_alive(&self, name: Hash, now: Instant) -> bool {
        self.find(name, now).is_some()
    }

    /// Ends a session.
    pub(super) fn end(&self, name: Hash) {
        if let Some(session) = self.kept().remove(&name) {
            session.ended.cancel();
        }
    }

    fn find(&self, name: Hash, now: Instant) -> Option<Session> {
        let mut kept = self.kept();
        let session = kept.get(&name)?.clone();
        if self.limits.let_live(&session, now) {
            return Some(session);
        }
        session.ended.cancel();
        kept.remove(&name);
        None
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Hash, Session>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionLimits {
    fn let_live(&self, session: &Session, now: Instant) -> bool {
        now.since(session.asked) < self.idle && now.since(session.began) < self.total
    }
}

/// 256 random bits, as text.
fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_origin(Duration::from_secs(seconds))
    }

    fn sessions(count: usize) -> Sessions {
        let (idle, total) = (Duration::from_secs(10), Duration::from_secs(25));
        Sessions::new(SessionLimits { idle, total, count })
    }

    #[test]
    fn a_session_ends_once_it_was_idle_and_in_any_case_in_the_end() {
        let sessions = sessions(9);
        let (name, session) = sessions.begin(None, at(0));
        let hash = Hash::of(&name);
        assert!(sessions.ask(&name, at(9)).is_some());
        assert!(sessions.ask("another", at(9)).is_none());
        // A look is no request.
        assert!(sessions.look(&name, at(17)).is_some());
        assert!(sessions.is_alive(hash, at(18)) && !session.ended.is_cancelled());
        assert!(!sessions.is_alive(hash, at(19)) && session.ended.is_cancelled());
        assert!(sessions.ask(&name, at(10)).is_none(), "it is over for good");

        let (name, _) = sessions.begin(None, at(100));
        assert!([109, 118, 124].iter().all(|now| sessions.ask(&name, at(*now)).is_some()));
        assert!(sessions.ask(&name, at(125)).is_none());
    }

    #[test]
    fn a_session_too_many_ends_the_one_that_was_idle_for_longest() {
        let sessions = sessions(2);
        let [(first, _), (second, session)] = [0, 1].map(|now| sessions.begin(None, at(now)));
        sessions.ask(&first, at(2));
        let (third, _) = sessions.begin(None, at(3));
        assert!(sessions.ask(&second, at(4)).is_none() && session.ended.is_cancelled());
        assert!(sessions.ask(&first, at(4)).is_some() && sessions.ask(&third, at(4)).is_some());
    }

    #[test]
    fn names_and_tokens_are_long_and_never_the_same() {
        let sessions = sessions(9);
        let [(one, first), (other, second)] = [0, 1].map(|now| sessions.begin(None, at(now)));
        let mut secrets = vec![one, other, first.csrf, second.csrf];
        assert!(secrets.iter().all(|secret| secret.len() == 43));
        secrets.sort();
        secrets.dedup();
        assert_eq!(secrets.len(), 4);
    }
}
