//! The ways to the writers: to the one, or to those that a store has which others write to as well.
//!
//! There, a subject's updates all go to the writer of its stripe, in the order in which they are
//! handed over, so that two writers of a process never want the same lock.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{NotTaken, Permits};
use crate::{
    domain::{admission::QueueRefusal, update::Update},
    store::{
        committer::{Op, Outcomes},
        keys::{self, course::stripe_of},
        queue::Accepted,
    },
};

/// The ways to the writers.
#[derive(Clone)]
pub(in crate::store) struct Ways {
    /// To those that accept, by turns of stripes.
    pub(super) accept: Arc<[mpsc::Sender<Op>]>,
    /// To the one that does everything else.
    pub(super) control: mpsc::Sender<Op>,
    /// To the one that keeps leases. Where the store is this process's alone, there are none.
    pub(super) leases: Option<mpsc::Sender<Op>>,
    /// Into how many stripes an app's subjects are dealt.
    pub(super) stripes: u16,
}

impl Ways {
    /// The way to one that does everything.
    pub(super) fn to_one(writer: mpsc::Sender<Op>) -> Self {
        Self { accept: [writer.clone()].into(), control: writer, leases: None, stripes: 1 }
    }

    /// All of them, each once.
    pub(super) fn all(&self) -> Vec<&mpsc::Sender<Op>> {
        match &self.leases {
            None => vec![&self.control],
            Some(leases) => [&self.control, leases].into_iter().chain(&*self.accept).collect(),
        }
    }

    /// Hands updates to those that accept: to all that it takes, or to none.
    pub(super) fn accept(
        &self,
        updates: Vec<Update>,
        permits: Permits,
    ) -> Result<oneshot::Receiver<Outcomes>, NotTaken> {
        let (reply, outcomes) = oneshot::channel();
        if let [only] = &*self.accept {
            let answer = Answer::Whole { permits, reply };
            only.try_send(Op::Accept { updates, answer }).map_err(not_taken)?;
            return Ok(outcomes);
        }
        let count = updates.len();
        let mut parts = BTreeMap::<usize, (Vec<Update>, Vec<usize>)>::new();
        for (place, update) in updates.into_iter().enumerate() {
            let (own, places) = parts.entry(self.writer_of(&update)).or_default();
            own.push(update);
            places.push(place);
        }
        let room: Result<Vec<_>, _> =
            parts.keys().map(|writer| self.accept[*writer].try_reserve()).collect();
        let room = room.map_err(not_taken)?;
        let state =
            Gathering { outcomes: vec![None; count], left: parts.len(), reply: Some(reply) };
        let whole = Arc::new(Whole { state: Mutex::new(state), _permits: permits });
        for (room, (updates, places)) in room.into_iter().zip(parts.into_values()) {
            let answer = Answer::Part { whole: whole.clone(), places };
            room.send(Op::Accept { updates, answer });
        }
        Ok(outcomes)
    }

    fn writer_of(&self, update: &Update) -> usize {
        let key = keys::pending(update.app, &update.subject);
        let stripe = stripe_of(update.app, &key[keys::SUBJECT_AT..], self.stripes);
        usize::from(stripe) % self.accept.len()
    }
}

fn not_taken<T>(error: TrySendError<T>) -> NotTaken {
    match error {
        TrySendError::Full(_) => NotTaken::Full,
        TrySendError::Closed(_) => NotTaken::Closed,
    }
}

/// Where the outcomes of updates go that one writer was handed. Where it is dropped, nobody knows
/// what became of them.
pub(in crate::store) enum Answer {
    /// They are all that were handed over.
    Whole { permits: Permits, reply: oneshot::Sender<Outcomes> },
    /// They are those in these places.
    Part { whole: Arc<Whole>, places: Vec<usize> },
}

/// What several writers were handed together. The permits are held until the last has answered.
pub(in crate::store) struct Whole {
    state: Mutex<Gathering>,
    _permits: Permits,
}

struct Gathering {
    outcomes: Vec<Option<Result<Accepted, QueueRefusal>>>,
    /// Parts that have no answer yet.
    left: usize,
    reply: Option<oneshot::Sender<Outcomes>>,
}

impl Answer {
    /// Tells the outcomes, in the order of the updates. Who asked may have gone: what was accepted
    /// stays accepted.
    pub(in crate::store) fn send(self, own: Outcomes) {
        match self {
            Self::Whole { permits, reply } => {
                reply.send(own).ok();
                drop(permits);
            }
            Self::Part { whole, places } => {
                let mut state = whole.state.lock().unwrap_or_else(PoisonError::into_inner);
                for (place, outcome) in places.into_iter().zip(own) {
                    state.outcomes[place] = Some(outcome);
                }
                state.left -= 1;
                if state.left == 0 {
                    let outcomes = state.outcomes.drain(..).flatten().collect();
                    if let Some(reply) = state.reply.take() {
                        reply.send(outcomes).ok();
                    }
                }
            }
        }
    }
}
