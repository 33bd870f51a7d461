//! Who sends updates, for operators.

use std::collections::BTreeMap;

use tonic::Status;

use super::{
    dead_letters::unreadable,
    grpc::Admin,
    history::DeliveredOfClient,
    messages::{duration, lane, timestamp},
};
use crate::{
    clock,
    domain::{
        time::{Now, Timestamp},
        update::ClientId,
    },
    door::{caller::Client, refusal::Reason},
    proto,
    store::ClientCounts,
};

impl Admin {
    pub(super) async fn clients(&self) -> Result<proto::ListClientsResponse, Status> {
        let mut oldest = BTreeMap::new();
        for app in self.observatory.apps.iter() {
            let of_app = self.observatory.store.oldest_by_client(app.id).await;
            for (client, at) in of_app.map_err(unreadable)? {
                let known = oldest.entry(client).or_insert(at);
                *known = at.min(*known);
            }
        }
        let now = clock::now();
        let clients = self.callers.all();
        let clients = clients.iter().map(|client| self.client(client, &oldest, now)).collect();
        Ok(proto::ListClientsResponse { clients })
    }

    fn client(
        &self,
        client: &Client,
        oldest: &BTreeMap<ClientId, Timestamp>,
        now: Now,
    ) -> proto::ClientStatus {
        let counts = self.observatory.store.gauges().clients.of(client.id);
        let ClientCounts { waiting, coalesced, suppressed, last_update_at } = counts;
        let delivered = self.observatory.history.delivered(client.id, now.instant);
        let DeliveredOfClient { rows: delivered_rows, freshness } = delivered;
        let refused = Reason::ALL.into_iter().map(|reason| proto::RefusedUpdates {
            reason: reason.name().to_owned(),
            updates: client.tally.refused(reason),
        });
        proto::ClientStatus {
            name: client.name.clone(),
            apps: client.apps.keys().cloned().collect(),
            lane: lane(client.lane).into(),
            weight: client.terms.weight,
            updates_per_second_max: client.rate.as_ref().map_or(0, |it| it.per_second()).into(),
            pending_records: waiting,
            pending_records_max: client.terms.records_max.unwrap_or(0),
            oldest_pending_age: oldest
                .get(&client.id)
                .filter(|_| waiting > 0)
                .and_then(|at| duration(now.wall.since(*at))),
            accepted_updates: client.tally.accepted(),
            coalesced_updates: coalesced,
            suppressed_updates: suppressed,
            passed_requests: client.tally.passed(),
            delivered_rows,
            freshness_p50: freshness.and_then(|it| duration(it.p50)),
            freshness_p99: freshness.and_then(|it| duration(it.p99)),
            refused: refused.filter(|refused| refused.updates > 0).collect(),
            last_update_at: last_update_at.map(timestamp),
        }
    }
}
