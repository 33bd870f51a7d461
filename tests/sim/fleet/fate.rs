//! What becomes of processes: they stand still, die, are born again, and are cut off from the store.

use std::{
    future::{pending, poll_fn},
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    scenario::Trouble,
    world::{Owner, World},
};

/// What the world knows of a replica.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    life: u64,
    is_alive: bool,
    pub(crate) stopped_until: Duration,
    pub(crate) cut_until: Duration,
    /// Who waits for its death.
    mourner: Option<Waker>,
}

impl World {
    /// A point of a process's life: others come in between, it may stand still here, or die.
    pub(crate) async fn point(&self, owner: Owner, one_in: u64) {
        if self.strikes(Trouble::Stop, one_in) {
            let length = self.millis(1, 12_000);
            self.stop(owner.place, length);
        }
        if self.strikes(Trouble::LongStop, one_in * 2) {
            let length = self.millis(8_000, 90_000);
            self.stop(owner.place, length);
        }
        if self.strikes(Trouble::Kill, one_in * 2) {
            self.kill(owner.place);
            pending::<()>().await;
        }
        match self.below(10) {
            0..6 => {}
            6..9 => self.give_way().await,
            _ => {
                let length = self.millis(0, 8);
                self.sleep(length).await;
            }
        }
        // Whoever was stopped goes on from here.
        if self.is_stopped(Some(owner)) {
            self.give_way().await;
        }
    }

    pub(crate) fn stop(&self, place: usize, length: Duration) {
        let mut inside = self.inside();
        let until = inside.time + length;
        let standing = &mut inside.standings[place];
        let life = standing.life;
        standing.stopped_until = standing.stopped_until.max(until);
        inside.tally.stops += 1;
        drop(inside);
        self.say(Some(Owner { place, life }), || format!("stands still for {length:?}"));
        // So that time comes to an end there.
        self.at(until, |_| {});
    }

    pub(crate) fn kill(&self, place: usize) {
        let mut inside = self.inside();
        let standing = &mut inside.standings[place];
        if !std::mem::replace(&mut standing.is_alive, false) {
            return;
        }
        let life = standing.life;
        let mourner = standing.mourner.take();
        inside.processes[place] = None;
        inside.tally.deaths += 1;
        drop(inside);
        self.say(Some(Owner { place, life }), || "dies".into());
        if let Some(mourner) = mourner {
            mourner.wake();
        }
    }

    pub(crate) fn cut(&self, place: usize, length: Duration) {
        let mut inside = self.inside();
        let until = inside.time + length;
        let standing = &mut inside.standings[place];
        standing.cut_until = standing.cut_until.max(until);
        let life = standing.life;
        inside.tally.cuts += 1;
        drop(inside);
        self.say(Some(Owner { place, life }), || format!("is cut off for {length:?}"));
    }

    /// A new life of a replica begins.
    pub(crate) fn be_born(&self, place: usize) -> Owner {
        let mut inside = self.inside();
        let standing = &mut inside.standings[place];
        standing.life += 1;
        standing.is_alive = true;
        standing.stopped_until = Duration::ZERO;
        Owner { place, life: standing.life }
    }

    /// Until a process is no more.
    pub(crate) async fn death_of(&self, owner: Owner) {
        poll_fn(|context| {
            if !self.is_alive(owner) {
                return Poll::Ready(());
            }
            self.inside().standings[owner.place].mourner = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn is_alive(&self, owner: Owner) -> bool {
        let standing = &self.inside().standings[owner.place];
        standing.is_alive && standing.life == owner.life
    }

    pub(crate) fn is_cut(&self, owner: Owner) -> bool {
        let inside = self.inside();
        inside.standings[owner.place].cut_until > inside.time
    }

    pub(crate) fn is_stopped(&self, owner: Option<Owner>) -> bool {
        let Some(owner) = owner else { return false };
        let inside = self.inside();
        inside.standings[owner.place].stopped_until > inside.time
    }
}
