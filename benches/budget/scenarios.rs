//! The scenarios. A part of one has so many times less time and smaller backfills.

use std::{ops::Range, time::Duration};

use userpilot_gateway::{
    cli::plan::{express, suppression, with_defaults},
    domain::update::Lane,
    plan::{
        self, Plan, PlanError, Report,
        traffic::{Choice, Sends, Source, Users},
    },
};

use super::{
    figures::{
        of_backfill, of_backfill_by_express, of_backlog, of_hot, of_outage, of_resync, of_steady,
    },
    table::Row,
};

/// One of them.
pub(super) struct Scenario {
    pub number: u32,
    pub name: &'static str,
    pub plan: Plan,
    part: u32,
    figures: fn(&Outcome) -> Vec<Row>,
}

/// What came of it.
pub(super) struct Outcome {
    pub gateway: Report,
    /// Accepted updates that upstream does not hold once nothing waits.
    pub lost_updates: u64,
    /// Of the naive one and of plain batching, where they ran.
    pub baselines: Option<[Report; 2]>,
    /// Which part of the scenario it is of.
    pub part: u32,
}

impl Scenario {
    /// Runs the gateway's scheduler.
    pub(super) fn run(&self) -> Result<Outcome, PlanError> {
        let (gateway, lost_updates) = plan::run_dry(&self.plan)?;
        Ok(Outcome { gateway, lost_updates, baselines: None, part: self.part })
    }

    /// What came of it, line by line.
    pub(super) fn rows(&self, outcome: &Outcome) -> Vec<Row> {
        let mut rows = vec![Row::heading(self)];
        rows.extend((self.figures)(outcome));
        rows
    }
}

const BACKFILL: &str = "a backfill of 1,000,000 users into the interactive lane, others send 5 \
                        updates/s about other users";
const AMONG: &str = "the same, but the others' users are the last of the million";
const EXPRESS: &str = "the same, with other users, and the others' updates go by express";
const EXPRESS_AMONG: &str = "the same by express, and the users are the last of the million";

/// The class of the services' updates.
pub(super) const SERVICES: &str = "services";

/// All scenarios, or such a part of each: 1 is the whole.
pub(super) fn all(seed: u64, part: u32) -> Vec<Scenario> {
    let hour = Duration::from_secs(3_600) / part;
    let day = 24 * hour;
    let of = |number, name, traffic: Vec<Source>, length, figures: fn(&Outcome) -> Vec<Row>| {
        let plan = Plan { traffic, length, seed, ..with_defaults() };
        Scenario { number, name, plan, part, figures }
    };
    let zipf = Choice::Zipf(1.1);
    let million = 1_000_000 / part;
    let of_two = |name, others, figures| {
        let services = services(49, 5.0, others, zipf, day / 2);
        let backfill = backfill(0..million, hour / 2, Lane::Interactive);
        of(2, name, [services, vec![backfill]].concat(), day / 2, figures)
    };
    let (apart, among) = (million..million + 200_000, million - million / 5..million);
    let mut outage = of(
        4,
        "an outage of 4 h under 15 updates/s over 200,000 users, and a backfill of 150,000 others in bulk",
        [
            services(50, 15.0, 0..200_000, Choice::Uniform, day),
            vec![backfill(200_000..200_000 + 150_000 / part, 2 * hour, Lane::Bulk)],
        ]
        .concat(),
        day,
        of_outage,
    );
    outage.plan.pace.outages = vec![2 * hour..6 * hour];
    vec![
        of(
            1,
            "steady: 50 services, 100 updates/s over 200,000 users, Zipf 1.1, 24 h",
            services(50, 100.0, 0..200_000, zipf, day),
            day,
            of_steady,
        ),
        of_two(BACKFILL, apart.clone(), of_backfill),
        of_two(AMONG, among.clone(), of_backfill),
        by_express(of_two(EXPRESS, apart, of_backfill_by_express)),
        by_express(of_two(EXPRESS_AMONG, among, of_backfill_by_express)),
        nightly_resync(seed, part),
        outage,
        of(
            5,
            "nothing but a backlog of 3,000,000 users, 24 h",
            vec![backfill(0..3_000_000 / part, Duration::ZERO, Lane::Bulk)],
            day,
            of_backlog,
        ),
        of(
            6,
            "hot users: 1 % of 200,000 get 90 % of 100 updates/s, 24 h",
            services(50, 100.0, 0..200_000, Choice::Hot { users: 0.01, updates: 0.9 }, day),
            day,
            of_hot,
        ),
    ]
}

/// The same, with the services' updates in the express lane.
fn by_express(mut scenario: Scenario) -> Scenario {
    scenario.plan.express = Some(express());
    for source in scenario.plan.traffic.iter_mut().filter(|source| source.class == SERVICES) {
        source.lane = Lane::Express;
    }
    scenario
}

fn services(
    count: u32,
    rate: f64,
    users: Range<u32>,
    choice: Choice,
    length: Duration,
) -> Vec<Source> {
    let service = |number| Source {
        client: format!("service-{number}"),
        weight: 1,
        class: SERVICES.to_owned(),
        lane: Lane::Interactive,
        sends: Sends::Flow {
            updates_per_second: rate / f64::from(count),
            users: Users { numbers: users.clone(), choice },
            during: Duration::ZERO..length,
        },
    };
    (0..count).map(service).collect()
}

fn backfill(users: Range<u32>, at: Duration, lane: Lane) -> Source {
    Source {
        client: "backfill".to_owned(),
        weight: 1,
        class: "backfill".to_owned(),
        lane,
        sends: Sends::Backfill { at, users },
    }
}

fn nightly_resync(seed: u64, part: u32) -> Scenario {
    let hour = Duration::from_secs(3_600) / part;
    let resync = Source {
        client: "crm".to_owned(),
        weight: 1,
        class: "resync".to_owned(),
        lane: Lane::Bulk,
        sends: Sends::Resync { at: hour, users: 0..500_000 / part, changed: 0.02 },
    };
    let suppression = Some(suppression());
    let plan =
        Plan { traffic: vec![resync], suppression, length: 12 * hour, seed, ..with_defaults() };
    let name = "a nightly resync of 500,000 users that are upstream already, 2 % changed, \
                with suppress_unchanged";
    Scenario { number: 3, name, plan, part, figures: of_resync }
}
