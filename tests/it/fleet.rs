//! Several gateways over one PostgreSQL database, as processes: whichever of them is killed or
//! stopped, what was acknowledged is delivered, in its order, by one of them at a time.

mod alone;
mod away;
mod failover;
mod hot;
mod load;
mod takeover;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tonic::transport::Channel;
use userpilot_gateway::{
    proto::ingest_service_client::IngestServiceClient,
    simulator::{RunningSimulator, Simulator},
};

use crate::{
    postgres::{at, cluster},
    rig::{Change, Cluster, Gateway, Site, at_speed, get, until},
};

/// A fleet and the Userpilot that it delivers to.
struct Fleet {
    simulator: RunningSimulator,
    cluster: Cluster,
    sites: Vec<Site>,
    /// In the places of their sites.
    replicas: Vec<Gateway>,
}

impl Fleet {
    /// So many replicas, whose leases last so long.
    async fn start(replicas: usize, speed: u32, lease: Duration) -> Self {
        let simulator = Simulator::start(at_speed(speed)).await.unwrap();
        let cluster = cluster();
        let one = || site(&simulator.url(), &[cluster.port], speed, lease);
        let sites = (0..replicas).map(|_| one()).collect();
        Self::of(simulator, cluster, sites).await
    }

    /// One replica in each place.
    async fn of(simulator: RunningSimulator, cluster: Cluster, sites: Vec<Site>) -> Self {
        let mut replicas = Vec::new();
        for site in &sites {
            replicas.push(site.serve().await);
        }
        Self { simulator, cluster, sites, replicas }
    }

    /// The highest token that each has had of the app's lease.
    fn tokens(&self) -> Vec<u64> {
        let of_line = |line: &String| {
            let is_it = line.contains("\"delivers the app from now on\"");
            is_it
                .then(|| serde_json::from_str::<serde_json::Value>(line).unwrap()["token"].as_u64())
        };
        let of = |gateway: &Gateway| gateway.log().iter().filter_map(of_line).flatten().max();
        self.replicas.iter().map(|gateway| of(gateway).unwrap_or(0)).collect()
    }

    /// The replica that has the app, and under which token.
    async fn holder(&self) -> (usize, u64) {
        until("a holder", async || {
            let (place, token) = self.tokens().into_iter().enumerate().max_by_key(|it| it.1)?;
            (token > 0).then_some((place, token))
        })
        .await
    }

    /// Waits until a replica has the app under a later token. Which.
    async fn taken_over(&self, token: u64) -> usize {
        until("a take-over", async || self.tokens().into_iter().position(|own| own > token)).await
    }

    /// Waits until nothing waits and nothing is in flight, as the database says.
    async fn settles(&self) {
        let left = "SELECT coalesce(sum(entries), 0) FROM userpilot_gateway.counts \
                    WHERE kind IN ('pending', 'in_flight')";
        until("an empty queue", async || (self.cluster.sql("store", left) == "0").then_some(()))
            .await;
    }

    /// Userpilot has had nothing to complain about, and took no file twice.
    fn is_blameless(&self) {
        let seen = self.simulator.snapshot();
        assert_eq!(seen.violations, []);
        let names: BTreeSet<_> = seen.jobs.iter().map(|job| &job.filename).collect();
        assert_eq!(names.len(), seen.jobs.len(), "a file was taken twice");
    }

    /// Waits until Userpilot has taken another job.
    async fn delivers_more(&self) {
        let jobs = self.simulator.snapshot().jobs.len();
        let is_more = || self.simulator.snapshot().jobs.len() > jobs;
        until("another job", async || is_more().then_some(())).await;
    }

    async fn ingest(&self, replica: usize) -> IngestServiceClient<Channel> {
        self.replicas[replica].ingest().await
    }
}

/// A place for one replica, over the servers at these ports.
fn site(upstream: &str, ports: &[u16], speed: u32, lease: Duration) -> Site {
    let lease_ms = i64::try_from(lease.as_millis()).unwrap();
    at(ports, Site::new(upstream, f64::from(speed)))
        .with("store.fleet.enabled", true)
        .with("store.fleet.lease_ms", lease_ms)
        .with("store.fleet.renew_ms", lease_ms / 4)
}

async fn is_ready(gateway: &Gateway) -> bool {
    get(&format!("http://{}/readyz", gateway.addresses.http)).await.status() == 200
}

fn change(user: &str, value: u64) -> Change {
    Change::new(user, json!({ "value": value }))
}
