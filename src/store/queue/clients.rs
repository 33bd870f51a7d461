//! Clients: their numbers, how many records of its own each may have waiting, and what each weighs
//! where they take turns.
//!
//! What is counted are the entries of pages, by the client in the page's key: they can be counted
//! at a start without reading a record, and each has one place where it comes and one where it
//! goes. An entry that its record has left (for a more urgent lane, say) counts until a claim
//! comes by. They are counted at every start, by reading the pages: a million records take some
//! 50 MB of these, where no page is nearly empty.

use std::collections::BTreeMap;

use super::{Engine, Queue, StoreError, Transaction, keys};
use crate::{
    domain::{
        turns::Weight,
        update::{AppId, ClientId},
    },
    store::records::{PageEntry, Stored},
};

const PAGES_A_SCAN: usize = 256;

/// How many entries of pages came or went, by client.
pub(super) type Entries = BTreeMap<ClientId, u64>;

/// On what terms a client uses the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTerms {
    /// How many records of its own may wait, where there is a limit.
    pub records_max: Option<u64>,
    /// How many rows it takes in its turn.
    pub weight: Weight,
}

impl Default for ClientTerms {
    fn default() -> Self {
        Self { records_max: None, weight: 1 }
    }
}

/// What is known of clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    limits: BTreeMap<ClientId, u64>,
    /// Of those that do not weigh 1.
    weights: BTreeMap<ClientId, Weight>,
    /// `None` until they were counted first.
    waiting: Option<Entries>,
    /// Of each app, where others write to the store, too.
    of_apps: BTreeMap<AppId, BTreeMap<ClientId, i64>>,
}

impl Clients {
    /// How many records of the client's own wait, and how many may.
    pub(super) fn standing(&self, client: ClientId) -> (u64, Option<u64>) {
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.get(&client));
        (waiting.copied().unwrap_or(0), self.limits.get(&client).copied())
    }

    /// How many records of each client's own wait, as far as they have been counted.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (ClientId, u64)> {
        self.waiting.iter().flatten().map(|(client, count)| (*client, *count))
    }

    /// How many rows the client takes in its turn.
    pub(super) fn weight(&self, client: ClientId) -> Weight {
        self.weights.get(&client).copied().unwrap_or(1)
    }

    /// So many stand in an app's pages, by what was read last.
    pub(super) fn of_app(&mut self, app: AppId, entries: BTreeMap<ClientId, i64>) {
        let before = self.of_apps.insert(app, entries.clone()).unwrap_or_default();
        let Some(waiting) = &mut self.waiting else { return };
        for (client, count) in before {
            let all = waiting.entry(client).or_default();
            *all = all.saturating_add_signed(-count.max(0));
        }
        for (client, count) in entries {
            let all = waiting.entry(client).or_default();
            *all = all.saturating_add_signed(count.max(0));
        }
    }

    /// How many stand in all apps' pages, by what was read last.
    fn of_all_apps(&self) -> Entries {
        let mut all = Entries::new();
        for (client, count) in self.of_apps.values().flatten() {
            *all.entry(*client).or_default() += count.max(&0).cast_unsigned();
        }
        all
    }

    /// Counts entries that came.
    pub(super) fn come(&mut self, entries: Entries) {
        let Some(waiting) = &mut self.waiting else { return };
        for (client, count) in entries {
            *waiting.entry(client).or_default() += count;
        }
    }

    /// Counts entries that went.
    pub(super) fn go(&mut self, entries: Entries) {
        let Some(waiting) = &mut self.waiting else { return };
        for (client, count) in entries {
            let waiting = waiting.entry(client).or_default();
            *waiting = waiting.saturating_sub(count);
        }
    }
}

impl<E: Engine> Queue<E> {
    /// How many records of each client's own wait, as far as they have been counted.
    pub fn waiting_by_client(&self) -> impl Iterator<Item = (ClientId, u64)> {
        self.clients.waiting()
    }

    /// Whether a client's limit counts what waits in apps that others write to.
    pub fn looks_at_all_apps(&self) -> bool {
        self.fleet.is_some() && !self.clients.limits.is_empty() && self.apps.len() > 1
    }

    /// The numbers of clients, which they keep. Who is not named has no limit, and weighs 1.
    pub async fn clients(
        &mut self,
        clients: &[(String, ClientTerms)],
    ) -> Result<Vec<ClientId>, StoreError> {
        let mut numbers = Vec::with_capacity(clients.len());
        let (mut limits, mut weights) = (BTreeMap::new(), BTreeMap::new());
        for (name, terms) in clients {
            let number = self.client(name).await?;
            numbers.push(number);
            limits.extend(terms.records_max.map(|limit| (number, limit)));
            weights.extend((terms.weight != 1).then_some((number, terms.weight)));
        }
        self.clients.limits = limits;
        self.clients.weights = weights;
        if self.clients.waiting.is_none() && self.fleet.is_some() {
            let apps: Vec<_> = self.apps.keys().copied().collect();
            self.refresh(&apps).await?;
            self.clients.waiting = Some(self.clients.of_all_apps());
        }
        if self.clients.waiting.is_none() {
            self.clients.waiting = Some(self.count_entries().await?);
        }
        Ok(numbers)
    }

    /// Counts anew, after pages were made anew.
    pub(super) async fn recount_clients(&mut self) -> Result<(), StoreError> {
        if self.clients.waiting.is_some() {
            self.clients.waiting = Some(self.count_entries().await?);
        }
        Ok(())
    }

    async fn count_entries(&self) -> Result<Entries, StoreError> {
        let mut counted = Entries::new();
        for app in self.apps.keys().copied() {
            let (mut from, end) = keys::all_pages(app).into_inner();
            loop {
                let mut transaction = self.engine.begin().await?;
                let pages = transaction.scan(from..=end.clone(), PAGES_A_SCAN).await?;
                let Some((last, _)) = pages.last() else { break };
                from = keys::after(last.clone());
                for (key, bytes) in &pages {
                    // One that is damaged is made anew by the next claim, and counted then.
                    let entries = Vec::<PageEntry>::decode(bytes.as_ref());
                    if let (Ok(entries), Some(client)) = (entries, keys::client_of_page(key)) {
                        *counted.entry(client).or_default() += entries.len() as u64;
                    }
                }
            }
        }
        Ok(counted)
    }
}
