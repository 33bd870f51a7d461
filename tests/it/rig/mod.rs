//! What the end-to-end tests stand on: the gateway as a process of its own, a simulated
//! Userpilot in the test's process, real sockets between them, and one way to wait.

mod authority;
mod change;
mod gateway;
mod postgres;
mod process;
mod rogue;
mod sending;
mod site;
mod small_disk;
mod standby;
mod upstream;

use std::{collections::BTreeMap, future::Future, time::Duration};

pub(crate) use authority::{Authority, Issued, secured};
pub(crate) use change::{Change, applied, same_profiles};
pub(crate) use gateway::{Gateway, channel, get, http, settled};
pub(crate) use postgres::Cluster;
pub(crate) use process::{Output, Process, run};
pub(crate) use rogue::{Manner, Rogue};
pub(crate) use sending::{Way, accepted, send, send_all};
pub(crate) use site::Site;
pub(crate) use small_disk::SmallDisk;
pub(crate) use upstream::UpstreamSite;
use userpilot_gateway::simulator::{FaultRule, RunningSimulator, Simulator, SimulatorConfig};

/// How long a test waits for what must come. Only a failure takes that long.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until there is something to see. The one way in which these tests wait.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(what, seen).await
}

/// What comes within the deadline.
pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(DEADLINE, coming).await;
    come.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// A simulated Userpilot that lives so many times faster than the real one.
pub(crate) fn at_speed(speed: u32) -> SimulatorConfig {
    SimulatorConfig { speed: f64::from(speed), ..SimulatorConfig::default() }
}

/// A gateway and the Userpilot that it delivers to.
pub(crate) struct Stage {
    pub(crate) simulator: RunningSimulator,
    pub(crate) site: Site,
    pub(crate) gateway: Gateway,
}

impl Stage {
    /// Both at this speed, and otherwise as they are by default.
    pub(crate) async fn start(speed: u32) -> Self {
        Self::of(at_speed(speed), |site| site).await
    }

    /// As told.
    pub(crate) async fn of(config: SimulatorConfig, settings: impl FnOnce(Site) -> Site) -> Self {
        let speed = config.speed;
        let simulator = Simulator::start(config).await.unwrap();
        let site = settings(Site::new(&simulator.url(), speed));
        let gateway = site.serve().await;
        Self { simulator, site, gateway }
    }

    /// A fast one whose simulator has these faults.
    pub(crate) async fn faulty(faults: Vec<FaultRule>) -> Self {
        Self::of(SimulatorConfig { faults, ..at_speed(100) }, |site| site).await
    }

    /// A fast one whose gateway reaches Userpilot by way of a server that misbehaves.
    pub(crate) async fn ambushed(
        scheme: &str,
        manner: Manner,
        settings: impl FnOnce(Site) -> Site,
    ) -> (Self, Rogue) {
        const SPEED: u32 = 100;
        let simulator = Simulator::start(at_speed(SPEED)).await.unwrap();
        let rogue = Rogue::before(simulator.address(), manner).await;
        let url = format!("{scheme}://{}", rogue.address());
        let site = settings(Site::new(&url, f64::from(SPEED)));
        let gateway = site.serve().await;
        (Self { simulator, site, gateway }, rogue)
    }

    /// Ends the gateway without a word, and starts another in its place.
    pub(crate) async fn restart(&mut self) {
        self.gateway.kill();
        self.gateway = self.site.serve().await;
    }

    /// Sends these one after the other, and returns their receipts.
    pub(crate) async fn sent(&self, changes: &[Change]) -> Vec<String> {
        let mut client = self.gateway.ingest().await;
        accepted(send_all(Way::Stream, &mut client, changes).await)
            .into_iter()
            .map(|update| update.receipt)
            .collect()
    }

    /// Waits until nothing waits or is in flight; then the profiles are what applying the
    /// changes in order makes, and Userpilot has had nothing to complain about.
    pub(crate) async fn delivers<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) {
        settled(&self.gateway).await;
        same_profiles(&self.simulator.profiles(), &applied(changes));
        self.is_blameless();
    }

    /// No rule of upstream's was broken.
    pub(crate) fn is_blameless(&self) {
        let snapshot = self.simulator.snapshot();
        assert_eq!(snapshot.violations, []);
        assert_eq!(snapshot.violations_by_kind, BTreeMap::new());
    }
}

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    /// A number below `bound`. (Steele, Lea, Flood: SplitMix64, 2014.)
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}
