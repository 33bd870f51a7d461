//! Replicas at random: whatever they do and however they meet, what upstream holds in the end is
//! what was accepted, in the order of sequences.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;

const REPLICAS: usize = 3;
const USERS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    /// Users and values of a group.
    Accept(Vec<(usize, bool, Lane)>),
    /// Takes the lease over.
    Adopt,
    /// Claims or goes on with what is claimed, and settles that.
    Deliver(Settlement),
    Express(ExpressEnd),
    Refresh,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![Just(Lane::Express), Just(Lane::Interactive), Just(Lane::Bulk)];
    let update = (0..USERS.len(), any::<bool>(), lane);
    let settlement = prop_oneof![Just(Settlement::Delivered), Just(Settlement::Requeued)];
    let end = prop_oneof![
        Just(ExpressEnd::Delivered),
        Just(ExpressEnd::Back),
        Just(ExpressEnd::Unknown),
        Just(ExpressEnd::Refused)
    ];
    prop_oneof![
        6 => prop::collection::vec(update, 1..5).prop_map(Step::Accept),
        1 => Just(Step::Adopt),
        4 => settlement.prop_map(Step::Deliver),
        2 => end.prop_map(Step::Express),
        1 => Just(Step::Refresh),
    ]
}

/// A value that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    sequence: u64,
    user: usize,
    property: bool,
    value: i64,
    /// When that began and ended.
    span: (u64, u64),
}

/// What all replicas see of the world.
#[derive(Default)]
struct World {
    accepted: Vec<Taken>,
    upstream: BTreeMap<(String, String), i64>,
    last_value: i64,
    ticks: u64,
}

impl World {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn receive(&mut self, row: &str) {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let user = row["user_id"].as_str().unwrap().to_owned();
        for (name, value) in row["metadata"].as_object().unwrap() {
            self.upstream.insert((user.clone(), name.clone()), value.as_i64().unwrap());
        }
    }
}

struct Replica {
    engine: Crowd,
    queue: Queue<Crowd>,
    app: AppId,
    under_way: Option<Batch>,
    world: Arc<Mutex<World>>,
}

impl Replica {
    async fn run(mut self, steps: Vec<Step>) -> Self {
        for step in steps {
            match self.step(step).await {
                Ok(()) => {}
                Err(StoreError::LeaseLost { .. }) => self.under_way = None,
                Err(error) => panic!("{error}"),
            }
        }
        self
    }

    async fn step(&mut self, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Accept(group) => self.accept(group).await,
            Step::Adopt => {
                let recovered = adopt_or_lose(&self.engine, &mut self.queue, self.app).await?;
                self.under_way = recovered.unsettled;
                Ok(())
            }
            Step::Deliver(settlement) => self.deliver(settlement).await.map(drop),
            Step::Express(end) => self.express(end).await,
            Step::Refresh => self.queue.refresh(&[self.app]).await,
        }
    }

    async fn accept(&mut self, group: Vec<(usize, bool, Lane)>) -> Result<(), StoreError> {
        let (mut updates, mut values, began) =
            (Vec::new(), Vec::new(), { self.world.lock().unwrap().tick() });
        for (user, property, lane) in &group {
            let mut world = self.world.lock().unwrap();
            world.last_value += 1;
            values.push(world.last_value);
            let property = if *property { "p" } else { "q" };
            let update = update(self.app, USERS[*user], property, world.last_value);
            updates.push(Update { lane: *lane, ..update });
        }
        let outcomes = self.queue.accept(updates, at(1)).await?;
        let mut world = self.world.lock().unwrap();
        let span = (began, world.tick());
        for ((outcome, (user, property, _)), value) in outcomes.iter().zip(group).zip(values) {
            let sequence = outcome.as_ref().unwrap().sequence;
            world.accepted.push(Taken { sequence, user, property, value, span });
        }
        Ok(())
    }

    /// Whether there was anything.
    async fn deliver(&mut self, settlement: Settlement) -> Result<bool, StoreError> {
        let batch = match self.under_way.take() {
            Some(batch) => Some(batch),
            None => claim(&mut self.queue, self.app).await?,
        };
        let Some(mut batch) = batch else { return Ok(false) };
        let rows = upload(&self.engine, &batch).await;
        batch.state = BatchState::Running;
        self.queue.advance(&batch, Memory::default()).await?;
        // Who has lost its lease by now has sent its rows all the same; whoever has it sends them
        // again before anything newer.
        rows.lines().for_each(|row| self.world.lock().unwrap().receive(row));
        self.under_way = Some(batch.clone());
        let settled = self.queue.settle(&batch, settlement, Memory::default(), at(3)).await?;
        self.under_way = settled.next.map(|next| *next);
        Ok(true)
    }

    async fn express(&mut self, end: ExpressEnd) -> Result<(), StoreError> {
        use crate::domain::row::RowValues;
        let taken = self.queue.take_express(self.app, 3, at(2)).await?.subjects;
        let mut bodies = Vec::new();
        for subject in &taken {
            let reads = Reads::new(self.engine.clone());
            bodies.extend(reads.express_body(self.app, subject, RowValues::Primitive).await?);
        }
        // It looks at its lease before it asks upstream.
        let look = self.queue.begin_fenced(self.app).await?;
        self.queue.leave(look).await?;
        if end == ExpressEnd::Delivered {
            let row = |body| String::from_utf8(body).unwrap();
            bodies.into_iter().for_each(|it| self.world.lock().unwrap().receive(&row(it)));
        }
        let ends: Vec<_> = taken.into_iter().map(|subject| (subject, end)).collect();
        self.queue.settle_express(self.app, &ends, at(3)).await.map(drop)
    }
}

/// Another may take it over in the middle of it.
async fn adopt_or_lose(
    engine: &Crowd,
    queue: &mut Queue<Crowd>,
    app: AppId,
) -> Result<Recovered, StoreError> {
    let token = raise_token(engine, app).await;
    let full_job = Occupancy::default();
    let terms = AppTerms { name: "production".into(), full_job, suppression: None };
    Ok(queue.adopt(&terms, token, at(5)).await?.1)
}

async fn play(seed: u64, stripes: u16, scripts: Vec<Vec<Step>>) {
    let engine = Crowd::unsteady(stripes, seed);
    let world = Arc::new(Mutex::new(World::default()));
    let mut tasks = JoinSet::new();
    for (random, steps) in (1..).zip(scripts) {
        let (queue, app) = replica(&engine, random).await;
        let (engine, world) = (engine.clone(), world.clone());
        let replica = Replica { engine, queue, app, under_way: None, world };
        tasks.spawn(replica.run(steps));
    }
    let mut last = tasks.join_all().await.pop().unwrap();
    is_sound(&engine).await;
    last.under_way = adopt(&engine, &mut last.queue, last.app).await.unsettled;
    loop {
        let delivered = last.deliver(Settlement::Delivered).await.unwrap();
        last.express(ExpressEnd::Delivered).await.unwrap();
        if !delivered && last.queue.depth(last.app).records == 0 {
            break;
        }
    }
    is_sound(&engine).await;
    assert_eq!(last.queue.depth(last.app), QueueDepth::default());
    verify(&world.lock().unwrap());
}

fn verify(world: &World) {
    let mut accepted = world.accepted.clone();
    accepted.sort_unstable();
    let mut expected = BTreeMap::new();
    for (at, taken) in accepted.iter().enumerate() {
        let sequence = taken.sequence;
        for Taken { sequence: later, user, span: (_, ended), .. } in &accepted[at + 1..] {
            assert_ne!(*later, sequence, "a sequence was given twice");
            let is_in_order = *user != taken.user || *ended >= taken.span.0;
            assert!(is_in_order, "{later} was accepted before {sequence} of the same subject");
        }
        let property = if taken.property { "p" } else { "q" };
        expected.insert((USERS[taken.user].to_owned(), property.to_owned()), taken.value);
    }
    assert_eq!(world.upstream, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_upstream_holds_is_what_was_accepted_in_order(
        seed: u64,
        stripes in prop_oneof![Just(1_u16), Just(2), Just(8)],
        scripts in prop::collection::vec(prop::collection::vec(step(), 0..25), REPLICAS),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(seed, stripes, scripts));
    }
}
