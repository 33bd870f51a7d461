//! Several gateways over one PostgreSQL database, as processes: whichever of them is killed or
//! stopped, what was acknowledged is delivered, in its order, by one of them at a time.

mod alone;
mod away;
mod hot;
mod takeover;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use toml::{Table, Value};
use tonic::transport::Channel;
use userpilot_gateway::{
    proto::ingest_service_client::IngestServiceClient,
    simulator::{RunningSimulator, Simulator},
};

use crate::{
    postgres::{cluster, over},
    rig::{Change, Cluster, Gateway, Site, at_speed, until},
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
        let sites: Vec<Site> =
            (0..replicas).map(|_| site(&simulator, &cluster, speed, lease)).collect();
        let mut started = Vec::new();
        for site in &sites {
            started.push(site.serve().await);
        }
        Self { simulator, cluster, sites, replicas: started }
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

    async fn ingest(&self, replica: usize) -> IngestServiceClient<Channel> {
        self.replicas[replica].ingest().await
    }
}

/// A place for one replica.
fn site(simulator: &RunningSimulator, cluster: &Cluster, speed: u32, lease: Duration) -> Site {
    let lease_ms = i64::try_from(lease.as_millis()).unwrap();
    let mut fleet = Table::new();
    fleet.insert("enabled".to_owned(), Value::from(true));
    fleet.insert("lease_ms".to_owned(), Value::from(lease_ms));
    fleet.insert("renew_ms".to_owned(), Value::from(lease_ms / 4));
    over(cluster, Site::new(&simulator.url(), f64::from(speed))).with("store.fleet", fleet)
}

fn change(user: &str, value: u64) -> Change {
    Change::new(user, json!({ "value": value }))
}
