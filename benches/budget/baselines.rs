//! Two schedulers that people really write, on the same account and the same traffic.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use userpilot_gateway::{
    domain::update::Lane,
    plan::{
        Account, Ages, Answer, Left, Plan, Report, Tally, disturbed_until,
        traffic::{Arrival, Arrivals},
    },
};

/// How long who finds the slot taken, or nobody there, waits: a second, give or take a half.
const RETRY_MS: std::ops::Range<u64> = 500..1_500;
/// What plain batching puts into a job.
const BATCH_ROWS: usize = 10_000;
/// When it sends what there is, though that is less.
const FLUSH: Duration = Duration::from_secs(60);
/// How often it asks whether its job is over.
const POLL: Duration = Duration::from_secs(1);

/// Every service sends every update as it comes, as a bulk job of one user, in order, and tries
/// again on 409.
pub(super) fn naive(plan: &Plan) -> Report {
    let mut run = Run::new(plan);
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut queues: Vec<VecDeque<Arrival>> = vec![VecDeque::new(); plan.traffic.len()];
    let mut tries = BinaryHeap::new();
    loop {
        let next_try: Option<Duration> =
            tries.peek().map(|Reverse((at, _)): &Reverse<(Duration, usize)>| *at);
        let now = [next_try, run.arrivals.next_at()].into_iter().flatten().min();
        let Some(now) = now.filter(|now| *now < plan.length) else { break };
        if let Some(arrival) = run.arrive(now) {
            let queue = &mut queues[arrival.source];
            queue.push_back(arrival);
            if queue.len() == 1 {
                tries.push(Reverse((now, arrival.source)));
            }
            continue;
        }
        let Some(Reverse((_, source))) = tries.pop() else { break };
        let Some(first) = queues[source].front().copied() else { continue };
        match run.submit(std::slice::from_ref(&first), now) {
            Answer::Taken(_) => {
                queues[source].pop_front();
                if !queues[source].is_empty() {
                    tries.push(Reverse((now + plan.pace.round_trip, source)));
                }
            }
            Answer::Conflict | Answer::Down => {
                let wait = Duration::from_millis(random.random_range(RETRY_MS));
                tries.push(Reverse((now + wait, source)));
            }
        }
    }
    run.report()
}

/// One service with one queue: up to 10,000 updates a job, first in first out, no coalescing.
pub(super) fn batching(plan: &Plan) -> Report {
    let mut run = Run::new(plan);
    let mut queue: VecDeque<Arrival> = VecDeque::new();
    let mut free_at = Duration::ZERO;
    loop {
        let ready_at = match queue.front() {
            None => None,
            Some(_) if queue.len() >= BATCH_ROWS => Some(free_at),
            Some(first) => Some(free_at.max(first.at + FLUSH)),
        };
        let now = [ready_at, run.arrivals.next_at()].into_iter().flatten().min();
        let Some(now) = now.map(|now| now.max(run.now)).filter(|now| *now < plan.length) else {
            break;
        };
        if let Some(arrival) = run.arrive(now) {
            queue.push_back(arrival);
            continue;
        }
        let rows = queue.len().min(BATCH_ROWS);
        let batch: Vec<Arrival> = queue.iter().take(rows).copied().collect();
        match run.submit(&batch, now) {
            Answer::Taken(job) => {
                queue.drain(..rows);
                let polls = (job.ends_at - now).as_secs_f64() / POLL.as_secs_f64();
                free_at = now + POLL.mul_f64(polls.ceil()) + plan.pace.round_trip;
            }
            Answer::Conflict | Answer::Down => free_at = now + POLL,
        }
    }
    run.report()
}

/// A run of either. An update's place in `ages` is a number of its own, not its user's: nothing is
/// coalesced.
struct Run<'a> {
    plan: &'a Plan,
    arrivals: Arrivals,
    account: Account,
    ages: Ages,
    tally: Tally,
    now: Duration,
    waiting: Left,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut tally = Tally::new(&plan.traffic, plan.length, disturbed_until(plan));
        tally.backlog(0);
        Self {
            plan,
            arrivals: Arrivals::new(&plan.traffic, plan.seed),
            account: Account::new(plan.pace.clone()),
            ages: Ages::default(),
            tally,
            now: Duration::ZERO,
            waiting: Left { interactive: 0, bulk: 0 },
        }
    }

    /// What waits in the lane of an update.
    fn waiting(&mut self, update: &Arrival) -> &mut u64 {
        match self.plan.traffic[update.source].lane {
            Lane::Express | Lane::Interactive => &mut self.waiting.interactive,
            Lane::Bulk => &mut self.waiting.bulk,
        }
    }

    /// The next update, if one comes by now. It bears a number of its own in the user's place.
    fn arrive(&mut self, now: Duration) -> Option<Arrival> {
        self.now = now;
        let arrival = self.arrivals.next_until(now)?;
        let number = u32::try_from(self.tally.accepted).unwrap_or(u32::MAX);
        self.tally.accepted += 1;
        let arrival = Arrival { user: number, ..arrival };
        self.ages.arrive(&arrival);
        self.tally.came(arrival.source);
        *self.waiting(&arrival) += 1;
        Some(arrival)
    }

    fn submit(&mut self, updates: &[Arrival], now: Duration) -> Answer {
        self.now = now;
        let answer = self.account.submit(updates.len() as u64, now);
        if let Answer::Taken(job) = answer {
            for update in updates {
                *self.waiting(update) -= 1;
            }
            let rows: Vec<(u32, i64)> =
                updates.iter().map(|update| (update.user, update.value)).collect();
            self.tally.job(&job, &rows, self.waiting, &self.account, &mut self.ages);
        }
        answer
    }

    fn report(mut self) -> Report {
        self.tally.report(&self.account, &mut self.ages)
    }
}
