//! Whose turn it is: tasks of all processes run one at a time, in an order that is drawn, and time goes
//! on when none has anything to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
};

use super::world::{Job, Owner, World};
use crate::random::Random;

/// No run needs more turns.
const TURNS_MAX: u64 = 3_000_000;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Task {
    owner: Option<Owner>,
    job: Job,
    flag: Arc<Flag>,
}

/// Runs all tasks by turns, until `is_over` or a promise is broken.
pub(crate) fn run(world: &World, is_over: impl Fn() -> bool) -> Result<(), String> {
    let outcome = take_turns(world, is_over);
    world.end();
    outcome
}

fn take_turns(world: &World, is_over: impl Fn() -> bool) -> Result<(), String> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut order = Random::new(world.scenario.seed, "turns");
    for turn in 0..TURNS_MAX {
        for (owner, job) in world.spawned() {
            tasks.push(Task { owner, job, flag: Arc::new(Flag(AtomicBool::new(true))) });
        }
        // Whoever died drops all that it has.
        tasks.retain(|task| task.owner.is_none_or(|owner| world.is_alive(owner)));
        if let Some(what) = world.broken() {
            return Err(what);
        }
        if is_over() {
            world.inside().tally.turns = turn;
            return Ok(());
        }
        let may = |task: &Task| task.flag.0.load(Relaxed) && !world.is_stopped(task.owner);
        let ready: Vec<usize> = (0..tasks.len()).filter(|place| may(&tasks[*place])).collect();
        let Some(place) = order.one(&ready) else {
            if !world.advance() {
                return Err("all wait for ever".into());
            }
            continue;
        };
        let task = &mut tasks[place];
        task.flag.0.store(false, Relaxed);
        let waker = Waker::from(task.flag.clone());
        if task.job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(tasks.swap_remove(place));
        }
    }
    Err(format!("{TURNS_MAX} turns, and no end"))
}
