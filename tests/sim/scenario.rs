//! What a seed makes of the world: its size, its limits, and what may go wrong in it.

use std::{collections::BTreeSet, time::Duration};

use userpilot_gateway::{
    domain::{
        admission::QueueLimits,
        backoff::BackoffLimits,
        batch::BatchLimits,
        delivered::Suppression,
        express::ExpressSettings,
        lifecycle::{PartialPolicy, Settings},
        row::RowValues,
    },
    store::engine::ENTRY_BYTES_MAX,
};

pub(crate) use crate::fault::Fault;
use crate::{random::Random, sabotage::Sabotage};

/// How upstream refuses a batch that holds a value that it never takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// 422 for the batch.
    Refused,
    /// Its job fails.
    Fails,
    /// Its job completes without the row.
    Partial,
}

/// One world, all of it from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// From which all chance comes.
    pub(crate) seed: u64,
    /// What may go wrong.
    pub(crate) faults: BTreeSet<Fault>,
    /// How likely each request or step meets a fault, in percent.
    pub(crate) fault_percent: u64,
    /// How many things clients and operators do before traffic stops.
    pub(crate) actions: u64,
    /// How long they rest between them, at the most, in milliseconds.
    pub(crate) rest_max_ms: u64,
    /// How many updates are sent together, at the most.
    pub(crate) group_max: u64,
    /// Users and companies there are: few, so that updates meet.
    pub(crate) subjects: u64,
    /// How many of them are companies, in percent.
    pub(crate) companies_percent: u64,
    /// Properties there are.
    pub(crate) properties: u64,
    /// How upstream refuses what it never takes, and which updates that are: one in so many.
    pub(crate) poison: Poison,
    pub(crate) poison_every: u64,
    /// Whether rows are applied one by one rather than when the job ends.
    pub(crate) progressive: bool,
    /// The gateway's settings.
    pub(crate) settings: Settings,
    /// Those of its express lane.
    pub(crate) express: ExpressSettings,
    /// The queue's limits.
    pub(crate) queue: QueueLimits,
    /// Whether the gateway remembers what it delivers, and for how long that counts.
    pub(crate) suppression: Option<Suppression>,
    /// Whether a restart may switch that off or on.
    pub(crate) memory_is_switched: bool,
    /// How many updates repeat the values of an earlier one.
    pub(crate) repeats_percent: u64,
    /// The most bytes of an entry of the store.
    pub(crate) entry_bytes_max: usize,
    /// Whether operators mostly replay dead letters.
    pub(crate) of_letters: bool,
    /// A bug that is planted.
    pub(crate) sabotage: Option<Sabotage>,
    /// Whether to tell what happens.
    pub(crate) trace: bool,
}

/// Where the queue is short, records are small, and the store fails at entries that are more
/// than a little larger, as the real one does.
const SHORT_RECORD_BYTES_MAX: usize = 2_000;
/// With its stamps and places a record takes less than 200 bytes more. What is written down of a batch
/// fits in, too: 20 events and 20 former jobs with the words of this world take some 1,800.
const SHORT_ENTRY_BYTES_MAX: usize = 2_200;

fn express(random: &mut Random) -> ExpressSettings {
    ExpressSettings {
        per_minute: u32::try_from(random.between(6, 120)).unwrap_or(60),
        requests_max: u32::try_from(random.between(1, 4)).unwrap_or(1),
        backoff: BackoffLimits { initial: Duration::from_secs(1), max: Duration::from_secs(60) },
        retry_after_max: Duration::from_secs(300),
        held_retry: Duration::from_secs(120),
    }
}

/// What may go wrong in the world of a seed.
fn faults(seed: u64, share: u64, random: &mut Random) -> BTreeSet<Fault> {
    let others = Fault::EXPECTED.into_iter().filter(|fault| !Fault::LATER.contains(fault));
    let mut faults: BTreeSet<Fault> = others.filter(|_| random.percent(share)).collect();
    for fault in Fault::LATER {
        let name = format!("{fault:?}").to_lowercase();
        // Those of lists seldom come alone to anything.
        let share = if fault == Fault::Damage { share } else { share / 3 };
        if Random::new(seed, &name).percent(share) {
            faults.insert(fault);
        }
    }
    // Where every job is denied, there must be a list to believe, and it does not say how many
    // rows a job took.
    if faults.contains(&Fault::PollDenies) {
        let unclear = [
            Fault::NoList,
            Fault::NoNames,
            Fault::ListIsBroken,
            Fault::ListIsPaged,
            Fault::ListIsOldestFirst,
            Fault::JobIsPartial,
            Fault::JobIsForgotten,
        ];
        faults.retain(|fault| !unclear.contains(fault));
    }
    faults
}

/// Half of the apps remember what they deliver.
fn suppression(random: &mut Random) -> Option<Suppression> {
    random.percent(50).then_some(Suppression {
        refresh_after: random.millis(1_000, 600_000),
        properties_max: 8,
        account: 0,
    })
}

impl Scenario {
    /// The world of a seed. Every seed has some of the faults: what needs the absence of one
    /// to come out is found, too.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "scenario");
        let share = random.between(0, 60);
        let mut faults = faults(seed, share, &mut random);
        let denies = faults.contains(&Fault::PollDenies);
        let of_letters = Random::new(seed, "letters").percent(10);
        if of_letters {
            faults.extend([Fault::Operator, Fault::BadRows]);
            faults.remove(&Fault::OccurredAt);
        }
        // After a reboot there is the wall clock alone, and one that has jumped says too much.
        if faults.contains(&Fault::PowerCut) {
            faults.remove(&Fault::ClockSetForward);
        }
        let short = faults.contains(&Fault::ShortQueue);
        let users_per_minute = u32::try_from(random.between(10, 600)).unwrap_or(60);
        let batch = BatchLimits { rows_max: random.between(1, 6), bytes_max: 100_000 };
        let suppression = suppression(&mut random);
        let scenario = Self {
            seed,
            faults,
            fault_percent: random.between(5, 45),
            actions: random.between(10, 50),
            rest_max_ms: [50, 1_000, 6_000, 30_000][usize::try_from(random.below(4)).unwrap_or(0)],
            group_max: 4,
            subjects: random.between(1, 8),
            companies_percent: [0, 30, 50, 100][usize::try_from(random.below(4)).unwrap_or(0)],
            properties: random.between(1, 3),
            poison: [Poison::Refused, Poison::Fails, Poison::Partial]
                [usize::try_from(random.below(3)).unwrap_or(0)],
            poison_every: random.between(2, 12),
            progressive: random.percent(50),
            settings: Settings {
                users_per_minute,
                linger: random.millis(0, 2_000),
                batch,
                job_users_min: random.between(1, 4),
                overhead_target: 0.03,
                bulk_share: [0.0, 0.2, 0.5][usize::try_from(random.below(3)).unwrap_or(0)],
                poll_interval: (Duration::from_secs(1), Duration::from_secs(15)),
                backoff: BackoffLimits {
                    initial: Duration::from_secs(1),
                    max: Duration::from_secs(60),
                },
                retry_after_max: Duration::from_secs(300),
                held_retry: Duration::from_secs(120),
                failed_jobs_max: u32::try_from(random.between(1, 3)).unwrap_or(1),
                partial: PartialPolicy::Isolate,
                values: RowValues::Primitive,
            },
            express: express(&mut random),
            queue: QueueLimits {
                records_max: if short { random.between(1, 4) } else { 1_000_000 },
                bytes_max: if short { random.between(2_000, 20_000) } else { 1 << 30 },
                record_bytes_max: if short { SHORT_RECORD_BYTES_MAX } else { 1 << 16 },
                record_properties_max: 1_000,
            },
            suppression,
            memory_is_switched: Random::new(seed, "memory").percent(30),
            repeats_percent: [0, 20, 60][usize::try_from(random.below(3)).unwrap_or(0)],
            entry_bytes_max: if short { SHORT_ENTRY_BYTES_MAX } else { ENTRY_BYTES_MAX },
            of_letters,
            sabotage: None,
            trace: false,
        };
        let scenario = if of_letters { scenario.with_letters() } else { scenario };
        match denies && scenario.poison == Poison::Partial {
            true => Self { poison: Poison::Fails, ..scenario },
            false => scenario,
        }
    }

    /// A world of few subjects and values, in which much dies, is replayed, and is remembered: what
    /// a replay may go over is rare otherwise.
    fn with_letters(self) -> Self {
        let mut random = Random::new(self.seed, "of letters");
        let suppression = Suppression {
            refresh_after: Duration::from_secs(86_400),
            properties_max: 8,
            account: 0,
        };
        Self {
            suppression: Some(suppression),
            repeats_percent: 60,
            subjects: random.between(1, 2),
            properties: random.between(1, 2),
            actions: random.between(30, 80),
            ..self
        }
    }

    /// A world with batches that take several commits to claim and to settle, and with
    /// clients that send between them.
    pub(crate) fn large(seed: u64) -> Self {
        let mut random = Random::new(seed, "large");
        let mut scenario = Self::new(seed);
        scenario.faults.remove(&Fault::ShortQueue);
        scenario.queue.records_max = 1_000_000;
        scenario.queue.bytes_max = 1 << 30;
        scenario.queue.record_bytes_max = 1 << 16;
        scenario.entry_bytes_max = ENTRY_BYTES_MAX;
        scenario.group_max = 1_200;
        scenario.subjects = random.between(1_000, 3_000);
        scenario.settings.batch =
            BatchLimits { rows_max: random.between(900, 3_000), bytes_max: 200_000 };
        scenario.settings.users_per_minute = 1_800;
        scenario.poison_every = random.between(200, 2_000);
        scenario.actions = random.between(8, 16);
        scenario
    }

    /// Whether what the gateway remembers decides for good what is later: it remembers all of it
    /// all the time.
    pub(crate) fn remembers_well(&self) -> bool {
        let forgets = [
            Fault::Prune,
            Fault::Forget,
            Fault::Damage,
            Fault::ClockSetBack,
            Fault::ClockSetForward,
            Fault::ClockAheadAfterReboot,
        ];
        let forgets = self.memory_is_switched || forgets.iter().any(|fault| self.has(*fault));
        self.suppression.is_some() && !forgets
    }

    /// For how long what is delivered is not sent again, where clocks tell.
    pub(crate) fn refresh_after(&self) -> Option<Duration> {
        let jumps = [Fault::ClockSetBack, Fault::ClockSetForward, Fault::ClockAheadAfterReboot];
        let jumps = jumps.iter().any(|fault| self.has(*fault));
        self.suppression.filter(|_| !jumps).map(|suppression| suppression.refresh_after)
    }

    /// Whether upstream never takes the values of this update.
    pub(crate) fn is_poison(&self, number: u64) -> bool {
        self.has(Fault::Poison) && number % self.poison_every == 1
    }

    /// Whether something may go wrong.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
