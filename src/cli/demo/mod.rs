//! `demo`: a simulated Userpilot, a gateway and five pretend services in one process, a live
//! view, and at the end a proof.

mod proof;
mod services;
mod view;

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use self::{
    services::Services,
    view::{Picture, View},
};
use crate::{
    clock,
    config::Config,
    domain::{lifecycle::Activity, time::Instant},
    gateway::Gateway,
    simulator::{Fault, FaultPoint, FaultRule, RunningSimulator, Simulator, SimulatorConfig},
    telemetry,
};

/// See it work: a simulated Userpilot, a gateway and five pretend services.
///
/// Updates flow, coalesce and go up as one job at a time; in the middle Userpilot goes down
/// for a while. At the end every profile is compared with what the services sent.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// For how long the services send.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// How many times faster than the real one the simulated Userpilot lives.
    #[arg(long, value_name = "FACTOR", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub speed: u32,
    /// Where everything is kept. Made anew each time.
    #[arg(long, value_name = "DIR", default_value = "demo-data")]
    pub directory: PathBuf,
    /// Do not take Userpilot down in the middle.
    #[arg(long)]
    pub no_outage: bool,
}

/// Userpilot's documented budget.
const USERS_PER_MINUTE: u32 = 1_800;
const API_KEY: &str = "demo-key";
/// Marks a directory that the demo has made and may make anew.
const MARKER: &str = ".userpilot-gateway-demo";
const FRAME: Duration = Duration::from_millis(200);
/// For what was accepted to be delivered, once the services have stopped.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Runs for `args.seconds` or until `shutdown`, and fails if the proof does.
pub async fn run(args: Args, shutdown: impl Future) -> anyhow::Result<()> {
    let directory = &args.directory;
    make_directory(directory)?;
    let log = fs::File::create(directory.join("gateway.log"))?;
    telemetry::log_to(telemetry::LogFormat::Json, "info", log)?;

    let simulator = Simulator::start(SimulatorConfig {
        api_key: API_KEY.into(),
        users_per_minute: USERS_PER_MINUTE,
        speed: args.speed.into(),
        ..SimulatorConfig::default()
    })
    .await?;
    let gateway = Gateway::start(&configure(&args, &simulator)?).await?;
    let observatory = gateway.observatory().clone();
    let freshness = gateway.freshness();
    let stop_gateway = CancellationToken::new();
    let address = gateway.addresses().grpc;
    let running =
        tokio::task::JoinSet::from_iter([gateway.run(stop_gateway.clone().cancelled_owned())]);
    let services = Services::start(address).await?;

    let mut show = Show {
        args: &args,
        view: View::new(io::stdout().is_terminal(), directory)?,
        began: clock::now().instant,
        simulator: &simulator,
        observatory,
        freshness,
        services: &services,
    };
    show.play(shutdown).await?;
    services.stop_sending();
    show.drain().await?;
    show.view.end()?;

    let observatory = show.observatory;
    let sent = services.finish().await?;
    let app = observatory.apps().into_iter().next().context("the demo has one app")?;
    let proof = proof::Proof::new(sent, &app, &simulator);
    stop_gateway.cancel();
    for ended in running.join_all().await {
        ended?;
    }
    simulator.stop().await;
    proof.print(directory)?;
    if proof.holds() { Ok(()) } else { bail!("the proof does not hold") }
}

/// Makes `directory` empty. Refuses one that the demo has not made.
fn make_directory(directory: &Path) -> anyhow::Result<()> {
    let marker = directory.join(MARKER);
    if directory.exists() {
        if !marker.exists() {
            bail!(
                "{} exists and is not the demo's: choose another --directory",
                directory.display()
            );
        }
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    fs::write(marker, "Made by `userpilot-gateway demo`, which removes it when it runs again.\n")?;
    Ok(())
}

/// The configuration, as an operator would write it.
fn configure(args: &Args, simulator: &RunningSimulator) -> anyhow::Result<Config> {
    let file = args.directory.join("gateway.toml");
    let key_file = args.directory.join("userpilot.key");
    fs::write(&key_file, API_KEY)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600))?;
    }
    let text = format!(
        r#"# The demo's configuration. The budget is {speed} times the real one, as is the simulator's.
[server]
grpc_listen  = "127.0.0.1:0"
http_listen  = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[store]
path = {store:?}
[[apps]]
name                 = "demo"
base_url             = "{url}"
api_key_file         = "userpilot.key"
users_per_minute     = {users_per_minute}
linger_ms            = 1000
poll_interval_min_ms = 100
poll_interval_max_ms = 1000
backoff_max_ms       = 2000
"#,
        speed = args.speed,
        store = args.directory.join("store"),
        url = simulator.url(),
        users_per_minute = USERS_PER_MINUTE * args.speed,
    );
    fs::write(&file, text)?;
    Ok(Config::load(Some(&file), std::iter::empty())?.0)
}

/// The demo as it runs.
struct Show<'a> {
    args: &'a Args,
    view: View,
    began: Instant,
    simulator: &'a RunningSimulator,
    observatory: crate::admin::status::Observatory,
    freshness: telemetry::Freshness,
    services: &'a Services,
}

impl Show<'_> {
    /// Shows what happens until the time is over, or `shutdown`.
    async fn play(&mut self, shutdown: impl Future) -> anyhow::Result<()> {
        let length = Duration::from_secs(self.args.seconds);
        let (down_at, up_at) = (length.mul_f64(0.35), length.mul_f64(0.55));
        let mut down = false;
        tokio::pin!(shutdown);
        loop {
            let elapsed = clock::now().instant.since(self.began);
            if elapsed >= length {
                break;
            }
            let should_be_down = !self.args.no_outage && (down_at..up_at).contains(&elapsed);
            if should_be_down != down {
                down = should_be_down;
                self.set_down(down)?;
            }
            self.draw(down, Some(length - elapsed))?;
            tokio::select! {
                _ = &mut shutdown => break,
                () = clock::sleep_until(Some(clock::now().instant.plus(FRAME))) => {}
            }
        }
        self.set_down(false)
    }

    /// Shows what happens until all that was accepted is delivered.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = clock::now().instant.plus(DRAIN_MAX);
        while clock::now().instant < deadline {
            self.draw(false, None)?;
            let app = self.observatory.apps().into_iter().next();
            let at_rest = app.is_some_and(|app| {
                app.queue.depth.records == 0
                    && matches!(app.view.activity, Activity::Idle | Activity::Occupied)
            });
            if at_rest && self.services.are_answered() {
                break;
            }
            clock::sleep_until(Some(clock::now().instant.plus(FRAME))).await;
        }
        Ok(())
    }

    fn set_down(&self, down: bool) -> anyhow::Result<()> {
        self.simulator.clear_faults();
        if down {
            let fault = Fault::Status { code: 503, body: String::new(), retry_after: None };
            self.simulator.arm_faults(vec![FaultRule::always(FaultPoint::Any, fault)])?;
        }
        Ok(())
    }

    fn draw(&mut self, down: bool, left: Option<Duration>) -> anyhow::Result<()> {
        let app = self.observatory.apps().into_iter().next().context("the demo has one app")?;
        let picture = Picture {
            elapsed: clock::now().instant.since(self.began),
            left,
            speed: self.args.speed,
            down,
            services: self.services.counts(),
            app,
            freshness: self.freshness.last(),
            userpilot: self.simulator.snapshot(),
        };
        self.view.draw(&picture)
    }
}
