//! Arguments → a plan.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    ops::Range,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use super::Args;
use crate::{
    config::{self, AppConfig, Config},
    domain::{delivered::Suppression, express::ExpressSettings, turns::Weight, update::Lane},
    gateway::settings,
    plan::{
        Pace, Plan, trace,
        traffic::{Choice, Sends, Source, Users},
    },
};

/// A plan of a day by the default settings, in which nothing comes yet.
pub fn with_defaults() -> Plan {
    let config = Config::defaults();
    of_app(&config, &config.apps[0])
}

/// Suppression as it is where an app has nothing but it switched on.
pub fn suppression() -> Suppression {
    let config = Config::defaults();
    let app = AppConfig { suppress_unchanged: true, ..config.apps[0].clone() };
    settings::terms(&app, &config).suppression.expect("it is on")
}

/// The express lane as it is where an app has nothing but it switched on.
pub fn express() -> ExpressSettings {
    let app = AppConfig { express: true, ..Config::defaults().apps[0].clone() };
    settings::express(&app).expect("it is on").0
}

fn of_app(config: &Config, app: &AppConfig) -> Plan {
    Plan {
        traffic: Vec::new(),
        pace: Pace {
            users_per_minute: app.users_per_minute,
            fixed_cost: Duration::from_secs(2),
            round_trip: Duration::from_millis(100),
            express_round_trip: Duration::from_millis(200),
            express_per_minute: app.express_per_minute,
            outages: Vec::new(),
        },
        settings: settings::lifecycle(app),
        express: settings::express(app).map(|(settings, _)| settings),
        queue: settings::queue(&config.store, &config.limits),
        suppression: settings::terms(app, config).suppression,
        length: Duration::from_secs(24 * 60 * 60),
        seed: 1,
    }
}

/// The plan that the arguments ask for.
pub(super) fn plan(args: &Args) -> anyhow::Result<Plan> {
    let (mut plan, mut weights) = match &args.config {
        Some(file) => configured(file, args.app.as_deref())?,
        None => (with_defaults(), BTreeMap::new()),
    };
    weights.extend(args.weight.iter().cloned());
    plan.seed = args.seed;
    plan.pace.fixed_cost = args.fixed_cost;
    plan.pace.round_trip = args.round_trip;
    plan.pace.express_round_trip = args.express_round_trip;
    plan.pace.outages.clone_from(&args.outage);
    if let Some(users) = args.users_per_minute {
        ensure!(users > 0, "--users-per-minute 0: an account that takes nobody never will");
        plan.pace.users_per_minute = users;
        plan.settings.users_per_minute = users;
    }
    let mut recorded = Duration::ZERO;
    if let Some(file) = &args.trace {
        let (sources, length) = trace(file)?;
        plan.traffic.extend(sources);
        recorded = length;
    }
    plan.length = match args.hours {
        Some(hours) if hours > 0.0 && hours <= 24.0 * 366.0 => {
            Duration::from_secs_f64(hours * 3_600.0)
        }
        Some(hours) => bail!("--hours {hours}: give more than 0 and at most a year (8784)"),
        None => plan.length.max(recorded),
    };
    let length = plan.length;
    plan.traffic.extend(flow(args, length)?);
    if args.suppress_unchanged && plan.suppression.is_none() {
        plan.suppression = Some(suppression());
    }
    let backfill = backfill(args, &plan)?;
    plan.traffic.extend(backfill);
    let asks = plan.traffic.iter().any(|source| source.lane == Lane::Express);
    if asks && plan.express.is_none() && (args.config.is_none() || args.express_per_second > 0.0) {
        plan.express = Some(express());
    }
    for source in &mut plan.traffic {
        source.weight = weights.get(&source.client).copied().unwrap_or(1);
    }
    if let Some((client, _)) = args.weight.iter().find(|(client, _)| !sends(&plan, client)) {
        bail!("--weight {client}: no client of the traffic is called so");
    }
    if plan.traffic.is_empty() {
        bail!(
            "nothing would be sent: say what comes with --updates-per-second, \
             --express-per-second, --backfill or --trace, such as --updates-per-second 20 --users 50000"
        );
    }
    Ok(plan)
}

/// A plan by an app's settings, and what the clients weigh.
fn configured(file: &Path, app: Option<&str>) -> anyhow::Result<(Plan, Weights)> {
    let (config, _) = Config::load(Some(file), config::process_environment())?;
    let names = || {
        let names: Vec<&str> = config.apps.iter().map(|app| &*app.name).collect();
        names.join(", ")
    };
    let app = match (app, config.apps.as_slice()) {
        (Some(name), apps) => apps
            .iter()
            .find(|app| app.name == name)
            .with_context(|| format!("--app {name}: the configuration has {}", names()))?,
        (None, [app]) => app,
        (None, _) => bail!("the configuration has several apps: give --app, one of {}", names()),
    };
    let weights = config.clients.iter().map(|client| (client.name.clone(), client.weight));
    Ok((of_app(&config, app), weights.collect()))
}

/// What clients weigh, by their names.
type Weights = BTreeMap<String, Weight>;

fn sends(plan: &Plan, client: &str) -> bool {
    plan.traffic.iter().any(|source| source.client == client)
}

fn trace(file: &Path) -> anyhow::Result<(Vec<Source>, Duration)> {
    let read = match file.to_str() {
        Some("-") => trace::read(io::stdin().lock()),
        Some(_) | None => {
            let open = File::open(file);
            let open = open.with_context(|| format!("cannot open {}", file.display()))?;
            trace::read(BufReader::new(open))
        }
    };
    read.with_context(|| format!("--trace {}", file.display()))
}

fn flow(args: &Args, length: Duration) -> anyhow::Result<Vec<Source>> {
    let (rate, express_rate) = (args.updates_per_second, args.express_per_second);
    ensure!((0.0..=1e6).contains(&rate), "--updates-per-second {rate}: give 0 to 1000000");
    ensure!(
        (0.0..=1e6).contains(&express_rate),
        "--express-per-second {express_rate}: give 0 to 1000000"
    );
    ensure!(args.users > 0, "--users 0: give the number of users that the updates are about");
    ensure!((1..=10_000).contains(&args.clients), "--clients {}: give 1 to 10000", args.clients);
    let choice = match args.zipf {
        Some(exponent) if (0.0..=10.0).contains(&exponent) => Choice::Zipf(exponent),
        Some(exponent) => bail!("--zipf {exponent}: give 0 (all alike) to 10"),
        None => Choice::Uniform,
    };
    let one = |client: u32, lane, rate: f64| Source {
        client: format!("client-{client}"),
        weight: 1,
        class: "clients".to_owned(),
        lane,
        sends: Sends::Flow {
            updates_per_second: rate / f64::from(args.clients),
            users: Users { numbers: 0..args.users, choice },
            during: Duration::ZERO..length,
        },
    };
    let flows = [(args.lane.into(), rate), (Lane::Express, express_rate)];
    let flows = flows.into_iter().filter(|(_, rate)| *rate > 0.0);
    let of_lane = |(lane, rate)| (0..args.clients).map(move |client| one(client, lane, rate));
    Ok(flows.flat_map(of_lane).collect())
}

fn backfill(args: &Args, plan: &Plan) -> anyhow::Result<Option<Source>> {
    let at = args.backfill_at;
    let sends = |users| match args.backfill_changed {
        None => Ok(Sends::Backfill { at, users: 0..users }),
        Some(changed) if !(0.0..=1.0).contains(&changed) => {
            bail!("--backfill-changed {changed}: give 0 to 1")
        }
        Some(_) if plan.suppression.is_none() => bail!(
            "--backfill-changed: what has not changed is sent all the same, unless \
             suppress_unchanged is on: give --suppress-unchanged, or --config with it"
        ),
        Some(changed) => Ok(Sends::Resync { at, users: 0..users, changed }),
    };
    let source = |sends| Source {
        client: "backfill".to_owned(),
        weight: 1,
        class: "backfill".to_owned(),
        lane: args.backfill_lane.into(),
        sends,
    };
    args.backfill.filter(|users| *users > 0).map(|users| sends(users).map(source)).transpose()
}

/// A time as people write it.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().ok();
    let time = time.and_then(|time| Duration::try_from(time).ok());
    time.ok_or_else(|| "expected a time such as 2h, 90m, 30s or 250ms".to_owned())
}

/// A client and what it weighs.
pub(super) fn weight(text: &str) -> Result<(String, Weight), String> {
    let expected = "expected a client and its weight from 1 to 1000, such as client-0=2";
    let (client, weight) = text.rsplit_once('=').ok_or(expected)?;
    let weight: Option<Weight> = weight.parse().ok();
    let weight = weight.filter(|weight| (1..=1_000).contains(weight)).ok_or(expected)?;
    Ok((client.to_owned(), weight))
}

/// From one time to another.
pub(super) fn outage(text: &str) -> Result<Range<Duration>, String> {
    let (from, to) = text.split_once("..").ok_or("expected two times, such as 2h..6h")?;
    let (from, to) = (time(from)?, time(to)?);
    if from >= to {
        return Err(format!("it ends before it begins: did you mean {to:?}..{from:?}?"));
    }
    Ok(from..to)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn asked(arguments: &str) -> Result<Plan, String> {
        let arguments = ["plan"].into_iter().chain(arguments.split_whitespace());
        let line = Line::try_parse_from(arguments).map_err(|error| error.to_string())?;
        plan(&line.args).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn arguments_become_sources_and_an_account() {
        let plan = asked(
            "--updates-per-second 20 --clients 4 --zipf 1.1 --users 500 --backfill 1000 \
             --backfill-at 90m --outage 2h..6h --users-per-minute 1200 --hours 12 --fixed-cost 1.5s",
        )
        .unwrap();
        assert_eq!(plan.traffic.len(), 5);
        let hour = Duration::from_secs(3_600);
        assert_eq!((plan.length, plan.settings.users_per_minute), (hour * 12, 1_200));
        assert_eq!(plan.pace.outages, [hour * 2..hour * 6]);
        assert_eq!(plan.pace.fixed_cost, Duration::from_millis(1_500));
        assert!(matches!(
            &plan.traffic[0].sends,
            Sends::Flow { updates_per_second, users, .. }
                if *updates_per_second == 5.0 && users.choice == Choice::Zipf(1.1)
        ));
        assert!(matches!(plan.traffic[4].sends, Sends::Backfill { at, .. } if at == hour * 3 / 2));
    }

    #[test]
    fn what_cannot_be_planned_is_said_with_what_to_do() {
        let check = |arguments, expected: &str| {
            let error = asked(arguments).map(|_| ()).unwrap_err();
            assert!(error.contains(expected), "{arguments}: {error}");
        };
        check("", "say what comes with --updates-per-second");
        check("--backfill 9 --hours 0", "--hours 0: give more than 0");
        check("--backfill 9 --outage 6h..2h", "it ends before it begins");
        check("--backfill 9 --outage 6h", "expected two times, such as 2h..6h");
        check("--backfill 9 --fixed-cost fast", "expected a time such as 2h");
        check("--backfill 9 --backfill-changed 0.1", "give --suppress-unchanged");
        check(
            "--backfill 9 --backfill-changed 2 --suppress-unchanged",
            "--backfill-changed 2: give 0 to 1",
        );
        check("--trace no-such-file", "cannot open no-such-file");
        check("--updates-per-second 5 --zipf 99", "--zipf 99: give 0");
        check("--backfill 9 --users-per-minute 0", "an account that takes nobody");
        check("--express-per-second=-1", "--express-per-second -1: give 0");
        check("--backfill 9 --weight backfill", "such as client-0=2");
        check("--backfill 9 --weight client-0=2", "--weight client-0: no client of the traffic");
    }

    #[test]
    fn express_is_a_flow_of_its_own_from_the_same_clients() {
        let plan =
            asked("--updates-per-second 4 --express-per-second 1 --clients 2 --weight client-1=3")
                .unwrap();
        let told: Vec<_> =
            plan.traffic.iter().map(|it| (&*it.client, it.lane, it.weight)).collect();
        assert_eq!(
            told,
            [
                ("client-0", Lane::Interactive, 1),
                ("client-1", Lane::Interactive, 3),
                ("client-0", Lane::Express, 1),
                ("client-1", Lane::Express, 3),
            ]
        );
        assert_eq!(plan.express.map(|express| express.per_minute), Some(600));
        assert!(asked("--updates-per-second 4").unwrap().express.is_none());
    }
}
